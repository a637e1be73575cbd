// Parallel coordinates: an axis for each parameter and one for what came of it, a line for each trial.

import { el, say, svg } from "./dom.js";
import { Scale, tickWords, ticks } from "./plot.js";
import { cut } from "./chart.js";
import { short } from "./words.js";

const HEIGHT = 340;
const TOP = 44;
const BOTTOM = 14;
const LEFT = 26;
const RIGHT = 62;
const APART_MIN = 92; // px between two axes; where there is less room the chart is wider than it
const REACH = 12; // px from an axis in which a drag is meant for it
const NEAR = 14; // px from a line at which it is pointed at
const DRAG = 4; // px: a hand that shakes does not brush
const STEP = 1 / 40; // of an axis, for an arrow key
const HANDLE = "M-6 0 L6 0 L0 7 Z";
const TIGHT = 130; // px between axes, below which their names take turns in two rows
const CHARACTER = 7.2; // px, about

// viridis, told apart also by those who tell red from green badly
const RAMP = [
  "#440154",
  "#472d7b",
  "#3b528b",
  "#2c728e",
  "#21918c",
  "#28ae80",
  "#5ec962",
  "#addc30",
  "#fde725",
];
const DASHES = { pruned: "6 4", running: "2 3", failed: "1 5", interrupted: "1 5" };
export const SIGNS = {
  complete: "M-3 0 A3 3 0 1 0 3 0 A3 3 0 1 0 -3 0 Z",
  pruned: "M-3 0 A3 3 0 1 0 3 0 A3 3 0 1 0 -3 0 Z",
  running: "M-3 -4 L4 0 L-3 4 Z",
  failed: "M-3 -3 L3 3 M-3 3 L3 -3",
  interrupted: "M-2 -4 V4 M2 -4 V4",
};

// From the best (0) to the worst (1): the best stands out most from the ground.
export function colourOf(share, theme) {
  const at = (theme === "dark" ? 1 - 0.72 * share : 0.76 * share) * (RAMP.length - 1);
  const i = Math.min(RAMP.length - 2, Math.floor(at));
  const parts = [1, 3, 5].map((k) => {
    const [a, b] = [RAMP[i], RAMP[i + 1]].map((colour) => parseInt(colour.slice(k, k + 2), 16));
    return Math.round(a + (b - a) * (at - i))
      .toString(16)
      .padStart(2, "0");
  });
  return `#${parts.join("")}`;
}

// The line and the sign of a state, for a legend.
export function sample(state) {
  const line = {
    d: "M1 7 H27",
    fill: "none",
    stroke: "currentColor",
    "stroke-width": 1.6,
    "stroke-dasharray": DASHES[state] ?? "none",
  };
  return svg(
    "svg",
    { viewBox: "0 0 36 14", width: 36, height: 14, "aria-hidden": "true" },
    svg("path", line),
    sign(state, 31, 7, "currentColor"),
  );
}

function sign(state, x, y, colour) {
  return svg("path", {
    d: SIGNS[state] ?? SIGNS.interrupted,
    transform: `translate(${x.toFixed(1)} ${y.toFixed(1)})`,
    stroke: colour,
    "stroke-width": 1.5,
    fill: state === "complete" || state === "running" ? colour : "none",
    class: `sign-${state}`,
  });
}

// ---- an axis: where values stand on it, and which part of it is meant

class Axis {
  constructor(key, changed) {
    this.key = key; // a parameter's name; null: what came of it
    this.changed = changed;
    this.range = null;
    this.title = svg("title");
    this.name = svg("text", { class: "axis-name" });
    this.line = svg("g");
    this.words = svg("g");
    this.reach = svg("rect", { class: "reach", width: 2 * REACH, x: -REACH });
    this.band = svg("rect", { class: "band", width: 14, x: -7 });
    this.handles = [0, 1].map((end) => this.handle(end));
    this.element = svg(
      "g",
      { class: "axis" },
      this.line,
      this.words,
      this.band,
      this.reach,
      ...this.handles,
      svg("g", {}, this.title, this.name),
    );
    this.listen();
  }

