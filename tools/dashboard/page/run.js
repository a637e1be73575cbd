// One run: how it stands, what happened when, its curves with the takes that were replaced.

import { button, el, icon, keep, svg } from "./dom.js";
import { Grid } from "./grid.js";
import { statusMark } from "./list.js";
import { askJson } from "./server.js";
import { change, look, state } from "./state.js";
import { count, duration, full, moment, named, own, shown } from "./words.js";

export class RunPage {
  constructor(shared, id) {
    this.shared = shared;
    this.id = id;
    this.told = null;
    this.grid = new Grid(shared, id);
    this.grid.panels.classList.add("of-one");
    this.head = el("div", { class: "run-head" });
    this.tiles = el("dl", { class: "tiles" });
    this.time = el("section", { class: "timeline card", "aria-label": "What happened when" });
    this.facts = el("div", { class: "facts" });
    this.filter = el("input", {
      type: "search",
      placeholder: "Find a setting",
      "aria-label": "Find a setting",
      oninput: () => this.showSettings(),
    });
    this.settings = el("dl", { class: "settings" });
    this.tail = el("ol", { class: "tail" });
    this.tailCard = el(
      "section",
      { class: "card", "aria-label": "Journal" },
      el("h2", { text: "Journal, the latest lines" }),
      this.tail,
    );
    this.settingsCard = el(
      "section",
      { class: "card" },
      el("div", { class: "card-head" }, el("h2", { text: "Settings" }), this.filter),
      this.settings,
    );
    this.element = el(
      "div",
      { class: "run-page" },
      this.head,
      this.tiles,
      this.time,
      this.grid.element,
      el("div", { class: "columns" }, el("div", {}, this.settingsCard), el("div", {}, this.facts)),
      this.tailCard,
    );
    this.ask();
  }

  close() {
    this.grid.close();
    clearTimeout(this.wait);
    this.isClosed = true;
  }

  // The journal grew: ask again, but not more than twice a second.
  hear(states) {
    this.grid.hear(states);
    if (states[this.id] && !this.wait)
      this.wait = setTimeout(() => {
        this.wait = 0;
        this.ask();
      }, 500);
  }

  async ask() {
    try {
      this.told = await askJson("/api/run", { id: this.id });
      this.failed = null;
    } catch (error) {
      this.failed = error;
    }
    if (!this.isClosed) this.showRow();
  }

  show() {
    this.grid.show();
    this.showRow();
  }

  showRow() {
    const row = this.shared.rowOf(this.id);
    this.showHead(row);
    const { told } = this;
    if (!told || !row) return;
    this.grid.setMarks(told.marks, told.started);
    this.showTiles(row, told);
    this.showTime(told);
    this.showFacts(told, row.alerts ?? []);
    this.showSettings();
    this.showTail(told);
  }

  showHead(row) {
    const why = this.told?.reason ?? (row?.error || "");
    const group = typeof row?.metadata?.group === "string" ? row.metadata.group : "";
    const mark = JSON.stringify([
      row?.run,
      row?.status,
      row?.file,
      why,
      row?.tags,
      group,
      this.failed?.message,
    ]);
    if (mark === this.headMark) return;
    this.headMark = mark;
    const name = row?.run ?? (this.failed ? "No such run" : "…");
    this.head.replaceChildren(
      button(
        "Back to the charts",
        { class: "quiet", onclick: () => change({ tab: "charts" }) },
        icon("back"),
      ),
      el("h1", {}, named(name).name, el("small", { text: named(name).stamp })),
      row ? statusMark(row.status) : "",
      el("span", { class: "file", text: row ? row.path : (this.failed?.message ?? "") }),
      ...(row?.tags ?? []).map((tag) => el("span", { class: "tag", text: tag })),
      group
        ? el("a", {
            class: "tag",
            href: "#tab=study",
            text: `study ${group}`,
            onclick: (event) => {
              event.preventDefault();
              change({ tab: "study", by: "metadata.group", of: group });
            },
          })
        : "",
      el("p", { class: "reason", hidden: !why, text: why }),
    );
  }

