// The picked runs side by side: their results, and the settings in which they differ.

import { el, runLink } from "./dom.js";
import { duration, full, moment, settingText, splitName } from "./format.js";
import { statusMark } from "./list.js";
import { ownValue } from "./metrics.js";
import { fieldOf } from "./rows.js";
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

export class Compare {
  constructor(runs) {
    this.runs = runs;
    this.element = el("div", { class: "compare" });
  }

  show() {
    const rows = this.runs
      .picked()
      .map((id) => this.runs.rowOf(id))
      .filter(Boolean);
    const mark = JSON.stringify([rows, state.all]);
    if (mark === this.mark) return;
    this.mark = mark;
    if (rows.length < 2) {
      const text = "Pick two or more runs in the list to see in what they differ.";
      this.element.replaceChildren(el("p", { class: "hint", text }));
      return;
    }
    const tools = el("div", { class: "compare-tools" }, allSwitch());
    this.element.replaceChildren(tools, el("div", { class: "scroll" }, this.table(rows)));
  }

  table(rows) {
    const settings = sideBySide(rows, "config");
    const environment = sideBySide(rows, "metadata");
    const heads = rows.map((row) => this.headCell(row));
    return el(
      "table",
      { class: "sides" },
      el("caption", { class: "unseen", text: "Picked runs side by side" }),
      el("thead", {}, el("tr", {}, el("th", { scope: "col", text: "" }), ...heads)),
      el(
        "tbody",
        {},
        sectionRow("Results", rows),
        ...RESULTS.map((result) => resultRow(rows, result)),
        plainRow(
          "started",
          rows.map((row) => moment(row.started)),
        ),
        plainRow("duration", rows.map(durationOf)),
      ),
      tableSection(settingsTitle(settings), rows, settings),
      tableSection(environmentTitle(environment), rows, environment),
    );
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
    );
  }
}

function allSwitch() {
  const onchange = (event) => change({ all: event.target.checked });
  const input = el("input", { type: "checkbox", checked: state.all, onchange });
  return el(
    "label",
    { class: "switch" },
    input,
    el("span", { text: "also settings that are equal" }),
  );
}

// The names and values of one part of the rows: all of them, and those that differ.
function sideBySide(rows, part) {
  const names = new Set(rows.flatMap((row) => Object.keys(row[part] ?? {})));
  const valuesOf = (name) => rows.map((row) => settingText(ownValue(row[part] ?? {}, name)));
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

function tableSection(title, rows, { all, differing }) {
  const shown = state.all ? all : differing;
  const settings = shown.map(([name, values]) => settingRow(name, values));
  return el("tbody", {}, sectionRow(title, rows), ...settings);
}

function sectionRow(title, rows) {
  const cell = el("th", { colspan: rows.length + 1, scope: "rowgroup", text: title });
  return el("tr", { class: "section" }, cell);
}

/**
 * @param {any[]} rows
 * @param {{key: string, text: string, best?: (...values: number[]) => number}} result
 */
function resultRow(rows, { key, text, best }) {
  const values = rows.map((row) => fieldOf(row, key));
  const numbers = values.filter((v) => typeof v === "number");
  const bestValue = best && numbers.length > 1 ? best(...numbers) : undefined;
  const cells = values.map((v) => {
    const isBest = bestValue !== undefined && full(v, key) === full(bestValue, key);
    const note = isBest ? el("small", { text: "best" }) : null;
    return el("td", { class: isBest ? "number best" : "number" }, full(v, key), note);
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
