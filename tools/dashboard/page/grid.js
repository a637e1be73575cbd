// The charts of some runs: what they share, and when they are drawn.

import { Chart } from "./chart.js";
import { Curves } from "./curves.js";
import { el, runLink, setText } from "./dom.js";
import { plural } from "./format.js";
import { hintText } from "./hints.js";
import { allSeriesOf, arranged, optionsOf, seriesOf } from "./layout.js";
import { distinct, Lines } from "./lines.js";
import { describe, escaped, FIRST, inOrder, ownValue } from "./metrics.js";
import { Panels } from "./panels.js";
import { sectionsOf } from "./sections.js";
import { change, layoutNow, offerAxes, state } from "./state.js";
import { styleOf } from "./theme.js";

const CHARTS_MAX = 200;
const AXES_MAX = 300; // series that are offered as axis
const KEYS_BYTES_MAX = 40_000; // the server reads 64 KB of a request's head
const NOTES_MAX = 3; // of runs without a number, in one chart
const MARGIN = 0.15; // fetched beyond either end of a zoom: the means at its edges need neighbours
const COLOURS = "ink faint grid axis panel bad mark cursor select tip superseded".split(" ");

export class Grid {
  /**
   * @param {any} runs the page's runs
   * @param {string | null} single the one run of a run page, shown with its superseded rows
   */
  constructor(runs, single = null) {
    this.runs = runs;
    this.single = single;
    /** @type {Map<string, Chart>} */
    this.charts = new Map();
    this.cursor = null; // the same in all charts
    this.cursorChart = null; // the one under the pointer
    this.cursorAxis = "iter"; // the axis of that one: no other chart shows the cursor
    this.namesOf = []; // lists of which `namesKnown` is made
    this.namesKnown = state.find ? [] : FIRST;
    this.found = state.find;
    this.frame = 0;
    this.updateStart = null;
    this.error = null;
    this.panels = new Panels(this);
    this.hint = el("p", { class: "hint", hidden: true });
    this.names = el("ul", { class: "names", "aria-label": "Runs in the charts" });
    this.element = el("div", { class: "grid" }, this.hint, this.names, this.panels.element);
    this.curves = new Curves(
      (ids, start) => this.onCurves(ids, start),
      (error) => this.onError(error),
    );
    this.lines = new Lines(this.curves, runs);
    this.observe();
  }

  observe() {
    this.visibility = new IntersectionObserver(
      (entries) => {
        for (const entry of entries) {
          const chart = this.chartOf(entry.target);
          if (!chart) continue;
          chart.isSeen = entry.isIntersecting;
          if (chart.isSeen) this.schedule();
        }
      },
      { rootMargin: "200px" },
    );
    this.size = new ResizeObserver((entries) => {
      for (const entry of entries) this.chartOf(entry.target.closest(".panel"))?.invalidate();
      this.fetch();
    });
  }

  chartOf(element) {
    return this.charts.get(element?.dataset.key);
  }

  close() {
    this.visibility.disconnect();
    this.size.disconnect();
    cancelAnimationFrame(this.frame);
    this.curves.setView({ ids: [] });
  }

  get ids() {
    return this.single ? [this.single] : this.runs.picked();
  }

  get curvesShown() {
    return this.ids.map((id) => this.curves.runs.get(id)).filter(Boolean);
  }

  // The series of each run that is drawn, by key; or of each group of runs.
  get seriesShown() {
    return (this.curves.isGrouped ? this.curves.groups : this.curvesShown).map((one) => one.series);
  }

  // ---- what is fetched

  // The state or the runs have changed.
  show() {
    const styles = getComputedStyle(document.documentElement);
    const colour = (name) => [name, styles.getPropertyValue(`--${name}`).trim()];
    this.colours = Object.fromEntries(COLOURS.map(colour));
    this.fetch();
    this.layOut();
    this.showNames();
    for (const chart of this.charts.values()) chart.invalidate();
  }

