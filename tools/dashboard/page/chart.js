// One panel: a metric of several runs, with its cursor, its zoom, and its PNG and CSV.

import { drawValues, exactOnAxis, valuesAt } from "./cursor.js";
import { announce, button, download, el, icon, setText } from "./dom.js";
import {
  area,
  axes,
  BOTTOM,
  crosses,
  dots,
  LEFT,
  RIGHT,
  RIGHT_AXIS,
  stroke,
  TOP,
  vertical,
} from "./draw.js";
import { onAxis, plural, short, shorten } from "./format.js";
import { showLegend } from "./legend.js";
import { axisName } from "./metrics.js";
import { chartImage } from "./png.js";
import { pointAtLine } from "./pointing.js";
import { countOutside, extent, padded, Scale } from "./scale.js";
import { state } from "./state.js";

const DRAG_PX = 6; // a shorter drag is a click
const HEIGHT = 220;

export class Chart {
  /**
   * @param {any} grid what all panels share: lines, colours, range, cursor, zoom
   * @param {string} description what the series is
   */
  constructor(grid, key, description) {
    this.grid = grid;
    this.key = key;
    this.isStale = true;
    this.isSeen = true;
    this.lines = [];
    this.drag = null;
    /** @type {Scale | null} */
    this.x = null;
    /** @type {Scale | null} of the left axis */
    this.y = null;
    /** @type {Scale | null} of the right axis, where some series are on it */
    this.yRight = null;
    this.w = this.h = this.ratio = 0; // of the canvases
    this.build(key, description);
    this.listen();
  }

  build(title, description) {
    this.title = title;
    this.description = description;
    this.base = el("canvas", { "aria-hidden": "true" });
    this.over = el("canvas", { "aria-hidden": "true", class: "over" });
    this.note = el("p", { class: "empty", hidden: true });
    const role = "chart: arrow keys move the cursor, plus and minus zoom";
    const plotProps = { class: "plot", tabindex: 0, role: "img", "aria-roledescription": role };
    this.plot = el("div", plotProps, this.base, this.over, this.note);
    this.latest = el("span", { class: "latest" });
    const showAll = () => this.grid.panels.setOptions(this.key, { fit: "off" });
    this.cut = el("button", { type: "button", class: "cut", hidden: true, onclick: showAll });
    this.legend = el("ul", { class: "legend", hidden: true });
    const tool = (label, onclick, name) => button(label, { class: "quiet", onclick }, icon(name));
    this.enlargeButton = tool("Enlarge", () => this.grid.enlarge(this.key), "expand");
    const tools = el(
      "div",
      { class: "tools" },
      tool(`Save ${title} as PNG`, () => this.savePng(), "save"),
      tool(`Save ${title} as CSV: every row in view`, () => this.saveCsv(), "table"),
      this.enlargeButton,
      tool(`Settings of ${title}`, () => this.grid.panels.openMenu(this), "settings"),
    );
    const heading = el("h3", {}, el("span", { text: title }), el("small", { text: description }));
    this.element = el(
      "section",
      { class: "panel", "aria-label": title, "data-key": this.key },
      el("header", {}, heading, this.cut, this.latest, tools),
      this.legend,
      this.plot,
    );
  }

  // ---- pointer and keys

  listen() {
    const { plot } = this;
    plot.addEventListener("pointermove", (event) => this.onMove(event));
    plot.addEventListener("pointerdown", (event) => {
      if (event.button !== 0) return;
      this.drag = { from: this.valueUnder(event), to: this.valueUnder(event) };
      plot.setPointerCapture(event.pointerId);
    });
    plot.addEventListener("pointerup", (event) => this.onDrop(event));
    plot.addEventListener("pointercancel", () => {
      this.drag = null;
      this.drawOver();
    });
    plot.addEventListener("pointerleave", () => {
      if (!this.drag) this.grid.setCursor(null, null);
    });
    plot.addEventListener("dblclick", () => this.grid.zoom(null, null));
    plot.addEventListener("keydown", (event) => this.onKey(event));
    plot.addEventListener("focus", () => announce(this.label()));
    plot.addEventListener("blur", () => this.grid.setCursor(null, null));
  }

