// The table of runs as CSV: the rows and columns that are listed, numbers in full.

import { download } from "./dom.js";
import { exactText, fieldOf } from "./rows.js";

/**
 * @param {any[]} rows in the order of the table
 * @param {{key: string}[]} columns
 */
export function saveTable(rows, columns) {
  const head = columns.map(({ key }) => quoted(safe(key)));
  const lines = rows.map((row) => columns.map(({ key }) => quoted(textOf(row, key))));
  const text = [head, ...lines].map((cells) => `${cells.join(",")}\n`).join("");
  download(new Blob([text], { type: "text/csv;charset=utf-8" }), "runs.csv");
}

function textOf(row, key) {
  const text = exactText(row, key);
  return typeof fieldOf(row, key) === "number" ? text : safe(text);
}

// Text that no spreadsheet evaluates as a formula; `-inf` is a number.
const safe = (text) => (/^[=+\-@\t\r]/.test(text) && text !== "-inf" ? `'${text}` : text);

const quoted = (text) => (/[",\n\r]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text);
