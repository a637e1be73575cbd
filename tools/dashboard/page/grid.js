// The panels of some runs: what they share, and when they are drawn.

import { Chart } from "./chart.js";
import { el, keep } from "./dom.js";
import { Curves } from "./server.js";
import { smooth } from "./smooth.js";
import { change, look, state } from "./state.js";
import { FIRST, inOrder, keyOf } from "./words.js";

const MARGIN = 0.15; // read beyond either end of a zoom: means at its edges know their neighbours

export class Grid {
  // `shared` has rowOf(id); `single`: the id of the one run of a run page, with its takes and marks.
  constructor(shared, single = null) {
    this.shared = shared;
    this.single = single;
    this.charts = new Map();
    this.smoothed = new WeakMap();
    this.cursor = null;
    this.pointed = null;
    this.marks = [];
    this.frame = 0;
    this.updated = null;
    this.error = null;
    this.panels = el("div", { class: "panels" });
    this.hint = el("p", { class: "hint", hidden: true });
    this.names = el("ul", { class: "names", "aria-label": "Runs that are drawn" });
    this.element = el("div", { class: "grid" }, this.hint, this.names, this.panels);
    this.curves = new Curves((ids, start) => this.came(ids, start), (error) => this.fail(error));
    this.seen = new IntersectionObserver((entries) => {
      for (const entry of entries) {
        const chart = this.chartOf(entry.target);
        if (!chart) continue;
        chart.isSeen = entry.isIntersecting;
        if (chart.isSeen) this.schedule();
      }
    }, { rootMargin: "200px" });
    this.sized = new ResizeObserver((entries) => {
      for (const entry of entries) this.chartOf(entry.target.closest(".panel"))?.invalidate();
      this.ask();
    });
  }

  chartOf(element) {
    return this.charts.get(element?.dataset.key);
  }

  close() {
    this.seen.disconnect();
    this.sized.disconnect();
    cancelAnimationFrame(this.frame);
    this.curves.want({ ids: [] });
  }

  // ---- what is wanted

  get ids() {
    return this.single ? [this.single] : this.shared.picked();
  }

  get nRuns() {
    return this.ids.length;
  }

  get axis() {
    return state.x;
  }

  get isLogX() {
    return state.logx;
  }

  get isLogY() {
    return state.logy;
  }

  get isFitted() {
    return state.fit;
  }

  // The state changed, or which runs there are.
  show() {
    const styles = getComputedStyle(document.documentElement);
    const colour = (name) => styles.getPropertyValue(`--${name}`).trim();
    this.colours = Object.fromEntries(
      ["ink", "faint", "grid", "axis", "panel", "bad", "mark", "cursor", "select", "tip", "take"].map((name) => [name, colour(name)]),
    );
    this.ask();
    this.lay();
    this.showNames();
    for (const chart of this.charts.values()) chart.invalidate();
  }

  // Which colour is which run, where there is no list beside the charts.
  showNames() {
    const shown = this.single ? [] : this.ids.map((id) => [id, this.shared.nameOf(id), look(id).colour]);
    const mark = JSON.stringify(shown);
    if (mark === this.namesMark) return;
    this.namesMark = mark;
    this.names.replaceChildren(...shown.map(([id, name, colour]) => el("li", {},
      el("a", { href: `#tab=run&run=${id}`, onclick: (event) => { event.preventDefault(); change({ tab: "run", run: id }); } },
        el("span", { class: "swatch", style: { background: colour } }), name))));
  }

  ask() {
    const width = this.panels.querySelector(".plot")?.clientWidth || 480;
    const px = Math.ceil(width / 160) * 160;
    const { from, to } = state;
    const room = from === null ? 0 : (to - from) * MARGIN;
    const isWide = from !== null && !state.logx;
    this.curves.want({
      ids: this.ids, keys: this.keys(), x: state.x, px: isWide ? Math.ceil(px * (1 + 2 * MARGIN)) : px,
      from: from === null ? null : isWide ? from - room : from, to: to === null ? null : isWide ? to + room : to,
      log: state.logx, takes: Boolean(this.single),
    });
  }

