// A group of runs as a study: its trials as lines through what was chosen, and what mattered.

import { Coordinates, inFull, sample } from "./coordinates.js";
import { button, el, icon, keep, say } from "./dom.js";
import { value } from "./list.js";
import { askJson } from "./server.js";
import { change, state, textOf, theme } from "./state.js";
import { named } from "./words.js";

const BY = "metadata.group"; // where `runs tune` and `init(group=...)` write it
const AT_ONCE = 100; // rows put on the page before one asks for more
const SHARES_MAX = 12; // of what matters less nobody asks
const ASK_MS = 1000; // between two askings while trials go on
const FIGURES = {
  best_val_loss: "best val loss",
  final_loss: "last train loss",
  avg_time_ms: "ms per iteration",
  avg_mfu: "MFU %",
};
const STATES = {
  complete: "completed",
  pruned: "interrupted",
  interrupted: "interrupted",
  failed: "failed",
  running: "running",
};

export class Study {
  constructor(shared) {
    this.shared = shared;
    this.told = null;
    this.limit = AT_ONCE;
    this.group = el("select", {
      "aria-label": "Group of runs",
      onchange: () => this.choose(this.group.value),
    });
    this.figure = el("select", {
      "aria-label": "What is to be good",
      onchange: () => change({ figure: this.figure.value, brush: without(state.brush, null) }),
    });
    this.count = el("p", { class: "count", role: "status" });
    this.reset = button(
      "Take all trials again",
      { class: "chip", onclick: () => change({ brush: "" }) },
      "Reset filter",
    );
    this.draw = button(
      "Draw the curves of these trials",
      {
        class: "chip",
        onclick: () =>
          change({
            tab: "charts",
            picks: this.meant()
              .map(({ id }) => id)
              .slice(0, 64),
          }),
      },
      "Draw curves",
    );
    this.legend = el("ul", { class: "legend", "aria-label": "States" });
    this.coordinates = new Coordinates({
      brushed: (isDone) => this.brushed(isDone),
      pointed: (id) => this.mark(id),
      opened: (id) => change({ tab: "run", run: id }),
    });
    this.hint = el("p", { class: "hint", hidden: true });
    this.shares = el("ol", { class: "shares" });
    this.why = el("p", { class: "why" });
    this.head = el("tr");
    this.body = el("tbody");
    this.more = el("button", {
      type: "button",
      class: "more",
      hidden: true,
      onclick: () => {
        this.limit = Infinity;
        this.showTable();
      },
    });
    this.lineCard = el(
      "section",
      { class: "card", "aria-label": "Trials as lines" },
      el("div", { class: "card-head" }, el("h2", { text: "Parallel coordinates" }), this.legend),
      this.coordinates.element,
      el("p", {
        class: "hint small",
        text: "Drag along an axis to keep some trials; a click there takes them all again. A click on a line opens its run.",
      }),
    );
    this.shareCard = el(
      "section",
      { class: "card", "aria-label": "Importance of each parameter" },
      el("h2", { text: "What matters" }),
      this.shares,
      this.why,
    );
    this.tableCard = el(
      "section",
      { class: "card", "aria-label": "Trials" },
      el("h2", { text: "Trials" }),
      el(
        "div",
        { class: "scroll" },
        el(
          "table",
          { class: "small trials" },
          el("caption", { class: "unseen", text: "Trials, the best one first" }),
          el("thead", {}, this.head),
          this.body,
        ),
      ),
      this.more,
    );
    this.element = el(
      "div",
      { class: "study" },
      el(
        "div",
        { class: "study-head" },
        el("label", { class: "field" }, el("span", { text: "Group" }), this.group),
        el("label", { class: "field" }, el("span", { text: "Objective" }), this.figure),
        this.count,
        this.reset,
        this.draw,
      ),
      this.hint,
      el("div", { class: "study-top" }, this.lineCard, this.shareCard),
      this.tableCard,
    );
    this.body.addEventListener("pointerover", (event) =>
      this.coordinates.point(idOf(event), false),
    );
    this.body.addEventListener("pointerleave", () => this.coordinates.point(null));
    this.body.addEventListener("focusin", (event) => this.coordinates.point(idOf(event)));
    this.body.addEventListener("focusout", () => this.coordinates.point(null));
  }

  // ---- which group

  // The groups there are, the newest first: {of, n, started}.
  groups() {
    const found = new Map();
    for (const row of this.shared.rows()) {
      const v = value(row, BY);
      if (typeof v !== "string" || !v) continue;
      const known = found.get(v) ?? { of: v, n: 0, started: "" };
      known.n += 1;
      if (row.started > known.started) known.started = row.started;
      found.set(v, known);
    }
    return [...found.values()].sort((a, b) => (a.started < b.started ? 1 : -1));
  }

  // What is asked for: all runs where there is no group.
  wanted(groups) {
    if (state.of || !state.by) return { by: state.by, of: state.of };
    return groups.length ? { by: BY, of: groups[0].of } : { by: "", of: "" };
  }