  handle(end) {
    const handle = svg("path", {
      d: HANDLE,
      class: "handle",
      tabindex: 0,
      role: "slider",
      "aria-orientation": "vertical",
      "aria-valuemin": 0,
      "aria-valuemax": 100,
    });
    handle.addEventListener("keydown", (event) => this.type(event, end));
    return handle;
  }

  // What it has on it: a parameter as the server tells it.
  take(told, n) {
    this.told = told;
    this.isWords = told.kind === "words";
    this.scale =
      this.isWords || !(told.low < told.high)
        ? null
        : new Scale(told.low, told.high, 0, 1, told.kind === "log");
    this.places = this.isWords ? new Map(told.choices.map((words, i) => [words, i])) : null;
    this.n = n;
  }

  // From 0 at the foot to 1, or null.
  share(value, trial = null) {
    if (value === null || value === undefined) return null;
    if (this.isWords) {
      if (!this.places.has(value)) return null;
      // Side by side: lines through one point are one line to the eye.
      const aside = trial === null || this.n < 2 ? 0 : 0.22 * Math.sin(2.4 * trial);
      return (this.places.get(value) + 0.5 + aside) / this.places.size;
    }
    return this.scale ? Math.min(1, Math.max(0, this.scale.px(value))) : 0.5;
  }

  y(share) {
    return HEIGHT - BOTTOM - share * (HEIGHT - TOP - BOTTOM);
  }

  place(x, apart, label, row, colours) {
    this.x = x;
    this.element.setAttribute("transform", `translate(${x.toFixed(1)} 0)`);
    this.title.textContent = label;
    this.name.setAttribute("y", row ? 28 : 13);
    this.name.textContent = cut(label, Math.max(6, Math.floor(apart / CHARACTER)));
    this.line.replaceChildren(...this.strokes(colours));
    this.words.replaceChildren(
      ...this.marks().map(([share, words]) => {
        const text = svg("text", { x: 7, y: this.y(share) + 4, class: "axis-words" });
        text.textContent = cut(words, Math.max(5, Math.floor((apart - 14) / CHARACTER)));
        return text;
      }),
    );
    this.reach.setAttribute("y", TOP - 8);
    this.reach.setAttribute("height", HEIGHT - TOP - BOTTOM + 16);
    ["from", "to"].forEach((word, end) =>
      this.handles[end].setAttribute("aria-label", `${label} ${word}`),
    );
    this.show();
  }

  strokes(colours) {
    if (!colours) return [svg("path", { d: `M0 ${TOP} V${HEIGHT - BOTTOM}`, class: "axis-line" })];
    const n = colours.length;
    return colours.map((colour, i) =>
      svg("rect", {
        x: -2,
        width: 4,
        y: this.y((i + 1) / n),
        height: (HEIGHT - TOP - BOTTOM) / n + 0.5,
        fill: colour,
      }),
    );
  }

  marks() {
    const { told } = this;
    if (this.isWords) {
      const every = Math.ceil(told.choices.length / 18);
      return told.choices
        .map((words, i) => [this.share(words), words, i])
        .filter(([, , i]) => i % every === 0);
    }
    if (told.low === null) return [];
    if (!this.scale) return [[0.5, short(told.low)]];
    const found = ticks(told.low, told.high, 6, told.kind === "log").filter(
      (v) => !told.whole || Number.isInteger(v),
    );
    const words = tickWords(found, "", false);
    const ends = found.length ? [] : [told.low, told.high].map((v) => [this.share(v), short(v)]);
    return [...found.map((v, i) => [this.share(v), words[i]]), ...ends];
  }

  // ---- the part of it that is meant: [low, high] in its own values, null: to the end

  shares() {
    const [low, high] = this.range ?? [null, null];
    const half = this.isWords ? 0.5 / this.places.size : 0;
    const at = (value, otherwise, by) =>
      value === null ? otherwise : (this.share(value) ?? otherwise) + by;
    return [at(low, 0, -half), at(high, 1, half)];
  }

