// The values of a chart's lines under the cursor.

import { BOTTOM, disc, TOP } from "./draw.js";
import { aligned, onAxis, short, shorten } from "./format.js";
import { axisName } from "./metrics.js";
import { find, nearest } from "./scale.js";
import { state } from "./state.js";
import { drawTooltip } from "./tooltip.js";

const VALUES_MAX = 8; // beside the cursor

// The value of each line at `x`, the highest first: {line, x, y, low, high}.
export function valuesAt(chart, x) {
  const values = [];
  for (const line of chart.lines.filter((one) => chart.yOf(one))) {
    const curve = line.smoothed ?? line.means;
    const i = nearest(curve, x);
    if (i === null || !isNear(chart, line, curve.x[i], x)) continue;
    const around = line.spread ? spreadNear(line, x) : extremesNear(chart, line, x);
    values.push({ line, x: curve.x[i], y: curve.y[i], ...around });
  }
  return values.sort((a, b) => b.y - a.y);
}

function isNear(chart, line, lineX, x) {
  const distance = Math.abs(chart.x.px(lineX) - chart.x.px(x));
  if (line.isSuperseded && distance > 3) return false;
  const { points } = line;
  return distance <= (line.isEval ? 60 : 24) || (x >= points.x[0] && x <= points.x[points.n - 1]);
}

// The lowest and the highest value within a pixel of `x`, which the mean of a thinned line hides.
function extremesNear(chart, { points, isThinned }, x) {
  if (!isThinned) return {};
  const px = chart.x.px(x);
  const begin = find(points, chart.x.value(px - 1));
  const end = Math.max(begin + 2, find(points, chart.x.value(px + 1)));
  const values = points.y.subarray(begin, Math.min(end, points.n));
  const [low, high] = [Math.min(...values), Math.max(...values)];
  return low < high ? { low, high } : {};
}

// The values under the cursor, beside it.
export function drawValues(chart, ctx, px, colours) {
  const values = valuesAt(chart, chart.grid.cursor);
  for (const { line, x, y } of values) {
    const top = Math.max(TOP, Math.min(chart.h - BOTTOM, chart.yOf(line).px(y)));
    ctx.fillStyle = line.colour;
    disc(ctx, chart.x.px(x), top, 3);
  }
  if (!values.length) return;
  const isHere = chart.grid.cursorChart === chart;
  const rows = tooltipRows(chart, values.slice(0, VALUES_MAX), isHere, colours);
  const more = values.length > VALUES_MAX ? `and ${values.length - VALUES_MAX} more` : "";
  const head = isHere ? `${axisName(chart.axis)} ${exactOnAxis(values[0].x, chart.axis)}` : "";
  drawTooltip(ctx, { head, rows, more }, px, chart.w, colours);
}

// The chart under the pointer names its runs, the others show the values alone.
function tooltipRows(chart, values, isHere, colours) {
  const numbersOf = ({ y, low, high, std }) => [y, low ?? y, high ?? std ?? y];
  const texts = chart.isShared
    ? values.flatMap((one) => numbersOf(one).map((value) => short(value, one.line.key)))
    : aligned(values.flatMap(numbersOf), chart.key);
  const nameOf = ({ line, n }) => {
    if (!isHere) return chart.isShared ? shorten(line.key, 30) : "";
    const hasSeveral = n !== undefined || chart.grid.ids.length > 1;
    const parts = [
      hasSeveral ? shorten(line.name, 30) : "",
      chart.isShared ? shorten(line.key, 30) : "",
      n === undefined ? "" : `n ${n}`,
      line.isSuperseded && !hasSeveral ? "superseded" : "",
    ];
    return parts.filter(Boolean).join(", ");
  };
  const rangeOf = ({ low, std }, i) => {
    if (!isHere) return "";
    if (std !== undefined) return Number.isNaN(std) ? "" : `± ${texts[3 * i + 2]}`;
    return low === undefined ? "" : `${texts[3 * i + 1]} … ${texts[3 * i + 2]}`;
  };
  return values.map((value, i) => ({
    colour: value.line.isSuperseded ? colours.superseded : value.line.colour,
    value: texts[3 * i],
    range: rangeOf(value, i),
    name: nameOf(value),
  }));
}

// What a mean is of, near `x`: its standard deviation, or its extremes; and the number of runs.
function spreadNear({ points, spread }, x) {
  const i = nearest(points, x);
  if (i === null) return {};
  const n = spread.n[i];
  if (state.band === "range") return { low: spread.low[i], high: spread.high[i], n };
  return { std: spread.std[i], n };
}

export function exactOnAxis(x, axis) {
  if (axis === "tokens" || axis === "time") return onAxis(x, axis);
  return (axis === "iter" ? Math.round(x) : x).toLocaleString("en-US");
}
