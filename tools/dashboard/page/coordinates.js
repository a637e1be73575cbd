// Parallel coordinates: an axis for each parameter and for the objective, a line for each trial.

import { Axis, HEIGHT } from "./axis.js";
import { announce, el, svg } from "./dom.js";
import { plural, shorten } from "./format.js";
import { dashOf, rankColour, sign, trialText } from "./trial.js";

const LEFT = 26;
const RIGHT = 62;
const SPACING_MIN = 92; // px between two axes; with less space the drawing scrolls
const SPACING_TIGHT = 130; // below it the names of axes alternate between two rows
const NEAR = 14; // px from a line at which it is pointed at
const RAMP_STEPS = 40;
const TEXT_MAX = 28;

export class Coordinates {
  /**
   * @param {{onBrush: (isDone: boolean) => void, onPoint: (id: string | null) => void,
   *   onOpen: (id: string) => void}} listeners
   */
  constructor(listeners) {
    this.listeners = listeners;
    this.study = null; // the answer to /api/study
    /** @type {Map<string | null, Axis>} */
    this.axes = new Map();
    this.paths = new Map(); // by id of a trial
    this.pointed = null; // id of the trial that is pointed at
    this.values = []; // of the objective
    this.label = "";
    this.theme = "light";
    this.nameOf = (id) => id;
    this.build();
    this.listen();
    new ResizeObserver(() => this.layOut()).observe(this.element);
  }

  build() {
    this.lines = svg("g");
    this.ends = svg("g");
    this.front = svg("g");
    this.pointedPath = svg("path", { class: "pointed", fill: "none" });
    const props = { height: HEIGHT, class: "coordinates-lines", "aria-hidden": "true" };
    this.back = svg("svg", props, this.lines, this.pointedPath);
    const axesProps = { height: HEIGHT, class: "coordinates-axes" };
    this.top = svg("svg", axesProps, this.front, this.ends);
    const role = "chart: arrow keys go from trial to trial, Enter opens one";
    const focusProps = { class: "coordinates-focus", tabindex: 0, role: "img" };
    this.focus = el("div", { ...focusProps, "aria-roledescription": role }, this.back);
    this.tip = el("div", { class: "coordinates-tip", hidden: true });
    this.box = el("div", { class: "coordinates-box" }, this.focus, this.top, this.tip);
    this.element = el("div", { class: "coordinates scroll" }, this.box);
  }

  /**
   * @param {any} study the answer to /api/study
   * @param {{rangeOf: (key: string | null) => any, label: string, theme: string,
   *   nameOf: (id: string) => string}} view `label` is the objective's
   */
  show(study, { rangeOf, label, theme, nameOf }) {
    Object.assign(this, { study, label, theme, nameOf });
    this.values = study.trials.map(({ value }) => value).filter((value) => value !== null);
    const objective = { kind: "linear", ...study.metric, name: null };
    const before = this.axes;
    this.axes = new Map();
    for (const parameter of [...study.parameters, objective]) {
      const { name } = parameter;
      const axis = before.get(name) ?? new Axis(name, (isDone) => this.onBrush(isDone));
      axis.setParameter(parameter, study.trials.length);
      axis.range = rangeOf(name);
      this.axes.set(name, axis);
    }
    const names = (axes) => [...axes.keys()].join("\n");
    if (names(before) !== names(this.axes)) {
      this.front.replaceChildren(...[...this.axes.values()].map((axis) => axis.element));
    }
    this.layOut();
  }

  onBrush(isDone) {
    this.filter();
    this.listeners.onBrush(isDone);
  }

  // ---- drawing

  layOut() {
    if (!this.study) return;
    const n = this.axes.size;
    const least = LEFT + RIGHT + SPACING_MIN * (n - 1);
    const width = Math.max(this.element.clientWidth, least);
    for (const drawing of [this.back, this.top]) drawing.setAttribute("width", width);
    this.box.style.setProperty("width", `${width}px`);
    const spacing = n > 1 ? (width - LEFT - RIGHT) / (n - 1) : 0;
    for (const [i, axis] of [...this.axes.values()].entries()) this.placeAxis(axis, i, spacing);
    this.draw();
  }

  placeAxis(axis, i, spacing) {
    const isFirst = i === 0;
    const isLast = axis.key === null;
    const isTight = spacing < SPACING_TIGHT;
    const width = (isFirst || isLast ? 0.5 * spacing + 30 : spacing) * (isTight ? 1.7 : 1);
    const ramp = isLast && this.values.length ? this.ramp(axis) : null;
    const label = axis.key ?? this.label;
    axis.place(LEFT + spacing * i, width, label, isTight ? i % 2 === 1 : true, ramp);
    axis.name.setAttribute("text-anchor", isFirst ? "start" : isLast ? "end" : "middle");
    axis.name.setAttribute("x", isFirst ? 8 - LEFT : isLast ? RIGHT - 6 : 0);
  }