  valueAt(share, isHigh) {
    if (this.isWords)
      return this.told.choices[
        Math.min(
          this.places.size - 1,
          Math.max(
            0,
            isHigh
              ? Math.ceil(share * this.places.size - 1e-6) - 1
              : Math.floor(share * this.places.size + 1e-6),
          ),
        )
      ];
    return this.scale ? Number(this.scale.value(share).toPrecision(5)) : this.told.low;
  }

  // Who says nothing of an end means also what comes beyond it later.
  brush(a, b, isDone = true) {
    const [low, high] = [Math.min(a, b), Math.max(a, b)];
    const range = [
      low <= 0.001 ? null : this.valueAt(low, false),
      high >= 0.999 ? null : this.valueAt(high, true),
    ];
    this.range = range[0] === null && range[1] === null ? null : range;
    this.show();
    this.changed(isDone);
  }

  clear() {
    this.range = null;
    this.show();
    this.changed(true);
  }

  has(value) {
    if (!this.range) return true;
    if (value === null || value === undefined) return false;
    const at = this.isWords ? (v) => this.places.get(v) ?? NaN : (v) => v;
    const [low, high] = this.range;
    return (low === null || !(at(value) < at(low))) && (high === null || !(at(value) > at(high)));
  }

  show() {
    const shares = this.shares();
    this.element.classList.toggle("brushed", Boolean(this.range));
    this.band.setAttribute("y", this.y(shares[1]));
    this.band.setAttribute("height", Math.max(2, this.y(shares[0]) - this.y(shares[1])));
    this.handles.forEach((handle, end) => {
      handle.setAttribute(
        "transform",
        `translate(0 ${this.y(shares[end]).toFixed(1)})${end ? " scale(1 -1)" : ""}`,
      );
      handle.setAttribute("aria-valuenow", Math.round(100 * shares[end]));
      handle.setAttribute("aria-valuetext", this.wordsAt(end));
    });
  }

  wordsAt(end) {
    const value = this.range?.[end] ?? null;
    if (value !== null) return this.isWords ? value : short(value);
    return end ? "the greatest" : "the least";
  }

  type(event, end) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const step = this.isWords ? 1 / this.places.size : STEP;
    const shares = this.shares();
    const to = (share) => {
      const given = [...shares];
      const least = this.isWords ? step : 0;
      given[end] = end
        ? Math.min(1, Math.max(shares[0] + least, share))
        : Math.max(0, Math.min(shares[1] - least, share));
      this.brush(given[0], given[1]);
    };
    const act = {
      ArrowUp: () => to(shares[end] + step),
      ArrowRight: () => to(shares[end] + step),
      ArrowDown: () => to(shares[end] - step),
      ArrowLeft: () => to(shares[end] - step),
      PageUp: () => to(shares[end] + 5 * step),
      PageDown: () => to(shares[end] - 5 * step),
      Home: () => to(0),
      End: () => to(1),
      Escape: () => this.clear(),
      Delete: () => this.clear(),
    }[event.key];
    if (!act) return;
    event.preventDefault();
    event.stopPropagation();
    act();
  }

  listen() {
    let from = null;
    let isDrag = false;
    let held = null; // a handle, or both ends of a band, that is moved
    const at = (event) => {
      const box = this.reach.getBoundingClientRect(); // 8 px more than the axis at either end
      return Math.min(1, Math.max(0, 1 - (event.clientY - box.top - 8) / (box.height - 16)));
    };
    const down = (event, end) => {
      if (event.button !== 0) return;
      event.preventDefault();
      [from, isDrag] = [at(event), false];
      const shares = this.shares();
      const isInside = this.range && from > shares[0] && from < shares[1];
      held = end !== undefined ? { end, shares } : isInside ? { shares } : null;
      this.element.setPointerCapture(event.pointerId);
    };
    const move = (event) => {
      if (from === null) return;
      const to = at(event);
      isDrag ||= Math.abs(to - from) * (HEIGHT - TOP - BOTTOM) >= DRAG;
      if (!isDrag) return;
      if (!held) this.brush(from, to, false);
      else if (held.end !== undefined) this.brush(held.shares[1 - held.end], to, false);
      else {
        const by = Math.min(1 - held.shares[1], Math.max(-held.shares[0], to - from));
        this.brush(held.shares[0] + by, held.shares[1] + by, false);
      }
    };
    const up = (event) => {
      if (from === null) return;
      from = null;
      if (isDrag) this.changed(true);
      else if (this.range && event.type === "pointerup") this.clear();
    };
    this.reach.addEventListener("pointerdown", (event) => down(event));
    this.handles.forEach((handle, end) =>
      handle.addEventListener("pointerdown", (event) => {
        handle.focus();
        down(event, end);
      }),
    );
    this.element.addEventListener("pointermove", move);
    this.element.addEventListener("pointerup", up);
    this.element.addEventListener("pointercancel", up);
  }
}

