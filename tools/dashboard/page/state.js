// What is looked at, and how: all of it stands in the address, so that a link shows the same.

const DEFAULTS = {
  tab: "charts",
  run: "",
  picks: null,
  q: "",
  sort: "-started",
  group: "",
  x: "iter",
  smooth: 0,
  logx: false,
  logy: false,
  fit: false,
  from: null,
  to: null,
  big: "",
  all: false,
  by: "metadata.group",
  of: "",
  figure: "",
  brush: "",
};
const TABS = ["charts", "runs", "compare", "study", "run"];
const LENGTHS = { brush: 4000 }; // of text; of all other 500
const LISTENERS = new Set();

export const state = { ...DEFAULTS };

export function change(given, { replace = false } = {}) {
  Object.assign(state, given);
  const hash = written();
  if (hash !== location.hash.slice(1)) {
    history[replace ? "replaceState" : "pushState"](null, "", `#${hash}`);
  }
  for (const listener of LISTENERS) listener(given);
}

export function onChange(listener) {
  LISTENERS.add(listener);
}

function written() {
  const words = new URLSearchParams();
  for (const [key, standard] of Object.entries(DEFAULTS)) {
    const value = state[key];
    if (value === standard || value === null || value === undefined) continue;
    words.set(key, Array.isArray(value) ? value.join(",") : value === true ? "1" : String(value));
  }
  return words.toString().replaceAll("%2C", ",").replaceAll("%2F", "/");
}

export function read() {
  const words = new URLSearchParams(location.hash.slice(1));
  const given = { ...DEFAULTS };
  for (const key of Object.keys(DEFAULTS)) {
    if (!words.has(key)) continue;
    const text = words.get(key);
    if (key === "picks")
      given.picks = text
        .split(",")
        .filter((id) => /^[0-9a-f]{1,32}$/.test(id))
        .slice(0, 64);
    else if (key === "from" || key === "to")
      given[key] = Number.isFinite(Number(text)) && text !== "" ? Number(text) : null;
    else if (key === "smooth")
      given.smooth = Math.min(1e6, Math.max(0, Math.round(Number(text)) || 0));
    else if (typeof DEFAULTS[key] === "boolean") given[key] = text === "1";
    else given[key] = text.slice(0, LENGTHS[key] ?? 500);
  }
  if (!TABS.includes(given.tab)) given.tab = DEFAULTS.tab;
  if (!["iter", "tokens", "time"].includes(given.x)) given.x = "iter";
  if (given.from === null || given.to === null || given.from >= given.to)
    given.from = given.to = null;
  Object.assign(state, given);
}

// How a group is named in an address: text as it is, all else as JSON.
export const textOf = (v) => (typeof v === "string" ? v : JSON.stringify(v ?? null));

read();
window.addEventListener("popstate", () => {
  read();
  for (const listener of LISTENERS) listener(state);
});

// ---- which colour and line a run has: the same as long as the page is open

const SLOTS = new Map();
const COLOURS = {
  light: ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#1c2024"],
  dark: ["#56b4e9", "#e69f00", "#1fbf92", "#cc79a7", "#f0e442", "#e8702a", "#ffffff"],
};
const DASHES = [[], [6, 3], [2, 2.5], [8, 3, 2, 3]]; // with 7 colours: 28 runs look different

export function giveSlots(ids) {
  for (const id of [...SLOTS.keys()]) if (!ids.includes(id)) SLOTS.delete(id);
  for (const id of ids) {
    if (SLOTS.has(id)) continue;
    const taken = new Set(SLOTS.values());
    let slot = 0;
    while (taken.has(slot)) slot += 1;
    SLOTS.set(id, slot);
  }
}

export function look(id) {
  const slot = SLOTS.get(id) ?? 0;
  const colours = COLOURS[theme()];
  return {
    colour: colours[slot % colours.length],
    dash: DASHES[Math.floor(slot / colours.length) % DASHES.length],
  };
}

// ---- light and dark

const dark = matchMedia("(prefers-color-scheme: dark)");

export function theme() {
  return document.documentElement.dataset.theme || (dark.matches ? "dark" : "light");
}

export function setTheme(name) {
  document.documentElement.dataset.theme = name;
  try {
    localStorage.setItem("runs-theme", name);
  } catch {
    /* private windows keep nothing */
  }
  for (const listener of LISTENERS) listener({ theme: name });
}

try {
  const kept = localStorage.getItem("runs-theme");
  if (kept === "light" || kept === "dark") document.documentElement.dataset.theme = kept;
} catch {
  /* as above */
}
dark.addEventListener("change", () => {
  for (const listener of LISTENERS) listener({ theme: theme() });
});