  valueUnder(event) {
    return this.x ? this.valueAt(event.clientX - this.plot.getBoundingClientRect().left) : 0;
  }

  valueAt(px) {
    return this.x.value(Math.min(Math.max(px, LEFT), this.x.b));
  }

  onMove(event) {
    if (!this.x) return;
    if (this.drag) this.drag.to = this.valueUnder(event);
    this.grid.setCursor(this.valueUnder(event), this);
    pointAtLine(this, event);
  }

  onDrop(event) {
    const { drag } = this;
    this.drag = null;
    if (!drag || !this.x) return;
    const [from, to] = [Math.min(drag.from, drag.to), Math.max(drag.from, drag.to)];
    if (Math.abs(this.x.px(to) - this.x.px(from)) >= DRAG_PX) this.grid.zoom(from, to, this.axis);
    else if (event.pointerType !== "mouse") this.grid.setCursor(this.valueUnder(event), this);
    this.drawOver();
  }

  onKey(event) {
    if (event.ctrlKey || event.metaKey || event.altKey || !this.x) return;
    const { low, high } = this.x;
    const px = this.x.px(this.grid.cursor ?? this.valueAt((LEFT + this.x.b) / 2));
    const step = event.shiftKey ? 40 : 4;
    const cursorTo = (value) => {
      this.grid.setCursor(value, this);
      announce(this.valuesAsText());
    };
    const zoomBy = (factor) => {
      const edge = (value) => this.x.value(px + (this.x.px(value) - px) * factor);
      this.grid.zoom(edge(low), edge(high), this.axis);
    };
    const action = {
      ArrowLeft: () => cursorTo(this.valueAt(px - step)),
      ArrowRight: () => cursorTo(this.valueAt(px + step)),
      Home: () => cursorTo(low),
      End: () => cursorTo(high),
      "+": () => zoomBy(0.5),
      "=": () => zoomBy(0.5),
      "-": () => zoomBy(2),
      0: () => this.grid.zoom(null, null),
      Enter: () => this.grid.enlarge(this.key),
    }[event.key];
    if (!action) return;
    event.preventDefault();
    event.stopPropagation();
    action();
  }

  // ---- drawing

  invalidate() {
    this.isStale = true;
    if (this.isSeen) this.grid.schedule();
  }

  draw() {
    if (!this.isStale || !this.isSeen) return;
    this.isStale = false;
    const box = this.fitCanvases();
    this.paint(this.cleared(this.base), box, this.grid.colours);
    this.drawOver();
    const latest = this.latestAsText();
    setText(this.latest, latest);
    this.latest.classList.toggle("bad", /^(nan|-?inf)/.test(latest));
    this.plot.setAttribute("aria-label", this.label());
    showLegend(this);
    this.element.dataset.points = String(this.lines.reduce((n, line) => n + line.points.n, 0));
  }

  fitCanvases() {
    const w = Math.max(180, this.plot.clientWidth);
    const h = this.plot.clientHeight || HEIGHT;
    const ratio = window.devicePixelRatio || 1;
    if (this.w !== w || this.h !== h || this.ratio !== ratio) {
      Object.assign(this, { w, h, ratio });
      for (const canvas of [this.base, this.over]) {
        canvas.width = Math.round(w * ratio);
        canvas.height = Math.round(h * ratio);
      }
    }
    return { w, h };
  }

  cleared(canvas) {
    const ctx = canvas.getContext("2d");
    ctx.setTransform(this.ratio, 0, 0, this.ratio, 0, 0);
    ctx.clearRect(0, 0, this.w, this.h);
    return ctx;
  }

  // Its horizontal axis: that of the view, else the one that the runs defined for this series.
  get axis() {
    return this.grid.axisOf(this.key);
  }

  // How this panel is drawn: its own options, else those of all panels.
  get options() {
    const own = this.grid.optionsOf(this.key);
    return { ...own, isLog: own.y ? own.y === "log" : state.logy, fit: own.fit ?? state.fit };
  }