  showTiles(row, told) {
    const s = told.summary;
    const end = row.ended ? Date.parse(row.ended) : Date.now();
    const lasted = (end - Date.parse(row.started)) / 1000;
    const left =
      row.status === "running" && row.max_iters
        ? ((row.max_iters - (row.last_iter ?? 0)) * (s.avg_time_ms ?? NaN)) / 1000
        : NaN;
    const known = [
      [
        "iterations",
        row.max_iters
          ? `${full(row.last_iter ?? s.total_iterations)} / ${count(row.max_iters)}`
          : full(s.total_iterations),
      ],
      ["best val loss", full(s.best_val_loss)],
      ["last train loss", full(s.final_train_loss)],
      ["ms per iteration", full(s.avg_time_ms, "avg_time_ms")],
      ["MFU", s.avg_mfu === null ? "–" : `${full(s.avg_mfu, "avg_mfu")} %`],
      [row.status === "running" ? "running for" : "lasted", duration(lasted)],
      Number.isFinite(left) ? ["left, steps alone", duration(left)] : null,
      ["checkpoints", full(s.total_checkpoints)],
    ].filter(Boolean);
    if (this.tiles.children.length !== known.length) {
      this.tiles.replaceChildren(...known.map(() => el("div", {}, el("dt"), el("dd"))));
    }
    known.forEach(([word, text], i) => {
      keep(this.tiles.children[i].children[0], word);
      keep(this.tiles.children[i].children[1], text);
    });
  }

  // ---- the time line: sessions as bars, events as signs

  showTime(told) {
    const sessions = told.sessions
      .map((s) => ({ ...s, a: Date.parse(s.started) / 1000, b: Date.parse(s.last) / 1000 }))
      .filter((s) => s.b >= s.a);
    const mark = JSON.stringify([
      sessions.length,
      sessions.at(-1)?.records,
      told.marks.length,
      this.time.clientWidth,
    ]);
    if (mark === this.timeMark) return;
    this.timeMark = mark;
    if (!sessions.length) {
      this.time.hidden = true;
      return;
    }
    this.time.hidden = false;
    const from = Math.min(...sessions.map((s) => s.a));
    const to = Math.max(from + 1e-3, ...sessions.map((s) => s.b));
    const w = Math.max(280, this.time.clientWidth - 32);
    const at = (t) => 8 + ((t - from) / (to - from)) * (w - 16);
    const picture = svg("svg", {
      viewBox: `0 0 ${w} 66`,
      width: w,
      height: 66,
      role: "img",
      "aria-label": this.timeWords(sessions, told),
    });
    sessions.forEach((s, i) => {
      const bar = svg("rect", {
        x: at(s.a),
        y: 24,
        width: Math.max(2, at(s.b) - at(s.a)),
        height: 14,
        rx: 3,
        class: `session ${s.status ?? (i === sessions.length - 1 ? told.status : "interrupted")}`,
      });
      bar.append(
        title(
          `session ${i + 1}: ${moment(s.started)} to ${moment(s.last)}, ${full(s.records)} records${s.status ? `, ${s.status}` : ""}${s.reason ? `: ${s.reason}` : ""}`,
        ),
      );
      picture.append(bar);
    });
    for (const event of told.marks) {
      const x = at(Date.parse(event.t) / 1000);
      if (Number.isFinite(x)) picture.append(sign(event, x));
    }
    for (const [x, anchor, text] of [
      [8, "start", moment(sessions[0].started)],
      [w - 8, "end", moment(sessions.at(-1).last)],
    ]) {
      const words = svg("text", { x, y: 60, "text-anchor": anchor });
      words.textContent = text;
      picture.append(words);
    }
    const kinds = [...new Set(told.marks.map((event) => event.kind))].filter((kind) =>
      own(SIGNS, kind),
    );
    this.time.replaceChildren(
      el(
        "div",
        { class: "card-head" },
        el("h2", { text: "What happened when" }),
        el(
          "ul",
          { class: "legend" },
          ...kinds.map((kind) => {
            const small = svg(
              "svg",
              { viewBox: "0 0 14 14", width: 14, height: 14, "aria-hidden": "true" },
              sign({ kind, text: "" }, 7, 7),
            );
            return el("li", {}, small, el("span", { text: kind === "open" ? "start" : kind }));
          }),
        ),
      ),
      picture,
    );
  }

