// Lines on a canvas: from values to pixels, ticks, and nothing that knows where values come from.

import { duration, short } from "./words.js";

export const LEFT = 52;
export const RIGHT = 12;
export const TOP = 10;
export const BOTTOM = 24;

export const FONT =
  '11px ui-sans-serif, system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans", sans-serif';

export class Scale {
  constructor(low, high, a, b, isLog) {
    Object.assign(this, { low, high, a, b, isLog });
    const f = isLog ? Math.log10 : (v) => v;
    const span = f(high) - f(low) || 1;
    this.k = (b - a) / span;
    this.c = a - f(low) * this.k;
  }

  px(value) {
    return (this.isLog ? Math.log10(value) : value) * this.k + this.c;
  }

  value(px) {
    const v = (px - this.c) / this.k;
    return this.isLog ? 10 ** v : v;
  }
}

// First index in `line` whose x is at or behind `x`.
export function find(line, x) {
  let low = 0;
  let high = line.n;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (line.x[middle] < x) low = middle + 1;
    else high = middle;
  }
  return low;
}

// Lowest and highest value of lines between two x; [lowest, highest] or null.
export function extent(lines, from, to, isLog, isFitted = false) {
  return (isFitted && fitted(lines, from, to, isLog)) || whole(lines, from, to, isLog);
}

const FEW = 30; // values of which none is an outlier
const FENCE = 4; // times the middle half is so far away that a point there hides the others

// The same without values far from all others, if there are any.
function fitted(lines, from, to, isLog) {
  const values = [];
  for (const line of lines) {
    const end = Math.min(line.n, find(line, to * (1 + 1e-12) + 1e-300) + 1);
    for (let i = find(line, from); i < end; i += 1)
      if (line.x[i] <= to && line.y[i] < Infinity && line.y[i] > (isLog ? 0 : -Infinity))
        values.push(isLog ? Math.log(line.y[i]) : line.y[i]);
  }
  if (values.length < FEW) return null;
  const sorted = Float64Array.from(values).sort();
  const at = (share) => sorted[Math.round(share * (sorted.length - 1))];
  const room = FENCE * Math.max(at(0.75) - at(0.25), at(0.95) - at(0.5), at(0.5) - at(0.05));
  const low = sorted.find((v) => v >= at(0.5) - room);
  const high = sorted.findLast((v) => v <= at(0.5) + room);
  if (low === sorted[0] && high === sorted.at(-1)) return null;
  return isLog ? [Math.exp(low), Math.exp(high)] : [low, high];
}

function whole(lines, from, to, isLog) {
  let low = Infinity;
  let high = -Infinity;
  for (const line of lines) {
    const end = find(line, to * (1 + 1e-12) + 1e-300);
    for (let i = find(line, from); i < Math.min(end + 1, line.n); i += 1) {
      if (line.x[i] > to) break;
      const v = line.y[i];
      if (!(v < Infinity) || !(v > (isLog ? 0 : -Infinity))) continue;
      if (v < low) low = v;
      if (v > high) high = v;
    }
    for (const x of [from, to]) {
      const v = between(line, x); // a line that comes in from outside is in the picture, too
      if (!(v < Infinity) || !(v > (isLog ? 0 : -Infinity))) continue;
      if (v < low) low = v;
      if (v > high) high = v;
    }
  }
  return low <= high ? [low, high] : null;
}

function between(line, x) {
  const i = find(line, x);
  if (i === 0 || i >= line.n) return NaN;
  const share = (x - line.x[i - 1]) / (line.x[i] - line.x[i - 1] || 1);
  return line.y[i - 1] + share * (line.y[i] - line.y[i - 1]);
}

export function padded([low, high], isLog) {
  if (isLog) {
    const room = low === high ? 2 : (high / low) ** 0.05;
    return [low / room, high * room];
  }
  if (low === high) {
    const room = Math.abs(low) * 0.05 || 1;
    return [low - room, high + room];
  }
  const room = (high - low) * 0.06;
  // what is never negative is not drawn as if it could be
  return [low >= 0 && low - room < 0 ? Math.min(low, 0) : low - room, high + room];
}

const TIME_STEPS = [
  1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10800, 21600, 43200, 86400,
];

