// Rows of the table of runs: their values, and how they are filtered, sorted and grouped.

import { full, settingText } from "./format.js";
import { ownValue } from "./metrics.js";

// A field of a row: its own, a setting or a part of its metadata; "n_layer" is "config.n_layer".
export function fieldOf(row, key) {
  if (key === "last_iter") return row.last_iter ?? row.iterations;
  if (Object.hasOwn(row, key)) return row[key];
  const [part, ...rest] = key.split(".");
  if (part === "config" || part === "metadata") return ownValue(row[part] ?? {}, rest.join("."));
  return ownValue(row.config ?? {}, key);
}

// What a field of a row is as text: `nan` where a result is not finite.
export const resultText = (row, key) =>
  ownValue(row.nonfinite ?? {}, key) ?? full(fieldOf(row, key), key);

export const isNonfinite = (row, key) => Object.hasOwn(row.nonfinite ?? {}, key);

// What several runs have in common, or how many values they have.
export function commonValue(texts) {
  const values = new Set(texts);
  return values.size === 1 ? texts[0] : `${values.size} values`;
}

// A key as it is shown: without "config." and "metadata.".
export const shortKey = (key) => key.replace(/^(config|metadata)\./, "");

export const isExpression = (text) => /[<>=%()]|\b(and|or|not|in|like|is)\b/i.test(text);

// The rows whose name, file, status or tags contain every word.
export function matching(rows, text) {
  const words = text.toLowerCase().split(/\s+/).filter(Boolean);
  return rows.filter((row) => {
    const { run, file, status, tags } = row;
    const haystack = `${run} ${file} ${status} ${(tags ?? []).join(" ")}`.toLowerCase();
    return words.every((word) => haystack.includes(word));
  });
}

const natural = (a, b) => String(a).localeCompare(String(b), undefined, { numeric: true });

/** @param {string} order a key, with "-" before it the greatest first; rows without it are last */
export function sorted(rows, order) {
  const key = order.replace(/^-/, "");
  const sign = order.startsWith("-") ? -1 : 1;
  const isKnown = (v) => v !== null && v !== undefined && v !== "";
  return [...rows].sort((a, b) => {
    const [x, y] = [fieldOf(a, key), fieldOf(b, key)];
    if (isKnown(x) !== isKnown(y)) return isKnown(x) ? -1 : 1;
    if (!isKnown(x) || x === y) return a.id < b.id ? -1 : 1;
    const areNumbers = typeof x === "number" && typeof y === "number";
    return sign * (areNumbers ? x - y : natural(x, y));
  });
}

/** @returns {[string, any[]][]} the name of each group and its rows; one group without a key */
export function grouped(rows, key) {
  if (!key) return [["", rows]];
  const groups = new Map();
  for (const row of rows) {
    const name = settingText(fieldOf(row, key));
    if (!groups.has(name)) groups.set(name, []);
    groups.get(name).push(row);
  }
  return [...groups].sort(([a], [b]) => natural(a, b));
}
