// The runs that the page knows: their rows, and which of them are drawn.

import { splitName } from "./format.js";
import { change, PICKS_MAX, state } from "./state.js";

const PICKED_AT_FIRST = 6;
const SETTINGS_MAX = 100;

export class Runs {
  constructor() {
    /** @type {Map<string, any>} */
    this.byId = new Map();
    this.folders = [];
    this.problems = [];
    this.isComplete = false; // whether the server has read all folders
    this.automatic = []; // what is drawn while nobody has picked any run
    this.forget();
  }

  forget() {
    this.settingNames = null;
    this.counts = null;
  }

  rows() {
    return [...this.byId.values()];
  }

  rowOf(id) {
    return this.byId.get(id);
  }

  /**
   * Takes over an answer to /api/runs, or an event with what changed.
   * @returns {boolean} whether anything that is shown changed
   */
  update(news) {
    const wasComplete = this.isComplete;
    this.folders = news.folders ?? this.folders;
    this.problems = news.problems ?? this.problems;
    this.isComplete = news.complete ?? this.isComplete;
    for (const row of news.runs) this.byId.set(row.id, row);
    for (const id of news.gone ?? []) this.byId.delete(id);
    const isChanged = news.runs.length || news.gone?.length || wasComplete !== this.isComplete;
    if (isChanged) {
      this.forget();
      this.choose();
    }
    return Boolean(isChanged);
  }

  // All that are not in `rows` are gone.
  keepOnly(rows) {
    const ids = new Set(rows.map((row) => row.id));
    for (const id of [...this.byId.keys()]) if (!ids.has(id)) this.byId.delete(id);
  }

  // ---- which are drawn

  picked() {
    return (state.picks ?? this.automatic).filter((id) => this.byId.has(id));
  }

  toggle(id) {
    const picks = this.picked();
    const isPicked = picks.includes(id);
    const others = picks.filter((other) => other !== id);
    change({ picks: isPicked ? others : [...picks, id].slice(-PICKS_MAX) });
  }

  // Until the user picks some: the live runs, then the newest. Runs that are drawn stay.
  choose() {
    const rows = this.rows().filter((row) => row.status !== "unreadable");
    rows.sort((a, b) => Number(b.live) - Number(a.live) || (a.started < b.started ? 1 : -1));
    const isSettled =
      this.isComplete &&
      this.automatic.length >= PICKED_AT_FIRST &&
      this.automatic.every((id) => this.byId.has(id));
    const live = rows.filter((row) => row.live).map((row) => row.id);
    const ids = isSettled ? [...live, ...this.automatic] : rows.map((row) => row.id);
    this.automatic = [...new Set(ids)].slice(0, PICKED_AT_FIRST);
  }

  // ---- names and settings

  // Without the time that the logger appends, unless another run that is drawn has the same name.
  nameOf(id) {
    const run = this.byId.get(id)?.run ?? id;
    const { name } = splitName(run);
    const others = this.picked().filter((other) => other !== id);
    const isTaken = others.some((other) => splitName(this.byId.get(other).run).name === name);
    return isTaken ? run : name;
  }

  // Whether several runs have this name, so that only their times distinguish them.
  isAmbiguous(name) {
    if (!this.counts) {
      this.counts = new Map();
      for (const row of this.byId.values()) {
        const { name: other } = splitName(row.run);
        this.counts.set(other, (this.counts.get(other) ?? 0) + 1);
      }
    }
    return this.counts.get(name) > 1;
  }

  // Names of settings in which runs differ, those with the fewest values first.
  settings() {
    this.settingNames ??= this.varied();
    return this.settingNames;
  }

  varied() {
    const values = new Map();
    for (const row of this.byId.values()) {
      for (const [name, value] of Object.entries(row.config ?? {})) {
        if (!values.has(name)) values.set(name, new Set());
        const seen = values.get(name);
        if (seen.size < 100) seen.add(String(value));
      }
    }
    const varied = [...values].filter(([, seen]) => seen.size > 1);
    varied.sort((a, b) => a[1].size - b[1].size);
    return varied.map(([name]) => name).slice(0, SETTINGS_MAX);
  }

  whyNone() {
    const later = "Runs appear here as soon as they start.";
    if (!this.isComplete) return "Reading the runs …";
    if (this.problems.length) return `${this.problems.join("; ")}. ${later}`;
    return `No runs in ${this.folders.join(", ")} yet. ${later}`;
  }
}