  choose(words) {
    const [by, of] = JSON.parse(words);
    this.limit = AT_ONCE;
    change({ by, of, brush: "" });
  }

  members({ by, of }) {
    const readable = this.shared.rows().filter((row) => row.status !== "unreadable");
    return by ? readable.filter((row) => textOf(value(row, by)) === of) : readable;
  }

  // ---- showing

  show() {
    const groups = this.groups();
    const wanted = this.wanted(groups);
    // Which group it is stands in the address as soon as it is known: the newest will be another.
    if (wanted.of && !state.of) change(wanted, { replace: true });
    this.showGroups(groups, wanted);
    const members = this.members(wanted);
    this.ask(wanted, members);
    this.showAll(members);
  }

  showGroups(groups, { by, of }) {
    const n = this.shared.rows().length;
    const choices = groups.map((group) => [BY, group.of, `${group.of} (${group.n})`]);
    choices.push(["", "", `all runs (${n})`]);
    if (by && !choices.some((choice) => choice[0] === by && choice[1] === of))
      choices.unshift([by, of, `${by.replace(/^(config|metadata)\./, "")} ${of}`]);
    const mark = JSON.stringify([choices, by, of]);
    if (mark === this.groupMark) return;
    this.groupMark = mark;
    this.group.replaceChildren(
      ...choices.map(([b, o, text]) =>
        el("option", { value: JSON.stringify([b, o]), text, selected: b === by && o === of }),
      ),
    );
  }

  // Asks when something of the group is new; what comes while it asks is asked for a little later.
  async ask(wanted, members) {
    const { figure } = state;
    const of = JSON.stringify([wanted, figure]);
    const mark =
      of +
      JSON.stringify(
        members.map((row) => [
          row.id,
          row.status,
          row.tags,
          row.last_iter,
          ...Object.keys(FIGURES).map((name) => row[name]),
        ]),
      );
    if (mark === this.asked || this.asking === of) return;
    this.asking = of;
    try {
      const told = await askJson("/api/study", { ...wanted, figure });
      if (this.asking !== of) return; // another was chosen meanwhile
      [this.told, this.asked, this.failed] = [told, mark, null];
    } catch (error) {
      if (this.asking !== of) return;
      this.failed = error;
    }
    setTimeout(() => {
      if (this.asking === of) this.asking = null;
      if (state.tab === "study") this.show();
    }, ASK_MS);
    this.showAll(members);
  }

  showAll(members) {
    const { told } = this;
    keep(this.hint, this.hintWords(members));
    this.hint.hidden = !this.hint.textContent;
    for (const card of [this.lineCard, this.shareCard, this.tableCard])
      card.hidden = !told?.trials.length;
    if (!told?.trials.length) {
      keep(this.count, "");
      this.reset.hidden = this.draw.hidden = true;
      return;
    }
    const mark = JSON.stringify([told, state.brush, theme()]);
    if (mark === this.shown) return;
    this.shown = mark;
    this.showFigures(told);
    const brush = readBrush(state.brush);
    this.coordinates.show(told, {
      range: (key) => brush.find(([name]) => name === key)?.slice(1) ?? null,
      label: label(told.figure.name),
      theme: theme(),
      nameOf: (id) => this.nameOf(id),
    });
    this.showLegend(told);
    this.showShares(told);
    this.showTable();
  }

  hintWords(members) {
    if (this.failed) return `The study did not come: ${this.failed.message}. Trying again.`;
    if (!this.shared.rows().length) return this.shared.whyNoRuns();
    if (!members.length) return "No run is in this group.";
    if (!this.told) return "Reading the runs …";
    const { not_shown: notShown, n_runs: n, trials, parameters } = this.told;
    const words = [];
    if (n > trials.length)
      words.push(`The newest ${trials.length.toLocaleString()} of ${n.toLocaleString()} runs.`);
    if (notShown.length)
      words.push(
        `${notShown.length} more settings differ: ${notShown.slice(0, 5).join(", ")}${notShown.length > 5 ? ", …" : ""}.`,
      );
    if (!parameters.length && trials.length) words.push("These runs do not differ in any setting.");
    return words.join(" ");
  }

  nameOf(id) {
    const { name } = named(this.shared.rowOf(id)?.run ?? id);
    return this.shared.isAmbiguous(name) ? (this.shared.rowOf(id)?.run ?? name) : name;
  }

  showFigures(told) {
    const mark = told.figures.join() + told.figure.name;
    if (mark === this.figureMark) return;
    this.figureMark = mark;
    this.figure.replaceChildren(
      ...told.figures.map((name) =>
        el("option", { value: name, text: label(name), selected: name === told.figure.name }),
      ),
    );
  }

  showLegend(told) {
    const counts = new Map(Object.keys(STATES).map((name) => [name, 0]));
    for (const trial of told.trials) counts.set(trial.state, (counts.get(trial.state) ?? 0) + 1);
    this.legend.replaceChildren(
      ...[...counts]
        .filter(([, n]) => n)
        .map(([name, n]) => el("li", {}, sample(name), el("span", { text: `${n} ${name}` }))),
    );
  }

