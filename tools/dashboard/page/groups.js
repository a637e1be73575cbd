// Runs that differ in the seed alone, or that have equal keys, as one row of the table.

import { fetchJson } from "./api.js";
import { isExpression } from "./rows.js";
import { notify, state } from "./state.js";

const PAUSE_MS = 1000; // between two requests while runs change
const PAUSE = 4; // times as long as a request took

export class RunGroups {
  /**
   * @param {any} runs the page's runs
   * @param {() => void} onChange
   */
  constructor(runs, onChange) {
    this.runs = runs;
    this.onChange = onChange;
    /** @type {any[]} */
    this.groups = []; // {name, ids, stats}, of the runs that the filter leaves
    this.problem = "";
    this.open = new Set(); // names of those whose runs are listed
    this.mark = "";
    this.asked = "";
    this.timer = 0;
  }

  // Requests what the state asks for, unless that is known; where only runs changed, after a pause.
  show() {
    const asked = JSON.stringify([state.mean, state.q]);
    const mark = `${asked} ${this.runs.version}`;
    if (!state.mean || mark === this.mark || (asked === this.asked && this.timer)) return;
    this.asked = asked;
    this.mark = mark;
    this.fetch(mark);
  }

  pause(ms) {
    clearTimeout(this.timer);
    this.timer = setTimeout(() => {
      this.timer = 0;
      this.show();
    }, ms);
  }

  async fetch(mark) {
    const begun = performance.now();
    this.pause(PAUSE_MS);
    const filter = isExpression(state.q) ? { q: state.q } : { words: state.q };
    const isAll = !state.q;
    try {
      const answer = await fetchJson("/api/groups", { by: state.mean, ...filter });
      if (mark !== this.mark) return;
      this.pause(Math.max(PAUSE_MS, PAUSE * (performance.now() - begun)));
      this.groups = answer.groups ?? this.groups;
      this.problem = answer.error ?? answer.notes.join("; ");
      const ids = this.groups.map((group) => group.ids);
      if (isAll && this.runs.offerGroups(ids)) notify({});
      this.runs.setGroups(ids);
    } catch (error) {
      this.problem = error.message;
    }
    this.onChange();
  }

  toggle(name) {
    if (!this.open.delete(name)) this.open.add(name);
    this.onChange();
  }
}