export function ticks(low, high, n, isLog, isTime = false) {
  if (!(high > low)) return [low];
  if (isLog) return logTicks(low, high, n);
  const rough = (high - low) / n;
  let step;
  if (isTime && rough > 0.5 && rough < 86_400) {
    step = TIME_STEPS.find((s) => s >= rough) ?? 86_400;
  } else {
    const unit = isTime && rough >= 86_400 ? 86_400 : 1;
    const power = 10 ** Math.floor(Math.log10(rough / unit));
    step = unit * power * ([1, 2, 5, 10].find((s) => s * power * unit >= rough * 0.999) ?? 10);
  }
  const found = [];
  for (
    let k = Math.ceil(low / step - 1e-9);
    k * step <= high + step * 1e-9 && found.length < 50;
    k += 1
  )
    found.push(Number((k * step).toPrecision(12)));
  return found;
}

function logTicks(low, high, n) {
  const decades = Math.log10(high / low);
  if (decades < 0.7) return ticks(low, high, n, false).filter((v) => v > 0);
  const every = Math.max(1, Math.ceil(decades / n));
  const steps = decades > 3 ? [1] : decades > 1.5 ? [1, 3] : [1, 2, 5];
  const found = [];
  for (let d = Math.floor(Math.log10(low)); d <= Math.ceil(Math.log10(high)); d += 1) {
    if (d % every) continue;
    for (const s of steps) {
      const v = Number((s * 10 ** d).toPrecision(3));
      if (v >= low && v <= high) found.push(v);
    }
  }
  return found;
}

// What stands at a tick: as many digits as tell it from its neighbours.
export function tickWords(values, key, isTime) {
  if (isTime) return values.map((v) => (v === 0 ? "0" : duration(v)));
  const words = values.map((v) => short(v, key));
  if (new Set(words).size === words.length) return words;
  const step = Math.abs(values[1] - values[0]);
  const digits = Math.min(15, Math.max(0, -Math.floor(Math.log10(step) + 1e-9)));
  return values.map((v) =>
    v
      .toLocaleString("en-US", { minimumFractionDigits: digits, maximumFractionDigits: digits })
      .replace("-", "−"),
  );
}

export function axes(ctx, box, x, y, colours, { key, isTime }) {
  ctx.font = FONT;
  ctx.lineWidth = 1;
  const yTicks = ticks(
    y.low,
    y.high,
    Math.max(2, Math.round((box.h - TOP - BOTTOM) / 38)),
    y.isLog,
  );
  const xTicks = ticks(
    x.low,
    x.high,
    Math.max(2, Math.round((box.w - LEFT - RIGHT) / 85)),
    x.isLog,
    isTime,
  );
  ctx.strokeStyle = colours.grid;
  ctx.beginPath();
  for (const v of yTicks) {
    const at = Math.round(y.px(v)) + 0.5;
    ctx.moveTo(LEFT, at);
    ctx.lineTo(box.w - RIGHT, at);
  }
  ctx.stroke();
  ctx.fillStyle = colours.faint;
  ctx.textAlign = "right";
  ctx.textBaseline = "middle";
  tickWords(yTicks, key, false).forEach((text, i) => ctx.fillText(text, LEFT - 8, y.px(yTicks[i])));
  ctx.textBaseline = "alphabetic";
  tickWords(xTicks, "", isTime).forEach((text, i) => {
    const at = x.px(xTicks[i]);
    const half = ctx.measureText(text).width / 2;
    ctx.textAlign = "center";
    ctx.fillText(text, Math.min(Math.max(at, half), box.w - half - 1), box.h - 6);
  });
  ctx.strokeStyle = colours.axis;
  ctx.beginPath();
  ctx.moveTo(LEFT, box.h - BOTTOM + 0.5);
  ctx.lineTo(box.w - RIGHT, box.h - BOTTOM + 0.5);
  ctx.stroke();
}

// Where the browser draws without a GPU, a stroke of one device pixel costs 0.05 ms for 500 points
// and any wider one 1 to 30 ms: lines of many points are hairlines, beside each other if wide.
const FEW_POINTS = 120;
const DENSE = 4; // a line that goes so many times the width of its panel up and down: no dashes

