// The state of the view: all of it is in the address, so that a link shows the same.

import { EMPTY, layoutText, parseLayout } from "./layout.js";

const DEFAULTS = {
  tab: "charts",
  run: "",
  picks: null,
  q: "",
  sort: "-started",
  group: "",
  columns: null, // of the table; null: those that matter
  only: false, // whether the list has the picked runs alone
  colour: "", // what runs are coloured by; "": each has its own
  mean: "", // as of `runs plot --group-by`: "seeds" or keys; "": each run has a line
  band: "std",
  find: "", // names of series, with wildcards; "": those that are not hidden
  x: "", // what the runs defined for each series
  smooth: 0,
  logx: false,
  logy: false,
  fit: "", // outliers beside which the rest looks flat are cut off; "on": all; "off": none
  from: null,
  to: null,
  big: "",
  layout: null, // of the panels; null: the one that is kept beside the runs
  all: false,
  by: "metadata.group",
  of: "",
  metric: "",
  brush: "",
};
const TABS = ["charts", "runs", "compare", "study", "run"];
export const PICKS_MAX = 64; // runs in one request
export const COLUMNS_MAX = 60;
const TEXT_MAX = 500;
const BRUSH_MAX = 4000;
const LISTENERS = new Set();

/** @type {Record<string, any>} */
export const state = { ...DEFAULTS };

/** @param {Record<string, any>} changes */
export function change(changes, { replace = false } = {}) {
  Object.assign(state, changes);
  const hash = toHash();
  if (hash !== location.hash.slice(1)) {
    history[replace ? "replaceState" : "pushState"](null, "", `#${hash}`);
  }
  notify(changes);
}

/** @param {(changes: Record<string, any>) => void} listener */
export function onChange(listener) {
  LISTENERS.add(listener);
}

export function notify(changes) {
  for (const listener of LISTENERS) listener(changes);
}

// The layout that is kept beside the runs.
let kept = EMPTY;

export function keepLayout(layout) {
  kept = layout;
  notify({});
}

export const keptLayout = () => kept;

/** @returns {import("./layout.js").Layout} */
export const layoutNow = () => state.layout ?? kept;

/** @param {import("./layout.js").Layout} layout */
export const changeLayout = (layout) => change({ layout });

// The series that the runs have as horizontal axes, and all those that may be one.
export let offered = [];
export let names = [];

export function offerAxes(axes, series) {
  const mark = JSON.stringify([axes, series]);
  if (mark === JSON.stringify([offered, names])) return;
  offered = axes;
  names = series;
  notify({});
}

// The whole range again: a zoomed range of one axis is meaningless on another.
export const WHOLE_RANGE = { from: null, to: null };

function toHash() {
  const params = new URLSearchParams();
  for (const [key, standard] of Object.entries(DEFAULTS)) {
    const value = state[key];
    if (value === standard || value === null || value === undefined) continue;
    params.set(key, textOf(value));
  }
  return params.toString().replaceAll("%2C", ",").replaceAll("%2F", "/");
}

function textOf(value) {
  if (Array.isArray(value)) return listText(value);
  if (typeof value === "object") return layoutText(value);
  return value === true ? "1" : String(value);
}

// Names may have commas and backslashes.
const listText = (names) => names.map((name) => name.replace(/[\\,]/g, "\\$&")).join(",");

function listOf(text) {
  const parts = text.match(/(?:\\.|[^\\,])+/gs) ?? [];
  return [...new Set(parts.map((part) => part.replace(/\\(.)/gs, "$1")))];
}

const isId = (text) => /^[0-9a-f]{1,32}$/.test(text);
const number = (text) => (text !== "" && Number.isFinite(Number(text)) ? Number(text) : null);
const PARSERS = {
  columns: (text) => listOf(text).slice(0, COLUMNS_MAX),
  picks: (text) => text.split(",").filter(isId).slice(0, PICKS_MAX),
  from: number,
  to: number,
  smooth: (text) => Math.min(1e6, Math.max(0, Math.round(Number(text)) || 0)),
  fit: (text) => (text === "1" ? "on" : text), // as it was before
  band: (text) => (text === "range" ? text : DEFAULTS.band),
  brush: (text) => text.slice(0, BRUSH_MAX),
  layout: parseLayout,
};

function parse(key, text) {
  if (Object.hasOwn(PARSERS, key)) return PARSERS[key](text);
  return typeof DEFAULTS[key] === "boolean" ? text === "1" : text.slice(0, TEXT_MAX);
}

function readAddress() {
  const params = new URLSearchParams(location.hash.slice(1));
  Object.assign(state, DEFAULTS);
  for (const key of Object.keys(DEFAULTS)) {
    if (params.has(key)) state[key] = parse(key, params.get(key));
  }
  if (!TABS.includes(state.tab)) state.tab = DEFAULTS.tab;
  if (state.from === null || state.to === null || state.from >= state.to) {
    Object.assign(state, WHOLE_RANGE);
  }
}

// How the address names a group: text as it is, all else as JSON.
export const groupText = (value) =>
  typeof value === "string" ? value : JSON.stringify(value ?? null);

readAddress();
window.addEventListener("popstate", () => {
  readAddress();
  notify(state);
});
