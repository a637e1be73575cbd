// Light or dark, and the colour and dash of each run. The other colours are in theme.css.

import { notify } from "./state.js";

const STORED = "runs-theme";
const prefersDark = matchMedia("(prefers-color-scheme: dark)");
const themeRules = [...document.styleSheets].find((sheet) => sheet.href?.endsWith("/theme.css"));
const darkRule = [...themeRules.cssRules].find((rule) => rule instanceof CSSMediaRule);

/** @returns {"light" | "dark"} */
export function theme() {
  const chosen = document.documentElement.dataset.theme;
  return /** @type {"light" | "dark"} */ (chosen || (prefersDark.matches ? "dark" : "light"));
}

function choose(name) {
  document.documentElement.dataset.theme = name;
  darkRule.media.mediaText = name === "dark" ? "all" : "not all";
}

export function toggleTheme() {
  const name = theme() === "dark" ? "light" : "dark";
  choose(name);
  try {
    localStorage.setItem(STORED, name);
  } catch {
    // a private window stores nothing: the choice lasts as long as the page
  }
  notify({ theme: name });
}

try {
  const stored = localStorage.getItem(STORED);
  if (stored === "light" || stored === "dark") choose(stored);
} catch {
  // as above
}
prefersDark.addEventListener("change", () => notify({ theme: theme() }));

// ---- colours of runs

const COLOURS = {
  light: ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#b58900", "#3a97cc", "#1c2024"],
  dark: ["#56b4e9", "#e69f00", "#1fbf92", "#cc79a7", "#f0e442", "#e8702a", "#ffffff"],
};
const OTHERS = { light: "#7b838d", dark: "#8a929c" };
const DASHES = [[], [6, 3], [2, 2.5], [8, 3, 2, 3]]; // with 7 colours: 28 runs look different
const SLOTS = new Map();

// Runs that stay drawn keep their colour as long as the page is open.
export function assignStyles(ids) {
  for (const id of [...SLOTS.keys()]) if (!ids.includes(id)) SLOTS.delete(id);
  for (const id of ids) {
    if (SLOTS.has(id)) continue;
    const used = new Set(SLOTS.values());
    let slot = 0;
    while (used.has(slot)) slot += 1;
    SLOTS.set(id, slot);
  }
}

// Where runs are coloured by a setting: of each run the number of its colour, and of its dash.
/** @type {Map<string, [number, number]> | null} */
let chosen = null;

export const COLOURS_MAX = COLOURS.light.length;

export function setColours(slots) {
  chosen = slots;
}

/** @param {number} i from 0; beyond the last one: the colour of all others */
export function colourAt(i) {
  return i < COLOURS_MAX ? COLOURS[theme()][i] : OTHERS[theme()];
}

/** @returns {{colour: string, dash: number[]}} */
export function styleOf(id) {
  const ofSetting = chosen?.get(id);
  if (!ofSetting) return styleAt(SLOTS.get(id) ?? 0);
  return { colour: colourAt(ofSetting[0]), dash: dashOf(ofSetting[1]) };
}

/** @returns {{colour: string, dash: number[]}} */
export function styleAt(slot) {
  return { colour: colourAt(slot % COLOURS_MAX), dash: dashOf(Math.floor(slot / COLOURS_MAX)) };
}

export const dashOf = (at) => DASHES[at % DASHES.length];