  // The figures of the runs as known so far, the usual ones first; of the usual ones always.
  keys() {
    const keys = new Set(FIRST);
    for (const id of this.ids) {
      for (const [table, names] of Object.entries(this.curves.runs.get(id)?.figures ?? {})) {
        for (const name of names) keys.add(keyOf(table, name));
      }
    }
    keys.delete("eval/lr");
    return inOrder(keys);
  }

  // ---- what came

  came(ids, start) {
    const { keys } = this.curves.wanted;
    if (this.keys().join("\n") !== keys.join("\n")) this.ask();
    this.lay();
    const shown = new Set(this.ids);
    if (ids.some((id) => shown.has(id))) for (const chart of this.charts.values()) chart.invalidate();
    this.updated ??= start;
    this.schedule();
  }

  fail(error) {
    this.error = error;
    this.lay();
  }

  hear(states) {
    this.curves.hear(states);
  }

  // ---- which panels there are

  lay() {
    const there = new Set();
    for (const run of this.curves.runs.values()) for (const key of run.series.keys()) there.add(key);
    let keys = this.keys().filter((key) => there.has(key));
    if (state.big && keys.includes(state.big)) keys = [state.big];
    for (const [key, chart] of this.charts) {
      if (keys.includes(key)) continue;
      chart.element.remove();
      this.seen.unobserve(chart.element);
      this.sized.unobserve(chart.plot);
      this.charts.delete(key);
    }
    keys.forEach((key, at) => {
      let chart = this.charts.get(key);
      if (!chart) {
        chart = new Chart(this, key);
        chart.element.dataset.key = key;
        this.charts.set(key, chart);
        this.seen.observe(chart.element);
        this.sized.observe(chart.plot);
      }
      if (this.panels.children[at] !== chart.element) this.panels.insertBefore(chart.element, this.panels.children[at] ?? null);
      chart.element.classList.toggle("big", state.big === key);
      chart.bigButton.setAttribute("aria-label", state.big === key ? "Show all panels" : `Enlarge ${chart.title}`);
    });
    keep(this.hint, this.hintWords(keys));
    this.hint.hidden = !this.hint.textContent;
  }

  hintWords(keys) {
    if (!this.ids.length) return "No run is picked. Tick one in the list, or press a.";
    const reading = this.ids.map((id) => this.curves.runs.get(id)).filter((run) => run?.reading !== null && run?.reading !== undefined);
    if (reading.length) {
      const share = reading.reduce((sum, run) => sum + run.reading, 0) / reading.length;
      return `Reading ${reading.length === 1 ? "a journal" : `${reading.length} journals`}: ${Math.round(share * 100)} % …`;
    }
    if (this.error) return `The curves did not come: ${this.error.message}. Trying again.`;
    if (keys.length) return this.missingAxis();
    const runs = this.ids.map((id) => this.curves.runs.get(id));
    if (runs.some((run) => !run)) return "Reading the runs …";
    const broken = runs.find((run) => run.error);
    if (broken) return `Nothing to draw: ${broken.error}`;
    return this.missingAxis() || "Nothing has been logged yet. Charts appear with the first iteration.";
  }

  missingAxis() {
    const without = this.ids.filter((id) => this.curves.runs.get(id)?.noAxis);
    if (!without.length) return "";
    const who = without.length === this.ids.length ? "No run here says" : `${without.length} of ${this.ids.length} runs do not say`;
    return state.x === "tokens" ? `${who} how many tokens a step takes: not shown by tokens.` : `${who} when it began: not shown by wall time.`;
  }

  // ---- what panels ask for

  linesOf(key) {
    const lines = [];
    for (const id of this.ids) {
      const run = this.curves.runs.get(id);
      if (!run) continue;
      const { colour, dash } = look(id);
      const name = this.shared.nameOf(id);
      const series = run.series.get(key);
      if (series) lines.push(this.line(series, { colour, dash, name, isTake: false, key }));
      for (const take of run.takes) {
        if (take.key === key) lines.push(this.line(take.series, { colour, dash, name, isTake: true, key }));
      }
    }
    return lines;
  }

