// Axes, lines and marks on a canvas.

import { tickLabels } from "./format.js";
import { find, ticks } from "./scale.js";

export const LEFT = 58;
export const RIGHT = 12;
export const RIGHT_AXIS = 58; // where there is a vertical axis
export const TOP = 18; // the unit of the vertical axis is above it
export const BOTTOM = 24;

export const FONT =
  '11px ui-sans-serif, system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans", sans-serif';

/**
 * @param {CanvasRenderingContext2D} ctx
 * @param {{w: number, h: number}} box
 * @param {any} x its scale
 * @param {{left: any, right: any}} scales of the vertical axes; null: there is none
 * @param {Record<string, string>} colours
 * @param {{keys: any, units: any, isTime: boolean}} about the series and the unit of each axis
 */
export function axes(ctx, box, x, scales, colours, about) {
  const { keys, units, isTime } = about;
  const nY = Math.max(2, Math.round((box.h - TOP - BOTTOM) / 38));
  const nX = Math.max(2, Math.round((x.b - LEFT) / 85));
  const level = (px) => [LEFT, px, x.b, px];
  ctx.lineWidth = 1;
  ctx.strokeStyle = colours.grid;
  const main = scales.left ?? scales.right;
  const lines = ticks(main.low, main.high, nY, main.isLog);
  segments(ctx, ...lines.map((v) => level(Math.round(main.px(v)) + 0.5)));
  ctx.font = FONT;
  ctx.fillStyle = colours.faint;
  for (const side of ["left", "right"]) {
    if (scales[side]) verticalLabels(ctx, box, scales[side], nY, { key: keys[side], side, x });
    ctx.textBaseline = "alphabetic";
    ctx.textAlign = side === "left" ? "left" : "right";
    ctx.fillText(units[side] ?? "", side === "left" ? 4 : box.w - 4, TOP - 8);
  }
  const xTicks = ticks(x.low, x.high, nX, x.isLog, isTime);
  ctx.textAlign = "center";
  for (const [i, text] of tickLabels(xTicks, "", isTime).entries()) {
    const half = ctx.measureText(text).width / 2;
    ctx.fillText(text, Math.min(Math.max(x.px(xTicks[i]), half), box.w - half - 1), box.h - 6);
  }
  ctx.strokeStyle = colours.axis;
  segments(ctx, level(box.h - BOTTOM + 0.5));
}

function verticalLabels(ctx, box, y, n, { key, side, x }) {
  const values = ticks(y.low, y.high, n, y.isLog);
  const isLeft = side === "left";
  const widest = isLeft ? LEFT - 10 : box.w - x.b - 10; // a longer label is narrowed
  ctx.textAlign = isLeft ? "right" : "left";
  ctx.textBaseline = "middle";
  for (const [i, text] of tickLabels(values, key, false).entries()) {
    ctx.fillText(text, isLeft ? LEFT - 8 : x.b + 8, y.px(values[i]), widest);
  }
}

// Straight lines, each [x0, y0, x1, y1], in one stroke.
export function segments(ctx, ...lines) {
  ctx.beginPath();
  for (const [x0, y0, x1, y1] of lines) {
    ctx.moveTo(x0, y0);
    ctx.lineTo(x1, y1);
  }
  ctx.stroke();
}

// Where the browser draws without a GPU, a stroke of one device pixel costs 0.05 ms for 500 points
// and any wider one 1 to 30 ms: lines of many points are hairlines, several side by side if wide.
const FEW_POINTS = 120;
const DENSE = 4; // a line that goes up and down so many times the chart's width gets no dashes

// A line through its points, which ends before each x of `gaps`; those ascend. A value that is not
// finite breaks it; a point alone is a dot.
export function stroke(ctx, line, x, y, { colour, dash = [], width = 1.4, alpha = 1, gaps = [] }) {
  const begin = Math.max(0, find(line, x.low) - 1);
  const end = Math.min(line.n, find(line, x.high) + 2);
  const { path, lonely, travelled } = trace(line, x, y, begin, end, gaps);
  const isDense = travelled > DENSE * (x.b - x.a);
  ctx.globalAlpha = alpha;
  ctx.strokeStyle = colour;
  ctx.fillStyle = colour;
  ctx.lineJoin = "bevel";
  ctx.setLineDash(isDense ? [] : dash);
  if (end - begin <= FEW_POINTS) {
    ctx.lineWidth = width;
    ctx.stroke(path);
  } else {
    strokeHairlines(ctx, path, isDense ? 0 : width);
  }
  ctx.setLineDash([]);
  for (const [px, py] of lonely) disc(ctx, px, py, 2);
  ctx.globalAlpha = 1;
}