// A line through its points; a value that is no number breaks it, a point alone is a dot.
export function stroke(ctx, line, x, y, { colour, dash = [], width = 1.4, alpha = 1 }) {
  ctx.globalAlpha = alpha;
  ctx.strokeStyle = colour;
  ctx.fillStyle = colour;
  ctx.lineJoin = "bevel";
  const begin = Math.max(0, find(line, x.low) - 1);
  const end = Math.min(line.n, find(line, x.high) + 2);
  const { x: xs, y: ys } = line;
  const { k: kx, c: cx, isLog: logX } = x;
  const { k: ky, c: cy, isLog: logY } = y;
  let isDown = false;
  let isAlone = false;
  let px = 0;
  let py = 0;
  let travelled = 0;
  const dots = [];
  const path = new Path2D();
  for (let i = begin; i < end; i += 1) {
    const vx = logX ? Math.log10(xs[i]) : xs[i];
    const vy = logY ? Math.log10(ys[i]) : ys[i];
    if (!(vy - vy === 0) || !(vx - vx === 0)) {
      if (isDown && isAlone) dots.push(px, py);
      isDown = false;
      continue;
    }
    px = vx * kx + cx;
    const before = py;
    py = Math.max(-1e5, Math.min(1e5, vy * ky + cy));
    if (isDown) {
      path.lineTo(px, py);
      travelled += Math.abs(py - before);
      isAlone = false;
    } else {
      path.moveTo(px, py);
      isDown = isAlone = true;
    }
  }
  if (isDown && isAlone) dots.push(px, py);
  const isDense = travelled > DENSE * (x.b - x.a);
  ctx.setLineDash(isDense ? [] : dash);
  if (end - begin <= FEW_POINTS) {
    ctx.lineWidth = width;
    ctx.stroke(path);
  } else {
    strokeHairlines(ctx, path, isDense ? 0 : width);
  }
  ctx.setLineDash([]);
  for (let i = 0; i < dots.length; i += 2) dot(ctx, dots[i], dots[i + 1], 2);
  ctx.globalAlpha = 1;
}

function strokeHairlines(ctx, path, width) {
  const pixel = 1 / ctx.getTransform().a;
  ctx.lineWidth = pixel;
  const n = width <= 1 ? 1 : Math.round(width / pixel + 0.1);
  for (let k = 0; k < n; k += 1) {
    const by = (k - (n - 1) / 2) * pixel * 0.8;
    ctx.translate(0, by);
    ctx.stroke(path);
    ctx.translate(0, -by);
  }
}

const MANY_DOTS = 80; // evaluations up to which each has a dot; more would be a caterpillar

export function dots(ctx, line, x, y, { colour, ground, alpha = 1 }) {
  const begin = find(line, x.low);
  const end = Math.min(line.n, find(line, x.high) + 1);
  if (end - begin > MANY_DOTS) return;
  ctx.globalAlpha = alpha;
  for (let i = begin; i < end; i += 1) {
    const px = x.px(line.x[i]);
    const py = y.px(line.y[i]);
    if (!(py - py === 0)) continue;
    ctx.fillStyle = ground;
    dot(ctx, px, py, 3.6);
    ctx.fillStyle = colour;
    dot(ctx, px, py, 2.5);
  }
  ctx.globalAlpha = 1;
}

function dot(ctx, x, y, r) {
  ctx.beginPath();
  ctx.arc(x, y, r, 0, 2 * Math.PI);
  ctx.fill();
}

// Where a value was logged that is no number: a cross at the upper edge.
export function crosses(ctx, nonfinite, x, colour) {
  ctx.strokeStyle = colour;
  ctx.lineWidth = 1.6;
  let last = -Infinity;
  ctx.beginPath();
  for (const [at] of nonfinite) {
    const px = x.px(at);
    if (px - last < 6 || px < LEFT || px > x.b) continue;
    last = px;
    ctx.moveTo(px - 3, TOP - 1);
    ctx.lineTo(px + 3, TOP + 5);
    ctx.moveTo(px + 3, TOP - 1);
    ctx.lineTo(px - 3, TOP + 5);
  }
  ctx.stroke();
}

// An upright line with a word: where a session went on.
export function upright(ctx, at, x, box, { colour, dash = [3, 3] }) {
  const px = Math.round(x.px(at)) + 0.5;
  if (!(px >= LEFT && px <= box.w - RIGHT)) return;
  ctx.strokeStyle = colour;
  ctx.lineWidth = 1;
  ctx.setLineDash(dash);
  ctx.beginPath();
  ctx.moveTo(px, TOP);
  ctx.lineTo(px, box.h - BOTTOM);
  ctx.stroke();
  ctx.setLineDash([]);
}

// Where `x` is on a line: its nearest value, or null where it has none near.
export function nearest(line, x) {
  if (!line.n) return null;
  const at = find(line, x);
  let best = null;
  for (const i of [at - 1, at]) {
    if (i < 0 || i >= line.n || !Number.isFinite(line.y[i])) continue;
    if (best === null || Math.abs(line.x[i] - x) < Math.abs(line.x[best] - x)) best = i;
  }
  return best;
}
