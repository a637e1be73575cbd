// Runs that differ in the seed alone, or that have equal keys, as one row of the table.

import { Answer } from "./answer.js";
import { escaped } from "./metrics.js";
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
    /** @type {string[]} */
    this.names = [];
    this.problem = "";
    this.open = new Set(); // names of those whose runs are listed
    const onAnswer = (answer) => this.onAnswer(answer);
    this.answer = new Answer("/api/groups", onAnswer, () => this.show());
  }

  /**
   * Requests what the state asks for.
   * @param {string[]} names of series, of which the groups have the mean, too
   */
  show(names = this.names) {
    this.names = names;
    if (!state.mean) return;
    const filter = isExpression(state.q) ? { q: state.q } : { words: state.q };
    const asked = { by: state.mean, names: names.map(escaped).join("\n"), ...filter };
    this.answer.ask(asked, `${this.runs.version} ${this.runs.valuesVersion}`);
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