  showShares(told) {
    const known = told.parameters
      .filter(({ importance }) => importance !== null)
      .sort((a, b) => b.importance - a.importance)
      .slice(0, SHARES_MAX);
    this.shares.replaceChildren(
      ...known.map(({ name, importance }) =>
        el(
          "li",
          {},
          el("span", { class: "share-name", text: name, title: name }),
          el("span", { class: "share-words number", text: `${Math.round(100 * importance)} %` }),
          el(
            "span",
            { class: "share-bar", "aria-hidden": "true" },
            el("i", { style: { width: `${(100 * importance).toFixed(1)}%` } }),
          ),
        ),
      ),
    );
    keep(
      this.why,
      told.why || "Shares in what makes the best of the completed trials, by PED-ANOVA.",
    );
  }

  // ---- which trials are meant

  meant() {
    return this.coordinates.meant();
  }

  brushed(isDone) {
    if (isDone) {
      const ranges = [...this.coordinates.axes.values()]
        .filter((axis) => axis.range)
        .map((axis) => [axis.key, ...axis.range]);
      const brush = ranges.length ? JSON.stringify(ranges) : "";
      if (brush !== state.brush) change({ brush });
      say(`${this.meant().length} of ${this.told.trials.length} trials`);
    }
    this.showTable();
  }

  showTable() {
    const { told } = this;
    const meant = this.meant();
    const n = told.trials.length;
    keep(
      this.count,
      meant.length === n
        ? `${n.toLocaleString()} ${n === 1 ? "trial" : "trials"}`
        : `${meant.length.toLocaleString()} of ${n.toLocaleString()} trials`,
    );
    this.reset.hidden = ![...this.coordinates.axes.values()].some((axis) => axis.range);
    this.draw.hidden = !meant.length;
    const heads = [
      ["trial", "number"],
      ["run"],
      ["state"],
      ...told.parameters.map((p) => [p.name, p.kind === "words" ? "" : "number"]),
      [label(told.figure.name), "number"],
    ];
    const mark = JSON.stringify(heads);
    if (mark !== this.headMark) {
      this.headMark = mark;
      this.head.replaceChildren(
        ...heads.map(([text, kind]) => el("th", { scope: "col", class: kind ?? "", text })),
      );
    }
    const shown = meant.slice(0, this.limit);
    const focused = this.body.contains(document.activeElement)
      ? idOf({ target: document.activeElement })
      : null;
    this.body.replaceChildren(...shown.map((trial) => this.rowOf(trial)));
    if (focused) this.body.querySelector(`tr[data-id="${focused}"] a`)?.focus();
    this.more.hidden = meant.length <= shown.length;
    keep(this.more, `Show the other ${(meant.length - shown.length).toLocaleString()}`);
    this.mark(this.coordinates.at);
  }

  rowOf(trial) {
    const isBest = trial.id === this.told.best;
    const open = (event) => {
      if (event.metaKey || event.ctrlKey) return;
      event.preventDefault();
      change({ tab: "run", run: trial.id });
    };
    return el(
      "tr",
      { "data-id": trial.id, class: isBest ? "best" : "" },
      el("td", { class: "number", text: String(trial.trial) }),
      el(
        "th",
        { scope: "row" },
        el("a", {
          class: "name",
          href: `#tab=run&run=${trial.id}`,
          text: this.nameOf(trial.id),
          onclick: open,
        }),
      ),
      el("td", {}, stateMark(trial.state)),
      ...trial.values.map((v, i) =>
        el("td", {
          class: this.told.parameters[i].kind === "words" ? "setting" : "number",
          text: inFull(v),
          title: inFull(v),
        }),
      ),
      el(
        "td",
        { class: "number" },
        isBest ? el("small", { class: "is-best", text: "best " }) : null,
        inFull(trial.value),
      ),
    );
  }

  // The row of the trial that is pointed at among the lines.
  mark(id) {
    for (const row of this.body.children) row.classList.toggle("pointed", row.dataset.id === id);
  }
}

function stateMark(name) {
  const look = Object.hasOwn(STATES, name) ? STATES[name] : "unknown";
  return el(
    "span",
    { class: `mark ${look}` },
    icon(look),
    el("span", { class: "word", text: name }),
  );
}

function label(figure) {
  return Object.hasOwn(FIGURES, figure) ? FIGURES[figure] : figure;
}

function idOf({ target }) {
  return target.closest?.("tr[data-id]")?.dataset.id ?? null;
}

// What stands in the address: [[parameter, low, high], ...], null for the objective and open ends.
export function readBrush(text) {
  try {
    const isEnd = (v) => v === null || typeof v === "string" || Number.isFinite(v);
    return JSON.parse(text || "[]").filter(
      (range) =>
        Array.isArray(range) &&
        range.length === 3 &&
        (range[0] === null || typeof range[0] === "string") &&
        isEnd(range[1]) &&
        isEnd(range[2]),
    );
  } catch {
    return [];
  }
}

function without(text, key) {
  const kept = readBrush(text).filter(([name]) => name !== key);
  return kept.length ? JSON.stringify(kept) : "";
}
