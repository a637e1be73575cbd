// A group of runs as a study: its trials as parallel coordinates, importances and a table.

import { fetchJson } from "./api.js";
import { Coordinates } from "./coordinates.js";
import { announce, button, el, setText } from "./dom.js";
import { plural, splitName } from "./format.js";
import { ownValue } from "./metrics.js";
import { fieldOf, shortKey } from "./rows.js";
import { change, groupText, PICKS_MAX, state } from "./state.js";
import { theme } from "./theme.js";
import { sample } from "./trial.js";
import { TrialTable } from "./trials.js";

const BY = "metadata.group"; // where `runs tune` and `init(group=...)` write it
const IMPORTANCES_MAX = 12;
const FETCH_MS = 1000; // between two requests while trials go on
const LABELS = {
  best_val_loss: "best val loss",
  final_loss: "last train loss",
  avg_time_ms: "ms per iteration",
  avg_mfu: "MFU %",
};
const STATES = ["complete", "pruned", "interrupted", "failed", "running"];

export class Study {
  constructor(runs) {
    this.runs = runs;
    this.study = null; // the answer to /api/study
    this.error = null;
    this.fetching = null; // the question that is being asked
    this.fetched = ""; // what the study was computed from
    this.coordinates = new Coordinates({
      onBrush: (isDone) => this.onBrush(isDone),
      onPoint: (id) => this.table.point(id),
      onOpen: (id) => change({ tab: "run", run: id }),
    });
    this.table = new TrialTable({
      onPoint: (id) => this.coordinates.point(id),
      nameOf: (id) => this.nameOf(id),
    });
    this.hint = el("p", { class: "hint", hidden: true });
    const head = this.buildHead();
    this.buildCards();
    const top = el("div", { class: "study-top" }, this.linesCard, this.importanceCard);
    this.element = el("div", { class: "study" }, head, this.hint, top, this.tableCard);
  }

  buildHead() {
    const onGroup = () => this.choose(JSON.parse(this.group.value));
    this.group = el("select", { "aria-label": "Group of runs", onchange: onGroup });
    const onMetric = () => change({ metric: this.metric.value, brush: withoutObjective() });
    this.metric = el("select", { "aria-label": "Objective", onchange: onMetric });
    this.count = el("p", { class: "count", role: "status" });
    const onReset = () => change({ brush: "" });
    this.reset = button(
      "Show all trials again",
      { class: "chip", onclick: onReset },
      "Reset filter",
    );
    const onDraw = () => {
      const ids = this.coordinates.selected().map(({ id }) => id);
      change({ tab: "charts", picks: ids.slice(0, PICKS_MAX) });
    };
    const drawLabel = "Draw the curves of these trials";
    this.draw = button(drawLabel, { class: "chip", onclick: onDraw }, "Draw curves");
    const field = (text, input) => el("label", { class: "field" }, el("span", { text }), input);
    return el(
      "div",
      { class: "study-head" },
      field("Group", this.group),
      field("Objective", this.metric),
      this.count,
      this.reset,
      this.draw,
    );
  }

  buildCards() {
    const card = (label, ...children) =>
      el("section", { class: "card", "aria-label": label }, ...children);
    this.legend = el("ul", { class: "legend", "aria-label": "States" });
    this.importances = el("ol", { class: "shares" });
    this.importanceNote = el("p", { class: "why" });
    const help =
      "Drag along an axis to keep the trials in that range; click the axis to reset it. " +
      "Click a line to open its run.";
    this.linesCard = card(
      "Parallel coordinates",
      el("div", { class: "card-head" }, el("h2", { text: "Parallel coordinates" }), this.legend),
      this.coordinates.element,
      el("p", { class: "hint small", text: help }),
    );
    const heading = el("h2", { text: "Importance" });
    this.importanceCard = card("Importance", heading, this.importances, this.importanceNote);
    this.tableCard = card("Trials", el("h2", { text: "Trials" }), ...this.table.elements);
  }

  // ---- which group

