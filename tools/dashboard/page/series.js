// The series of a run as a table: of each the value that the run defined for it, and its extremes.

import { el } from "./dom.js";
import { full, settingText } from "./format.js";

const NOT_FINITE = ["nan", "inf", "-inf"];

const text = (value) => {
  if (typeof value === "string") return value;
  return typeof value === "number" ? full(value) : settingText(value);
};

// A series' name, with the statistic that its value is, unless that is the last one.
export const labelOf = ({ name, stat }) => (stat === "last" ? name : `${name} (${stat})`);

export const valueText = ({ value, unit }) =>
  unit && value !== null ? `${text(value)} ${unit}` : text(value);

/** @typedef {{head: string, of: (one: any) => any, isBest?: (one: any) => boolean}} Column */
/** @type {Column[]} */
const COLUMNS = [
  { head: "name", of: labelOf },
  { head: "value", of: valueText },
  { head: "last", of: ({ last }) => last },
  { head: "at", of: ({ step }) => step },
  { head: "min", of: ({ min }) => min, isBest: ({ goal }) => goal === "minimize" },
  { head: "at", of: (one) => one.min_step },
  { head: "max", of: ({ max }) => max, isBest: ({ goal }) => goal === "maximize" },
  { head: "at", of: (one) => one.max_step },
  { head: "values", of: ({ count }) => count },
  { head: "not finite", of: (one) => one.n_nonfinite || "" },
];
const OF_NUMBERS = ["min", "max"]; // empty for text, with their steps

/** @param {any[]} series as /api/run describes them */
export function seriesTable(series) {
  const className = (k) => (k ? "number" : "setting");
  const heads = COLUMNS.map(({ head }, k) =>
    el("th", { scope: "col", class: className(k), text: head }),
  );
  const row = (one) => el("tr", {}, ...COLUMNS.map((column, k) => cell(one, column, className(k))));
  const head = el("thead", {}, el("tr", {}, ...heads));
  return el("table", { class: "small" }, head, el("tbody", {}, ...series.map(row)));
}

/**
 * @param {any} one
 * @param {Column} column
 * @param {string} className
 */
function cell(one, { head, of, isBest }, className) {
  const isEmpty = !one.is_numeric && (OF_NUMBERS.includes(head) || of(one) === null);
  const shown = isEmpty ? "" : text(of(one));
  const isBad = head === "last" && one.is_numeric && NOT_FINITE.includes(shown);
  const best = isBest?.(one) && one.min !== null ? el("small", { text: "best" }) : null;
  const names = [className, isBad ? "bad" : "", best ? "best" : ""].filter(Boolean);
  return el("td", { class: names.join(" "), title: shown }, shown, best);
}
