// The page of one run: its state, its timeline, its curves, its settings and its latest events.

import { fetchJson } from "./api.js";
import { statusMark } from "./cells.js";
import { button, el, icon, scrollable, setText } from "./dom.js";
import { RemarksForm } from "./edit.js";
import { count, duration, full, moment, plural, settingText, splitName } from "./format.js";
import { Grid } from "./grid.js";
import { checkpointsCards, originCard } from "./origin.js";
import { labelOf, seriesTable, valueText } from "./series.js";
import { change, state } from "./state.js";
import { Timeline } from "./timeline.js";

const FETCH_MS = 500; // between two requests while the journal grows
const DEFECTS_MAX = 50;
const SERIES_TILES = 4;
const NOT_FINITE = ["nan", "inf", "-inf"];

export class RunPage {
  constructor(runs, id) {
    this.runs = runs;
    this.id = id;
    this.run = null; // the answer to /api/run
    this.error = null;
    this.timer = 0;
    this.isClosed = false;
    this.marks = new Map(); // of each part, what it shows: only a part that changed is built anew
    this.grid = new Grid(runs, id);
    this.remarks = new RemarksForm(id, () => this.fetch());
    this.timeline = new Timeline();
    this.build();
    this.fetch();
  }

  build() {
    this.head = el("div", { class: "run-head" });
    this.tiles = el("dl", { class: "tiles" });
    this.facts = el("div", { class: "facts" });
    const find = "Find a setting";
    const oninput = () => this.showSettings();
    this.filter = el("input", { type: "search", placeholder: find, "aria-label": find, oninput });
    this.settings = el("dl", { class: "settings", tabindex: 0 });
    this.tail = el("ol", { class: "tail", tabindex: 0 });
    this.series = el("div", {});
    const settingsHead = el(
      "div",
      { class: "card-head" },
      el("h2", { text: "Settings" }),
      this.filter,
    );
    const settingsCard = el("section", { class: "card" }, settingsHead, this.settings);
    this.element = el(
      "div",
      { class: "run-page" },
      this.head,
      this.remarks.element,
      this.tiles,
      this.timeline.element,
      this.grid.element,
      this.series,
      el("div", { class: "columns" }, el("div", {}, settingsCard), el("div", {}, this.facts)),
      card("Latest events", this.tail),
    );
  }

  close() {
    this.grid.close();
    clearTimeout(this.timer);
    this.isClosed = true;
  }

  // The journal has grown.
  update(states) {
    this.grid.update(states);
    if (!states[this.id] || this.timer) return;
    this.timer = setTimeout(() => {
      this.timer = 0;
      this.fetch();
    }, FETCH_MS);
  }

  async fetch() {
    try {
      this.find = state.find;
      this.run = await fetchJson("/api/run", { id: this.id, find: this.find });
      this.error = null;
    } catch (error) {
      this.error = error;
    }
    if (!this.isClosed) this.showRun();
  }

  show() {
    this.grid.show();
    if (this.find !== state.find) this.fetch();
    this.showRun();
  }

  showRun() {
    const row = this.runs.rowOf(this.id);
    this.showHead(row);
    this.remarks.show(this.run?.tags ?? row?.tags ?? []);
    const { run } = this;
    if (!run || !row) return;
    this.showTiles(row, run);
    this.timeline.show(run);
    this.showSeries(run);
    this.showFacts(run, row.alerts ?? []);
    this.showSettings();
    this.showTail(run);
  }

  // Whether `content` is not what the part was built from last.
  hasChanged(part, content) {
    const mark = JSON.stringify(content);
    if (this.marks.get(part) === mark) return false;
    this.marks.set(part, mark);
    return true;
  }

  showHead(row) {
    const reason = this.run?.reason ?? (row?.error || "");
    const group = typeof row?.metadata?.group === "string" ? row.metadata.group : "";
    const error = this.error?.message ?? "";
    const tags = row?.tags ?? [];
    const warnings = row?.warnings ?? [];
    const content = [row?.run, row?.status, row?.file, reason, tags, group, error, warnings];
    if (!this.hasChanged("head", content)) return;
    const { name, stamp } = splitName(row?.run ?? (error ? "Unknown run" : "…"));
    const back = () => change({ tab: "charts" });
    this.head.replaceChildren(
      button("Back to the charts", { class: "quiet", onclick: back }, icon("back")),
      el("h1", {}, name, el("small", { text: stamp })),
      row ? statusMark(row.status) : "",
      ...warnings.map((text) => el("span", { class: "warning", text: `⚠ ${text}` })),
      el("span", { class: "file", text: row ? row.path : error }),
      ...tags.map((tag) => el("span", { class: "tag", text: tag })),
      group ? studyLink(group) : "",
      el("p", { class: "reason", hidden: !reason, text: reason }),
    );
  }

