// How figures are named and numbers are said.

// What stands under a name that came from outside: it may be "constructor".
export const own = (table, name) => (Object.hasOwn(table, name ?? "") ? table[name] : undefined);

const FIGURES = {
  loss: ["Training loss", "nats per token"],
  "eval/val_loss": ["Validation loss", "nats per token"],
  "eval/train_loss": ["Training loss at evaluations", "nats per token"],
  lr: ["Learning rate", ""],
  grad_norm: ["Gradient norm", ""],
  time_ms: ["Step time", "ms"],
  tokens_per_s: ["Throughput", "tokens/s"],
  mfu: ["MFU", "%"],
  memory_bytes: ["Memory", "bytes"],
  "eval/time_ms": ["Evaluation time", "ms"],
  "system/sample_ms": ["Time that a system sample takes", "ms"],
};
const UNITS = { ms: "ms", s: "s", bytes: "bytes", percent: "%", mb: "MB", gb: "GB", celsius: "°C", watts: "W" };

const ACRONYMS = { cpu: "CPU", gpu: "GPU", mfu: "MFU", lr: "learning rate", io: "IO" };

export const FIRST = ["loss", "eval/val_loss", "lr", "grad_norm", "time_ms", "tokens_per_s", "mfu", "memory_bytes"];
const LAST = ["eval/train_loss", "eval/lr", "eval/time_ms"];

export function figure(key) {
  const known = own(FIGURES, key);
  if (known) return { title: known[0], unit: known[1] };
  const [, table, name] = key.match(/^(?:(eval|system|iter)\/)?(.*)$/s);
  const words = name.split("_");
  const isRate = words.at(-1) === "s" && words.at(-2) === "per" && words.length > 3;
  const of = isRate ? words.at(-3) : words.at(-1);
  let unit = own(UNITS, of?.toLowerCase());
  if (isRate) unit = `${unit ?? of}/s`;
  if (unit && words.length > 1) words.splice(isRate ? -3 : -1);
  const title = words.map((word) => own(ACRONYMS, word) ?? word).join(" ").trim() || name;
  const where = table === "eval" ? " at evaluations" : "";
  return { title: title.charAt(0).toUpperCase() + title.slice(1) + where, unit: unit ?? "" };
}

export function keyOf(table, name) {
  return table === "iter" && !name.includes("/") ? name : `${table}/${name}`;
}

export function inOrder(keys) {
  const rank = (key) => {
    const first = FIRST.indexOf(key);
    if (first >= 0) return first;
    const last = LAST.indexOf(key);
    return last >= 0 ? 20 + last : key.startsWith("system/") ? 500 : 100;
  };
  return [...keys].sort((a, b) => rank(a) - rank(b) || a.localeCompare(b, "en", { numeric: true }));
}

export function count(value) {
  if (Math.abs(value) < 10_000) return trim(value, 6);
  return withUnit(value, [[1e15, "P"], [1e12, "T"], [1e9, "B"], [1e6, "M"], [1e3, "k"]]);
}

export function bytes(value) {
  return withUnit(value, [[1e12, " TB"], [1e9, " GB"], [1e6, " MB"], [1e3, " kB"], [1, " B"]]);
}

function withUnit(value, units) {
  const rounded = Math.abs(Number(value.toPrecision(4))); // 999,999 is 1M, not 1,000k
  const [unit, suffix] = units.find(([least]) => rounded >= least) ?? units.at(-1);
  return trim(value / unit, 4) + suffix;
}

// A number on an axis, or a figure beside a name: as short as it can be said.
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

// A number in full, as in a table.
export function full(value, key = "") {
  if (TWO_DECIMALS.has(key) && typeof value === "number") return minus(value.toLocaleString("en-US", { minimumFractionDigits: 2, maximumFractionDigits: 2 }));
  if (value === null || value === undefined) return "–";
  if (typeof value === "number") {
    if (!Number.isFinite(value)) return "–";
    if (Number.isInteger(value)) return minus(value.toLocaleString("en-US"));
    const size = Math.abs(value);
    if (size < 0.001) return minus(value.toExponential(3).replace(/\.?0+e/, "e"));
    return minus(value.toLocaleString("en-US", { minimumFractionDigits: size < 1000 ? 4 : 1, maximumFractionDigits: size < 1000 ? 4 : 1 }));
  }
  return String(value);
}

// Numbers under each other: as many digits behind the point in each as the largest needs.
export function aligned(values, key = "") {
  const size = Math.max(...values.map(Math.abs).filter(Number.isFinite));
  if (key.endsWith("bytes") || !(size >= 0.001 && size < 10_000) || values.every(Number.isInteger)) return values.map((v) => short(v, key));
  const digits = Math.min(6, Math.max(0, 4 - Math.floor(Math.log10(size))));
  return values.map((v) => (Number.isFinite(v) ? minus(v.toLocaleString("en-US", { minimumFractionDigits: digits, maximumFractionDigits: digits })) : short(v, key)));
}

function trim(value, digits) {
  const text = Number(value.toPrecision(digits));
  return minus(Math.abs(text) >= 1000 && Math.abs(text) < 10_000 ? text.toLocaleString("en-US") : String(text));
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

// A run's name and the time that the logger put behind it, which tells little between others.
export function named(run) {
  const [, name, stamp] = run.match(/^(.+?)(_\d{8}_\d{6}(?:_\d+)?)?$/s) ?? [run, run, ""];
  return { name, stamp: stamp ?? "" };
}

export function moment(iso) {
  const at = new Date(iso);
  if (Number.isNaN(at.getTime())) return String(iso ?? "–");
  const year = at.getFullYear() === new Date().getFullYear() ? undefined : "numeric";
  return at.toLocaleString(undefined, { year, month: "short", day: "numeric", hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23" });
}

export const STATUS = {
  running: "running", completed: "completed", interrupted: "interrupted", failed: "failed",
  unreadable: "unreadable", unknown: "unknown",
};

export function onAxis(value, x) {
  return x === "time" ? duration(value) : count(value);
}

export const AXES = { iter: "iteration", tokens: "tokens", time: "wall time" };

export function shown(value) {
  if (value === null || value === undefined) return "–";
  if (typeof value === "number") return Number.isInteger(value) && Math.abs(value) >= 10_000 ? full(value) : minus(String(value));
  return String(value);
}
