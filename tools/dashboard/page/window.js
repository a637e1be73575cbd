// The rows of a long table that are in view, with empty space for the others above and below.

import { el } from "./dom.js";

const ALL_MAX = 200; // rows that are all there
const MARGIN_PX = 600; // above and below the part in view
const ROW_PX = 32; // of a row that was not measured yet

/** @typedef {{key: string, build: () => any}} Item */

export class RowWindow {
  /**
   * @param {any} scroller the element that scrolls
   * @param {any} body of the table
   */
  constructor(scroller, body) {
    this.scroller = scroller;
    this.body = body;
    /** @type {Item[]} */
    this.items = [];
    this.heights = new Map(); // by key, of rows that have been in view
    this.above = spacer();
    this.below = spacer();
    this.frame = 0;
    scroller.addEventListener("scroll", () => this.schedule(), { passive: true });
    new ResizeObserver(() => this.schedule()).observe(scroller);
  }

  schedule() {
    if (this.items.length <= ALL_MAX || this.frame) return;
    this.frame = requestAnimationFrame(() => {
      this.frame = 0;
      this.draw();
    });
  }

  /** @param {Item[]} items */
  show(items) {
    this.items = items;
    this.draw();
  }

  draw() {
    const { items } = this;
    const isWhole = items.length <= ALL_MAX;
    const { first, end, above, below } = isWhole
      ? { first: 0, end: items.length, above: 0, below: 0 }
      : this.partInView();
    const nColumns = this.body.parentElement.rows[0]?.cells.length ?? 1;
    setHeight(this.above, above, nColumns);
    setHeight(this.below, below, nColumns);
    const shown = items.slice(first, end);
    const rows = shown.map(({ build }, i) => {
      const row = build();
      row.setAttribute("aria-rowindex", first + i + 2); // the head is the first
      return row;
    });
    this.place([...(above ? [this.above] : []), ...rows, ...(below ? [this.below] : [])]);
    if (isWhole) return;
    for (const [i, row] of rows.entries()) this.heights.set(shown[i].key, row.offsetHeight);
  }

  partInView() {
    const { items, heights, scroller } = this;
    const heightOf = (i) => heights.get(items[i].key) || ROW_PX;
    const top = scroller.scrollTop - MARGIN_PX;
    const bottom = scroller.scrollTop + scroller.clientHeight + MARGIN_PX;
    let y = 0;
    let first = 0;
    while (first < items.length && y + heightOf(first) <= top) {
      y += heightOf(first);
      first += 1;
    }
    const above = y;
    let end = first;
    while (end < items.length && y <= bottom) {
      y += heightOf(end);
      end += 1;
    }
    let below = 0;
    for (let i = end; i < items.length; i += 1) below += heightOf(i);
    return { first, end, above, below };
  }

  // Scrolls to a row, and builds it if it is not there.
  reveal(index) {
    const { items, heights, scroller } = this;
    const before = items.slice(0, index);
    const top = before.reduce((sum, { key }) => sum + (heights.get(key) || ROW_PX), 0);
    const isInView =
      top >= scroller.scrollTop && top + 80 < scroller.scrollTop + scroller.clientHeight;
    if (items.length <= ALL_MAX || isInView) return;
    scroller.scrollTop = Math.max(0, top - scroller.clientHeight / 2);
    this.draw();
  }

  // Elements that stay are not moved: one of them may have the focus.
  place(elements) {
    const staying = new Set(elements);
    for (const element of [...this.body.children]) if (!staying.has(element)) element.remove();
    let next = this.body.firstElementChild;
    for (const element of elements) {
      if (next === element) next = next.nextElementSibling;
      else this.body.insertBefore(element, next);
    }
  }
}

function spacer() {
  return el("tr", { class: "spacer", "aria-hidden": "true" }, el("td"));
}

function setHeight(row, px, nColumns) {
  row.firstChild.colSpan = nColumns;
  row.firstChild.style.setProperty("height", `${px}px`);
}