  showTiles(row, run) {
    const tiles = tilesOf(row, run);
    if (this.tiles.children.length !== tiles.length) {
      this.tiles.replaceChildren(...tiles.map(() => el("div", {}, el("dt"), el("dd"))));
    }
    for (const [i, [label, text]] of tiles.entries()) {
      const [dt, dd] = this.tiles.children[i].children;
      setText(dt, label);
      setText(dd, text);
      dd.classList.toggle("bad", NOT_FINITE.includes(text));
    }
  }

  showSeries({ series, n_series: n }) {
    if (!this.hasChanged("series", [series, n])) return;
    this.series.replaceChildren(...(n ? [seriesCard(series, n)] : []));
  }

  showFacts(run, alerts) {
    const { sessions, defects, superseded, ignored, missing, notes, status } = run;
    const { origins, checkpoints, summary } = run;
    const ofSessions = [sessions, status, origins, checkpoints];
    const content = [ofSessions, defects, superseded, ignored, missing, notes, alerts];
    if (!this.hasChanged("facts", content)) return;
    this.facts.replaceChildren(
      ...(alerts.length ? [alertsCard(alerts)] : []),
      originCard(origins),
      sessionsCard(sessions, status),
      ...checkpointsCards(checkpoints, summary.total_checkpoints),
      ...supersededCards(superseded),
      ...(ignored ? [ignoredCard(ignored)] : []),
      ...(missing.length ? [missingCard(missing)] : []),
      ...(defects.length ? [defectsCard(defects)] : []),
      ...(notes.length ? [notesCard(notes)] : []),
    );
  }

  showSettings() {
    const row = this.runs.rowOf(this.id);
    if (!row) return;
    const text = this.filter.value.toLowerCase();
    const all = [...Object.entries(row.config ?? {}), ...Object.entries(row.metadata ?? {})];
    const settings = all.map(([name, value]) => [name, settingText(value)]);
    const shown = settings.filter((pair) => pair.join(" ").toLowerCase().includes(text));
    if (!this.hasChanged("settings", [shown, text])) return;
    const none = text ? "No setting matches." : "This run has no settings.";
    const items = shown.map(([name, value]) =>
      el("div", {}, el("dt", { text: name }), el("dd", { text: value, title: value })),
    );
    this.settings.replaceChildren(
      ...(items.length ? items : [el("p", { class: "hint", text: none })]),
    );
  }

  showTail({ tail }) {
    if (!this.hasChanged("tail", [tail.at(-1)?.s, tail.at(-1)?.n])) return;
    const { scrollTop, clientHeight, scrollHeight } = this.tail;
    this.tail.replaceChildren(...tail.map(eventLine));
    if (scrollTop + clientHeight >= scrollHeight - 30) this.tail.scrollTop = this.tail.scrollHeight;
  }
}

function studyLink(group) {
  const onclick = (event) => {
    event.preventDefault();
    change({ tab: "study", by: "metadata.group", of: group });
  };
  return el("a", { class: "tag", href: "#tab=study", text: `study ${group}`, onclick });
}

// [label, text] of each tile.
function tilesOf(row, { summary, series, n_usual: nUsual }) {
  const isRunning = row.status === "running";
  const end = row.ended ? Date.parse(row.ended) : Date.now();
  const last = row.last_iter ?? summary.total_iterations;
  const lasted = duration((end - Date.parse(row.started)) / 1000);
  const leftMs = isRunning && row.max_iters ? (row.max_iters - last) * summary.avg_time_ms : NaN;
  const steps = row.max_iters ? `${full(last)} / ${count(row.max_iters)}` : full(last);
  const times = [
    [isRunning ? "running for" : "duration", lasted],
    ...(leftMs > 0 ? [["time left", duration(leftMs / 1000)]] : []),
  ];
  const checkpoints = ["checkpoints", full(summary.total_checkpoints)];
  if (!summary.total_iterations && series.length) {
    const latest = series.filter((one) => one.is_numeric).slice(0, nUsual || SERIES_TILES);
    return [
      ["last step", steps],
      ...latest.map((one) => [labelOf(one), valueText(one)]),
      ...times,
      ...(summary.total_checkpoints ? [checkpoints] : []),
    ];
  }
  const mfu = summary.avg_mfu === null ? "–" : `${full(summary.avg_mfu, "avg_mfu")} %`;
  const lossEnd = series.find((one) => one.name === "loss")?.last;
  const lastLoss = NOT_FINITE.includes(lossEnd) ? lossEnd : full(summary.final_train_loss);
  return [
    ["iterations", full(summary.total_iterations)],
    ["last iteration", steps],
    ["best val loss", full(summary.best_val_loss)],
    ["last train loss", lastLoss],
    ["ms per iteration", full(summary.avg_time_ms, "avg_time_ms")],
    ["MFU", mfu],
    ...times,
    checkpoints,
  ];
}

