// From values to pixels: scales, their ticks, and the range of values that a chart shows.
//
// A line is {x, y, n}: two arrays of which the first `n` places are in use, in order of x.

export class Scale {
  /** `low` is drawn at pixel `a`, `high` at pixel `b`. */
  constructor(low, high, a, b, isLog) {
    this.low = low;
    this.high = high;
    this.a = a;
    this.b = b;
    this.isLog = isLog;
    const f = isLog ? Math.log10 : (v) => v;
    this.k = (b - a) / (f(high) - f(low) || 1);
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

// ---- points of a line

// The first index at which `line` is not before `x`.
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

// The index of the finite value of `line` nearest to `x`, or null.
export function nearest(line, x) {
  const at = find(line, x);
  let best = null;
  for (const i of [at - 1, at]) {
    if (i < 0 || i >= line.n || !Number.isFinite(line.y[i])) continue;
    if (best === null || Math.abs(line.x[i] - x) < Math.abs(line.x[best] - x)) best = i;
  }
  return best;
}

// The value of `line` at `x`, interpolated; NaN outside of it.
function valueAt(line, x) {
  const i = find(line, x);
  if (i === 0 || i >= line.n) return NaN;
  const share = (x - line.x[i - 1]) / (line.x[i] - line.x[i - 1] || 1);
  return line.y[i - 1] + share * (line.y[i] - line.y[i - 1]);
}

// ---- the range of values

const FEW = 30; // values of which none is an outlier
const FENCE = 4; // times the spread of most values: what is further away is an outlier
const FLAT = 10; // times the height of the other values: with such outliers they look flat

/**
 * The lowest and the highest value of lines between two x, or null.
 * @param {string} fit "on": without outliers; "": without those beside which the rest looks flat;
 *   "off": all values
 * @returns {[number, number] | null}
 */
export function extent(lines, from, to, isLog, fit) {
  const full = fullExtent(lines, from, to, isLog);
  const fitted = full && fit !== "off" ? fittedExtent(lines, from, to, isLog) : null;
  if (!fitted) return full;
  const height = ([low, high]) => (isLog ? Math.log(high / low) : high - low);
  return fit === "on" || height(full) > FLAT * height(fitted) ? fitted : full;
}

// How many values of lines between two x are not between two others.
export function countOutside(lines, from, to, [low, high]) {
  let n = 0;
  for (const { x, y, n: end } of lines) {
    for (let i = find({ x, n: end }, from); i < end && x[i] <= to; i += 1) {
      n += Number.isFinite(y[i]) && (y[i] < low || y[i] > high) ? 1 : 0;
    }
  }
  return n;
}

function isDrawable(value, isLog) {
  return value < Infinity && value > (isLog ? 0 : -Infinity);
}

// Null where there is no outlier.
/** @returns {[number, number] | null} */
function fittedExtent(lines, from, to, isLog) {
  const values = [];
  for (const line of lines) {
    for (let i = find(line, from); i < line.n && line.x[i] <= to; i += 1) {
      const v = line.y[i];
      if (isDrawable(v, isLog)) values.push(isLog ? Math.log(v) : v);
    }
  }
  if (values.length < FEW) return null;
  const sorted = Float64Array.from(values).sort();
  const at = (share) => sorted[Math.round(share * (sorted.length - 1))];
  const reach = FENCE * Math.max(at(0.75) - at(0.25), at(0.95) - at(0.5), at(0.5) - at(0.05));
  const low = sorted.find((v) => v >= at(0.5) - reach);
  const high = sorted.findLast((v) => v <= at(0.5) + reach);
  if (low === sorted[0] && high === sorted.at(-1)) return null;
  return isLog ? [Math.exp(low), Math.exp(high)] : [low, high];
}

/** @returns {[number, number] | null} */
function fullExtent(lines, from, to, isLog) {
  let low = Infinity;
  let high = -Infinity;
  for (const line of lines) {
    const { x, y, n } = line;
    for (let i = find(line, from); i < n && x[i] <= to; i += 1) {
      if (y[i] < low && isDrawable(y[i], isLog)) low = y[i];
      if (y[i] > high && isDrawable(y[i], isLog)) high = y[i];
    }
    for (const v of [valueAt(line, from), valueAt(line, to)]) {
      if (!isDrawable(v, isLog)) continue; // NaN where the line does not cross this edge
      low = Math.min(low, v);
      high = Math.max(high, v);
    }
  }
  return low <= high ? [low, high] : null;
}

/**
 * The range with a margin above and below.
 * @returns {[number, number]}
 */
export function padded([low, high], isLog) {
  if (isLog) {
    const factor = low === high ? 2 : (high / low) ** 0.05;
    return [low / factor, high * factor];
  }
  const margin = low === high ? Math.abs(low) * 0.05 || 1 : (high - low) * 0.06;
  if (low === high) return [low - margin, high + margin];
  // values that are never negative get no negative axis
  return [low >= 0 ? Math.max(0, low - margin) : low - margin, high + margin];
}

// ---- ticks

const TIME_STEPS = [
  1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10800, 21600, 43200, 86400,
];

// About `n` round values from `low` to `high`.
export function ticks(low, high, n, isLog, isTime = false) {
  if (!(high > low)) return [low];
  if (isLog) return logTicks(low, high, n);
  const step = roundStep((high - low) / n, isTime);
  const values = [];
  const end = high + step * 1e-9;
  for (let k = Math.ceil(low / step - 1e-9); k * step <= end && values.length < 50; k += 1) {
    const value = k * step;
    const isExact = Math.abs(value) > 1e11 * step; // else 0.1 * 3 is 0.30000000000000004
    values.push(isExact ? value : Number(value.toPrecision(12)));
  }
  return values;
}

function roundStep(least, isTime) {
  const day = 86_400;
  if (isTime && least > 0.5 && least < day) return TIME_STEPS.find((s) => s >= least) ?? day;
  const unit = isTime && least >= day ? day : 1;
  const power = unit * 10 ** Math.floor(Math.log10(least / unit));
  return power * ([1, 2, 5].find((s) => s * power >= least * 0.999) ?? 10);
}

function logTicks(low, high, n) {
  const decades = Math.log10(high / low);
  if (decades < 0.7) return ticks(low, high, n, false).filter((v) => v > 0);
  const every = Math.max(1, Math.ceil(decades / n));
  const steps = decades > 3 ? [1] : decades > 1.5 ? [1, 3] : [1, 2, 5];
  const values = [];
  for (let d = Math.floor(Math.log10(low)); d <= Math.ceil(Math.log10(high)); d += 1) {
    if (d % every) continue;
    for (const s of steps) {
      const v = Number((s * 10 ** d).toPrecision(3));
      if (v >= low && v <= high) values.push(v);
    }
  }
  return values;
}
