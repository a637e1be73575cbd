// What the list says of the runs that are drawn, and a link that shows the same to others.

import { announce, button, el, setText } from "./dom.js";
import { plural } from "./format.js";
import { change, PICKS_MAX, state } from "./state.js";

const SHOWN_MS = 2500;

export class Picks {
  /**
   * @param {any} runs the page's runs
   * @param {any} listing which runs the list shows
   * @param {any} columns of the table
   */
  constructor(runs, listing, columns) {
    this.runs = runs;
    this.listing = listing;
    this.columns = columns;
    this.count = el("p", { class: "count" });
    this.drawn = el("p", { class: "drawn", role: "status" });
    const quiet = (label, onclick, text) => button(label, { class: "quiet text", onclick }, text);
    const onlyPicked = () => change({ only: !state.only });
    this.only = button(
      "List the picked runs alone",
      { class: "chip", onclick: onlyPicked },
      "Only picked",
    );
    this.link = quiet(
      "Copy a link to this view, with the runs and columns of now",
      () => this.copy(),
      "link",
    );
    this.buttons = [
      quiet(`Pick all listed, up to ${PICKS_MAX} (a)`, () => this.pickAll(), "all"),
      quiet("Pick none (n)", () => change({ picks: [] }), "none"),
      this.only,
      this.link,
    ];
  }

  pickAll() {
    const readable = this.listing.rows().filter((row) => row.status !== "unreadable");
    change({ picks: readable.map((row) => row.id).slice(0, PICKS_MAX) });
  }

  // The address gets all that a default would choose anew.
  async copy() {
    const columns = state.columns ?? this.columns.keys;
    change({ picks: this.runs.picked(), columns }, { replace: true });
    let message = "The address is the link";
    try {
      await navigator.clipboard.writeText(location.href);
      message = "Link copied";
    } catch {
      // not allowed, or not there: pages of other hosts without TLS have no clipboard
    }
    announce(message);
    setText(this.link, message);
    setTimeout(() => setText(this.link, "link"), SHOWN_MS);
  }

  show(nListed) {
    const total = this.runs.rows().length;
    const runs = plural(total, "run");
    setText(this.count, nListed === total ? runs : `${nListed.toLocaleString()} of ${runs}`);
    this.only.setAttribute("aria-pressed", state.only);
    setText(this.drawn, total ? this.drawnText(total) : "");
    this.drawn.hidden = !total;
  }

  // How many runs are drawn, and why the others are not.
  drawnText(total) {
    const n = this.runs.picked().length;
    const missing = this.runs.isComplete ? this.runs.nMissing() : 0;
    const lost = missing ? `; ${plural(missing, "picked run")} not in these folders` : "";
    if (n === total) return `All ${n === 1 ? "" : `${n} `}drawn${lost}`;
    const of = `${n.toLocaleString()} of ${total.toLocaleString()} drawn`;
    if (n >= PICKS_MAX) return `${of}: no more than ${PICKS_MAX} at once${lost}`;
    if (state.picks) return `${of}: those that are ticked${lost}`;
    const which = state.mean ? "the groups with the newest" : "the live and the newest";
    return `${of}: ${which}, until you tick others`;
  }
}