// The area between two lines of the same x; where the scale has no place for a value, to its edge.
export function area(ctx, low, high, x, y, colour) {
  const begin = Math.max(0, find(low, x.low) - 1);
  const end = Math.min(low.n, find(low, x.high) + 2);
  if (end - begin < 2) return;
  const place = (value) => {
    const py = y.px(value);
    return Number.isFinite(py) ? Math.max(-1e5, Math.min(1e5, py)) : y.a;
  };
  const path = new Path2D();
  for (let i = begin; i < end; i += 1) path.lineTo(x.px(low.x[i]), place(high.y[i]));
  for (let i = end - 1; i >= begin; i -= 1) path.lineTo(x.px(low.x[i]), place(low.y[i]));
  ctx.globalAlpha = 0.2;
  ctx.fillStyle = colour;
  ctx.fill(path);
  ctx.globalAlpha = 1;
}

// The path of a line, its points without neighbours, and how far it goes up and down, in pixels.
function trace(line, x, y, begin, end, gaps) {
  const { x: xs, y: ys } = line;
  const { k: kx, c: cx, isLog: isLogX } = x;
  const { k: ky, c: cy, isLog: isLogY } = y;
  const path = new Path2D();
  const lonely = [];
  let length = 0; // points of the piece that is being drawn
  let px = 0;
  let py = 0;
  let travelled = 0;
  let nPassed = 0; // of the gaps
  for (let i = begin; i < end; i += 1) {
    while (nPassed < gaps.length && xs[i] >= gaps[nPassed]) {
      nPassed += 1;
      if (length === 1) lonely.push([px, py]);
      length = 0;
    }
    const vx = isLogX ? Math.log10(xs[i]) : xs[i];
    const vy = isLogY ? Math.log10(ys[i]) : ys[i];
    if (!Number.isFinite(vx) || !Number.isFinite(vy)) {
      if (length === 1) lonely.push([px, py]);
      length = 0;
      continue;
    }
    const before = py;
    px = vx * kx + cx;
    py = Math.max(-1e5, Math.min(1e5, vy * ky + cy));
    if (length) {
      path.lineTo(px, py);
      travelled += Math.abs(py - before);
    } else {
      path.moveTo(px, py);
    }
    length += 1;
  }
  if (length === 1) lonely.push([px, py]);
  return { path, lonely, travelled };
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

const DOTS_MAX = 80; // evaluations that get a dot each; more would hide the line

export function dots(ctx, line, x, y, { colour, ground }) {
  const begin = find(line, x.low);
  const end = Math.min(line.n, find(line, x.high) + 1);
  if (end - begin > DOTS_MAX) return;
  for (let i = begin; i < end; i += 1) {
    const [px, py] = [x.px(line.x[i]), y.px(line.y[i])];
    if (!Number.isFinite(py)) continue;
    ctx.fillStyle = ground;
    disc(ctx, px, py, 3.6);
    ctx.fillStyle = colour;
    disc(ctx, px, py, 2.5);
  }
}

export function disc(ctx, x, y, r) {
  ctx.beginPath();
  ctx.arc(x, y, r, 0, 2 * Math.PI);
  ctx.fill();
}

// A cross at the upper edge where a value that is not finite was logged.
export function crosses(ctx, nonfinite, x, colour) {
  const lines = [];
  let last = -Infinity;
  for (const [at] of nonfinite) {
    const px = x.px(at);
    if (px - last < 6 || px < LEFT || px > x.b) continue;
    last = px;
    lines.push([px - 3, TOP - 1, px + 3, TOP + 5], [px + 3, TOP - 1, px - 3, TOP + 5]);
  }
  ctx.strokeStyle = colour;
  ctx.lineWidth = 1.6;
  segments(ctx, ...lines);
}

// A vertical line at `value` of the x axis.
export function vertical(ctx, value, x, box, { colour, dash = [] }) {
  const px = Math.round(x.px(value)) + 0.5;
  if (!(px >= LEFT && px <= x.b + 1)) return;
  ctx.strokeStyle = colour;
  ctx.lineWidth = 1;
  ctx.setLineDash(dash);
  segments(ctx, [px, TOP, px, box.h - BOTTOM]);
  ctx.setLineDash([]);
}
