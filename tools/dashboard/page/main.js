// The page: its views, and how each is updated when the runs or the address change.

import { fetchJson } from "./api.js";
import { Columns } from "./columns.js";
import { Compare } from "./compare.js";
import { setText } from "./dom.js";
import { loadLayout } from "./edit.js";
import { Grid } from "./grid.js";
import { helpDialog, listenToKeys } from "./keys.js";
import { RunList } from "./list.js";
import { Listing } from "./listing.js";
import { LiveEvents } from "./live.js";
import { onPoint } from "./pointing.js";
import { RunPage } from "./run.js";
import { Runs } from "./runs.js";
import { onChange, state } from "./state.js";
import { Study } from "./study.js";
import { assignStyles } from "./theme.js";
import { Controls, TopBar } from "./toolbar.js";
import { Values } from "./values.js";

const RETRY_MS = 1000;
const AGE_MS = 30_000; // how often "3m ago" is brought up to date

const runs = new Runs();
const help = helpDialog();
const topBar = new TopBar(() => help.showModal());
const controls = new Controls();
const showList = () => shownList().show();
const listed = {
  runs,
  listing: new Listing(runs, showList),
  columns: new Columns(runs, showList),
  values: new Values(runs, showValues),
};
const sideList = new RunList(listed, false);
const wideList = new RunList(listed, true);
const grid = new Grid(runs);
const views = { charts: grid, runs: wideList, compare: new Compare(runs), study: new Study(runs) };
let runPage = null;

const side = document.getElementById("side");
const content = document.getElementById("content");
const banner = document.getElementById("banner");
const shownList = () => (state.tab === "runs" ? wideList : sideList);

// ---- showing

function show() {
  assignStyles(runs.styled());
  openRunPage(state.tab === "run" && state.run);
  const view = runPage ?? views[state.tab] ?? grid;
  if (content.firstElementChild !== view.element) content.replaceChildren(view.element);
  const tab = runPage ? "run" : state.tab;
  document.body.dataset.tab = tab;
  const hasSide = tab !== "runs" && tab !== "study";
  if (side.contains(sideList.element) !== hasSide) {
    side.replaceChildren(...(hasSide ? [sideList.element] : []));
  }
  if (hasSide) sideList.show();
  view.show();
  controls.show(tab, runs.settings());
  topBar.show(tab, runs.folders);
  live.follow(runPage ? [state.run] : tab === "charts" ? runs.picked() : []);
  showTitle();
  showBanner();
}

function openRunPage(id) {
  if (runPage?.id === (id || undefined)) return;
  runPage?.close();
  runPage = id ? new RunPage(runs, id) : null;
}

// Values of series arrived: runs may have other colours.
function showValues() {
  if (state.colour) show();
  else showList();
}

// Only rows changed: curves arrive by themselves and are not drawn again for this.
function showRows() {
  if (side.contains(sideList.element)) sideList.show();
  if (runPage) runPage.showRun();
  else if (state.tab !== "charts") views[state.tab]?.show();
  showTitle();
  showBanner();
}

function showTitle() {
  const name = runPage && runs.rowOf(state.run)?.run;
  const nLive = runs.rows().filter((row) => row.live).length;
  document.title = [name, "runs", nLive ? `${nLive} live` : ""].filter(Boolean).join(" · ");
}

let lostSince = null; // when the connection was lost
function showBanner() {
  const time = lostSince?.toLocaleTimeString();
  const lost = `No answer from the server since ${time}: the page is as of then. Retrying …`;
  const problems = runs.rows().length ? runs.problems.join("; ") : "";
  setText(banner, lostSince ? lost : problems);
  banner.hidden = !banner.textContent;
  banner.classList.toggle("lost", Boolean(lostSince));
}

// ---- messages of the server

function updateRuns(news) {
  const before = runs.picked().join();
  if (!runs.update(news)) return;
  const isFirst = content.firstElementChild.id === "loading";
  if (before === runs.picked().join() && !isFirst) showRows();
  else show();
}

const live = new LiveEvents((name, data) => {
  if (name === "runs") updateRuns(data);
  else (runPage ?? grid).update(data);
}, onConnection);

function onConnection(isConnected) {
  topBar.showConnection(isConnected);
  if (!isConnected) lostSince ??= new Date();
  else if (lostSince) reload();
  showBanner();
}

// All rows: at the start, and after a lost connection, when another server may answer.
async function reload() {
  try {
    const answer = await fetchJson("/api/runs");
    runs.keepOnly(answer.runs);
    live.since = answer.version;
    lostSince = null;
    updateRuns(answer);
  } catch {
    lostSince ??= new Date();
    setTimeout(reload, RETRY_MS);
  }
  show();
}

// ---- actions of the user

let frame = 0;
onChange(() => {
  cancelAnimationFrame(frame);
  frame = requestAnimationFrame(show);
});
listenToKeys({ runs, help, list: shownList });
document.getElementById("skip").addEventListener("click", (event) => {
  event.preventDefault();
  content.focus();
});
setInterval(showList, AGE_MS);
onPoint((_, hasChangedLines) => {
  if (hasChangedLines) for (const chart of shownGrid().charts.values()) chart.invalidate();
});

// For tests and the console.
export const shownGrid = () => runPage?.grid ?? grid;

await loadLayout().catch(() => {}); // without an answer the page says so: see `reload`
await reload();