  paint(ctx, box, colours) {
    const { grid } = this;
    this.lines = grid.linesOf(this.key);
    const range = grid.range(this.axis);
    this.y = range && this.scaleOf("left", range, box);
    this.yRight = range && this.scaleOf("right", range, box);
    setText(this.note, this.y || this.yRight ? "" : grid.whyEmpty(this.key, this.options.isLog));
    this.note.hidden = Boolean(this.y || this.yRight);
    this.showCut(range);
    this.x = null;
    if (!this.y && !this.yRight) return;
    const right = box.w - (this.yRight ? RIGHT_AXIS : RIGHT);
    this.x = new Scale(range[0], range[1], LEFT, right, state.logx);
    const isTime = this.axis === "time";
    axes(ctx, box, this.x, { left: this.y, right: this.yRight }, colours, {
      keys: { left: this.key, right: this.lines.find(({ side }) => side === "right")?.key },
      units: { left: this.unitOf("left"), right: this.unitOf("right") },
      isTime,
    });
    ctx.save();
    ctx.beginPath();
    ctx.rect(LEFT - 1, 0, right - LEFT + 3, box.h - BOTTOM + 1);
    ctx.clip();
    const resumeStyle = { colour: colours.mark, dash: [3, 3] };
    for (const value of grid.resumes(this.axis)) vertical(ctx, value, this.x, box, resumeStyle);
    const lines = this.lines.filter((line) => this.yOf(line));
    for (const line of lines) {
      const { band, colour } = line;
      if (band) area(ctx, band.low, band.high, this.x, this.yOf(line), colour);
    }
    for (const line of lines) this.paintLine(ctx, line, colours);
    for (const line of this.lines) crosses(ctx, line.nonfinite, this.x, colours.bad);
    ctx.restore();
  }

  yOf({ side }) {
    return side === "right" ? this.yRight : this.y;
  }

  pointsOf(side) {
    const lines = this.lines.filter((line) => line.side === side);
    return lines.flatMap(({ points, band }) => (band ? [points, band.low, band.high] : [points]));
  }

  // The scale of an axis; null where it has no value. A range that a person set is kept.
  scaleOf(side, range, box) {
    const { isLog, fit, low, high } = this.options;
    const values = extent(this.pointsOf(side), range[0], range[1], isLog, fit);
    if (!values) return null;
    const [least, most] = padded(values, isLog);
    const isOwn = side === "left";
    const bottom = isOwn && low !== undefined && (!isLog || low > 0) ? low : least;
    const top = isOwn && high !== undefined && high > bottom ? high : most;
    const end = top > bottom ? top : bottom + 1; // all values are below a `low` that was set
    return new Scale(bottom, end, box.h - BOTTOM, TOP, isLog);
  }

  // The unit that all series of an axis have.
  unitOf(side) {
    const names = new Set(this.lines.filter((line) => line.side === side).map(({ key }) => key));
    const units = new Set([...names].map((name) => this.grid.unitOf(name)));
    return units.size === 1 ? shorten([...units][0], 24) : "";
  }

  // How many values are above or below the part that is drawn; a click shows them.
  showCut(range) {
    const isWhole = !range || this.options.fit === "off";
    let n = 0;
    for (const [side, scale] of [
      ["left", this.y],
      ["right", this.yRight],
    ]) {
      if (isWhole || !scale) continue;
      const { low, high } = /** @type {Scale} */ (scale);
      n += countOutside(this.pointsOf(side), range[0], range[1], [low, high]);
    }
    const { low, high } = this.options;
    const isRanged = low !== undefined || high !== undefined;
    setText(
      this.cut,
      isRanged ? `${plural(n, "value")} outside` : `${plural(n, "outlier")} cut off`,
    );
    this.cut.title = isRanged ? "Values outside of the range of this panel" : "Show all values";
    this.cut.hidden = !n;
  }

  paintLine(ctx, line, colours) {
    const { points, smoothed, colour, dash, gaps } = line;
    const { x } = this;
    const y = this.yOf(line);
    if (line.isSuperseded) {
      stroke(ctx, points, x, y, { colour: colours.superseded, dash: [2, 2], width: 1.3, gaps });
    } else if (smoothed) {
      stroke(ctx, points, x, y, { colour, width: 1, alpha: 0.3, gaps });
      stroke(ctx, smoothed, x, y, { colour, dash, width: 1.8, gaps });
    } else {
      stroke(ctx, points, x, y, { colour, dash, gaps });
    }
    if (line.isEval && !line.isSuperseded) {
      dots(ctx, points, x, y, { colour, ground: colours.panel });
    }
  }

