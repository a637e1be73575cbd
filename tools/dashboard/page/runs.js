// The runs that the page knows: their rows, and which of them are drawn.

import { splitName } from "./format.js";
import { change, notify, PICKS_MAX, state } from "./state.js";
import { assignStyles } from "./theme.js";

const PICKED_AT_FIRST = 6;
const SETTINGS_MAX = 100;
const VALUES_MAX = 100; // that are counted of a setting

export class Runs {
  constructor() {
    /** @type {Map<string, any>} */
    this.byId = new Map();
    this.folders = [];
    this.places = []; // their whole paths
    this.problems = [];
    this.isComplete = false; // whether the server has read all folders
    this.automatic = []; // what is drawn while nobody has picked any run
    this.offered = []; // the same while groups of runs are drawn
    this.groupOf = new Map(); // of each run: the ids of those that it is drawn as one with
    this.groupedBy = ""; // as `state.mean`
    this.version = 0;
    /** @type {Map<string, any>} */
    this.values = new Map(); // by id: what was read of its series
    this.valuesVersion = 0;
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
    this.places = news.places ?? this.places;
    this.problems = news.problems ?? this.problems;
    this.isComplete = news.complete ?? this.isComplete;
    for (const row of news.runs) this.byId.set(row.id, this.withValues(row));
    for (const id of news.gone ?? []) this.byId.delete(id);
    const isChanged = news.runs.length || news.gone?.length || wasComplete !== this.isComplete;
    if (isChanged) {
      this.version += 1;
      this.forget();
      this.choose();
    }
    return Boolean(isChanged);
  }

  withValues(row) {
    row.series = this.values.get(row.id);
    return row;
  }

  /**
   * @param {Record<string, any>} values by id: those of its series by name
   * @param {boolean} areAll whether no other run has any
   */
  setValues(values, areAll) {
    const ids = Object.keys(values);
    if (!ids.length && !(areAll && this.values.size)) return;
    if (areAll) this.values.clear();
    for (const id of ids) this.values.set(id, values[id]);
    for (const row of areAll ? this.byId.values() : ids.map((id) => this.byId.get(id))) {
      if (row) this.withValues(row);
    }
    this.valuesVersion += 1;
  }

  // All that are not in `rows` are gone.
  keepOnly(rows) {
    const ids = new Set(rows.map((row) => row.id));
    for (const id of [...this.byId.keys()]) if (!ids.has(id)) this.byId.delete(id);
  }

  // ---- which are drawn

  picked() {
    const automatic = state.mean && this.offered.length ? this.offered : this.automatic;
    return (state.picks ?? automatic).filter((id) => this.byId.has(id));
  }

  // Runs that a link has picked and that are not here.
  nMissing() {
    return (state.picks ?? []).filter((id) => !this.byId.has(id)).length;
  }

  // Draws some runs, or stops drawing them.
  setPicked(ids, isPicked) {
    const others = this.picked().filter((id) => !ids.includes(id));
    change({ picks: isPicked ? [...others, ...ids].slice(-PICKS_MAX) : others });
  }

  /**
   * Groups of runs, of which those with the newest runs are drawn until the user picks some.
   * @param {string[][]} groups
   * @returns {boolean} whether others are drawn now
   */
  offerGroups(groups) {
    const newest = (ids) =>
      ids
        .map((id) => this.byId.get(id)?.started ?? "")
        .sort()
        .at(-1);
    const ordered = groups.map((ids) => ({ ids, at: newest(ids) }));
    ordered.sort((a, b) => (a.at < b.at ? 1 : -1));
    const before = this.offered.join();
    this.offered = [];
    for (const { ids } of ordered.slice(0, PICKED_AT_FIRST)) {
      if (this.offered.length + ids.length <= PICKS_MAX) this.offered.push(...ids);
    }
    if (!this.offered.length) this.offered = (ordered[0]?.ids ?? []).slice(0, PICKS_MAX);
    return before !== this.offered.join();
  }

  /**
   * Runs that are drawn as one line have one colour.
   * @param {string[][]} groups of some of the runs, by what the state says
   */
  setGroups(groups) {
    const before = this.styled().join();
    if (this.groupedBy !== state.mean) {
      this.groupedBy = state.mean;
      this.groupOf.clear();
      assignStyles([]); // the groups get the first colours
    }
    for (const ids of groups) {
      const group = new Set(ids);
      for (const id of ids) this.groupOf.set(id, group);
    }
    if (before === this.styled().join()) return;
    assignStyles(this.styled());
    notify({});
  }

  // The run whose colour a run has: the first one of its group that is drawn.
  leaderOf(id) {
    const group = state.mean ? this.groupOf.get(id) : null;
    return (group && this.picked().find((other) => group.has(other))) ?? id;
  }

  // The ids that need a colour.
  styled() {
    return [...new Set(this.picked().map((id) => this.leaderOf(id)))];
  }

  toggle(id) {
    this.setPicked([id], !this.picked().includes(id));
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
    const values = new Map(); // name: the only value so far, or all of them
    for (const row of this.byId.values()) {
      for (const name in row.config ?? {}) {
        const value = row.config[name];
        const seen = values.get(name);
        if (seen === undefined) values.set(name, { value, all: null });
        else if (seen.all) seen.all.size < VALUES_MAX && seen.all.add(String(value));
        else if (seen.value !== value && String(seen.value) !== String(value)) {
          seen.all = new Set([String(seen.value), String(value)]);
        }
      }
    }
    const varied = [...values].filter(([, { all }]) => all);
    varied.sort((a, b) => a[1].all.size - b[1].all.size);
    return varied.map(([name]) => name).slice(0, SETTINGS_MAX);
  }

  whyNone() {
    const later = "Runs appear here as soon as they start.";
    if (!this.isComplete) return "Reading the runs …";
    if (this.problems.length) return `${this.problems.join("; ")}. ${later}`;
    return `No runs in ${this.folders.join(", ")} yet. ${later}`;
  }
}
