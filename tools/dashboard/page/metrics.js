// Metrics: their titles, units and order, and the names of the horizontal axes.

export const AXES = { iter: "iteration", tokens: "tokens", time: "wall time" };

// A table's value under a name that came from a run: it may be "constructor".
export const ownValue = (table, name) =>
  Object.hasOwn(table, name ?? "") ? table[name] : undefined;

const TITLES = {
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
  "system/sample_ms": ["System sample time", "ms"],
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
const ACRONYMS = { cpu: "CPU", gpu: "GPU", mfu: "MFU", lr: "learning rate", io: "IO" };

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
const LAST = ["eval/train_loss", "eval/lr", "eval/time_ms"];

// The title and the unit of a metric; of an unknown one as its name has them.
export function describe(key) {
  const known = ownValue(TITLES, key);
  if (known) return { title: known[0], unit: known[1] };
  const [, table, name] = key.match(/^(?:(eval|system|iter)\/)?(.*)$/s);
  const parts = name.split("_");
  const isRate = parts.at(-1) === "s" && parts.at(-2) === "per" && parts.length > 3;
  const last = isRate ? parts.at(-3) : parts.at(-1);
  let unit = ownValue(UNITS, last?.toLowerCase());
  if (isRate) unit = `${unit ?? last}/s`;
  if (unit && parts.length > 1) parts.splice(isRate ? -3 : -1);
  const text = parts.map((part) => ownValue(ACRONYMS, part) ?? part).join(" ");
  const title = text.trim() || name;
  const suffix = table === "eval" ? " at evaluations" : "";
  return { title: title.charAt(0).toUpperCase() + title.slice(1) + suffix, unit: unit ?? "" };
}

export function keyOf(table, name) {
  return table === "iter" && !name.includes("/") ? name : `${table}/${name}`;
}

export function inOrder(keys) {
  const rank = (key) => {
    const first = FIRST.indexOf(key);
    if (first >= 0) return first;
    const last = LAST.indexOf(key);
    if (last >= 0) return FIRST.length + last;
    return key.startsWith("system/") ? 500 : 100;
  };
  const byName = (a, b) => a.localeCompare(b, "en", { numeric: true });
  return [...keys].sort((a, b) => rank(a) - rank(b) || byName(a, b));
}