  fetch() {
    const width = this.panels.element.querySelector(".plot")?.clientWidth || 480;
    const px = Math.ceil(width / 160) * 160;
    const view = { ids: this.ids, keys: this.keys(), x: state.x, log: state.logx };
    const { from, to } = state;
    const isWidened = from !== null && !state.logx;
    const margin = isWidened ? (to - from) * MARGIN : 0;
    this.curves.setView({
      ...view,
      px: isWidened ? Math.ceil(px * (1 + 2 * MARGIN)) : px,
      from: from === null ? null : from - margin,
      to: to === null ? null : to + margin,
      superseded: Boolean(this.single),
      smooth: this.widestSmoothing(),
      find: state.find,
      group: this.single ? "" : state.mean,
    });
  }

  // The charts whose points have the lines of the widest smoothing have those of all narrower ones.
  widestSmoothing() {
    const widths = Object.values(layoutNow().panels).map(({ smooth = 0 }) => smooth);
    return Math.max(state.smooth, ...widths);
  }

  // The names of all series of the runs as known so far, the usual ones first. They are asked for
  // many times in a frame.
  seriesNames() {
    const known = this.curvesShown.flatMap(({ usual, others }) => [usual, others]);
    const isSame = (list, i) => list === this.namesOf[i];
    if (known.length !== this.namesOf.length || !known.every(isSame) || state.find !== this.found) {
      this.namesOf = known;
      this.found = state.find;
      this.namesKnown = this.sortedNames();
    }
    return this.namesKnown;
  }

  sortedNames() {
    if (!this.curvesShown.length) return state.find ? [] : FIRST;
    const usual = this.usualNames();
    const others = new Set(this.curvesShown.flatMap((run) => run.others));
    if (!state.find) others.delete("eval/lr"); // that of the iterations is in finer steps
    return inOrder(new Set([...usual, ...others]), usual);
  }

  usualNames() {
    const runs = this.curvesShown;
    return runs.length ? [...new Set(runs.flatMap((run) => run.usual))] : FIRST;
  }

  // The names of the panels; those that are hidden where a name is searched for.
  panelNames() {
    const layout = layoutNow();
    const names = arranged(layout, this.seriesNames());
    return state.find ? names : names.filter((name) => !layout.hide.includes(name));
  }

  // The sections of the panels; one without a name if there are none.
  sections() {
    const names = this.panelNames();
    const isBig = state.big !== "" && names.includes(state.big);
    if (isBig) return [{ name: "", keys: [state.big], isOpen: true }];
    const sections = sectionsOf(names, new Set(this.usualNames()), layoutNow());
    return state.find ? sections.map((one) => ({ ...one, isOpen: true })) : sections;
  }

  // The series of the panels in open sections.
  openKeys() {
    const layout = layoutNow();
    const open = this.sections().flatMap(({ keys, isOpen }) => (isOpen ? keys : []));
    return [...new Set(open.flatMap((key) => allSeriesOf(layout, key)))];
  }

  // Those that are drawn: not more than a request has room for.
  keys() {
    const keys = [];
    let size = 0;
    for (const name of this.openKeys()) {
      size += encodeURIComponent(name).length + 3;
      if (keys.length === CHARTS_MAX || size > KEYS_BYTES_MAX) break;
      keys.push(name);
    }
    return keys;
  }

  /** @param {Record<string, any>} states by id: how many rows a run has */
  update(states) {
    this.curves.update(states);
  }

  onCurves(ids, start) {
    if (this.keys().join("\n") !== this.curves.wanted.keys.join("\n")) this.fetch();
    if (!this.single) this.runs.setGroups(this.curves.groups.map((group) => group.ids));
    this.layOut();
    this.showNames();
    offerAxes(this.offeredAxes(), this.seriesNames().slice(0, AXES_MAX));
    const shown = new Set(this.ids);
    if (ids.some((id) => shown.has(id))) {
      for (const chart of this.charts.values()) chart.invalidate();
    }
    this.updateStart ??= start;
    this.schedule();
  }

  onError(error) {
    this.error = error;
    this.layOut();
  }

  // ---- which charts there are