// ---- all of it

export class Coordinates {
  // `brushed(isDone)`, `pointed(id)` and `opened(id)` are told what a reader does.
  constructor({ brushed, pointed, opened }) {
    Object.assign(this, { brushed, pointed, opened });
    this.axes = new Map();
    this.paths = new Map();
    this.at = null; // the trial that is pointed at
    this.lines = svg("g");
    this.ends = svg("g");
    this.over = svg("path", { class: "pointed", fill: "none" });
    this.front = svg("g");
    this.picture = svg(
      "svg",
      { height: HEIGHT, class: "coordinates-lines", "aria-hidden": "true" },
      this.lines,
      this.over,
    );
    this.top = svg("svg", { height: HEIGHT, class: "coordinates-axes" }, this.front, this.ends);
    this.focus = el(
      "div",
      {
        class: "coordinates-focus",
        tabindex: 0,
        role: "img",
        "aria-roledescription": "chart: arrow keys go from trial to trial, Enter opens one",
      },
      this.picture,
    );
    this.tip = el("div", { class: "coordinates-tip", hidden: true });
    this.box = el("div", { class: "coordinates-box" }, this.focus, this.top, this.tip);
    this.element = el("div", { class: "coordinates scroll" }, this.box);
    this.listen();
    new ResizeObserver(() => this.lay()).observe(this.element);
  }

  // `told` is the server's answer; `range(key)` what is meant of an axis; `label` names the last one.
  show(told, { range, label, theme, nameOf }) {
    Object.assign(this, { told, label, theme, nameOf });
    this.ranks = told.trials.map(({ value }) => value).filter((value) => value !== null);
    const given = [
      ...told.parameters.map((parameter) => [parameter.name, parameter]),
      [null, { kind: "linear", ...told.figure }],
    ];
    const before = this.axes;
    this.axes = new Map(
      given.map(([key, parameter]) => {
        const axis =
          before.get(key) ??
          new Axis(key, (isDone) => {
            this.filter();
            this.brushed(isDone);
          });
        axis.take(parameter, told.trials.length);
        axis.range = range(key);
        return [key, axis];
      }),
    );
    if ([...before.keys()].join("\n") !== [...this.axes.keys()].join("\n"))
      this.front.replaceChildren(...[...this.axes.values()].map((axis) => axis.element));
    this.lay();
  }

  lay() {
    if (!this.told) return;
    const n = this.axes.size;
    const width = Math.max(this.element.clientWidth, LEFT + RIGHT + APART_MIN * (n - 1));
    for (const picture of [this.picture, this.top]) picture.setAttribute("width", width);
    this.box.style.setProperty("width", `${width}px`);
    const apart = n > 1 ? (width - LEFT - RIGHT) / (n - 1) : 0;
    [...this.axes.values()].forEach((axis, i) => {
      const isLast = axis.key === null;
      const label = isLast ? this.label : axis.key;
      const room = (i === 0 || isLast ? 0.5 * apart + 30 : apart) * (apart < TIGHT ? 1.7 : 1);
      axis.place(
        LEFT + apart * i,
        room,
        label,
        apart < TIGHT ? i % 2 : 1,
        isLast && this.ranks.length ? this.ramp(axis) : null,
      );
      axis.name.setAttribute("text-anchor", i === 0 ? "start" : isLast ? "end" : "middle");
      axis.name.setAttribute("x", i === 0 ? 8 - LEFT : isLast ? RIGHT - 6 : 0);
    });
    this.draw();
  }

