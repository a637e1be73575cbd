// Runs that differ in the seed alone, or that have equal keys, as one row of the table.

import { Answer } from "./answer.js";
import { isExpression } from "./rows.js";
import { notify, state } from "./state.js";

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
    const onAnswer = (answer) => this.onAnswer(answer);
    this.answer = new Answer("/api/groups", onAnswer, () => this.show());
  }

  // Requests what the state asks for.
  show() {
    if (!state.mean) return;
    const filter = isExpression(state.q) ? { q: state.q } : { words: state.q };
    this.answer.ask({ by: state.mean, ...filter }, this.runs.version);
  }

  onAnswer({ groups, notes, error }) {
    this.problem = error ?? notes.join("; ");
    if (groups) {
      this.groups = groups;
      const ids = groups.map((group) => group.ids);
      if (!state.q && this.runs.offerGroups(ids)) notify({});
      this.runs.setGroups(ids);
    }
    this.onChange();
  }

  toggle(name) {
    if (!this.open.delete(name)) this.open.add(name);
    this.onChange();
  }
}
