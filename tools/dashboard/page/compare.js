// The picked runs side by side, or groups of them: their results, and the settings in which they differ.

import { Answer } from "./answer.js";
import { statusMark } from "./cells.js";
import { groupHead, groupResults } from "./comparegroups.js";
import { el, runLink, scrollable, setText } from "./dom.js";
import { duration, full, moment, settingText, splitName } from "./format.js";
import { MeanControl } from "./mean.js";
import { ownValue } from "./metrics.js";
import { commonValue, fieldOf, isNonfinite, resultText } from "./rows.js";
import { change, state } from "./state.js";
import { styleOf } from "./theme.js";

const RESULTS = [
  { key: "best_val_loss", text: "best validation loss", best: Math.min },
  { key: "final_loss", text: "last training loss", best: Math.min },
  { key: "iterations", text: "iterations" },
  { key: "avg_time_ms", text: "ms per iteration", best: Math.min },
  { key: "avg_mfu", text: "MFU %", best: Math.max },
  { key: "sessions", text: "sessions" },
  { key: "defects", text: "defects" },
];

const BETTER = { minimize: Math.min, maximize: Math.max };

export class Compare {
  constructor(runs) {
    this.runs = runs;
    /** @type {any[]} */
    this.groups = []; // {name, ids, stats, differences} of the picked runs
    this.series = []; // results of runs without a loss: {key, text, best}
    this.notes = "";
    const onAnswer = (answer) => this.onAnswer(answer);
    this.answer = new Answer("/api/compare", onAnswer, () => this.ask());
    const onchange = () => change({ all: this.all.checked });
    this.all = el("input", { type: "checkbox", onchange });
    const text = el("span", { text: "also settings that are equal" });
    this.mean = new MeanControl(false);
    const all = el("label", { class: "switch" }, this.all, text);
    this.note = el("p", { class: "hint", role: "status", hidden: true });
    const tools = el("div", { class: "compare-tools" }, this.mean.element, all);
    this.body = scrollable("Comparison of the runs");
    this.element = el("div", { class: "compare" }, tools, this.body, this.note);
  }

  ask() {
    if (!state.mean || state.tab !== "compare") return;
    const ids = this.runs.picked();
    if (ids.length) this.answer.ask({ runs: ids.join(","), by: state.mean }, this.runs.version);
  }

  onAnswer({ groups, series, notes, error }) {
    this.notes = error ?? notes.join("\n");
    this.groups = groups ?? [];
    this.series = (series ?? []).map(({ goal, ...of }) => ({ ...of, best: BETTER[goal] }));
    if (groups) this.runs.setGroups(groups.map((group) => group.ids));
    this.show();
  }

  show() {
    this.ask();
    this.all.checked = state.all;
    this.mean.show(this.runs.settings());
    const rowsOf = (ids) => ids.map((id) => this.runs.rowOf(id)).filter(Boolean);
    const rows = rowsOf(this.runs.picked());
    const groups = state.mean ? this.groups : [];
    const mark = JSON.stringify([rows, state.all, state.mean, groups, this.notes]);
    if (mark === this.mark) return;
    this.mark = mark;
    setText(this.note, state.mean ? this.notes : "");
    this.note.hidden = !this.note.textContent;
    this.body.replaceChildren(
      ...this.content(
        rows,
        groups.map(({ ids }) => rowsOf(ids)),
      ),
    );
  }

  content(rows, ofGroups) {
    if (state.mean && rows.length) return ofGroups.length ? [this.groupTable(ofGroups)] : [];
    if (rows.length > 1) return [this.runTable(rows)];
    const text = "Pick two or more runs in the list to see in what they differ.";
    return [el("p", { class: "hint", text })];
  }

  runTable(rows) {
    const heads = rows.map((row) => this.headCell(row));
    const results = [
      ...RESULTS.map((result) => resultRow(rows, result)),
      plainRow(
        "started",
        rows.map((row) => moment(row.started)),
      ),
      plainRow("duration", rows.map(durationOf)),
    ];
    const columns = rows.map((row) => [row]);
    return table("Picked runs side by side", heads, results, columns);
  }

  groupTable(ofGroups) {
    const heads = this.groups.map((group, i) => groupHead(group, ofGroups[i]));
    const results = groupResults(this.groups, [...RESULTS, ...this.series]);
    return table("Groups of picked runs side by side", heads, results, ofGroups);
  }