  // The groups, the newest first: {of, n, started}.
  groups() {
    const groups = new Map();
    for (const row of this.runs.rows()) {
      const of = fieldOf(row, BY);
      if (typeof of !== "string" || !of) continue;
      const group = groups.get(of) ?? { of, n: 0, started: "" };
      group.n += 1;
      if (row.started > group.started) group.started = row.started;
      groups.set(of, group);
    }
    return [...groups.values()].sort((a, b) => (a.started < b.started ? 1 : -1));
  }

  // The group in the address, else the newest; all runs where there is no group.
  chosen(groups) {
    if (state.of || !state.by) return { by: state.by, of: state.of };
    return groups.length ? { by: BY, of: groups[0].of } : { by: "", of: "" };
  }

  choose([by, of]) {
    this.table.reset();
    change({ by, of, brush: "" });
  }

  members({ by, of }) {
    const readable = this.runs.rows().filter((row) => row.status !== "unreadable");
    return by ? readable.filter((row) => groupText(fieldOf(row, by)) === of) : readable;
  }

  // ---- showing

  show() {
    const groups = this.groups();
    const group = this.chosen(groups);
    // Into the address at once: another group may be the newest one later.
    if (group.of && !state.of) change(group, { replace: true });
    this.showGroups(groups, group);
    const members = this.members(group);
    this.fetch(group, members);
    this.showStudy(members);
  }

  showGroups(groups, { by, of }) {
    const choices = groups.map((group) => [BY, group.of, `${group.of} (${group.n})`]);
    choices.push(["", "", `all runs (${this.runs.rows().length})`]);
    const isListed = choices.some((choice) => choice[0] === by && choice[1] === of);
    if (by && !isListed) choices.unshift([by, of, `${shortKey(by)} ${of}`]);
    const mark = JSON.stringify([choices, by, of]);
    if (mark === this.groupMark) return;
    this.groupMark = mark;
    const option = ([b, o, text]) => {
      const selected = b === by && o === of;
      return el("option", { value: JSON.stringify([b, o]), text, selected });
    };
    this.group.replaceChildren(...choices.map(option));
  }

  // Fetches when a run of the group has changed, once a second at most.
  async fetch(group, members) {
    const { metric } = state;
    const question = JSON.stringify([group, metric]);
    const version = (row) => {
      const metrics = Object.keys(LABELS).map((name) => row[name]);
      return [row.id, row.status, row.tags, row.last_iter, ...metrics];
    };
    const mark = question + JSON.stringify(members.map(version));
    if (mark === this.fetched || this.fetching === question) return;
    this.fetching = question;
    try {
      const study = await fetchJson("/api/study", { ...group, metric });
      if (this.fetching !== question) return; // another group was chosen meanwhile
      Object.assign(this, { study, fetched: mark, error: null });
    } catch (error) {
      if (this.fetching !== question) return;
      this.error = error;
    }
    setTimeout(() => {
      if (this.fetching === question) this.fetching = null;
      if (state.tab === "study") this.show();
    }, FETCH_MS);
    this.showStudy(members);
  }

  showStudy(members) {
    const { study } = this;
    setText(this.hint, this.hintText(members));
    this.hint.hidden = !this.hint.textContent;
    const hasTrials = Boolean(study?.trials.length);
    for (const card of [this.linesCard, this.importanceCard, this.tableCard]) {
      card.hidden = !hasTrials;
    }
    if (!hasTrials) {
      setText(this.count, "");
      this.reset.hidden = this.draw.hidden = true;
      return;
    }
    const mark = JSON.stringify([study, state.brush, theme()]);
    if (mark === this.shownMark) return;
    this.shownMark = mark;
    this.showMetrics(study);
    const brush = readBrush(state.brush);
    this.coordinates.show(study, {
      rangeOf: (key) => brush.find(([name]) => name === key)?.slice(1) ?? null,
      label: labelOf(study.metric.name),
      theme: theme(),
      nameOf: (id) => this.nameOf(id),
    });
    this.showLegend(study);
    this.showImportances(study);
    this.showTrials();
  }

