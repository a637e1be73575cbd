// The page: what stands above all tabs, and what is told to whom.

import { Compare } from "./compare.js";
import { button, el, icon, keep, say } from "./dom.js";
import { Grid } from "./grid.js";
import { RunList } from "./list.js";
import { RunPage } from "./run.js";
import { Listening, askJson } from "./server.js";
import { change, giveSlots, onChange, setTheme, state, theme } from "./state.js";
import { Study } from "./study.js";
import { AXES, named } from "./words.js";

const PICKED_AT_FIRST = 6;
const SMOOTHINGS = [0, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10_000];

// ---- the runs

const known = new Map();
let told = { folders: [], problems: [], complete: false };
let automatic = [];

const shared = {
  rows: () => [...known.values()],
  rowOf: (id) => known.get(id),
  // As short as it tells the run from the others that are drawn.
  nameOf(id) {
    const full = known.get(id)?.run ?? id;
    const { name } = named(full);
    return shared
      .picked()
      .some((other) => other !== id && named(known.get(other).run).name === name)
      ? full
      : name;
  },
  // Whether several runs have this name, and only their times tell them apart.
  isAmbiguous: (name) => namesakes().get(name) > 1,
  picked: () => (state.picks ?? automatic).filter((id) => known.has(id)),
  toggle(id) {
    const picks = shared.picked();
    change({
      picks: picks.includes(id) ? picks.filter((other) => other !== id) : [...picks, id].slice(-64),
    });
  },
  settings,
  whyNoRuns() {
    if (!told.complete) return "Reading the runs …";
    if (told.problems.length)
      return `${told.problems.join("; ")}. Runs appear here as soon as there are some.`;
    return `No runs in ${told.folders.join(", ")} yet. They appear here as soon as one begins.`;
  },
};

// Names of settings in which runs differ, those with the fewest values first.
let settingsOf = null;
function settings() {
  if (settingsOf) return settingsOf;
  const values = new Map();
  for (const row of known.values()) {
    for (const [name, value] of Object.entries(row.config ?? {})) {
      if (!values.has(name)) values.set(name, new Set());
      const seen = values.get(name);
      if (seen.size < 100) seen.add(String(value));
    }
  }
  settingsOf = [...values]
    .filter(([, seen]) => seen.size > 1)
    .sort((a, b) => a[1].size - b[1].size)
    .map(([name]) => name)
    .slice(0, 100);
  return settingsOf;
}

let namesakesOf = null;
function namesakes() {
  if (namesakesOf) return namesakesOf;
  namesakesOf = new Map();
  for (const row of known.values()) {
    const { name } = named(row.run);
    namesakesOf.set(name, (namesakesOf.get(name) ?? 0) + 1);
  }
  return namesakesOf;
}

function learn(news) {
  const wasComplete = told.complete;
  told = { ...told, ...news };
  for (const row of news.runs) known.set(row.id, row);
  for (const id of news.gone ?? []) known.delete(id);
  if (news.runs.length || news.gone?.length || wasComplete !== told.complete) {
    settingsOf = namesakesOf = null;
    const drawn = shared.picked().join();
    choose();
    // Figures of the same runs: their curves come another way, and are not drawn again for this.
    if (drawn === shared.picked().join() && content.firstElementChild.id !== "loading") showRows();
    else show();
  }
}

// Which runs are drawn while nobody has picked any: those that are live, then the newest.
function choose() {
  const rows = shared.rows().filter((row) => row.status !== "unreadable");
  rows.sort((a, b) => Number(b.live) - Number(a.live) || (a.started < b.started ? 1 : -1));
  const best = rows.slice(0, PICKED_AT_FIRST).map((row) => row.id);
  if (
    automatic.length < PICKED_AT_FIRST ||
    automatic.some((id) => !known.has(id)) ||
    !told.complete
  )
    automatic = best;
  else
    automatic = [
      ...new Set([...rows.filter((row) => row.live).map((row) => row.id), ...automatic]),
    ].slice(0, Math.max(PICKED_AT_FIRST, 1));
}

// ---- the parts of the page

const side = new RunList(shared, false);
const table = new RunList(shared, true);
const compare = new Compare(shared);
const grid = new Grid(shared);
const study = new Study(shared);
let page = null;

const top = document.getElementById("top");
const sideBox = document.getElementById("side");
const content = document.getElementById("content");
const banner = document.getElementById("banner");

const TABS = ["charts", "runs", "compare", "study"];
const tabs = TABS.map((name) =>
  el("a", {
    href: `#tab=${name}`,
    class: "tab",
    text: name[0].toUpperCase() + name.slice(1),
    onclick: (event) => {
      event.preventDefault();
      change({ tab: name });
    },
  }),
);