  // The colours of the last axis from its foot on: by rank, or one bad trial would make all others equal.
  ramp(axis) {
    const n = 40;
    return Array.from({ length: n }, (_, i) =>
      colourOf(this.rank(axis.scale ? axis.scale.value((i + 0.5) / n) : this.ranks[0]), this.theme),
    );
  }

  // From 0, the best, to 1.
  rank(value) {
    const { maximize } = this.told.figure;
    const better = this.ranks.filter((other) => (maximize ? other > value : other < value)).length;
    return Math.min(1, better / Math.max(1, this.ranks.length - 1));
  }

  draw() {
    const { trials, best } = this.told;
    const axes = [...this.axes.values()];
    const before = this.paths;
    this.paths = new Map();
    const ends = [];
    const [strength, weight] = trials.length > 60 ? [0.55, 1.1] : [0.9, 1.5];
    for (const trial of [...trials].reverse()) {
      // the best above all others
      const isBest = trial.id === best;
      const points = axes.map((axis, i) => [
        axis.x,
        axis.share(i < axes.length - 1 ? trial.values[i] : trial.value, trial.trial),
        axis,
      ]);
      const seen = points.map(([x, share, axis]) => (share === null ? null : [x, axis.y(share)]));
      const colour = this.colour(trial);
      const path = before.get(trial.id)?.path ?? svg("path", { fill: "none" });
      const given = {
        d: through(seen),
        stroke: colour,
        "stroke-width": isBest ? 3 : weight,
        "stroke-opacity": isBest ? 1 : strength,
        "stroke-dasharray": DASHES[trial.state] ?? "none",
        class: isBest ? "best" : "",
      };
      for (const [key, value] of Object.entries(given)) path.setAttribute(key, String(value));
      const last = seen.findLast(Boolean);
      const end = last ? sign(trial.state, ...last, colour) : null;
      if (end) ends.push(end);
      this.paths.set(trial.id, { path, seen, trial, end });
    }
    this.lines.replaceChildren(...[...this.paths.values()].map(({ path }) => path));
    this.ends.replaceChildren(...ends);
    this.filter();
    this.focus.setAttribute("aria-label", this.words());
    this.point(this.at);
  }

  colour(trial) {
    return trial.value === null ? "currentColor" : colourOf(this.rank(trial.value), this.theme);
  }

  words() {
    const n = this.told.trials.length;
    return `${n === 1 ? "One trial" : `${n} trials`} as lines through ${this.told.parameters.map(({ name }) => name).join(", ") || "nothing"} to ${this.label}`;
  }

  // ---- which trials are meant

  has(trial) {
    return [...this.axes.values()].every((axis, i) =>
      axis.has(axis.key === null ? trial.value : trial.values[i]),
    );
  }

  meant() {
    return (this.told?.trials ?? []).filter((trial) => this.has(trial));
  }

  filter() {
    for (const { path, trial, end } of this.paths.values()) {
      const isOut = !this.has(trial);
      path.classList.toggle("out", isOut);
      end?.classList.toggle("out", isOut);
    }
  }

  // ---- one that is pointed at

  listen() {
    this.box.addEventListener("pointermove", (event) => {
      if (!event.buttons) this.point(isOnAxis(event) ? null : this.near(event), true, event);
    });
    this.box.addEventListener("pointerleave", (event) => {
      if (event.pointerType === "mouse") this.point(null, true);
    });
    this.box.addEventListener("click", (event) => {
      if (isOnAxis(event)) return;
      const id = this.near(event);
      const wasSeen = event.pointerType === "mouse" || id === this.at; // a finger looks before it opens
      this.point(id, true, event);
      if (id && wasSeen) this.opened(id);
    });
    this.focus.addEventListener("keydown", (event) => this.type(event));
    this.focus.addEventListener("blur", () => this.point(null, true));
  }

  near(event) {
    const box = this.box.getBoundingClientRect();
    const [x, y] = [event.clientX - box.left, event.clientY - box.top];
    let best = null;
    let least = NEAR;
    for (const { seen, trial, path } of this.paths.values()) {
      if (path.classList.contains("out")) continue;
      const away = Math.abs(heightAt(seen, x) - y);
      if (away < least || (away === least && away < NEAR)) [best, least] = [trial.id, away];
    }
    return best;
  }