  layOut() {
    const logged = new Set(this.seriesShown.flatMap((series) => [...series.keys()]));
    const layout = layoutNow();
    const isLogged = (key) => allSeriesOf(layout, key).some((name) => logged.has(name));
    const sections = this.sections().map((one) => {
      const drawn = one.isOpen ? one.keys.filter(isLogged) : [];
      return { ...one, drawn };
    });
    const keys = sections.flatMap(({ drawn }) => drawn);
    for (const key of [...this.charts.keys()]) if (!keys.includes(key)) this.removeChart(key);
    for (const key of keys) if (!this.charts.has(key)) this.addChart(key);
    this.panels.place(sections);
    setText(this.hint, hintText(this, keys));
    this.hint.hidden = !this.hint.textContent;
  }

  addChart(key) {
    const table = this.tableOf(key);
    const chart = new Chart(this, key, describe(key, table)[0]);
    this.panels.listen(chart);
    this.charts.set(key, chart);
    this.visibility.observe(chart.element);
    this.size.observe(chart.plot);
    return chart;
  }

  tableOf(key) {
    const tables = this.seriesShown.map((series) => series.get(key)?.table).filter(Boolean);
    return tables.includes("metrics") ? "metrics" : tables[0];
  }

  // The unit that a run defined for a series, else the usual one.
  unitOf(key) {
    const units = this.seriesShown.map((series) => series.get(key)?.unit).filter(Boolean);
    return units[0] ?? describe(key, this.tableOf(key))[1];
  }

  removeChart(key) {
    const chart = this.charts.get(key);
    chart.element.remove();
    this.visibility.unobserve(chart.element);
    this.size.unobserve(chart.plot);
    this.charts.delete(key);
  }

  // The runs and their colours, for a phone, which has no list beside the charts; or the groups.
  showNames() {
    const { isGrouped, groups } = this.curves;
    const ids = this.single ? [] : this.ids;
    const shown = isGrouped
      ? groups.map(({ name, ids }) => [ids[0], name, styleOf(ids[0]), plural(ids.length, "run")])
      : ids.map((id) => [id, this.runs.nameOf(id), styleOf(id), ""]);
    const mark = JSON.stringify(shown);
    if (mark === this.namesMark) return;
    this.namesMark = mark;
    const item = ([id, name, { colour: background }, n]) => {
      const open = () => change({ tab: "run", run: id });
      const swatch = el("span", { class: "swatch", style: { background } });
      if (isGrouped) return el("li", {}, swatch, el("b", { text: name }), el("small", { text: n }));
      return el("li", {}, runLink(id, open, {}, swatch, name));
    };
    this.names.setAttribute("aria-label", `${isGrouped ? "Groups of runs" : "Runs"} in the charts`);
    this.names.classList.toggle("grouped", isGrouped);
    this.names.replaceChildren(...shown.map(item));
  }

  // ---- what charts ask for

  // The lines of a panel: those of its first series, then those of the others in it.
  linesOf(key) {
    const { left, right } = seriesOf(layoutNow(), key);
    const axis = this.axisOf(key);
    const { smooth } = this.optionsOf(key);
    // Evaluations and schedules are smoothed only if a person chose so for their own panel.
    const widthOf = (name) => (series) => {
      if (name === key && smooth !== undefined) return smooth;
      return series.isNoisy ? (smooth ?? state.smooth) : 0;
    };
    const ofSide = (names, side) =>
      names.flatMap((name) =>
        this.lines.of(name, this.ids, axis, widthOf(name)).map((line) => ({ ...line, side })),
      );
    const lines = [...ofSide(left, "left"), ...ofSide(right, "right")];
    return left.length + right.length > 1 ? distinct(lines, [...left, ...right]) : lines;
  }

  seriesOf(key) {
    return allSeriesOf(layoutNow(), key);
  }

  isBig(key) {
    return state.big !== "" && state.big === key; // a name may be empty
  }

  optionsOf(key) {
    return optionsOf(layoutNow(), key);
  }