  timeWords(sessions, told) {
    const counts = new Map();
    for (const { kind } of told.marks) counts.set(kind, (counts.get(kind) ?? 0) + 1);
    return `${sessions.length} ${sessions.length === 1 ? "session" : "sessions"}; ${[...counts].map(([kind, n]) => `${n} ${kind}`).join(", ")}`;
  }

  showFacts(told, alerts) {
    const mark = JSON.stringify([
      told.sessions,
      told.defects,
      told.superseded,
      told.missing,
      told.notes,
      alerts,
    ]);
    if (mark === this.factsMark) return;
    this.factsMark = mark;
    const cards = [this.sessionsCard(told)];
    if (alerts.length) {
      cards.unshift(
        card(
          "The guard says",
          el(
            "ul",
            { class: "plain alerts" },
            ...alerts.map((alert) =>
              el(
                "li",
                { class: alert.now ? "now" : "" },
                el("b", { text: alert.rule.replace("_", " ") }),
                ` ${alert.text} `,
                el("small", { text: alert.now ? "now" : moment(alert.t) }),
              ),
            ),
          ),
        ),
      );
    }
    const taken = Object.entries(told.superseded).filter(([, n]) => n > 0);
    if (taken.length) {
      cards.push(
        card(
          "Replaced by a later take",
          el("p", {
            text: `${taken.map(([name, n]) => `${full(n)} ${n === 1 ? name.replace(/s$/, "") : name}`).join(", ")}: still in the journal, dotted in the charts.`,
          }),
        ),
      );
    }
    if (told.missing.length) {
      cards.push(
        card(
          "Missing iterations",
          el("p", {
            text: told.missing
              .map(([a, b]) => (a === b ? full(a) : `${full(a)} to ${full(b)}`))
              .join(", "),
          }),
        ),
      );
    }
    if (told.defects.length) {
      cards.push(
        card(
          `Defects: ${told.defects.length}`,
          el(
            "ul",
            { class: "plain" },
            ...told.defects
              .slice(0, 50)
              .map((d) =>
                el(
                  "li",
                  {},
                  el("b", { text: d.kind }),
                  ` at byte ${full(d.offset)}${d.file ? ` of ${d.file}` : ""}, ${d.lost === null ? "cost unknown" : d.lost ? `${full(d.lost)} events lost` : "nothing lost"}`,
                ),
              ),
          ),
        ),
      );
    }
    if (told.notes.length) {
      cards.push(
        card(
          "Notes",
          el(
            "ul",
            { class: "plain" },
            ...told.notes.map((note) =>
              el(
                "li",
                {},
                el("small", { text: moment(note.t) }),
                el("span", { text: ` ${note.text ?? ""}${note.by ? ` (${note.by})` : ""}` }),
              ),
            ),
          ),
        ),
      );
    }
    this.facts.replaceChildren(...cards);
  }

  sessionsCard(told) {
    const rows = told.sessions.map((s, i) =>
      el(
        "tr",
        {},
        el("td", { class: "number", text: String(i + 1) }),
        el("td", { text: moment(s.started) }),
        el("td", { class: "number", text: s.from_iter === undefined ? "–" : full(s.from_iter) }),
        el("td", { class: "number", text: full(s.last_iter) }),
        el("td", { class: "number", text: full(s.records) }),
        el("td", { text: `${s.host ?? "–"}${s.pid ? `, pid ${s.pid}` : ""}` }),
        el("td", {
          text: s.status ?? s.reason ?? (i === told.sessions.length - 1 ? told.status : "no end"),
        }),
      ),
    );
    const head = ["", "began", "from", "to", "records", "where", "end"].map((text, i) =>
      el("th", { scope: "col", class: [0, 2, 3, 4].includes(i) ? "number" : "", text }),
    );
    return card(
      told.sessions.length === 1 ? "One session" : `${told.sessions.length} sessions`,
      el(
        "div",
        { class: "scroll" },
        el(
          "table",
          { class: "small" },
          el("thead", {}, el("tr", {}, ...head)),
          el("tbody", {}, ...rows),
        ),
      ),
    );
  }