  // ---- what is above the lines: the cursor, its values, and the part that a drag selects

  drawOver() {
    const { colours, cursor } = this.grid;
    const isNeeded = Boolean(this.drag) || cursor !== null;
    this.over.hidden = !isNeeded; // a hidden canvas costs the browser nothing to compose
    if (!isNeeded || !this.over.width) return;
    const ctx = this.cleared(this.over);
    if (!this.x) return;
    if (this.drag) {
      const [a, b] = [this.x.px(this.drag.from), this.x.px(this.drag.to)];
      ctx.fillStyle = colours.select;
      ctx.fillRect(Math.min(a, b), TOP, Math.abs(b - a), this.h - TOP - BOTTOM);
    }
    const isOfAxis = cursor !== null && this.grid.cursorAxis === this.axis;
    const px = isOfAxis ? this.x.px(cursor) : NaN;
    if (!(px >= LEFT - 1 && px <= this.x.b + 1)) return;
    vertical(ctx, cursor, this.x, this, { colour: colours.cursor });
    drawValues(this, ctx, px, colours);
  }

  // ---- as text

  // Whether it has several series.
  get isShared() {
    return this.grid.seriesOf(this.key).length > 1;
  }

  currentLines() {
    return this.lines.filter((line) => !line.isSuperseded);
  }

  label() {
    const about = [this.description, this.grid.unitOf(this.key)].filter(Boolean);
    const unit = about.length ? `, ${about.join(", ")}` : "";
    const kind = this.grid.curves.isGrouped ? "group" : "run";
    const runs = plural(new Set(this.currentLines().map(({ name }) => name)).size, kind);
    return `${this.title}${unit}: ${runs}. ${this.latestAsText()}`;
  }

  latestAsText() {
    const lines = this.currentLines();
    return lines.length === 1 ? this.latestOf(lines[0]) : "";
  }

  // What a line ends in that is not finite, and since when.
  lastNonfinite({ x, y, n }, nonfinite) {
    let i = n - 1;
    while (i >= 0 && !Number.isFinite(y[i])) i -= 1;
    const first = nonfinite.find(([at]) => i < 0 || at > x[i]) ?? nonfinite.at(-1);
    return `${nonfinite.at(-1)[1]} since ${exactOnAxis(first[0], this.axis)}`;
  }

  // The last value of a line in view.
  latestOf({ points, nonfinite, key }) {
    const isLastFinite = points.n && Number.isFinite(points.y[points.n - 1]);
    if (nonfinite.length && !isLastFinite) return this.lastNonfinite(points, nonfinite);
    for (let i = points.n - 1; i >= 0; i -= 1) {
      const isInView = this.x && points.x[i] <= this.x.high;
      if (isInView && Number.isFinite(points.y[i])) return short(points.y[i], key);
    }
    return "";
  }

  valuesAsText() {
    const { cursor } = this.grid;
    if (cursor === null) return "";
    const nameOf = (line) => (this.isShared ? line.legend : line.name);
    const texts = valuesAt(this, cursor).map(
      ({ line, y }) => `${nameOf(line)} ${short(y, line.key)}`,
    );
    return `${axisName(this.axis)} ${onAxis(cursor, this.axis)}: ${texts.join(", ") || "no value here"}`;
  }

  // ---- files

  savePng() {
    const canvas = chartImage(this, this.grid.colours);
    this.isStale = true; // the image was painted at another size
    this.draw();
    canvas.toBlob((blob) => download(blob, `${fileName(this.key)}.png`), "image/png");
  }

  saveCsv() {
    const href = this.grid.csvUrl(this.key);
    el("a", { href, download: `${fileName(this.key)}.csv` }).click();
  }
}

function fileName(text) {
  return text.replace(/[^\w.-]+/g, "_").slice(0, 80) || "chart";
}