  // The colours of the last axis from its foot on: by rank, so that one bad trial does not make
  // all others look equal.
  ramp(axis) {
    const value = (i) => axis.scale?.value((i + 0.5) / RAMP_STEPS) ?? this.values[0];
    const colour = (_, i) => rankColour(this.rank(value(i)), this.theme);
    return Array.from({ length: RAMP_STEPS }, colour);
  }

  // From 0, the best, to 1.
  rank(value) {
    const { maximize } = this.study.metric;
    const isBetter = (other) => (maximize ? other > value : other < value);
    return Math.min(1, this.values.filter(isBetter).length / Math.max(1, this.values.length - 1));
  }

  colour(trial) {
    return trial.value === null ? "currentColor" : rankColour(this.rank(trial.value), this.theme);
  }

  draw() {
    const before = this.paths;
    this.paths = new Map();
    const worstFirst = [...this.study.trials].reverse(); // the best is drawn above all others
    for (const trial of worstFirst) this.drawTrial(trial, before.get(trial.id)?.path);
    const drawn = [...this.paths.values()];
    this.lines.replaceChildren(...drawn.map(({ path }) => path));
    this.ends.replaceChildren(...drawn.map(({ end }) => end).filter(Boolean));
    this.filter();
    this.focus.setAttribute("aria-label", this.summary());
    this.point(this.pointed);
  }

  drawTrial(trial, path = svg("path", { fill: "none" })) {
    const isBest = trial.id === this.study.best;
    const [opacity, width] = this.study.trials.length > 60 ? [0.55, 1.1] : [0.9, 1.5];
    const values = [...trial.values, trial.value];
    const points = [...this.axes.values()].map((axis, i) => {
      const share = axis.shareOf(values[i], trial.trial);
      return share === null ? null : [axis.x, axis.y(share)];
    });
    const colour = this.colour(trial);
    const attributes = {
      d: pathThrough(points),
      stroke: colour,
      "stroke-width": isBest ? 3 : width,
      "stroke-opacity": isBest ? 1 : opacity,
      "stroke-dasharray": dashOf(trial.state),
      class: isBest ? "best" : "",
    };
    for (const [key, value] of Object.entries(attributes)) path.setAttribute(key, String(value));
    const last = points.findLast(Boolean);
    const end = last ? sign(trial.state, last[0], last[1], colour) : null;
    this.paths.set(trial.id, { path, points, trial, end });
  }

  summary() {
    const names = this.study.parameters.map(({ name }) => name).join(", ") || "no parameter";
    const trials = plural(this.study.trials.length, "trial");
    return `${trials} as lines through ${names} to ${this.label}`;
  }

  // ---- which trials are within all brushed ranges

  includes(trial) {
    const values = [...trial.values, trial.value];
    return [...this.axes.values()].every((axis, i) => axis.includes(values[i]));
  }

  selected() {
    return (this.study?.trials ?? []).filter((trial) => this.includes(trial));
  }

  /** @returns {[string | null, any, any][]} the brushed axes: [key, low, high] */
  ranges() {
    const brushed = [...this.axes.values()].filter((axis) => axis.range);
    return brushed.map(({ key, range }) => [key, range[0], range[1]]);
  }

  filter() {
    for (const { path, trial, end } of this.paths.values()) {
      const isOut = !this.includes(trial);
      path.classList.toggle("out", isOut);
      end?.classList.toggle("out", isOut);
    }
  }

  // ---- the trial that is pointed at

  listen() {
    this.box.addEventListener("pointermove", (event) => {
      if (!event.buttons) this.pointByUser(isOnAxis(event) ? null : this.trialNear(event), event);
    });
    this.box.addEventListener("pointerleave", (event) => {
      if (event.pointerType === "mouse") this.pointByUser(null);
    });
    this.box.addEventListener("click", (event) => {
      if (isOnAxis(event)) return;
      const id = this.trialNear(event);
      const isSecondTap = event.pointerType === "mouse" || id === this.pointed;
      this.pointByUser(id, event);
      if (id && isSecondTap) this.listeners.onOpen(id); // the first tap of a finger only points
    });
    this.focus.addEventListener("keydown", (event) => this.onKey(event));
    this.focus.addEventListener("blur", () => this.pointByUser(null));
  }

