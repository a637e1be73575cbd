// Values of series of all runs, for columns, the order and colours: the server reads each run once.

import { fetchJson } from "./api.js";
import { escaped } from "./metrics.js";

const PAUSE_MS = 1000; // between two requests while runs change
const SHOWN_MS = 1000; // between two updates while more is read
const RETRY_MS = 3000;

export class Values {
  /**
   * @param {any} runs the page's runs, which get the values
   * @param {() => void} onChange
   */
  constructor(runs, onChange) {
    this.runs = runs;
    this.onChange = onChange;
    this.names = "";
    this.since = 0; // version of the values that the page has
    this.seen = -1; // version of the runs when they were asked for
    this.left = 0; // runs that the server has not read yet
    this.problem = "";
    this.timer = 0;
    this.shownAt = -Infinity;
    this.isAsking = false;
  }

  /** @param {string[]} names */
  want(names) {
    const text = names.map(escaped).join("\n");
    if (text !== this.names) {
      this.names = text;
      this.since = 0;
      this.seen = -1;
      clearTimeout(this.timer);
      this.timer = 0;
    }
    if (!text || this.isAsking || this.timer || this.seen === this.runs.version) return;
    this.fetch();
  }

  async fetch() {
    this.isAsking = true;
    const { names, since } = this;
    this.seen = this.runs.version;
    try {
      const answer = await fetchJson("/api/values", { names, since: since || null });
      if (names === this.names) this.take(answer, since);
    } catch (error) {
      this.problem = error.message;
      this.seen = -1;
    }
    this.isAsking = false;
    if (this.left || names !== this.names) this.fetch();
    else this.pause(this.problem ? RETRY_MS : PAUSE_MS);
  }

  take({ values, version, left }, since) {
    this.since = version;
    this.left = left;
    this.problem = "";
    this.runs.setValues(values, since === 0);
    const now = performance.now();
    if (left && now < this.shownAt + SHOWN_MS) return;
    this.shownAt = now;
    this.onChange();
  }

  pause(ms) {
    this.timer = setTimeout(() => {
      this.timer = 0;
      if (this.seen !== this.runs.version) this.onChange();
    }, ms);
  }
}