  showSettings() {
    const row = this.shared.rowOf(this.id);
    if (!row) return;
    const q = this.filter.value.toLowerCase();
    const entries = [
      ...Object.entries(row.config ?? {}),
      ...Object.entries(row.metadata ?? {}),
    ].filter(([name, v]) => !q || `${name} ${shown(v)}`.toLowerCase().includes(q));
    const mark = JSON.stringify(entries);
    if (mark === this.settingsMark) return;
    this.settingsMark = mark;
    this.settings.replaceChildren(
      ...entries.map(([name, v]) =>
        el("div", {}, el("dt", { text: name }), el("dd", { text: shown(v), title: shown(v) })),
      ),
    );
    if (!entries.length)
      this.settings.replaceChildren(
        el("p", { class: "hint", text: q ? "No setting is like that." : "It has no settings." }),
      );
  }

  showTail(told) {
    const last = told.tail.at(-1);
    const mark = `${last?.s}${last?.n}`;
    if (mark === this.tailMark) return;
    this.tailMark = mark;
    const isAtEnd = this.tail.scrollTop + this.tail.clientHeight >= this.tail.scrollHeight - 30;
    this.tail.replaceChildren(
      ...told.tail.map((line) =>
        el(
          "li",
          { class: `event-${/^\w+$/.test(line.event) ? line.event : "other"}` },
          el("time", { text: line.t.slice(11, 19) }),
          el("b", { text: line.event }),
          el("span", { text: line.text }),
        ),
      ),
    );
    if (isAtEnd) this.tail.scrollTop = this.tail.scrollHeight;
  }

  get colour() {
    return look(this.id).colour;
  }
}

function card(heading, ...children) {
  return el("section", { class: "card" }, el("h2", { text: heading }), ...children);
}

const SIGNS = {
  open: "M-4 -5 L5 0 L-4 5 Z",
  resume: "M-5 -4 L0 0 L-5 4 Z M0 -4 L5 0 L0 4 Z",
  checkpoint: "M0 -5 L5 0 L0 5 L-5 0 Z",
  close: "M-4 -4 H4 V4 H-4 Z",
  signal: "M0 -5 L5 4 H-5 Z",
  error: "M-5 -3 L-3 -5 L0 -2 L3 -5 L5 -3 L2 0 L5 3 L3 5 L0 2 L-3 5 L-5 3 L-2 0 Z",
  nonfinite: "M-5 -3 L-3 -5 L0 -2 L3 -5 L5 -3 L2 0 L5 3 L3 5 L0 2 L-3 5 L-5 3 L-2 0 Z",
  io_error: "M-5 -3 L-3 -5 L0 -2 L3 -5 L5 -3 L2 0 L5 3 L3 5 L0 2 L-3 5 L-5 3 L-2 0 Z",
  gap: "M-5 -1 H5 V1 H-5 Z",
  alert: "M-2 -6 H2 L1 2 H-1 Z M-1.5 3 H1.5 V6 H-1.5 Z",
  note: "M-4 -5 H4 V2 H0 L-2 5 V2 H-4 Z",
};

function sign(event, x, y = 12) {
  const path = svg("path", {
    d: own(SIGNS, event.kind) ?? SIGNS.gap,
    transform: `translate(${x.toFixed(1)} ${y})`,
    class: `sign ${event.kind}`,
  });
  if (event.t)
    path.append(
      title(`${event.kind} at iteration ${full(event.iter)}, ${moment(event.t)}\n${event.text}`),
    );
  return path;
}

function title(text) {
  const element = svg("title");
  element.textContent = text;
  return element;
}

export { state };
