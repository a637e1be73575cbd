// Rows of the table of runs: their values, and how they are filtered, sorted and grouped.

import { full, settingText, short } from "./format.js";
import { ownValue } from "./metrics.js";

// A field of a row: its own, a setting, a part of its metadata, or what was read of a series.
export function fieldOf(row, key) {
  if (key === "last_iter") return row.last_iter ?? row.iterations;
  if (key !== "series" && Object.hasOwn(row, key)) return row[key];
  const part = key.slice(0, Math.max(0, key.indexOf(".")));
  if (part === "config" || part === "metadata") {
    return ownValue(row[part] ?? {}, key.slice(part.length + 1));
  }
  return ownValue(row.config ?? {}, key) ?? ownValue(row.series ?? {}, key);
}

// What a field of a row is as text: `nan` where a result is not finite.
export const resultText = (row, key) =>
  ownValue(row.nonfinite ?? {}, key) ?? full(fieldOf(row, key), key);

const NOT_FINITE = ["nan", "inf", "-inf"];

export const isNonfinite = (row, key) =>
  Object.hasOwn(row.nonfinite ?? {}, key) || NOT_FINITE.includes(ownValue(row.series ?? {}, key));

// A field in full, as in a file.
export function exactText(row, key) {
  const value = ownValue(row.nonfinite ?? {}, key) ?? fieldOf(row, key);
  if (value === null || value === undefined) return "";
  return Array.isArray(value) ? value.join(" ") : String(value);
}

// A field as short as a cell of the table has it.
export function cellText(row, { key, kind }) {
  const value = fieldOf(row, key);
  if (kind === "number" || kind === "series") return resultText(row, key);
  if (Array.isArray(value)) return value.join(" ");
  if (typeof value === "number" && !Number.isInteger(value)) return shortNumber(value);
  return settingText(value);
}

// 0.0003, not 3e-4, and at most six digits.
function shortNumber(value) {
  const size = Math.abs(value);
  return size >= 1e-5 && size < 1e6 ? settingText(Number(value.toPrecision(6))) : short(value);
}

// What several runs have in common, or how many values they have.
export function commonValue(texts) {
  const values = new Set(texts);
  return values.size === 1 ? texts[0] : `${values.size} values`;
}

// A key as it is shown: without "config." and "metadata.".
export const shortKey = (key) => key.replace(/^(config|metadata)\./, "");

export const isExpression = (text) => /[<>=%()]|\b(and|or|not|in|like|is)\b/i.test(text);

// The rows whose name, file, status, tags, notes or group contain every word.
export function matching(rows, text) {
  const words = text.toLowerCase().split(/\s+/).filter(Boolean);
  if (!words.length) return rows;
  return rows.filter((row) => {
    const { run, file, status, tags, note } = row;
    const group = ownValue(row.metadata ?? {}, "group") ?? "";
    const fields = [run, file, status, ...(tags ?? []), note ?? "", group];
    const haystack = fields.join(" ").toLowerCase();
    return words.every((word) => haystack.includes(word));
  });
}

const collator = new Intl.Collator(undefined, { numeric: true });
const natural = (a, b) => collator.compare(String(a), String(b));

/** @param {string} order a key, with "-" before it the greatest first; rows without it are last */
export function sorted(rows, order) {
  const key = order.replace(/^-/, "");
  const sign = order.startsWith("-") ? -1 : 1;
  const isKnown = (v) => v !== null && v !== undefined && v !== "" && !NOT_FINITE.includes(v);
  const isTime = key === "started" || key === "ended"; // one form: they compare as they are
  const keyed = rows.map((row) => [fieldOf(row, key), row]);
  keyed.sort(([x, a], [y, b]) => {
    if (isKnown(x) !== isKnown(y)) return isKnown(x) ? -1 : 1;
    if (!isKnown(x) || x === y) return a.id < b.id ? -1 : 1;
    if (isTime) return x < y ? -sign : sign;
    const areNumbers = typeof x === "number" && typeof y === "number";
    return sign * (areNumbers ? x - y : natural(x, y));
  });
  return keyed.map(([, row]) => row);
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
