// The run that the pointer is at: its line stands out in the charts, its row in the list.

import { valuesAt } from "./cursor.js";

const NEAR_PX = 30; // from the pointer to a line
const PALE = "38"; // opacity of the other lines, in hexadecimal

/** @type {string | null} */
let pointed = null;
let isInList = false;
const LISTENERS = new Set();

/** @param {string | null} id */
export function pointAt(id, { inList = false } = {}) {
  if (id === pointed && inList === isInList) return;
  const wasPale = isInList && pointed !== null;
  pointed = id;
  isInList = inList;
  for (const listener of LISTENERS) listener(id, wasPale || (inList && id !== null));
}

/** @param {(id: string | null, hasChangedLines: boolean) => void} listener */
export function onPoint(listener) {
  LISTENERS.add(listener);
}

// The run of the line nearest to the pointer in a chart.
export function pointAtLine(chart, event) {
  const box = chart.plot.getBoundingClientRect();
  const y = event.clientY - box.top;
  let [nearest, distance] = [null, NEAR_PX];
  for (const { line, y: value } of valuesAt(chart, chart.valueUnder(event))) {
    const px = Math.abs(chart.yOf(line).px(value) - y);
    if (px < distance) [nearest, distance] = [line.id, px];
  }
  pointAt(nearest ?? null);
}

/**
 * The lines of runs while one of them is pointed at in the list: the others pale and below it.
 * @param {any[]} lines each with the ids of its runs
 */
export function emphasized(lines) {
  if (!isInList || !lines.some(({ ids }) => ids.includes(pointed))) return lines;
  const isPointed = ({ ids }) => ids.includes(pointed);
  const pale = (line) => ({ ...line, colour: line.colour + PALE });
  const others = lines.filter((line) => !isPointed(line));
  return [...others.map(pale), ...lines.filter(isPointed)];
}