function card(heading, ...children) {
  return el(
    "section",
    { class: "card", "aria-label": heading },
    el("h2", { text: heading }),
    ...children,
  );
}

function seriesCard(series, n) {
  const heading = n > series.length ? `Series: ${series.length} of ${full(n)}` : `Series: ${n}`;
  const hint = el("p", {
    class: "hint",
    text: `${full(n - series.length)} more: find them by name (f)`,
  });
  hint.hidden = n === series.length;
  const table = scrollable("Series", seriesTable(series));
  table.classList.add("series");
  return card(heading, table, hint);
}

function listCard(heading, items, className = "plain") {
  return card(heading, el("ul", { class: className }, ...items));
}

function alertsCard(alerts) {
  const item = (alert) =>
    el(
      "li",
      { class: alert.now ? "now" : "" },
      el("b", { text: alert.rule.replace("_", " ") }),
      ` ${alert.text} `,
      el("small", { text: alert.now ? "now" : moment(alert.t) }),
    );
  return listCard("Alerts of the guard", alerts.map(item), "plain alerts");
}

function sessionsCard(sessions, status) {
  const columns = ["", "began", "from", "to", "records", "where", "end"];
  const numbers = ["", "from", "to", "records"];
  const className = (column) => (numbers.includes(column) ? "number" : "");
  const heads = columns.map((text) =>
    text ? el("th", { scope: "col", class: className(text), text }) : el("td"),
  );
  const rows = sessions.map((session, i) => {
    const isLast = i === sessions.length - 1;
    const pid = session.pid ? `, pid ${session.pid}` : "";
    const values = [
      String(i + 1),
      moment(session.started),
      full(session.from_iter),
      full(session.last_iter),
      full(session.records),
      `${session.host ?? "–"}${pid}`,
      session.status ?? session.reason ?? (isLast ? status : "no end"),
    ];
    const cell = (text, k) => el("td", { class: className(columns[k]), text });
    return el("tr", {}, ...values.map(cell));
  });
  const head = el("thead", {}, el("tr", {}, ...heads));
  const table = el("table", { class: "small" }, head, el("tbody", {}, ...rows));
  return card(plural(sessions.length, "session"), scrollable("Sessions", table));
}

function supersededCards(superseded) {
  const counts = Object.entries(superseded).filter(([, n]) => n > 0);
  if (!counts.length) return [];
  const texts = counts.map(([name, n]) => plural(n, name.replace(/s$/, "")));
  const text = `${texts.join(", ")}: still in the journal, dotted in the charts.`;
  return [card("Superseded", el("p", { text }))];
}

function ignoredCard(ignored) {
  const text = `${plural(ignored, "event")} of forks ignored: child processes logged them, and they are in no journal.`;
  return card("Ignored", el("p", { text }));
}

function missingCard(missing) {
  const texts = missing.map(([a, b]) => (a === b ? full(a) : `${full(a)} to ${full(b)}`));
  return card("Missing iterations", el("p", { text: texts.join(", ") }));
}

function defectsCard(defects) {
  const cost = ({ lost }) => {
    if (lost === null) return "unknown loss";
    return lost ? `${plural(lost, "event")} lost` : "nothing lost";
  };
  const item = (defect) => {
    const file = defect.file ? ` of ${defect.file}` : "";
    const text = ` at byte ${full(defect.offset)}${file}, ${cost(defect)}`;
    return el("li", {}, el("b", { text: defect.kind }), text);
  };
  return listCard(`Defects: ${defects.length}`, defects.slice(0, DEFECTS_MAX).map(item));
}

function notesCard(notes) {
  const item = ({ t, text, by }) => {
    const note = ` ${text ?? ""}${by ? ` (${by})` : ""}`;
    return el("li", {}, el("small", { text: moment(t) }), el("span", { text: note }));
  };
  return listCard("Notes", notes.map(item));
}

function eventLine({ t, event, text }) {
  return el(
    "li",
    { class: `event-${/^\w+$/.test(event) ? event : "other"}` },
    el("time", { text: t.slice(11, 19) }),
    el("b", { text: event }),
    el("span", { text }),
  );
}