  line(series, given) {
    const isEval = given.key.startsWith("eval/");
    return {
      ...given, isEval, points: series.points, means: series.means, isThinned: series.isThinned,
      nonfinite: series.nonfinite, smoothed: given.isTake || isEval ? null : this.smoothOf(series),
    };
  }

  smoothOf(series) {
    const width = state.smooth;
    if (width < 2 || series.means.n < 3) return null;
    const known = this.smoothed.get(series);
    if (known?.width === width && known.version === series.version) return known.line;
    const { n, x, y } = series.means;
    const line = { n, x, y: smooth(y.subarray(0, n), width, series.counts?.y) };
    this.smoothed.set(series, { width, version: series.version, line });
    return line;
  }

  // What all panels show of the x axis.
  range() {
    if (state.from !== null) return [state.from, state.to];
    if (this.rangeOf === this.frameOf) return this.known;
    let low = Infinity;
    let high = -Infinity;
    for (const id of this.ids) {
      for (const { points } of this.curves.runs.get(id)?.series.values() ?? []) {
        if (!points.n) continue;
        let first = 0;
        if (state.logx) while (first < points.n - 1 && !(points.x[first] > 0)) first += 1;
        low = Math.min(low, points.x[first]);
        high = Math.max(high, points.x[points.n - 1]);
      }
    }
    if (low === high) high = low + 1;
    if (state.logx) low = Math.max(low, high / 1e9);
    this.known = low < high ? [low, high] : null;
    this.rangeOf = this.frameOf;
    return this.known;
  }

  whyEmpty(key) {
    const has = this.ids.some((id) => this.curves.runs.get(id)?.series.get(key)?.points.n);
    if (!has) return "not logged";
    return state.logy ? "nothing above zero here" : "nothing here";
  }

  resumes() {
    if (!this.single) return [];
    return this.marks.filter((mark) => mark.kind === "resume").map((mark) => this.place(mark)).filter(Number.isFinite);
  }

  place(mark) {
    if (state.x === "iter") return mark.iter;
    if (state.x === "time") return Date.parse(mark.t) / 1000 - this.started;
    return NaN;
  }

  setMarks(marks, started) {
    const same = JSON.stringify(marks) === JSON.stringify(this.marks) && started === this.started;
    if (same) return;
    this.marks = marks;
    this.started = started;
    for (const chart of this.charts.values()) chart.invalidate();
  }

  point(x, chart) {
    if (x === this.cursor && chart === this.pointed) return;
    this.cursor = x;
    this.pointed = chart;
    this.isPointing = true;
    this.schedule();
  }

  zoom(from, to) {
    if (from !== null && !(to > from)) return;
    const range = this.range();
    if (from !== null && range && state.from === null) {
      from = Math.max(from, range[0]);
      to = Math.min(to, range[1]);
    }
    change({ from, to });
  }

  enlarge(key) {
    change({ big: state.big === key ? "" : key });
  }

  csvAddress(key) {
    const words = new URLSearchParams({ runs: this.ids.join(","), keys: key, x: state.x });
    if (state.from !== null) {
      words.set("from", state.from);
      words.set("to", state.to);
    }
    return `/api/csv?${words}`;
  }

  // ---- drawing, once a frame

  schedule() {
    if (this.frame) return;
    this.frame = requestAnimationFrame(() => {
      this.frame = 0;
      this.frameOf = {};
      for (const chart of this.charts.values()) chart.draw();
      if (this.isPointing) for (const chart of this.charts.values()) if (chart.isSeen) chart.drawOver();
      this.isPointing = false;
      this.measure();
    });
  }

  // How long an update took, from the answer's last byte until everything is drawn: for the bench.
  measure() {
    if (this.updated === null) return;
    performance.clearMeasures("runs-update");
    performance.measure("runs-update", { start: this.updated, end: performance.now() });
    this.element.dataset.updates = String(Number(this.element.dataset.updates ?? 0) + 1);
    this.updated = null;
  }
}
