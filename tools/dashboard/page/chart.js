// One panel: a figure of several runs, with its cursor, its zoom, its picture and its table.

import { button, el, icon, keep, save, say } from "./dom.js";
import {
  BOTTOM,
  FONT,
  LEFT,
  RIGHT,
  Scale,
  TOP,
  axes,
  crosses,
  dots,
  extent,
  find,
  nearest,
  padded,
  stroke,
  upright,
} from "./plot.js";
import { AXES, aligned, count, figure, onAxis, short } from "./words.js";

const DRAG_PX = 6; // a hand that shakes does not zoom
const VALUES_MAX = 8; // told beside the cursor
const HEIGHT = 220;
const HEIGHT_BIG = 460;

export class Chart {
  // `grid` gives what all panels share: x axis, cursor, zoom, runs.
  constructor(grid, key) {
    this.grid = grid;
    this.key = key;
    this.isStale = true;
    this.isSeen = true;
    this.lines = [];
    this.drag = null;
    const { title, unit } = figure(key);
    this.title = title;
    this.unit = unit;
    this.base = el("canvas", { "aria-hidden": "true" });
    this.over = el("canvas", { "aria-hidden": "true", class: "over" });
    this.note = el("p", { class: "empty", hidden: true });
    this.plot = el(
      "div",
      {
        class: "plot",
        tabindex: 0,
        role: "img",
        "aria-roledescription": "chart: arrow keys move the cursor, plus and minus zoom",
      },
      this.base,
      this.over,
      this.note,
    );
    this.latest = el("span", { class: "latest" });
    this.bigButton = button(
      "Enlarge",
      { class: "quiet", onclick: () => grid.enlarge(key) },
      icon("expand"),
    );
    this.element = el(
      "section",
      { class: "panel", "aria-label": title },
      el(
        "header",
        {},
        el("h3", {}, el("span", { text: title }), el("small", { text: unit })),
        this.latest,
        el(
          "div",
          { class: "tools" },
          button(
            `Save ${title} as PNG`,
            { class: "quiet", onclick: () => this.savePng() },
            icon("save"),
          ),
          button(
            `Save ${title} as CSV: every row in view, not thinned`,
            { class: "quiet", onclick: () => this.saveCsv() },
            icon("table"),
          ),
          this.bigButton,
        ),
      ),
      this.plot,
    );
    this.listen();
  }

  listen() {
    const plot = this.plot;
    plot.addEventListener("pointermove", (event) => this.move(event));
    plot.addEventListener("pointerdown", (event) => {
      if (event.button !== 0) return;
      this.drag = { from: this.at(event), to: this.at(event), px: event.offsetX };
      plot.setPointerCapture(event.pointerId);
    });
    plot.addEventListener("pointerup", (event) => this.drop(event));
    plot.addEventListener("pointercancel", () => {
      this.drag = null;
      this.drawOver();
    });
    plot.addEventListener("pointerleave", () => {
      if (!this.drag) this.grid.point(null, null);
    });
    plot.addEventListener("dblclick", () => this.grid.zoom(null, null));
    plot.addEventListener("keydown", (event) => this.type(event));
    plot.addEventListener("focus", () => say(this.words()));
    plot.addEventListener("blur", () => this.grid.point(null, null));
  }

  at(event) {
    const px = event.clientX - this.plot.getBoundingClientRect().left;
    return this.x ? this.x.value(Math.min(Math.max(px, LEFT), this.x.b)) : 0;
  }

  move(event) {
    if (!this.x) return;
    if (this.drag) this.drag.to = this.at(event);
    this.grid.point(this.at(event), this);
  }

  drop(event) {
    const drag = this.drag;
    this.drag = null;
    if (!drag || !this.x) return;
    const from = Math.min(drag.from, drag.to);
    const to = Math.max(drag.from, drag.to);
    if (Math.abs(this.x.px(to) - this.x.px(from)) >= DRAG_PX) this.grid.zoom(from, to);
    else if (event.pointerType !== "mouse") this.grid.point(this.at(event), this);
    this.drawOver();
  }