const live = el("span", { class: "live" }, el("i"), el("span", { text: "connecting" }));
const xAxis = el(
  "div",
  { class: "segments", role: "group", "aria-label": "Horizontal axis" },
  ...Object.keys(AXES).map((name) =>
    button(
      `By ${AXES[name]}`,
      { "data-x": name, onclick: () => change({ x: name, from: null, to: null }) },
      { iter: "Iterations", tokens: "Tokens", time: "Time" }[name],
    ),
  ),
);
const smoothing = el("input", {
  type: "range",
  min: 0,
  max: SMOOTHINGS.length - 1,
  step: 1,
  "aria-label": "Smoothing: values a mean is taken over",
  oninput: () => change({ smooth: SMOOTHINGS[smoothing.value] }, { replace: true }),
});
const smoothWords = el("output", { class: "smooth-words" });
const logX = toggle("Log x", "logx");
const logY = toggle("Log y", "logy");
const fit = button(
  "Fit the values: what is far from all others is cut off (o)",
  { class: "chip", "data-key": "fit", onclick: () => change({ fit: !state.fit }) },
  "Fit y",
);
const whole = button(
  "Show the whole range (0)",
  { class: "chip", onclick: () => change({ from: null, to: null }) },
  "Reset zoom",
);
const themeButton = button("Light or dark (t)", {
  class: "quiet",
  onclick: () => setTheme(theme() === "dark" ? "light" : "dark"),
});
const helpButton = button(
  "Keys (?)",
  { class: "quiet", onclick: () => help.showModal() },
  icon("help"),
);
const controls = el(
  "div",
  { class: "controls" },
  xAxis,
  el("label", { class: "smooth" }, el("span", { text: "Smooth" }), smoothing, smoothWords),
  logY,
  logX,
  fit,
  whole,
);
top.append(
  el("div", { class: "brand" }, el("b", { text: "runs" }), el("span", { class: "where" })),
  el("nav", { "aria-label": "Views" }, ...tabs),
  el("div", { class: "spring" }),
  live,
  helpButton,
  themeButton,
);
document.body.insertBefore(controls, document.getElementById("body"));

function toggle(words, key) {
  const element = button(
    words,
    {
      class: "chip",
      "data-key": key,
      onclick: () =>
        change(
          key === "logx" ? { [key]: !state[key], from: null, to: null } : { [key]: !state[key] },
        ),
    },
    words,
  );
  return element;
}

const KEYS = [
  ["1 2 3 4", "charts, runs, compare, study"],
  ["/", "filter the runs"],
  ["j k", "next, previous run"],
  ["space", "draw the run that has the focus, or not"],
  ["Enter", "open it"],
  ["a n", "pick all that are listed, none"],
  ["x", "iterations, tokens, time"],
  ["s S", "smooth more, less"],
  ["l g", "log axis for values, for iterations"],
  ["o", "cut off outliers"],
  ["drag", "zoom; double click: back"],
  ["0", "show the whole range"],
  ["← →", "move the cursor in a chart that has the focus"],
  ["+ −", "zoom there"],
  ["t", "light or dark"],
  ["?", "this"],
];
const help = el(
  "dialog",
  { class: "help", "aria-label": "Keys" },
  el(
    "form",
    { method: "dialog" },
    el("h2", { text: "Keys" }),
    button(
      "Close",
      { class: "quiet close", type: "submit", onclick: () => help.close() },
      icon("close"),
    ),
    el(
      "dl",
      {},
      ...KEYS.map(([key, words]) =>
        el(
          "div",
          {},
          el("dt", {}, ...key.split(" ").map((k) => el("kbd", { text: k }))),
          el("dd", { text: words }),
        ),
      ),
    ),
  ),
);
document.body.append(help);

// ---- showing

function show() {
  giveSlots(shared.picked());
  const isRun = state.tab === "run" && state.run;
  if (page && (!isRun || page.id !== state.run)) {
    page.close();
    page = null;
  }
  if (isRun && !page) page = new RunPage(shared, state.run);
  const part = isRun ? page : ({ charts: grid, runs: table, compare, study }[state.tab] ?? grid);
  if (content.firstElementChild !== part.element) content.replaceChildren(part.element);
  document.body.dataset.tab = isRun ? "run" : state.tab;
  const isBeside = !["runs", "study"].includes(document.body.dataset.tab);
  if (sideBox.contains(side.element) !== isBeside)
    sideBox.replaceChildren(...(isBeside ? [side.element] : []));
  if (isBeside) side.show();
  part.show();
  showControls();
  listening.to(isRun ? [state.run] : state.tab === "charts" ? shared.picked() : []);
  showTitle();
  keep(top.querySelector(".where"), told.folders.join(" "));
  showBanner();
}

function showRows() {
  if (sideBox.contains(side.element)) side.show();
  if (state.tab === "runs") table.show();
  if (state.tab === "compare") compare.show();
  if (state.tab === "study") study.show();
  page?.showRow();
  showTitle();
  showBanner();
}