  axisOf(key) {
    if (state.x) return state.x;
    for (const series of this.seriesShown) if (series.has(key)) return series.get(key).axis;
    return "iter";
  }

  // The series that the runs have as axes.
  offeredAxes() {
    return [...new Set(this.curvesShown.flatMap((run) => run.axes ?? []))];
  }

  // What all charts of an axis show of it: [low, high], or null. Computed once a frame.
  range(axis) {
    if (state.from !== null) return [state.from, state.to];
    if (this.rangeFrame !== this.frameMark) {
      this.rangeFrame = this.frameMark;
      this.ranges = new Map();
    }
    if (!this.ranges.has(axis)) this.ranges.set(axis, this.computeRange(axis));
    return this.ranges.get(axis);
  }

  computeRange(axis) {
    let low = Infinity;
    let high = -Infinity;
    for (const series of this.seriesShown.flatMap((byKey) => [...byKey.values()])) {
      const { points } = series;
      if (!points.n || series.axis !== axis) continue;
      let first = 0;
      if (state.logx) while (first < points.n - 1 && !(points.x[first] > 0)) first += 1;
      low = Math.min(low, points.x[first]);
      high = Math.max(high, points.x[points.n - 1]);
    }
    if (low === high) high = low + 1;
    if (state.logx) low = Math.max(low, high / 1e9);
    return low < high ? [low, high] : null;
  }

  whyEmpty(key, isLog) {
    const names = this.seriesOf(key);
    const shown = this.seriesShown
      .flatMap((series) => names.map((name) => series.get(name)))
      .filter(Boolean);
    const notes = [...new Set(shown.map((series) => series.note).filter(Boolean))];
    if (notes.length) return notes.slice(0, NOTES_MAX).join("; ");
    if (!shown.some((series) => series.points.n)) return "not logged";
    return isLog ? "no value above zero here" : "no value here";
  }

  // Where sessions resumed, on an axis.
  resumes(axis) {
    return this.curvesShown.flatMap((run) => ownValue(run.resumes, axis) ?? []);
  }

  setCursor(x, chart) {
    if (x === this.cursor && chart === this.cursorChart) return;
    this.cursor = x;
    this.cursorChart = chart;
    if (chart) this.cursorAxis = chart.axis;
    this.hasCursorMoved = true;
    this.schedule();
  }

  // From one x to another of an axis; null and null for all. Where charts have different axes, all
  // are then drawn by that one: a part of it is meaningless on another.
  zoom(from, to, axis = "") {
    if (from !== null && !(to > from)) return;
    const isMixed = [...this.charts.values()].some((chart) => chart.axis !== axis);
    const x = from !== null && isMixed ? axis : state.x;
    const range = state.from === null && from !== null ? this.range(axis) : null;
    if (range) change({ x, from: Math.max(from, range[0]), to: Math.min(to, range[1]) });
    else change({ x, from, to });
  }

  enlarge(key) {
    change({ big: state.big === key ? "" : key });
  }

  csvUrl(key) {
    const params = new URLSearchParams({
      runs: this.ids.join(","),
      keys: this.seriesOf(key).map(escaped).join("\n"),
      x: state.x,
    });
    if (state.from !== null) {
      params.set("from", state.from);
      params.set("to", state.to);
    }
    return `/api/csv?${params}`;
  }

  // ---- drawing, once a frame

  schedule() {
    if (this.frame) return;
    this.frame = requestAnimationFrame(() => {
      this.frame = 0;
      this.frameMark = {};
      for (const chart of this.charts.values()) {
        chart.draw();
        if (this.hasCursorMoved && chart.isSeen) chart.drawOver();
      }
      this.hasCursorMoved = false;
      this.measure();
    });
  }

  // From the last byte of an answer until everything is drawn: for the benchmark.
  measure() {
    if (this.updateStart === null) return;
    performance.clearMeasures("runs-update");
    performance.measure("runs-update", { start: this.updateStart, end: performance.now() });
    this.element.dataset.updates = String(Number(this.element.dataset.updates ?? 0) + 1);
    this.updateStart = null;
  }
}