  type(event) {
    if (event.ctrlKey || event.metaKey || event.altKey || !this.x) return;
    const { low, high } = this.x;
    const cursor = this.grid.cursor ?? this.x.value((LEFT + this.x.b) / 2);
    const step = event.shiftKey ? 40 : 4;
    const by = (px) => this.x.value(Math.min(Math.max(this.x.px(cursor) + px, LEFT), this.x.b));
    const towards = (factor) => {
      const px = this.x.px(cursor);
      this.grid.zoom(
        this.x.value(px + (this.x.px(low) - px) * factor),
        this.x.value(px + (this.x.px(high) - px) * factor),
      );
    };
    const act = {
      ArrowLeft: () => this.grid.point(by(-step), this),
      ArrowRight: () => this.grid.point(by(step), this),
      Home: () => this.grid.point(low, this),
      End: () => this.grid.point(high, this),
      "+": () => towards(0.5),
      "=": () => towards(0.5),
      "-": () => towards(2),
      0: () => this.grid.zoom(null, null),
      Enter: () => this.grid.enlarge(this.key),
    }[event.key];
    if (!act) return;
    event.preventDefault();
    event.stopPropagation();
    act();
    if (event.key.startsWith("Arrow") || event.key === "Home" || event.key === "End")
      say(this.valuesInWords());
  }

  // ---- what it shows

  invalidate() {
    this.isStale = true;
    if (this.isSeen) this.grid.schedule();
  }

  draw() {
    if (!this.isStale || !this.isSeen) return;
    this.isStale = false;
    const box = this.size();
    const ctx = this.base.getContext("2d");
    ctx.setTransform(this.ratio, 0, 0, this.ratio, 0, 0);
    ctx.clearRect(0, 0, box.w, box.h);
    this.paint(ctx, box, this.grid.colours);
    this.drawOver();
    keep(this.latest, this.latestInWords());
    this.latest.classList.toggle(
      "bad",
      this.latest.textContent === "nan" || this.latest.textContent.includes("inf"),
    );
    this.plot.setAttribute("aria-label", this.words());
    this.element.dataset.points = String(this.lines.reduce((n, line) => n + line.points.n, 0));
  }

