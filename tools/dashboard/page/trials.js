// The table of a study's trials.

import { el, icon, runLink, scrollable, setText } from "./dom.js";
import { ownValue } from "./metrics.js";
import { change } from "./state.js";
import { trialText } from "./trial.js";

const PAGE_ROWS = 100; // shown before one asks for more

// The status of a run that a trial's state is drawn as.
const STATUSES = {
  complete: "completed",
  pruned: "interrupted",
  interrupted: "interrupted",
  failed: "failed",
  running: "running",
};

export class TrialTable {
  /** @param {{onPoint: (id: string | null) => void, nameOf: (id: string) => string}} options */
  constructor({ onPoint, nameOf }) {
    this.nameOf = nameOf;
    this.limit = PAGE_ROWS;
    this.study = null;
    this.selected = [];
    this.label = "";
    this.head = el("tr");
    this.body = el("tbody");
    this.more = el("button", { type: "button", class: "more", hidden: true });
    this.more.addEventListener("click", () => {
      this.limit = Infinity;
      this.show(this.study, this.selected, this.label);
    });
    this.body.addEventListener("pointerover", (event) => onPoint(idOf(event.target)));
    this.body.addEventListener("pointerleave", () => onPoint(null));
    this.body.addEventListener("focusin", (event) => onPoint(idOf(event.target)));
    this.body.addEventListener("focusout", () => onPoint(null));
    const caption = el("caption", { class: "unseen", text: "Trials, the best one first" });
    const head = el("thead", {}, this.head);
    const table = el("table", { class: "small trials" }, caption, head, this.body);
    this.elements = [scrollable("Table of trials", table), this.more];
  }

  reset() {
    this.limit = PAGE_ROWS;
  }

  /**
   * @param {any} study the answer to /api/study
   * @param {any[]} selected the trials to list
   * @param {string} label of the objective
   */
  show(study, selected, label) {
    Object.assign(this, { study, selected, label });
    this.showHead();
    const shown = selected.slice(0, this.limit);
    const focused = this.body.contains(document.activeElement)
      ? idOf(document.activeElement)
      : null;
    this.body.replaceChildren(...shown.map((trial) => this.row(trial)));
    if (focused) this.body.querySelector(`tr[data-id="${focused}"] a`)?.focus();
    this.more.hidden = selected.length <= shown.length;
    setText(this.more, `Show the other ${(selected.length - shown.length).toLocaleString()}`);
  }

  showHead() {
    const heads = [
      ["trial", "number"],
      ["run", ""],
      ["state", ""],
      ...this.study.parameters.map((p) => [p.name, p.kind === "categorical" ? "" : "number"]),
      [this.label, "number"],
    ];
    const mark = JSON.stringify(heads);
    if (mark === this.headMark) return;
    this.headMark = mark;
    const cell = ([text, className]) => el("th", { scope: "col", class: className, text });
    this.head.replaceChildren(...heads.map(cell));
  }

  row(trial) {
    const isBest = trial.id === this.study.best;
    const open = () => change({ tab: "run", run: trial.id });
    const link = runLink(trial.id, open, { class: "name", text: this.nameOf(trial.id) });
    const valueCell = (value, i) => {
      const isCategorical = this.study.parameters[i].kind === "categorical";
      const text = trialText(value);
      return el("td", { class: isCategorical ? "setting" : "number", text, title: text });
    };
    const best = isBest ? el("small", { class: "is-best", text: "best " }) : null;
    return el(
      "tr",
      { "data-id": trial.id, class: isBest ? "best" : "" },
      el("td", { class: "number", text: String(trial.trial) }),
      el("th", { scope: "row" }, link),
      el("td", {}, stateMark(trial.state)),
      ...trial.values.map(valueCell),
      el("td", { class: "number" }, best, trialText(trial.value)),
    );
  }

  // Marks the row of the trial that is pointed at among the lines.
  point(id) {
    for (const row of this.body.children) row.classList.toggle("pointed", row.dataset.id === id);
  }
}

function stateMark(state) {
  const name = ownValue(STATUSES, state) ?? "unknown";
  return el(
    "span",
    { class: `mark ${name}` },
    icon(name),
    el("span", { class: "word", text: state }),
  );
}

function idOf(element) {
  return element.closest?.("tr[data-id]")?.dataset.id ?? null;
}