  trialNear(event) {
    const box = this.box.getBoundingClientRect();
    const [x, y] = [event.clientX - box.left, event.clientY - box.top];
    let nearest = null;
    let least = NEAR;
    for (const { points, trial, path } of this.paths.values()) {
      if (path.classList.contains("out")) continue;
      const distance = Math.abs(heightAt(points, x) - y);
      if (distance <= least && distance < NEAR) [nearest, least] = [trial.id, distance];
    }
    return nearest;
  }

  onKey(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const ids = this.selected().map(({ id }) => id);
    const at = ids.indexOf(this.pointed);
    const goTo = (i) => () => {
      this.pointByUser(ids[Math.min(ids.length - 1, Math.max(0, i))] ?? null);
      if (this.pointed) announce(this.asText(this.paths.get(this.pointed).trial));
    };
    const action = {
      ArrowDown: goTo(at + 1),
      ArrowRight: goTo(at + 1),
      ArrowUp: goTo(at - 1),
      ArrowLeft: goTo(at - 1),
      Home: goTo(0),
      End: goTo(ids.length - 1),
      Enter: () => this.pointed && this.listeners.onOpen(this.pointed),
      Escape: () => this.pointByUser(null),
    }[event.key];
    if (!action) return;
    event.preventDefault();
    event.stopPropagation();
    action();
  }

  pointByUser(id, event = null) {
    const before = this.pointed;
    this.point(id, event);
    if (this.pointed !== before) this.listeners.onPoint(this.pointed);
  }

  point(id, event = null) {
    const drawn = this.paths.get(id);
    this.pointed = drawn ? id : null;
    this.pointedPath.setAttribute("d", drawn ? pathThrough(drawn.points) : "");
    this.pointedPath.setAttribute("stroke", drawn ? this.colour(drawn.trial) : "none");
    this.tip.hidden = !drawn;
    this.focus.classList.toggle("pointing", Boolean(drawn));
    if (drawn) this.showTip(drawn, event);
  }

  showTip({ trial, points }, event) {
    const item = ([name, text]) => {
      const name_ = el("dt", { text: shorten(name, TEXT_MAX) });
      return el("div", {}, name_, el("dd", { text: shorten(text, TEXT_MAX) }));
    };
    this.tip.replaceChildren(
      el("b", { text: this.nameOf(trial.id) }),
      el("small", { text: ` trial ${trial.trial}, ${trial.state}` }),
      el("dl", {}, ...this.valuesOf(trial).map(item)),
    );
    const box = this.box.getBoundingClientRect();
    const under = event ? [event.clientX - box.left, event.clientY - box.top] : null;
    const [x, y] = under ?? points.find(Boolean) ?? [0, 0];
    const { offsetWidth: width, offsetHeight: height } = this.tip;
    const { scrollLeft, clientWidth } = this.element;
    const isRight = x + 16 + width <= scrollLeft + clientWidth;
    const left = Math.max(scrollLeft, isRight ? x + 16 : x - 16 - width);
    const top = Math.max(0, Math.min(y - height / 2, HEIGHT - height));
    this.tip.style.setProperty("left", `${left.toFixed(0)}px`);
    this.tip.style.setProperty("top", `${top.toFixed(0)}px`);
  }

  // [name, text] of each parameter and of the objective.
  valuesOf(trial) {
    const names = [...this.study.parameters.map(({ name }) => name), this.label];
    const values = [...trial.values, trial.value];
    return names.map((name, i) => [name, trialText(values[i])]);
  }

  asText(trial) {
    const values = this.valuesOf(trial).map((pair) => pair.join(" "));
    return `${this.nameOf(trial.id)}, ${trial.state}: ${values.join(", ")}`;
  }
}

function isOnAxis(event) {
  return Boolean(event.target.closest?.(".axis"));
}

// A path through points; it breaks where one is missing.
function pathThrough(points) {
  const parts = points.map((point, i) => {
    if (!point) return "";
    const [before, after] = [points[i - 1], points[i + 1]];
    const dot = before || after ? "" : "h0.1";
    return `${before ? "L" : "M"}${point[0].toFixed(1)} ${point[1].toFixed(1)}${dot}`;
  });
  return parts.join("");
}

// The height of a line at `x`, Infinity where it is not.
function heightAt(points, x) {
  for (let i = 1; i < points.length; i += 1) {
    const [a, b] = [points[i - 1], points[i]];
    const beyond = i === points.length - 1 ? NEAR : 0;
    if (a && b && x >= a[0] - NEAR && x <= b[0] + beyond) {
      return a[1] + (b[1] - a[1]) * Math.min(1, Math.max(0, (x - a[0]) / (b[0] - a[0])));
    }
  }
  return Infinity;
}
