// The panels on the page: in sections, moved and resized by a person.

import { el } from "./dom.js";
import { COLUMNS_MAX, moved, opened, ROWS_MAX, toggled, withOptions } from "./layout.js";
import { LayoutBar } from "./layoutbar.js";
import { PanelMenu } from "./panelmenu.js";
import { Section } from "./sections.js";
import { changeLayout, layoutNow } from "./state.js";

const DRAGGED = "text/x-panel"; // what a drag carries

export class Panels {
  /** @param {any} grid */
  constructor(grid) {
    this.grid = grid;
    /** @type {Map<string, Section>} */
    this.sections = new Map();
    this.bar = new LayoutBar(this);
    this.body = el("div", { class: "sections" });
    this.element = el("div", {}, this.bar.element, this.body);
    this.menu = new PanelMenu(this);
    this.dragged = null;
  }

  /** @param {{name: string, keys: string[], drawn: string[], isOpen: boolean}[]} sections */
  place(sections) {
    const names = sections.map(({ name }) => name);
    for (const [name, section] of this.sections) {
      if (names.includes(name)) continue;
      section.element.remove();
      this.sections.delete(name);
    }
    for (const [i, { name, keys, drawn, isOpen }] of sections.entries()) {
      const section = this.sections.get(name) ?? this.addSection(name);
      insertAt(this.body, section.element, i);
      section.show(keys.length, isOpen);
      for (const [k, key] of drawn.entries()) {
        const chart = this.grid.charts.get(key);
        insertAt(section.panels, chart.element, k);
        this.fit(chart);
      }
    }
    this.bar.show(sections);
  }

  addSection(name) {
    const toggle = (section, isOpen) => changeLayout(opened(layoutNow(), section, isOpen));
    const section = new Section(name, toggle);
    this.sections.set(name, section);
    return section;
  }

  // The size of a panel: never more columns than there are.
  fit(chart) {
    const { element } = chart;
    const { w = 1, h = 1 } = this.grid.optionsOf(chart.key);
    const isBig = this.grid.isBig(chart.key);
    element.classList.toggle("big", isBig);
    const label = isBig ? "Show all charts" : `Enlarge ${chart.title}`;
    chart.enlargeButton.setAttribute("aria-label", label);
    const width = isBig || w === 1 ? "" : `span ${Math.min(w, this.nColumns)}`;
    if (element.style.gridColumn !== width) element.style.gridColumn = width;
    element.style.setProperty("--rows", String(isBig ? 1 : h));
  }

  get nColumns() {
    const panels = this.element.querySelector(".panels:not([hidden])");
    return panels ? getComputedStyle(panels).gridTemplateColumns.split(" ").length : 1;
  }

  // ---- what a person changes

  setOptions(key, options) {
    changeLayout(withOptions(layoutNow(), key, options));
  }

  toggle(part, key) {
    changeLayout(toggled(layoutNow(), part, key));
  }

  // One place earlier or later in its section.
  step(key, by) {
    const keys = this.sectionOf(key);
    const at = keys.indexOf(key);
    const to = at + by;
    if (to < 0 || to >= keys.length) return;
    this.moveBefore(key, by < 0 ? keys[to] : (keys[to + 1] ?? null), keys);
  }

  // Before another panel of its section; null: behind the last one there.
  moveBefore(key, before, keys = this.sectionOf(key)) {
    if (key === before) return;
    const layout = layoutNow();
    if (layout.pin.includes(key)) {
      const pin = layout.pin.filter((name) => name !== key);
      pin.splice(before === null ? pin.length : pin.indexOf(before), 0, key);
      changeLayout({ ...layout, pin });
      return;
    }
    const names = this.grid.panelNames();
    const last = names.indexOf(keys.at(-1));
    changeLayout(moved(layout, key, before ?? names[last + 1] ?? null));
  }

  sectionOf(key) {
    return this.grid.sections().find(({ keys }) => keys.includes(key))?.keys ?? [];
  }

  openMenu(chart) {
    this.menu.open(chart);
  }

  // ---- with the pointer: a panel is moved by its heading and resized by its corner

  /** @param {any} chart */
  listen(chart) {
    const { element, key } = chart;
    const header = element.querySelector("header");
    header.draggable = true;
    header.addEventListener("dragstart", (event) => {
      this.dragged = key;
      event.dataTransfer.setData(DRAGGED, key);
      event.dataTransfer.effectAllowed = "move";
    });
    header.addEventListener("dragend", () => this.mark(null));
    element.addEventListener("dragover", (event) => {
      if (!this.isTarget(key)) return;
      event.preventDefault();
      this.mark(element);
    });
    element.addEventListener("drop", (event) => {
      if (!this.isTarget(key)) return;
      event.preventDefault();
      this.drop(key);
    });
    this.listenToCorner(chart);
  }

  isTarget(key) {
    const { dragged } = this;
    return dragged !== null && dragged !== key && this.sectionOf(dragged).includes(key);
  }

  // Dropped on an earlier panel it goes before that one, on a later one behind it.
  drop(key) {
    const { dragged } = this;
    const keys = this.sectionOf(dragged);
    const isLater = keys.indexOf(key) > keys.indexOf(dragged);
    this.mark(null);
    this.moveBefore(dragged, isLater ? (keys[keys.indexOf(key) + 1] ?? null) : key, keys);
  }

  mark(element) {
    for (const marked of this.element.querySelectorAll(".target"))
      marked.classList.remove("target");
    element?.classList.add("target");
    if (!element) this.dragged = null;
  }

  listenToCorner(chart) {
    const corner = el("div", { class: "corner", "aria-hidden": "true" });
    chart.element.append(corner);
    let start = null;
    corner.addEventListener("pointerdown", (event) => {
      const box = chart.element.getBoundingClientRect();
      const { w = 1, h = 1 } = this.grid.optionsOf(chart.key);
      const columns = Math.min(w, this.nColumns);
      start = {
        x: event.clientX,
        y: event.clientY,
        w: columns,
        h,
        px: [box.width / columns, box.height / h],
      };
      corner.setPointerCapture(event.pointerId);
      event.preventDefault();
    });
    corner.addEventListener("pointermove", (event) => {
      if (!start) return;
      const by = [event.clientX - start.x, event.clientY - start.y];
      const size = (from, k, most) =>
        Math.min(most, Math.max(1, Math.round(from + by[k] / start.px[k])));
      const w = size(start.w, 0, Math.min(COLUMNS_MAX, this.nColumns));
      const h = size(start.h, 1, ROWS_MAX);
      const now = this.grid.optionsOf(chart.key);
      if ((now.w ?? 1) === w && (now.h ?? 1) === h) return;
      this.setOptions(chart.key, { w: w > 1 ? w : undefined, h: h > 1 ? h : undefined });
    });
    for (const end of ["pointerup", "pointercancel"]) {
      corner.addEventListener(end, () => {
        start = null;
      });
    }
  }
}

// Moves an element only where it is not in its place: an element that moves loses the focus.
function insertAt(parent, child, i) {
  if (parent.children[i] !== child) parent.insertBefore(child, parent.children[i] ?? null);
}