  hintText(members) {
    if (this.error) return `Could not load the study: ${this.error.message}. Retrying.`;
    if (!this.runs.rows().length) return this.runs.whyNone();
    if (!members.length) return "No run is in this group.";
    if (!this.study) return "Loading …";
    const { not_shown: hidden, n_runs: n, trials, parameters } = this.study;
    const texts = [];
    if (n > trials.length) {
      texts.push(`The newest ${trials.length.toLocaleString()} of ${plural(n, "run")}.`);
    }
    if (hidden.length) {
      const names = hidden.slice(0, 5).join(", ") + (hidden.length > 5 ? ", …" : "");
      texts.push(`${hidden.length} more settings differ: ${names}.`);
    }
    if (!parameters.length && trials.length) texts.push("These runs do not differ in any setting.");
    return texts.join(" ");
  }

  nameOf(id) {
    const run = this.runs.rowOf(id)?.run ?? id;
    const { name } = splitName(run);
    return this.runs.isAmbiguous(name) ? run : name;
  }

  showMetrics({ metric, metrics }) {
    const mark = metrics.join() + metric.name;
    if (mark === this.metricMark) return;
    this.metricMark = mark;
    const option = (value) =>
      el("option", { value, text: labelOf(value), selected: value === metric.name });
    this.metric.replaceChildren(...metrics.map(option));
  }

  showLegend({ trials }) {
    const counts = new Map(STATES.map((name) => [name, 0]));
    for (const trial of trials) counts.set(trial.state, (counts.get(trial.state) ?? 0) + 1);
    const present = [...counts].filter(([, n]) => n);
    const item = ([name, n]) => el("li", {}, sample(name), el("span", { text: `${n} ${name}` }));
    this.legend.replaceChildren(...present.map(item));
  }

  showImportances({ importances, why }) {
    this.importances.replaceChildren(...importances.slice(0, IMPORTANCES_MAX).map(importanceItem));
    setText(this.importanceNote, why);
  }

  onBrush(isDone) {
    if (isDone) {
      const ranges = this.coordinates.ranges();
      const brush = ranges.length ? JSON.stringify(ranges) : "";
      if (brush !== state.brush) change({ brush });
      const n = this.coordinates.selected().length;
      announce(`${n} of ${this.study.trials.length} trials`);
    }
    this.showTrials();
  }

  showTrials() {
    const selected = this.coordinates.selected();
    const total = this.study.trials.length;
    const n = selected.length;
    const trials = plural(total, "trial");
    setText(this.count, n === total ? trials : `${n.toLocaleString()} of ${trials}`);
    this.reset.hidden = !this.coordinates.ranges().length;
    this.draw.hidden = !n;
    this.table.show(this.study, selected, labelOf(this.study.metric.name));
    this.table.point(this.coordinates.pointed);
  }
}

/** @param {{name: string, share: number, low: number, high: number, is_clear: boolean}} of */
function importanceItem({ name, share, low, high, is_clear: isClear }) {
  const percent = (part) => `${Math.round(100 * part)}`;
  const range = { left: `${100 * low}%`, width: `${100 * (high - low)}%` };
  const text = isClear ? `${percent(share)} %` : `${percent(share)} %, not clear`;
  const interval = `${percent(low)} to ${percent(high)} %`;
  const why = isClear ? "" : ": no more than chance may explain";
  return el(
    "li",
    { class: isClear ? "" : "unclear", title: `${interval}${why}` },
    el("span", { class: "share-name", text: name, title: name }),
    el("span", { class: "share-value number" }, text, el("small", { text: ` (${interval})` })),
    el(
      "span",
      { class: "share-bar", "aria-hidden": "true" },
      el("i", { style: { width: `${100 * share}%` } }),
      el("b", { style: range }),
    ),
  );
}

const labelOf = (metric) => ownValue(LABELS, metric) ?? metric;

// The brush as it is in the address: [[parameter, low, high], ...]; the parameter is null for the
// objective, an end is null where it is open.
function readBrush(text) {
  const isName = (v) => v === null || typeof v === "string";
  const isEnd = (v) => isName(v) || Number.isFinite(v);
  const isRange = (range) =>
    Array.isArray(range) && range.length === 3 && isName(range[0]) && range.slice(1).every(isEnd);
  try {
    return JSON.parse(text || "[]").filter(isRange);
  } catch {
    return [];
  }
}

function withoutObjective() {
  const ranges = readBrush(state.brush).filter(([name]) => name !== null);
  return ranges.length ? JSON.stringify(ranges) : "";
}