function showTitle() {
  const name = page ? shared.rowOf(state.run)?.run : null;
  const nLive = shared.rows().filter((row) => row.live).length;
  document.title = `${name ? `${name} · ` : ""}runs${nLive ? ` · ${nLive} live` : ""}`;
}

function showControls() {
  const isRun = document.body.dataset.tab === "run";
  tabs.forEach((tab, i) =>
    tab.toggleAttribute("aria-current", TABS[i] === document.body.dataset.tab),
  );
  for (const one of tabs)
    if (one.hasAttribute("aria-current")) one.setAttribute("aria-current", "page");
  controls.hidden = !(isRun || state.tab === "charts");
  for (const one of xAxis.children)
    one.setAttribute("aria-pressed", String(one.dataset.x === state.x));
  for (const one of [logX, logY, fit])
    one.setAttribute("aria-pressed", String(state[one.dataset.key]));
  const at = SMOOTHINGS.findLastIndex((n) => n <= state.smooth);
  if (document.activeElement !== smoothing) smoothing.value = at;
  smoothing.setAttribute("aria-valuetext", state.smooth ? `${state.smooth} values` : "off");
  keep(smoothWords, state.smooth ? String(state.smooth) : "off");
  whole.hidden = state.from === null;
  themeButton.replaceChildren(icon(theme() === "dark" ? "sun" : "moon"));
}

let isLost = null;
function showBanner() {
  const problems = told.problems ?? [];
  const words = isLost
    ? `The server does not answer since ${isLost.toLocaleTimeString()}; what you see is as of then. Trying again …`
    : problems.length && known.size
      ? problems.join("; ")
      : "";
  keep(banner, words);
  banner.hidden = !words;
  banner.classList.toggle("lost", Boolean(isLost));
}

function connected(is) {
  if (is && isLost) refresh();
  isLost = is ? null : (isLost ?? new Date());
  live.className = `live ${is ? "on" : "off"}`;
  keep(live.lastChild, is ? "live" : "no connection");
  showBanner();
}

// After a pause everything is asked for again: another server may answer now.
async function refresh() {
  try {
    const news = await askJson("/api/runs");
    const there = new Set(news.runs.map((row) => row.id));
    for (const id of [...known.keys()]) if (!there.has(id)) known.delete(id);
    listening.since = news.version;
    learn(news);
    show();
  } catch {
    /* the next connection tries again */
  }
}

const listening = new Listening((name, data) => {
  if (name === "runs") learn(data);
  else if (page) page.hear(data);
  else grid.hear(data);
}, connected);

let frame = 0;
onChange((given) => {
  if ("q" in given && !("tab" in given)) {
    side.limit = table.limit = 100;
  }
  cancelAnimationFrame(frame);
  frame = requestAnimationFrame(show);
});

// ---- keys

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || help.open) return;
  const { target } = event;
  if (target.matches("input[type=search], input[type=text], select, textarea")) return;
  const list = state.tab === "runs" ? table : side;
  const row = target.closest?.("tr[data-id]");
  const at = Object.keys(AXES).indexOf(state.x);
  const smoothBy = (by) => {
    const next = Math.min(
      SMOOTHINGS.length - 1,
      Math.max(0, SMOOTHINGS.findLastIndex((n) => n <= state.smooth) + by),
    );
    change({ smooth: SMOOTHINGS[next] });
    say(`smoothing ${state.smooth || "off"}`);
  };
  const act = {
    1: () => change({ tab: "charts" }),
    2: () => change({ tab: "runs" }),
    3: () => change({ tab: "compare" }),
    4: () => change({ tab: "study" }),
    "/": () => list.filter.focus(),
    j: () => list.step(1),
    k: () => list.step(-1),
    a: () => list.pickAll(),
    n: () => change({ picks: [] }),
    x: () => change({ x: Object.keys(AXES)[(at + 1) % 3], from: null, to: null }),
    s: () => smoothBy(1),
    S: () => smoothBy(-1),
    l: () => change({ logy: !state.logy }),
    g: () => change({ logx: !state.logx, from: null, to: null }),
    o: () => change({ fit: !state.fit }),
    0: () => change({ from: null, to: null }),
    t: () => setTheme(theme() === "dark" ? "light" : "dark"),
    "?": () => help.showModal(),
    " ": row && target.matches("a") ? () => shared.toggle(row.dataset.id) : null,
    Escape: state.big ? () => change({ big: "" }) : null,
  }[event.key];
  if (!act) return;
  event.preventDefault();
  act();
});

document.getElementById("skip").addEventListener("click", (event) => {
  event.preventDefault();
  content.focus();
});

export const shownGrid = () => page?.grid ?? grid; // for who looks at the page from outside: tests, a console

setInterval(() => (state.tab === "runs" ? table : side).show(), 30_000); // "3m ago" grows

// ---- beginning

try {
  const news = await askJson("/api/runs");
  listening.since = news.version;
  learn(news);
} catch (error) {
  keep(banner, error.message);
  banner.hidden = false;
}
show();
