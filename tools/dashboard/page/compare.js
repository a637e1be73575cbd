// Picked runs side by side: what came of them, and in which settings they differ.

import { el } from "./dom.js";
import { statusMark, value } from "./list.js";
import { change, look, state } from "./state.js";
import { duration, full, moment, named, own, shown } from "./words.js";

const FIGURES = [
  ["best_val_loss", "best validation loss", "least"],
  ["final_loss", "last training loss", "least"],
  ["iterations", "iterations", null],
  ["avg_time_ms", "ms per iteration", "least"],
  ["avg_mfu", "MFU %", "most"],
  ["sessions", "sessions", null],
  ["defects", "defects", null],
];

export class Compare {
  constructor(shared) {
    this.shared = shared;
    this.element = el("div", { class: "compare" });
  }

  show() {
    const rows = this.shared
      .picked()
      .map((id) => this.shared.rowOf(id))
      .filter(Boolean);
    const mark = JSON.stringify([rows, state.all]);
    if (mark === this.mark) return;
    this.mark = mark;
    if (rows.length < 2) {
      this.element.replaceChildren(
        el("p", {
          class: "hint",
          text: "Pick two or more runs in the list to see in what they differ.",
        }),
      );
      return;
    }
    const settings = this.settings(rows);
    const table = el(
      "table",
      { class: "sides" },
      el("caption", { class: "unseen", text: "Picked runs side by side" }),
      el(
        "thead",
        {},
        el("tr", {}, el("th", { scope: "col", text: "" }), ...rows.map((row) => this.headOf(row))),
      ),
      el(
        "tbody",
        {},
        section("Results", rows),
        ...FIGURES.map(([key, words, better]) => this.figureRow(rows, key, words, better)),
        this.plainRow(
          "started",
          rows.map((row) => moment(row.started)),
        ),
        this.plainRow(
          "lasted",
          rows.map((row) => lasted(row)),
        ),
      ),
      el(
        "tbody",
        {},
        section(settings.title, rows),
        ...settings.rows.map(([name, values]) => this.settingRow(name, values)),
      ),
      el(
        "tbody",
        {},
        section(this.environment(rows).length ? "Environment" : "Environment: all the same", rows),
        ...this.environment(rows).map(([name, values]) => this.settingRow(name, values)),
      ),
    );
    this.element.replaceChildren(
      el(
        "div",
        { class: "compare-tools" },
        el(
          "label",
          { class: "switch" },
          el("input", {
            type: "checkbox",
            checked: state.all,
            onchange: (event) => change({ all: event.target.checked }),
          }),
          el("span", { text: "all settings, also those that are the same" }),
        ),
      ),
      el("div", { class: "scroll" }, table),
    );
  }

  headOf(row) {
    const { colour } = look(row.id);
    return el(
      "th",
      { scope: "col" },
      el("span", { class: "swatch", style: { background: colour } }),
      el(
        "a",
        {
          href: `#tab=run&run=${row.id}`,
          title: row.file,
          onclick: (event) => {
            event.preventDefault();
            change({ tab: "run", run: row.id });
          },
        },
        named(row.run).name,
        el("small", {
          text: this.shared.isAmbiguous(named(row.run).name) ? named(row.run).stamp : "",
        }),
      ),
      el("div", {}, statusMark(row.status)),
    );
  }

  figureRow(rows, key, words, better) {
    const values = rows.map((row) => value(row, key));
    const known = values.filter((v) => typeof v === "number");
    const best =
      better && known.length > 1
        ? better === "least"
          ? Math.min(...known)
          : Math.max(...known)
        : null;
    return el(
      "tr",
      {},
      el("th", { scope: "row", text: words }),
      ...values.map((v) =>
        el(
          "td",
          { class: v === best && best !== null ? "number best" : "number" },
          full(v, key),
          v === best && best !== null ? el("small", { text: "best" }) : null,
        ),
      ),
    );
  }

  plainRow(words, values) {
    return el(
      "tr",
      {},
      el("th", { scope: "row", text: words }),
      ...values.map((v) => el("td", { class: "number", text: v })),
    );
  }

  settingRow(name, values) {
    const isSame = values.every((v) => v === values[0]);
    return el(
      "tr",
      { class: isSame ? "same" : "" },
      el("th", { scope: "row", text: name }),
      ...values.map((v, i) =>
        el("td", {
          class: i && v !== values[0] ? "setting differs" : "setting",
          text: v,
          title: v,
        }),
      ),
    );
  }

  settings(rows) {
    const [all, differing] = sides(rows, "config");
    const title = state.all
      ? `Settings: ${all.length}, of which ${differing.length} differ`
      : differing.length
        ? `Settings that differ: ${differing.length} of ${all.length}`
        : `Settings: all ${all.length} are the same`;
    return { title, rows: state.all ? all : differing };
  }

  environment(rows) {
    const [all, differing] = sides(rows, "metadata");
    return state.all ? all : differing;
  }
}

function sides(rows, part) {
  const names = new Set(rows.flatMap((row) => Object.keys(row[part] ?? {})));
  const all = [...names].map((name) => [
    name,
    rows.map((row) => shown(own(row[part] ?? {}, name))),
  ]);
  return [all, all.filter(([, values]) => values.some((v) => v !== values[0]))];
}

function section(title, rows) {
  return el(
    "tr",
    { class: "section" },
    el("th", { colspan: rows.length + 1, scope: "rowgroup", text: title }),
  );
}

function lasted(row) {
  const from = Date.parse(row.started);
  const to = row.ended ? Date.parse(row.ended) : row.status === "running" ? Date.now() : NaN;
  return duration((to - from) / 1000);
}