  type(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const ids = this.meant().map(({ id }) => id);
    const at = ids.indexOf(this.at);
    const to = (i) => {
      this.point(ids[Math.min(ids.length - 1, Math.max(0, i))] ?? null, true);
      if (this.at) say(this.inWords(this.paths.get(this.at).trial));
    };
    const act = {
      ArrowDown: () => to(at + 1),
      ArrowRight: () => to(at + 1),
      ArrowUp: () => to(at < 0 ? 0 : at - 1),
      ArrowLeft: () => to(at < 0 ? 0 : at - 1),
      Home: () => to(0),
      End: () => to(ids.length - 1),
      Enter: () => this.at && this.opened(this.at),
      Escape: () => this.point(null, true),
    }[event.key];
    if (!act) return;
    event.preventDefault();
    event.stopPropagation();
    act();
  }

  point(id, isTold = false, event = null) {
    const known = this.paths.get(id);
    const isSame = this.at === (known ? id : null);
    this.at = known ? id : null;
    this.over.setAttribute("d", known ? through(known.seen) : "");
    this.over.setAttribute("stroke", known ? this.colour(known.trial) : "none");
    this.tip.hidden = !known;
    this.focus.classList.toggle("pointing", Boolean(known));
    if (known) this.showTip(known, event);
    if (isTold && !isSame) this.pointed(this.at);
  }

  showTip({ trial, seen }, event) {
    const rows = this.facts(trial);
    this.tip.replaceChildren(
      el("b", { text: this.nameOf(trial.id) }),
      el("small", { text: ` trial ${trial.trial}, ${trial.state}` }),
      el(
        "dl",
        {},
        ...rows.map(([name, words]) =>
          el("div", {}, el("dt", { text: cut(name, 28) }), el("dd", { text: cut(words, 28) })),
        ),
      ),
    );
    const box = this.box.getBoundingClientRect();
    const [first] = seen.filter(Boolean);
    const [x, y] = event ? [event.clientX - box.left, event.clientY - box.top] : (first ?? [0, 0]);
    const [w, h] = [this.tip.offsetWidth, this.tip.offsetHeight];
    const left =
      x + 16 + w <= this.element.scrollLeft + this.element.clientWidth ? x + 16 : x - 16 - w;
    this.tip.style.setProperty("left", `${Math.max(this.element.scrollLeft, left).toFixed(0)}px`);
    this.tip.style.setProperty(
      "top",
      `${Math.max(0, Math.min(y - h / 2, HEIGHT - h)).toFixed(0)}px`,
    );
  }

  facts(trial) {
    const { parameters } = this.told;
    const chosen = parameters.map(({ name }, i) => [name, inFull(trial.values[i])]);
    return [...chosen, [this.label, inFull(trial.value)]];
  }

  inWords(trial) {
    return `${this.nameOf(trial.id)}, ${trial.state}: ${this.facts(trial)
      .map((pair) => pair.join(" "))
      .join(", ")}`;
  }
}

function isOnAxis(event) {
  return Boolean(event.target.closest?.(".axis"));
}

// A value of a trial in full enough to be told from others.
export function inFull(value) {
  return typeof value === "number" ? short(value) : (value ?? "–");
}

// A path through points; where one is missing it breaks off.
function through(points) {
  let d = "";
  points.forEach((point, i) => {
    if (point)
      d += `${points[i - 1] ? "L" : "M"}${point[0].toFixed(1)} ${point[1].toFixed(1)}${points[i - 1] || points[i + 1] ? "" : "h0.1"}`;
  });
  return d;
}

function heightAt(points, x) {
  for (let i = 1; i < points.length; i += 1) {
    const [a, b] = [points[i - 1], points[i]];
    if (a && b && x >= a[0] - NEAR && x <= b[0] + (i === points.length - 1 ? NEAR : 0)) {
      return a[1] + (b[1] - a[1]) * Math.min(1, Math.max(0, (x - a[0]) / (b[0] - a[0])));
    }
  }
  return Infinity;
}
