// How the panels are arranged: which are pinned or hidden, their order, sizes and scales, and which
// series share one. A layout is never changed in place: each function here returns another one.

/**
 * @typedef {{with?: string[], right?: string[], w?: number, h?: number, y?: string, smooth?: number,
 *   fit?: string, low?: number, high?: number}} Options
 *   of a panel: other series on its left and right axis; how many columns and rows it takes; its
 *   scale (`log` or `linear`), smoothing, outliers and range, where they differ from the other
 *   panels'
 * @typedef {{pin: string[], hide: string[], move: [string, string | null][],
 *   open: Record<string, boolean>, panels: Record<string, Options>}} Layout
 *   panels are named by their first series; `move`: it goes before another one, or to the end;
 *   `open`: sections that a person opened or closed
 */

const TEXT_MAX = 20_000;
const NAMES_MAX = 300;
const SERIES_MAX = 12; // on an axis of a panel
export const COLUMNS_MAX = 4;
export const ROWS_MAX = 3;

/** @type {Layout} */
export const EMPTY = { pin: [], hide: [], move: [], open: {}, panels: {} };

const own = (table, name) => (Object.hasOwn(table, name) ? table[name] : undefined);

// ---- as text

const isObject = (value) => typeof value === "object" && value !== null && !Array.isArray(value);
const namesIn = (value, most = NAMES_MAX) =>
  Array.isArray(value) ? value.filter((name) => typeof name === "string").slice(0, most) : [];
const wholeUpTo = (most) => (value) =>
  Number.isInteger(value) && value >= 1 && value <= most ? value : undefined;
const oneOf = (values) => (value) => (values.includes(value) ? value : undefined);
const finite = (value) => (Number.isFinite(value) ? value : undefined);
const someNames = (value) => {
  const names = namesIn(value, SERIES_MAX);
  return names.length ? names : undefined;
};

const OPTIONS = {
  with: someNames,
  right: someNames,
  w: wholeUpTo(COLUMNS_MAX),
  h: wholeUpTo(ROWS_MAX),
  y: oneOf(["log", "linear"]),
  smooth: (value) => (Number.isInteger(value) && value >= 0 && value <= 1e6 ? value : undefined),
  fit: oneOf(["on", "off"]),
  low: finite,
  high: finite,
};

/** @returns {Options} */
function optionsIn(value) {
  const options = {};
  for (const [name, parse] of Object.entries(OPTIONS)) {
    const parsed = isObject(value) ? parse(own(value, name)) : undefined;
    if (parsed !== undefined) options[name] = parsed;
  }
  return options;
}

function tableIn(value, parse) {
  const entries = isObject(value) ? Object.entries(value).slice(0, NAMES_MAX) : [];
  return Object.fromEntries(entries.map(([name, one]) => [name, parse(one)]));
}

/**
 * What of a parsed JSON is a layout; all else is left out.
 * @returns {Layout}
 */
export function layoutIn(value) {
  const of = isObject(value) ? value : {};
  const moves = Array.isArray(of.move) ? of.move : [];
  const isMove = (one) => Array.isArray(one) && typeof one[0] === "string";
  return {
    pin: namesIn(of.pin),
    hide: namesIn(of.hide),
    move: moves
      .filter(isMove)
      .slice(0, NAMES_MAX)
      .map(([name, before]) => [name, typeof before === "string" ? before : null]),
    open: tableIn(of.open, Boolean),
    panels: tableIn(of.panels, optionsIn),
  };
}

/** @returns {Layout | null} */
export function parseLayout(text) {
  try {
    return text.length <= TEXT_MAX ? layoutIn(JSON.parse(text)) : null;
  } catch {
    return null; // half of an address that was cut off: the usual layout
  }
}

// Without the parts that are as usual; empty: all of it is.
export function layoutText(layout) {
  const parts = Object.entries(layout).filter(([, part]) => Object.keys(part).length);
  return parts.length ? JSON.stringify(Object.fromEntries(parts)) : "{}";
}

// ---- what it says

/** @returns {Options} */
export const optionsOf = (layout, key) => own(layout.panels, key) ?? {};

// The series of a panel: those of the left axis, its own first, and those of the right one.
export function seriesOf(layout, key) {
  const { with: others = [], right = [] } = optionsOf(layout, key);
  const left = [...new Set([key, ...others])];
  return { left, right: right.filter((name) => !left.includes(name)) };
}

export const allSeriesOf = (layout, key) => {
  const { left, right } = seriesOf(layout, key);
  return [...left, ...right];
};

// The names without those that are drawn in the panel of another one, in the order of the layout.
// What is in a hidden panel has its own again.
export function arranged(layout, names) {
  const known = new Set(names);
  const joined = new Set();
  for (const key of Object.keys(layout.panels)) {
    if (!known.has(key) || joined.has(key) || layout.hide.includes(key)) continue;
    for (const name of allSeriesOf(layout, key).slice(1)) joined.add(name);
  }
  const order = names.filter((name) => !joined.has(name));
  for (const [name, before] of layout.move) {
    const at = order.indexOf(name);
    if (at < 0) continue;
    order.splice(at, 1);
    const to = before === null ? -1 : order.indexOf(before);
    order.splice(to < 0 ? (before === null ? order.length : at) : to, 0, name);
  }
  return order;
}

// ---- what a person changes

/**
 * @param {Layout} layout
 * @param {string} key of a panel
 * @param {Options} changes undefined: as the other panels
 * @returns {Layout}
 */
export function withOptions(layout, key, changes) {
  const options = optionsIn({ ...optionsOf(layout, key), ...changes });
  const others = Object.entries(layout.panels).filter(([name]) => name !== key);
  const entries = Object.keys(options).length ? [...others, [key, options]] : others;
  return { ...layout, panels: Object.fromEntries(entries) };
}

const without = (names, name) => names.filter((other) => other !== name);

/** @returns {Layout} */
export function toggled(layout, part, name) {
  const names = layout[part];
  return {
    ...layout,
    [part]: names.includes(name) ? without(names, name) : [...names, name].slice(-NAMES_MAX),
  };
}

/**
 * With another series in a panel; that had been in no panel but its own.
 * @param {"with" | "right"} side
 * @returns {Layout}
 */
export function joined(layout, key, name, side) {
  const { with: left = [], right = [] } = optionsOf(separated(layout, key, name), key);
  const names = side === "right" ? right : left;
  if (name === key || names.length >= SERIES_MAX) return layout;
  return withOptions(separated(layout, key, name), key, { [side]: [...names, name] });
}

/** @returns {Layout} */
export function separated(layout, key, name) {
  const { with: left = [], right = [] } = optionsOf(layout, key);
  return withOptions(layout, key, { with: without(left, name), right: without(right, name) });
}

/**
 * With a panel moved before another one; null: to the end.
 * @returns {Layout}
 */
export function moved(layout, name, before) {
  const others = layout.move.filter(([other]) => other !== name);
  return { ...layout, move: [...others, [name, before]].slice(-NAMES_MAX) };
}

/** @returns {Layout} */
export const opened = (layout, section, isOpen) => ({
  ...layout,
  open: Object.fromEntries([...Object.entries(layout.open), [section, isOpen]]),
});
