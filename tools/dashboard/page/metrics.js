// Metrics: their titles, units and order, and the names of the horizontal axes.

export const AXES = { iter: "iteration", tokens: "tokens", time: "wall time" };

// The name of a horizontal axis; a series that is called like one has its table before its name.
export const axisName = (x) => ownValue(AXES, x) ?? x.replace(/^metrics\/(?=\w+$)/, "");

// A table's value under a name that came from a run: it may be "constructor".
export const ownValue = (table, name) =>
  Object.hasOwn(table, name ?? "") ? table[name] : undefined;

// What the trainer's own series are, and their units. Names are shown as they were logged.
const DESCRIPTIONS = {
  loss: ["training loss", ""],
  "eval/val_loss": ["validation loss", ""],
  "eval/train_loss": ["training loss at evaluations", ""],
  lr: ["learning rate", ""],
  grad_norm: ["gradient norm", ""],
  time_ms: ["step time", "ms"],
  tokens_per_s: ["throughput", "tokens/s"],
  mfu: ["", "%"],
  memory_bytes: ["", "bytes"],
  "eval/time_ms": ["evaluation time", "ms"],
  "system/sample_ms": ["time of a sample", "ms"],
};
const UNITS = {
  ms: "ms",
  s: "s",
  bytes: "bytes",
  percent: "%",
  mb: "MB",
  gb: "GB",
  celsius: "°C",
  watts: "W",
};

export const FIRST = [
  "loss",
  "eval/val_loss",
  "lr",
  "grad_norm",
  "time_ms",
  "tokens_per_s",
  "mfu",
  "memory_bytes",
];
const N_LOSSES = 2; // of them
const LAST = ["eval/train_loss", "eval/lr", "eval/time_ms"];

/**
 * What a series of a table is, and its unit; of metrics only the run knows.
 * @returns {string[]}
 */
export function describe(key, table) {
  if (table === "metrics") return ["", ""];
  const parts = key.split("_");
  const unit = parts.length > 1 ? ownValue(UNITS, parts.at(-1).toLowerCase()) : "";
  return ownValue(DESCRIPTIONS, key) ?? ["", unit ?? ""];
}

/**
 * Names in the order in which they are shown.
 * @param {Iterable<string>} keys
 * @param {string[]} usual those that come first, beside the trainer's own
 */
export function inOrder(keys, usual) {
  const isOther = (key) => !FIRST.includes(key);
  const first = [...FIRST.slice(0, N_LOSSES), ...usual.filter(isOther), ...FIRST.slice(N_LOSSES)];
  const places = new Map(first.map((key, i) => [key, i]));
  const rank = (key) => {
    const last = LAST.indexOf(key);
    if (last >= 0) return 10_000 + last;
    return places.get(key) ?? (key.startsWith("system/") ? 20_000 : 5_000);
  };
  const ranks = new Map([...keys].map((key) => [key, rank(key)]));
  const byName = (a, b) => a.localeCompare(b, "en", { numeric: true });
  return [...ranks.keys()].sort((a, b) => ranks.get(a) - ranks.get(b) || byName(a, b));
}

// A name in a list of names: without line feeds, and not empty.
export const escaped = (key) =>
  key === "" ? "\\e" : key.replaceAll("\\", "\\\\").replaceAll("\n", "\\n");
