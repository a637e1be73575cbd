// An axis of the parallel coordinates: where values are on it, and which range of it is brushed.
//
// A share is a place on the axis, from 0 at its foot to 1 at its head.

import { svg, svgText } from "./dom.js";
import { short, shorten, tickLabels } from "./format.js";
import { Scale, ticks } from "./scale.js";

export const HEIGHT = 340;
export const TOP = 44;
const BOTTOM = 14;
const LENGTH = HEIGHT - TOP - BOTTOM;
const GRAB = 12; // px from an axis in which a drag brushes it
const OVERHANG = 8; // px beyond either end that belong to the axis, too
const DRAG = 4; // px: a shorter drag is a click
const STEP = 1 / 40; // of an axis, for an arrow key
const HANDLE = "M-6 0 L6 0 L0 7 Z";
const CHARACTER = 7.2; // px, about
const LABELS_MAX = 18; // of categories

const clamp = (value, low = 0, high = 1) => Math.min(high, Math.max(low, value));

export class Axis {
  /**
   * @param {string | null} key a parameter's name; null: the objective
   * @param {(isDone: boolean) => void} onBrush
   */
  constructor(key, onBrush) {
    this.key = key;
    this.onBrush = onBrush;
    this.range = null; // [low, high] as values; null for an open end
    this.x = 0;
    /** @type {any} */
    this.parameter = null;
    this.title = svg("title");
    this.name = svg("text", { class: "axis-name" });
    this.line = svg("g");
    this.labels = svg("g");
    this.grab = svg("rect", { class: "grab", width: 2 * GRAB, x: -GRAB });
    this.band = svg("rect", { class: "band", width: 14, x: -7 });
    this.handles = [this.buildHandle(0), this.buildHandle(1)];
    const parts = [this.line, this.labels, this.band, this.grab, ...this.handles];
    this.element = svg("g", { class: "axis" }, ...parts, svg("g", {}, this.title, this.name));
    this.listen();
  }

  buildHandle(end) {
    const bounds = { "aria-valuemin": 0, "aria-valuemax": 100, "aria-orientation": "vertical" };
    const props = { d: HANDLE, class: "handle", tabindex: 0, role: "slider", ...bounds };
    const handle = svg("path", props);
    handle.addEventListener("keydown", (event) => this.onKey(event, end));
    return handle;
  }

  /**
   * @param {any} parameter as the server describes it
   * @param {number} n how many trials there are
   */
  setParameter(parameter, n) {
    const { kind, low, high, choices } = parameter;
    this.parameter = parameter;
    this.isCategorical = kind === "categorical";
    const hasScale = !this.isCategorical && low < high;
    this.scale = hasScale ? new Scale(low, high, 0, 1, kind === "log") : null;
    this.places = new Map(this.isCategorical ? choices.map((choice, i) => [choice, i]) : []);
    this.n = n;
  }

  // ---- values and places

  /** @returns {number | null} null for a value that has no place on the axis */
  shareOf(value, trial = null) {
    if (value === null || value === undefined) return null;
    if (!this.isCategorical) return this.scale ? clamp(this.scale.px(value)) : 0.5;
    if (!this.places.has(value)) return null;
    // Spread a little by trial: lines through one point could not be distinguished.
    const offset = trial === null || this.n < 2 ? 0 : 0.22 * Math.sin(2.4 * trial);
    return (this.places.get(value) + 0.5 + offset) / this.places.size;
  }

  valueAt(share, isHigh) {
    const n = this.places.size;
    if (this.isCategorical) {
      const i = isHigh ? Math.ceil(share * n - 1e-6) - 1 : Math.floor(share * n + 1e-6);
      return this.parameter.choices[clamp(i, 0, n - 1)];
    }
    return this.scale ? Number(this.scale.value(share).toPrecision(5)) : this.parameter.low;
  }

  y(share) {
    return HEIGHT - BOTTOM - share * LENGTH;
  }

  // ---- drawing

  place(x, width, label, isLower, colours) {
    this.x = x;
    this.element.setAttribute("transform", `translate(${x.toFixed(1)} 0)`);
    this.title.textContent = label;
    this.name.setAttribute("y", isLower ? 28 : 13);
    this.name.textContent = shorten(label, Math.max(6, Math.floor(width / CHARACTER)));
    this.line.replaceChildren(...this.strokes(colours));
    const nMax = Math.max(5, Math.floor((width - 14) / CHARACTER));
    const text = ([share, text]) =>
      svgText("text", shorten(text, nMax), { x: 7, y: this.y(share) + 4, class: "axis-label" });
    this.labels.replaceChildren(...this.marks().map(text));
    this.grab.setAttribute("y", TOP - OVERHANG);
    this.grab.setAttribute("height", LENGTH + 2 * OVERHANG);
    this.handles[0].setAttribute("aria-label", `${label} from`);
    this.handles[1].setAttribute("aria-label", `${label} to`);
    this.showRange();
  }

  strokes(colours) {
    if (!colours) return [svg("path", { d: `M0 ${TOP} V${HEIGHT - BOTTOM}`, class: "axis-line" })];
    const height = LENGTH / colours.length + 0.5;
    const y = (i) => this.y((i + 1) / colours.length);
    return colours.map((fill, i) => svg("rect", { x: -2, width: 4, y: y(i), height, fill }));
  }