  size() {
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

  paint(ctx, box, colours) {
    const { grid } = this;
    this.lines = grid.linesOf(this.key);
    const all = this.lines.map((line) => line.points);
    const range = grid.range(all);
    const y = range && extent(all, range[0], range[1], grid.isLogY, grid.isFitted);
    keep(this.note, y ? "" : grid.whyEmpty(this.key));
    this.note.hidden = Boolean(y);
    if (!y) {
      this.x = null;
      return;
    }
    this.x = new Scale(range[0], range[1], LEFT, box.w - RIGHT, grid.isLogX);
    const [low, high] = padded(y, grid.isLogY);
    this.y = new Scale(low, high, box.h - BOTTOM, TOP, grid.isLogY);
    axes(ctx, box, this.x, this.y, colours, { key: this.key, isTime: grid.axis === "time" });
    ctx.save();
    ctx.beginPath();
    ctx.rect(LEFT - 1, 0, box.w - LEFT - RIGHT + 3, box.h - BOTTOM + 1);
    ctx.clip();
    for (const at of grid.resumes()) upright(ctx, at, this.x, box, { colour: colours.mark });
    for (const line of this.lines) this.paintLine(ctx, line, colours);
    for (const line of this.lines) crosses(ctx, line.nonfinite, this.x, colours.bad);
    ctx.restore();
  }

  paintLine(ctx, line, colours) {
    const { points, smoothed, colour, dash, isTake, isEval } = line;
    if (isTake) {
      stroke(ctx, points, this.x, this.y, { colour: colours.take, dash: [2, 2], width: 1.3 });
      return;
    }
    stroke(ctx, points, this.x, this.y, {
      colour,
      dash: smoothed ? [] : dash,
      width: smoothed ? 1 : 1.4,
      alpha: smoothed ? 0.3 : 1,
    });
    if (smoothed) stroke(ctx, smoothed, this.x, this.y, { colour, dash, width: 1.8 });
    if (isEval) dots(ctx, points, this.x, this.y, { colour, ground: colours.panel });
  }

  drawOver() {
    const isNeeded = Boolean(this.drag) || this.grid.cursor !== null;
    this.over.hidden = !isNeeded; // a layer less to put together for each panel
    if (!isNeeded || !this.over.width) return;
    const ctx = this.over.getContext("2d");
    ctx.setTransform(this.ratio, 0, 0, this.ratio, 0, 0);
    ctx.clearRect(0, 0, this.w, this.h);
    if (!this.x) return;
    const { colours, cursor } = this.grid;
    if (this.drag) {
      const a = this.x.px(this.drag.from);
      const b = this.x.px(this.drag.to);
      ctx.fillStyle = colours.select;
      ctx.fillRect(Math.min(a, b), TOP, Math.abs(b - a), this.h - TOP - BOTTOM);
    }
    if (cursor === null) return;
    const px = this.x.px(cursor);
    if (!(px >= LEFT - 1 && px <= this.x.b + 1)) return;
    ctx.strokeStyle = colours.cursor;
    ctx.lineWidth = 1;
    ctx.beginPath();
    ctx.moveTo(Math.round(px) + 0.5, TOP);
    ctx.lineTo(Math.round(px) + 0.5, this.h - BOTTOM);
    ctx.stroke();
    this.paintValues(ctx, this.values(cursor), px, colours);
  }

  // The value of each line at `x`, the lowest first: {line, x, y, low, high}.
  values(x) {
    const found = [];
    for (const line of this.lines) {
      const shownLine = line.smoothed ?? line.means;
      const i = nearest(shownLine, x);
      if (i === null) continue;
      const near = Math.abs(this.x.px(shownLine.x[i]) - this.x.px(x));
      if (line.isTake && near > 3) continue;
      if (
        near > (line.isEval ? 60 : 24) &&
        (x < line.points.x[0] || x > line.points.x[line.points.n - 1])
      )
        continue;
      const value = { line, x: shownLine.x[i], y: shownLine.y[i] };
      if (line.isThinned) Object.assign(value, this.around(line.points, x));
      found.push(value);
    }
    return found.sort((a, b) => b.y - a.y);
  }

  // Lowest and highest within a pixel of `x`: what a mean would hide.
  around(points, x) {
    const px = this.x.px(x);
    const a = find(points, this.x.value(px - 1));
    const b = Math.max(a + 2, find(points, this.x.value(px + 1)));
    let low = Infinity;
    let high = -Infinity;
    for (let i = a; i < Math.min(b, points.n); i += 1) {
      low = Math.min(low, points.y[i]);
      high = Math.max(high, points.y[i]);
    }
    return low < high ? { low, high } : {};
  }

  paintValues(ctx, values, px, colours) {
    for (const { line, x, y } of values) {
      ctx.fillStyle = line.colour;
      ctx.beginPath();
      ctx.arc(
        this.x.px(x),
        Math.max(TOP, Math.min(this.h - BOTTOM, this.y.px(y))),
        3,
        0,
        2 * Math.PI,
      );
      ctx.fill();
    }
    const isHere = this.grid.pointed === this;
    const shownValues = values.slice(0, VALUES_MAX);
    const numbers = shownValues.flatMap(({ y, low, high }) => [y, low ?? y, high ?? y]);
    const words = aligned(numbers, this.key);
    const rows = shownValues.map(({ line, low }, i) => ({
      colour: line.isTake ? this.grid.colours.take : line.colour,
      value: words[3 * i],
      range: low === undefined || !isHere ? "" : `${words[3 * i + 1]} … ${words[3 * i + 2]}`,
      name:
        isHere && this.grid.nRuns > 1
          ? cut(line.name, 30)
          : isHere && line.isTake
            ? "replaced"
            : "",
    }));
    const more = values.length > VALUES_MAX ? `and ${values.length - VALUES_MAX} more` : "";
    const head = isHere
      ? `${AXES[this.grid.axis]} ${headWords(values[0]?.x ?? this.grid.cursor, this.grid.axis)}`
      : "";
    if (rows.length) tip(ctx, { head, rows, more }, px, this, colours);
  }

  // ---- in words

  words() {
    const n = this.lines.filter((line) => !line.isTake).length;
    return `${this.title}${this.unit ? `, ${this.unit}` : ""}: ${n === 1 ? "one run" : `${n} runs`}. ${this.latestInWords()}`;
  }

  latestInWords() {
    const lines = this.lines.filter((line) => !line.isTake);
    if (lines.length !== 1 || !this.x) return "";
    const { points, nonfinite } = lines[0];
    const broken = nonfinite.at(-1);
    if (broken && !(points.n && Number.isFinite(points.y[points.n - 1]))) return broken[1];
    for (let i = points.n - 1; i >= 0; i -= 1) {
      if (points.x[i] <= this.x.high && Number.isFinite(points.y[i]))
        return short(points.y[i], this.key);
    }
    return "";
  }

  valuesInWords() {
    const { cursor, axis } = this.grid;
    if (cursor === null) return "";
    const told = this.values(cursor).map(({ line, y }) => `${line.name} ${short(y, this.key)}`);
    return `${AXES[axis]} ${onAxis(cursor, axis)}: ${told.join(", ") || "nothing here"}`;
  }

  // ---- taking it away

  savePng() {
    const scale = 2;
    const box = { w: Math.max(this.w, 640), h: Math.max(this.h, 320) };
    const names = this.lines.filter((line) => !line.isTake);
    const head = 34;
    const foot = 16 * Math.ceil(names.length / 2) + 10;
    const canvas = el("canvas", { width: box.w * scale, height: (box.h + head + foot) * scale });
    const ctx = canvas.getContext("2d");
    const { colours } = this.grid;
    ctx.setTransform(scale, 0, 0, scale, 0, 0);
    ctx.fillStyle = colours.panel;
    ctx.fillRect(0, 0, box.w, box.h + head + foot);
    ctx.fillStyle = colours.ink;
    ctx.font = FONT.replace("11px", "600 14px");
    ctx.fillText(this.title + (this.unit ? ` (${this.unit})` : ""), 14, 22);
    ctx.font = FONT;
    ctx.textAlign = "right";
    ctx.fillStyle = colours.faint;
    ctx.fillText(`by ${AXES[this.grid.axis]}`, box.w - RIGHT, 22);
    ctx.save();
    ctx.translate(0, head);
    this.paint(ctx, box, colours);
    ctx.restore();
    ctx.textAlign = "left";
    ctx.font = FONT;
    names.forEach((line, i) => {
      const left = 14 + (i % 2) * (box.w / 2);
      const top = box.h + head + 10 + 16 * Math.floor(i / 2);
      ctx.strokeStyle = line.colour;
      ctx.setLineDash(line.dash);
      ctx.lineWidth = 2;
      ctx.beginPath();
      ctx.moveTo(left, top - 3);
      ctx.lineTo(left + 22, top - 3);
      ctx.stroke();
      ctx.setLineDash([]);
      ctx.fillStyle = colours.ink;
      ctx.fillText(cut(line.name, 48), left + 30, top);
    });
    this.isStale = true;
    this.draw();
    canvas.toBlob((blob) => save(blob, `${fileName(this.key)}.png`), "image/png");
  }

  saveCsv() {
    const link = el("a", {
      href: this.grid.csvAddress(this.key),
      download: `${fileName(this.key)}.csv`,
    });
    link.click();
  }
}

export function fileName(text) {
  return text.replace(/[^\w.-]+/g, "_").slice(0, 80) || "chart";
}

export function cut(text, n) {
  return text.length <= n
    ? text
    : `${text.slice(0, Math.ceil(n / 2))}…${text.slice(text.length - Math.floor(n / 2) + 1)}`;
}

function headWords(x, axis) {
  return axis === "iter" ? Math.round(x).toLocaleString("en-US") : onAxis(x, axis);
}

// A box beside the cursor.
function tip(ctx, { head, rows, more }, px, chart, colours) {
  ctx.font = FONT;
  ctx.textBaseline = "middle";
  ctx.textAlign = "left";
  const line = 15;
  const width = (text) => (text ? ctx.measureText(text).width : 0);
  const values = Math.max(...rows.map((row) => width(row.value)));
  let ranges = Math.max(...rows.map((row) => width(row.range)));
  const names = Math.max(...rows.map((row) => width(row.name)));
  const widthWith = (range) => 16 + values + (range ? range + 10 : 0) + (names ? names + 10 : 0);
  // beside the cursor, or it hides what it is about: then without lowest and highest
  if (widthWith(ranges) + 30 > Math.max(chart.w - px, px - LEFT)) ranges = 0;
  const inner = widthWith(ranges);
  const w = Math.max(inner, width(head), width(more)) + 16;
  const n = rows.length + (head ? 1 : 0) + (more ? 1 : 0);
  const h = n * line + 9;
  const left = px + 12 + w < chart.w - 2 ? px + 12 : Math.max(2, px - 12 - w);
  const top = TOP;
  ctx.fillStyle = colours.tip;
  ctx.strokeStyle = colours.axis;
  ctx.lineWidth = 1;
  ctx.beginPath();
  ctx.roundRect(Math.round(left) + 0.5, top + 0.5, Math.round(w), h, 5);
  ctx.fill();
  ctx.stroke();
  let y = top + 12;
  if (head) {
    ctx.fillStyle = colours.faint;
    ctx.fillText(head, left + 8, y);
    y += line;
  }
  for (const row of rows) {
    ctx.strokeStyle = row.colour;
    ctx.lineWidth = 2.5;
    ctx.beginPath();
    ctx.moveTo(left + 8, y);
    ctx.lineTo(left + 18, y);
    ctx.stroke();
    ctx.fillStyle = colours.ink;
    ctx.textAlign = "right";
    ctx.fillText(row.value, left + 24 + values, y);
    ctx.textAlign = "left";
    ctx.fillStyle = colours.faint;
    if (ranges && row.range) ctx.fillText(row.range, left + 34 + values, y);
    if (row.name) ctx.fillText(row.name, left + 34 + values + (ranges ? ranges + 10 : 0), y);
    y += line;
  }
  if (more) {
    ctx.fillStyle = colours.faint;
    ctx.fillText(more, left + 8, y);
  }
}

export { HEIGHT, HEIGHT_BIG, count };