  headCell(row) {
    const { name, stamp } = splitName(row.run);
    const open = () => change({ tab: "run", run: row.id });
    const time = el("small", { text: this.runs.isAmbiguous(name) ? stamp : "" });
    return el(
      "th",
      { scope: "col" },
      el("span", { class: "swatch", style: { background: styleOf(row.id).colour } }),
      runLink(row.id, open, { title: row.file }, name, time),
      el("div", {}, statusMark(row.status)),
      ...row.warnings.map((text) => el("div", { class: "warning", text: `⚠ ${text}` })),
    );
  }
}

// Of each column the rows of its runs: one, or all of a group.
function table(caption, heads, results, columns) {
  const settings = sideBySide(columns, "config");
  const environment = sideBySide(columns, "metadata");
  const n = columns.length;
  return el(
    "table",
    { class: "sides" },
    el("caption", { class: "unseen", text: caption }),
    el("thead", {}, el("tr", {}, el("td"), ...heads)),
    el("tbody", {}, sectionRow("Results", n), ...results),
    tableSection(settingsTitle(settings), n, settings),
    tableSection(environmentTitle(environment), n, environment),
  );
}

// The names and values of one part of the rows: all of them, and those that differ.
function sideBySide(columns, part) {
  const names = new Set(columns.flat().flatMap((row) => Object.keys(row[part] ?? {})));
  const textOf = (row, name) => settingText(ownValue(row[part] ?? {}, name));
  const valuesOf = (name) =>
    columns.map((rows) => commonValue(rows.map((row) => textOf(row, name))));
  const all = [...names].map((name) => [name, valuesOf(name)]);
  return { all, differing: all.filter(([, values]) => !areEqual(values)) };
}

const areEqual = (values) => values.every((v) => v === values[0]);

function settingsTitle({ all, differing }) {
  if (state.all) return `Settings: ${all.length}, of which ${differing.length} differ`;
  if (differing.length) return `Settings that differ: ${differing.length} of ${all.length}`;
  return `Settings: all ${all.length} are equal`;
}

function environmentTitle({ all, differing }) {
  return (state.all ? all : differing).length ? "Environment" : "Environment: all equal";
}

function tableSection(title, n, { all, differing }) {
  const shown = state.all ? all : differing;
  const settings = shown.map(([name, values]) => settingRow(name, values));
  return el("tbody", {}, sectionRow(title, n), ...settings);
}

function sectionRow(title, n) {
  const cell = el("th", { colspan: n + 1, scope: "rowgroup", text: title });
  return el("tr", { class: "section" }, cell);
}

/**
 * @param {any[]} rows
 * @param {{key: string, text: string, best?: (...values: number[]) => number}} result
 */
function resultRow(rows, { key, text, best }) {
  const values = rows.map((row) => fieldOf(row, key));
  const numbers = values.filter((v) => typeof v === "number");
  const texts = rows.map((row) => resultText(row, key));
  // Where all are equal, none is the best.
  const isVaried = new Set(numbers.map((v) => full(v, key))).size > 1;
  const bestText = best && isVaried ? full(best(...numbers), key) : undefined;
  const cells = rows.map((row, i) => {
    const isBest = texts[i] === bestText;
    const note = isBest ? el("small", { text: "best" }) : null;
    const mark = isBest ? "best" : isNonfinite(row, key) ? "bad" : "";
    return el("td", { class: `number ${mark}` }, texts[i], note);
  });
  return el("tr", {}, rowHead(text), ...cells);
}

function plainRow(text, values) {
  const cells = values.map((v) => el("td", { class: "number", text: v }));
  return el("tr", {}, rowHead(text), ...cells);
}

function settingRow(name, values) {
  const cells = values.map((v) => {
    const className = v === values[0] ? "setting" : "setting differs";
    return el("td", { class: className, text: v, title: v });
  });
  return el("tr", { class: areEqual(values) ? "same" : "" }, rowHead(name), ...cells);
}

const rowHead = (text) => el("th", { scope: "row", text });

function durationOf(row) {
  const isLive = row.status === "running";
  const end = row.ended ? Date.parse(row.ended) : isLive ? Date.now() : NaN;
  return duration((end - Date.parse(row.started)) / 1000);
}