  // [share, text] of each label.
  marks() {
    const { low, high, kind, choices, whole } = this.parameter;
    if (this.isCategorical) {
      const every = Math.ceil(choices.length / LABELS_MAX);
      const shown = choices.filter((_, i) => i % every === 0);
      return shown.map((choice) => [this.shareOf(choice), choice]);
    }
    if (low === null) return [];
    if (!this.scale) return [[0.5, short(low)]];
    const all = ticks(low, high, 6, kind === "log");
    const values = whole ? all.filter(Number.isInteger) : all;
    if (!values.length) return [low, high].map((v) => [this.shareOf(v), short(v)]);
    const labels = tickLabels(values, "", false);
    return values.map((v, i) => [this.shareOf(v), labels[i]]);
  }

  showRange() {
    const [low, high] = this.rangeShares();
    this.element.classList.toggle("brushed", Boolean(this.range));
    this.band.setAttribute("y", this.y(high));
    this.band.setAttribute("height", Math.max(2, this.y(low) - this.y(high)));
    for (const [end, share] of [low, high].entries()) {
      const flip = end ? " scale(1 -1)" : "";
      const handle = this.handles[end];
      handle.setAttribute("transform", `translate(0 ${this.y(share).toFixed(1)})${flip}`);
      handle.setAttribute("aria-valuenow", Math.round(100 * share));
      handle.setAttribute("aria-valuetext", this.endText(end));
    }
  }

  endText(end) {
    const value = this.range?.[end] ?? null;
    if (value !== null) return this.isCategorical ? value : short(value);
    return end ? "the greatest" : "the least";
  }

  // ---- the brushed range

  rangeShares() {
    const [low, high] = this.range ?? [null, null];
    const half = this.isCategorical ? 0.5 / this.places.size : 0;
    const share = (value, end, by) => (value === null ? end : (this.shareOf(value) ?? end) + by);
    return [share(low, 0, -half), share(high, 1, half)];
  }

  // An end at the axis's own is open: it also includes later values beyond it.
  brush(a, b, isDone = true) {
    const [low, high] = [Math.min(a, b), Math.max(a, b)];
    const from = low <= 0.001 ? null : this.valueAt(low, false);
    const to = high >= 0.999 ? null : this.valueAt(high, true);
    this.range = from === null && to === null ? null : [from, to];
    this.showRange();
    this.onBrush(isDone);
  }

  clear() {
    this.range = null;
    this.showRange();
    this.onBrush(true);
  }

  includes(value) {
    if (!this.range) return true;
    if (value === null || value === undefined) return false;
    const rank = (v) => (this.isCategorical ? (this.places.get(v) ?? NaN) : v);
    const [low, high] = this.range;
    const isBelow = low !== null && rank(value) < rank(low);
    const isAbove = high !== null && rank(value) > rank(high);
    return !isBelow && !isAbove;
  }

  onKey(event, end) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const step = this.isCategorical ? 1 / this.places.size : STEP;
    const shares = this.rangeShares();
    const moveTo = (share) => {
      const least = this.isCategorical ? step : 0;
      if (end) this.brush(shares[0], clamp(share, shares[0] + least, 1));
      else this.brush(clamp(share, 0, shares[1] - least), shares[1]);
    };
    const moveBy = (steps) => () => moveTo(shares[end] + steps * step);
    const action = {
      ArrowUp: moveBy(1),
      ArrowRight: moveBy(1),
      ArrowDown: moveBy(-1),
      ArrowLeft: moveBy(-1),
      PageUp: moveBy(5),
      PageDown: moveBy(-5),
      Home: () => moveTo(0),
      End: () => moveTo(1),
      Escape: () => this.clear(),
      Delete: () => this.clear(),
    }[event.key];
    if (!action) return;
    event.preventDefault();
    event.stopPropagation();
    action();
  }

  listen() {
    let start = null; // the share at which the button went down
    let isDrag = false;
    let moved = null; // a handle, or the whole band, that is dragged
    const shareUnder = (event) => {
      const { top, height } = this.grab.getBoundingClientRect();
      return clamp(1 - (event.clientY - top - OVERHANG) / (height - 2 * OVERHANG));
    };
    const onDown = (event, end = null) => {
      if (event.button !== 0) return;
      event.preventDefault();
      start = shareUnder(event);
      isDrag = false;
      const shares = this.rangeShares();
      const isInside = this.range && start > shares[0] && start < shares[1];
      moved = end !== null || isInside ? { end, shares } : null;
      this.element.setPointerCapture(event.pointerId);
    };
    const onMove = (event) => {
      if (start === null) return;
      const share = shareUnder(event);
      isDrag ||= Math.abs(share - start) * LENGTH >= DRAG;
      if (isDrag) this.dragTo(share, start, moved);
    };
    const onUp = (event) => {
      if (start === null) return;
      start = null;
      if (isDrag) this.onBrush(true);
      else if (this.range && event.type === "pointerup") this.clear();
    };
    this.grab.addEventListener("pointerdown", (event) => onDown(event));
    for (const [end, handle] of this.handles.entries()) {
      handle.addEventListener("pointerdown", (event) => {
        handle.focus();
        onDown(event, end);
      });
    }
    this.element.addEventListener("pointermove", onMove);
    this.element.addEventListener("pointerup", onUp);
    this.element.addEventListener("pointercancel", onUp);
  }

  dragTo(share, start, moved) {
    if (!moved) this.brush(start, share, false);
    else if (moved.end !== null) this.brush(moved.shares[1 - moved.end], share, false);
    else {
      const [low, high] = moved.shares;
      const by = clamp(share - start, -low, 1 - high);
      this.brush(low + by, high + by, false);
    }
  }
}
