// Numbers, durations, times and names as text.

const COUNT_UNITS = [
  { size: 1e15, suffix: "P" },
  { size: 1e12, suffix: "T" },
  { size: 1e9, suffix: "B" },
  { size: 1e6, suffix: "M" },
  { size: 1e3, suffix: "k" },
];
const BYTE_UNITS = [
  { size: 1e12, suffix: " TB" },
  { size: 1e9, suffix: " GB" },
  { size: 1e6, suffix: " MB" },
  { size: 1e3, suffix: " kB" },
  { size: 1, suffix: " B" },
];

export function count(value) {
  return Math.abs(value) < 10_000 ? trim(value, 6) : withUnit(value, COUNT_UNITS);
}

export function bytes(value) {
  return withUnit(value, BYTE_UNITS);
}

function withUnit(value, units) {
  const rounded = Math.abs(Number(value.toPrecision(4))); // 999,999 is 1M, not 1,000k
  const { size, suffix } = units.find((unit) => rounded >= unit.size) ?? units.at(-1);
  return trim(value / size, 4) + suffix;
}

// A number on an axis or beside a name, as short as possible.
export function short(value, key = "") {
  if (value === null || value === undefined || Number.isNaN(value)) return "–";
  if (!Number.isFinite(value)) return value > 0 ? "∞" : "−∞";
  if (key.endsWith("bytes")) return bytes(value);
  const size = Math.abs(value);
  if (size >= 10_000) return count(value);
  if (size !== 0 && size < 0.001) return minus(value.toExponential(2).replace(/\.?0+e/, "e"));
  return trim(value, 5);
}

const TWO_DECIMALS = new Set(["avg_time_ms", "avg_mfu"]);

function decimals(value, n) {
  const digits = { minimumFractionDigits: n, maximumFractionDigits: n };
  return minus(value.toLocaleString("en-US", digits));
}

// A number as in a table.
export function full(value, key = "") {
  if (value === null || value === undefined) return "–";
  if (typeof value !== "number") return String(value);
  if (!Number.isFinite(value)) return "–";
  if (TWO_DECIMALS.has(key)) return decimals(value, 2);
  if (Number.isInteger(value)) return minus(value.toLocaleString("en-US"));
  const size = Math.abs(value);
  if (size < 0.001) return minus(value.toExponential(3).replace(/\.?0+e/, "e"));
  return decimals(value, size < 1000 ? 4 : 1);
}

// Numbers in a column: all with the same number of decimals, as many as the largest needs.
export function aligned(values, key = "") {
  const size = Math.max(...values.map(Math.abs).filter(Number.isFinite));
  const isPlain = size >= 0.001 && size < 10_000 && !key.endsWith("bytes");
  if (!isPlain || values.every(Number.isInteger)) return values.map((v) => short(v, key));
  const digits = Math.min(6, Math.max(0, 4 - Math.floor(Math.log10(size))));
  return values.map((v) => (Number.isFinite(v) ? decimals(v, digits) : short(v, key)));
}

const LABEL_MAX = 9; // characters

// Labels of ticks: as many digits as distinguish each from its neighbours; where these are many, the
// distances from the first.
export function tickLabels(values, key, isTime) {
  if (isTime) return values.map((v) => (v === 0 ? "0" : duration(v)));
  const labels = values.map((v) => short(v, key));
  if (new Set(labels).size === labels.length) return labels;
  const step = Math.abs(values[1] - values[0]);
  const digits = Math.min(15, Math.max(0, -Math.floor(Math.log10(step) + 1e-9)));
  const exact = values.map((v) => decimals(v, digits));
  if (Math.max(...exact.map((text) => text.length)) <= LABEL_MAX) return exact;
  return values.map((v, i) => (i ? `+${short(v - values[0], key)}` : labels[0]));
}

function trim(value, digits) {
  const rounded = Number(value.toPrecision(digits));
  const hasSeparator = Math.abs(rounded) >= 1000 && Math.abs(rounded) < 10_000;
  return minus(hasSeparator ? rounded.toLocaleString("en-US") : String(rounded));
}

function minus(text) {
  return text.replace(/^-/, "−");
}

export function duration(seconds) {
  if (seconds === null || !Number.isFinite(seconds)) return "–";
  const sign = seconds < 0 ? "−" : "";
  const s = Math.abs(seconds);
  if (s < 1) return `${sign}${trim(s, 2)}s`;
  if (s < 60) return `${sign}${trim(s, 3)}s`;
  if (s < 3600) return two(sign, s, 60, "m", 1, "s");
  if (s < 86_400) return two(sign, s, 3600, "h", 60, "m");
  return two(sign, s, 86_400, "d", 3600, "h");
}

function two(sign, s, large, a, small, b) {
  let left = Math.round(s / small) * small;
  const whole = Math.floor(left / large);
  left = Math.round((left - whole * large) / small);
  return `${sign}${whole}${a}${left ? ` ${left}${b}` : ""}`;
}

export function ago(iso) {
  if (!iso) return "–";
  const seconds = (Date.now() - Date.parse(iso)) / 1000;
  if (!Number.isFinite(seconds)) return "–";
  if (seconds < 10) return "now";
  if (seconds < 60) return `${Math.round(seconds)}s ago`;
  return `${duration(seconds).split(" ")[0]} ago`;
}

// A run's name without the time that the logger appends, and that time.
export function splitName(run) {
  const [, name, stamp] = run.match(/^(.+?)(_\d{8}_\d{6}(?:_\d+)?)?$/s) ?? [run, run, ""];
  return { name, stamp: stamp ?? "" };
}

export function moment(iso) {
  const at = new Date(iso);
  if (Number.isNaN(at.getTime())) return String(iso ?? "–");
  const year = at.getFullYear() === new Date().getFullYear() ? undefined : "numeric";
  return at.toLocaleString(undefined, {
    year,
    month: "short",
    day: "numeric",
    hour: "2-digit",
    minute: "2-digit",
    second: "2-digit",
    hourCycle: "h23",
  });
}

export function onAxis(value, x) {
  return x === "time" ? duration(value) : count(value);
}

// A setting of any type.
export function settingText(value) {
  if (value === null || value === undefined) return "–";
  if (typeof value === "number")
    return Number.isInteger(value) && Math.abs(value) >= 10_000
      ? full(value)
      : minus(String(value));
  return String(value);
}

export function plural(n, noun) {
  return `${n.toLocaleString()} ${noun}${n === 1 ? "" : "s"}`;
}

// At most `n` characters, the middle left out: runs of one day differ at their ends.
export function shorten(text, n) {
  if (text.length <= n) return text;
  return `${text.slice(0, Math.ceil(n / 2))}…${text.slice(text.length - Math.floor(n / 2) + 1)}`;
}
