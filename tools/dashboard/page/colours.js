// Runs coloured by a setting: those with an equal value have one colour.

import { cellText, fieldOf } from "./rows.js";
import { state } from "./state.js";
import { COLOURS_MAX, colourAt, setColours } from "./theme.js";

const collator = new Intl.Collator(undefined, { numeric: true });

// Numbers by their size, other values by their text.
function compare(a, b) {
  if (typeof a === "number" && typeof b === "number") return a - b;
  return collator.compare(String(a), String(b));
}

/**
 * Colours the runs that are drawn by `state.colour`; those of values that are left have one colour.
 * @param {any} runs the page's runs
 * @param {any} column
 * @returns {{text: string, colour: string, n: number}[]} the legend
 */
export function colourRuns(runs, column) {
  if (!state.colour) {
    setColours(null);
    return [];
  }
  const ids = runs.styled();
  const byText = new Map();
  for (const id of ids) {
    const row = runs.rowOf(id);
    const text = cellText(row, column);
    const of = byText.get(text) ?? { text, value: fieldOf(row, column.key) ?? "", ids: [] };
    of.ids.push(id);
    byText.set(text, of);
  }
  const values = [...byText.values()].sort((a, b) => compare(a.value, b.value));
  const slots = new Map();
  for (const [i, { ids }] of values.entries()) {
    for (const [k, id] of ids.entries()) slots.set(id, [Math.min(i, COLOURS_MAX), k]);
  }
  setColours(slots);
  const legend = values.slice(0, COLOURS_MAX).map(({ text, ids }, i) => ({
    text,
    colour: colourAt(i),
    n: ids.length,
  }));
  const others = values.slice(COLOURS_MAX);
  if (!others.length) return legend;
  const n = others.reduce((sum, { ids }) => sum + ids.length, 0);
  const text = `${others.length} other values: more than there are colours`;
  return [...legend, { text, colour: colourAt(COLOURS_MAX), n }];
}
