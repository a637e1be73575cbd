// A row of the table for a group of runs: mean ± standard deviation of each column.

import { button, el } from "./dom.js";
import { plural } from "./format.js";
import { cellText, commonValue } from "./rows.js";

/**
 * @param {any} group {name, ids, stats} of /api/groups
 * @param {{runs: any, columns: any[], picked: string[], colour: string, isOpen: boolean,
 *   onOpen: () => void, classOf: (column: any) => string, statusMark: (status: any) => any}} list
 */
export function groupRow(group, list) {
  const { runs, columns, picked, colour, isOpen, onOpen, classOf, statusMark } = list;
  const areAll = picked.length === group.ids.length;
  const onchange = () => runs.setPicked(group.ids, !areAll);
  const label = `Draw the runs of ${group.name}`;
  const tick = el("input", { type: "checkbox", "aria-label": label, checked: areAll, onchange });
  tick.indeterminate = picked.length > 0 && !areAll;
  tick.style.setProperty("--run", colour);
  const rows = group.ids.map((id) => runs.rowOf(id)).filter(Boolean);
  const cell = (column) => {
    if (column.key === "run") return nameCell(group, rows, isOpen, onOpen);
    if (column.key === "status") {
      const statuses = new Set(rows.map((row) => row.status));
      return el("td", { class: "status" }, ...[...statuses].map(statusMark));
    }
    const text = textOf(group, rows, column);
    return el("td", { class: classOf(column), text, title: text });
  };
  const cells = columns.map(cell);
  return el("tr", { class: "mean-row" }, el("td", { class: "tick" }, tick), ...cells);
}

function nameCell({ name, ids }, rows, isOpen, onOpen) {
  const label = `${isOpen ? "Hide" : "List"} the runs of ${name}`;
  const props = { class: "disclose", "aria-expanded": String(isOpen), title: name };
  const open = button(label, { onclick: onOpen, ...props }, isOpen ? "▾" : "▸");
  const text = el("span", { class: "value", text: name });
  const n = el("small", { text: plural(ids.length, "run") });
  return el(
    "td",
    { class: "name" },
    open,
    text,
    n,
    el("span", { class: "tags bad", text: warningsOf(rows) }),
  );
}

// What is missing of some of the runs.
export function warningsOf(rows) {
  const incomplete = rows.filter((row) => row.warnings.length);
  if (!incomplete.length) return "";
  const texts = new Set(incomplete.flatMap((row) => row.warnings));
  return `⚠ ${plural(incomplete.length, "run")}: ${[...texts].join(", ")}`;
}

function textOf({ stats }, rows, column) {
  if (Object.hasOwn(stats, column.key)) return stats[column.key].text;
  if (column.kind !== "setting" && column.kind !== "text") return "";
  return commonValue(rows.map((row) => cellText(row, column)));
}

// Groups in the order of the table: by the mean of a column, else by their first run in `rows`.
export function sortedGroups(groups, rows, order) {
  const key = order.replace(/^-/, "");
  const sign = order.startsWith("-") ? -1 : 1;
  const place = new Map(rows.map((row, i) => [row.id, i]));
  const first = ({ ids }) => Math.min(...ids.map((id) => place.get(id) ?? Infinity));
  const mean = ({ stats }) => (Object.hasOwn(stats, key) ? stats[key].mean : null);
  return [...groups].sort((a, b) => {
    const [x, y] = [mean(a), mean(b)];
    if (x !== null && y !== null && x !== y) return sign * (x - y);
    if ((x === null) !== (y === null)) return x === null ? 1 : -1;
    return first(a) - first(b);
  });
}
