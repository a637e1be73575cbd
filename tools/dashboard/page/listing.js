// Which runs the list shows: filtered, sorted and grouped.

import { Answer } from "./answer.js";
import { isSeries } from "./columns.js";
import { grouped, isExpression, matching, sorted } from "./rows.js";
import { state } from "./state.js";

export class Listing {
  /**
   * @param {any} runs the page's runs
   * @param {() => void} onChange
   */
  constructor(runs, onChange) {
    this.runs = runs;
    this.onChange = onChange;
    this.matches = null; // ids for which the expression is true; null: not known yet
    this.matched = ""; // the expression that these are of
    this.problem = "";
    this.reading = 0; // runs that the server has still to read for the expression
    this.nAnswers = 0;
    this.mark = "";
    /** @type {[string, any[]][]} */
    this.known = [];
    const onAnswer = (answer) => this.onAnswer(answer);
    this.answer = new Answer("/api/where", onAnswer, () => this.ask());
  }

  // An expression is for the server; words are looked for here.
  ask() {
    if (!isExpression(state.q)) {
      this.asked = "";
      this.problem = "";
      this.reading = 0;
      return;
    }
    this.asked = state.q;
    const round = this.reading ? this.nAnswers : 0;
    this.answer.ask({ q: state.q }, `${this.runs.version} ${round}`);
  }

  onAnswer({ ids, left, error }) {
    this.nAnswers += 1;
    this.reading = left ?? 0;
    this.problem = error ?? "";
    if (ids) {
      this.matches = new Set(ids);
      this.matched = this.asked;
    }
    this.onChange();
  }

  // The list of an earlier filter stays until the answer is there, and where the filter is wrong.
  selected() {
    const { runs } = this;
    let rows = runs.rows();
    if (state.only) {
      const picked = new Set(runs.picked());
      rows = rows.filter((row) => picked.has(row.id));
    }
    if (!isExpression(state.q)) return matching(rows, state.q);
    const isKnown = this.matches && (this.matched === state.q || this.problem);
    return isKnown ? rows.filter((row) => this.matches.has(row.id)) : rows;
  }

  /** @returns {[string, any[]][]} the name of each group, and its rows in order */
  groups() {
    this.ask();
    const { q, sort, group, only } = state;
    const { version } = this.runs;
    const isBySeries = [sort.replace(/^-/, ""), group].some((key) => key && isSeries(key));
    const valuesVersion = isBySeries ? this.runs.valuesVersion : 0;
    const picks = only ? this.runs.picked().join() : "";
    const of = [version, valuesVersion, this.nAnswers, this.problem, q, sort, group, only, picks];
    const mark = JSON.stringify(of);
    if (mark !== this.mark) {
      this.mark = mark;
      this.known = grouped(sorted(this.selected(), sort), group);
    }
    return this.known;
  }

  rows() {
    return this.groups().flatMap(([, rows]) => rows);
  }
}
