// The list of runs: filtered, sorted, grouped, and ticked to be drawn.

import { RowElements, statusMark } from "./cells.js";
import { Chooser } from "./chooser.js";
import { colourRuns } from "./colours.js";
import { classOf, FIELDS, headOf, nextOrder, shortOrder } from "./columns.js";
import { button, el, setText } from "./dom.js";
import { emptyHint } from "./empty.js";
import { full, plural } from "./format.js";
import { groupRow, sortedGroups } from "./grouprow.js";
import { RunGroups } from "./groups.js";
import { MeanControl } from "./mean.js";
import { Picks } from "./picks.js";
import { onPoint, pointAt } from "./pointing.js";
import { fieldOf, shortKey } from "./rows.js";
import { change, groupText, PICKS_MAX, state } from "./state.js";
import { saveTable } from "./tablecsv.js";
import { styleOf } from "./theme.js";
import { RowWindow } from "./window.js";

const FILTER_MS = 120; // after the last key
const SORTS = [
  "-started",
  "run",
  "status",
  "best_val_loss",
  "final_loss",
  "-iterations",
  "avg_time_ms",
  "-avg_mfu",
];

export class RunList {
  /**
   * @param {{runs: any, listing: any, columns: any, values: any}} shared by all lists of the page
   * @param {boolean} isWide a table with all columns; else a narrow list beside the charts
   */
  constructor({ runs, listing, columns, values }, isWide) {
    this.runs = runs;
    this.listing = listing;
    this.columns = columns;
    this.values = values;
    this.isWide = isWide;
    this.rowElements = new RowElements(runs, isWide);
    this.groupElements = new Map(); // by name of a group of runs: its row
    this.shown = []; // the columns
    this.means = new RunGroups(runs, () => this.show());
    this.meanControl = new MeanControl(false);
    this.picks = new Picks(runs, listing, columns);
    this.problem = el("p", { class: "problem", role: "status", hidden: true });
    this.reading = el("p", { class: "reading", role: "status", hidden: true });
    this.legend = el("ul", { class: "legend", "aria-label": "Colours", hidden: true });
    this.body = el("tbody");
    this.head = el("tr");
    this.empty = el("div", { class: "hint", hidden: true });
    const caption = el("caption", { class: "unseen", text: "Runs" });
    this.table = el("table", {}, caption, el("thead", {}, this.head), this.body);
    const scroller = el("div", { class: "scroll" }, this.table);
    this.window = new RowWindow(scroller, this.body);
    const notes = [this.problem, this.reading, this.legend];
    const isOfWide = isWide ? "runs wide" : "runs";
    this.element = el(
      "div",
      { class: isOfWide },
      this.buildTools(),
      ...notes,
      scroller,
      this.empty,
    );
    this.pointAtRows();
  }

  // ---- above the table

  buildTools() {
    this.filter = this.buildFilter();
    const select = (label, key) => {
      const onchange = (event) => change({ [key]: event.target.value });
      return el("select", { "aria-label": label, onchange });
    };
    this.group = select("Group runs by", "group");
    this.sort = select("Sort runs by", "sort");
    this.colour = select("Colour runs by", "colour");
    const field = (text, input) => el("label", { class: "field" }, el("span", { text }), input);
    const wide = this.isWide ? this.buildWideTools() : [];
    const row = (...children) => el("div", { class: "row" }, ...children);
    return el(
      "div",
      { class: "list-tools" },
      this.filter,
      row(
        field("Group", this.group),
        this.isWide ? this.meanControl.element : field("Sort", this.sort),
        field("Colour", this.colour),
      ),
      row(this.picks.count, ...this.picks.buttons, ...wide),
      this.picks.drawn,
    );
  }

  buildWideTools() {
    /** @type {Chooser | undefined} */
    let chooser;
    const open = () => {
      chooser ??= new Chooser(this.columns);
      chooser.open();
    };
    const save = () => saveTable(this.listing.rows(), this.shown);
    return [
      button("Choose the columns", { class: "chip", onclick: open }, "Columns"),
      button("Save the table as CSV", { class: "chip", onclick: save }, "CSV"),
    ];
  }

  buildFilter() {
    const filter = el("input", {
      type: "search",
      placeholder: this.isWide
        ? "Filter: words, or val/acc > 0.9 and config.lr < 1e-3"
        : "Filter runs  /",
      "aria-label":
        "Filter runs: words of the name, status, tags, notes or group, or an expression like val/acc > 0.9 and config.lr < 1e-3",
      autocomplete: "off",
      spellcheck: "false",
    });
    let timer = 0;
    filter.addEventListener("input", () => {
      clearTimeout(timer);
      timer = setTimeout(() => change({ q: filter.value }, { replace: true }), FILTER_MS);
    });
    filter.addEventListener("keydown", (event) => {
      if (event.key !== "Escape") return;
      filter.value = "";
      change({ q: "" });
      filter.blur();
    });
    return filter;
  }

  showProblem(text) {
    setText(this.problem, text);
    this.problem.hidden = !text;
    this.filter.setAttribute("aria-invalid", Boolean(text));
  }

  // What the server has not read yet.
  showReading() {
    const left = Math.max(this.values.left, this.listing.reading);
    const text = left ? `Reading series: ${plural(left, "run")} left …` : this.values.problem;
    setText(this.reading, text);
    this.reading.hidden = !text;
  }

  showLegend() {
    const column = state.colour ? this.columns.column(state.colour) : null;
    const items = colourRuns(this.runs, column);
    const head = column ? headOf(column.key) : "";
    const mark = JSON.stringify([head, items]);
    if (mark === this.legendMark) return;
    this.legendMark = mark;
    this.legend.hidden = !items.length;
    const item = ({ text, colour, n }) =>
      el(
        "li",
        {},
        el("span", { class: "swatch", style: { background: colour } }),
        el("span", { class: "value", text }),
        el("small", { text: plural(n, "run") }),
      );
    this.legend.replaceChildren(el("li", { class: "what", text: head }), ...items.map(item));
  }

  // ---- which rows

  pickAll() {
    this.picks.pickAll();
  }

  // ---- on the page

  show() {
    this.means.show(this.columns.seriesNeeded());
    const isTyping = document.activeElement === this.filter;
    if (this.filter.value !== state.q && !isTyping) this.filter.value = state.q;
    const settings = this.runs.settings();
    this.columns.ask();
    this.values.want(this.columns.seriesNeeded());
    this.shown = this.isWide ? this.columns.wide() : this.columns.narrow();
    this.showHead();
    this.meanControl.show(settings);
    this.group.disabled = Boolean(state.mean);
    this.showChoices(settings);
    this.showLegend();
    const groups = this.listing.groups();
    this.rowElements.show(this.shown);
    const areMeans = state.mean && (this.means.groups.length || !this.means.problem);
    const items = areMeans ? this.meanItems(groups) : this.rowItems(groups);
    this.window.show(items);
    this.table.setAttribute("aria-rowcount", items.length + 1);
    this.element.classList.toggle("means", Boolean(state.mean));
    this.showProblem(this.listing.problem || (state.mean ? this.means.problem : ""));
    this.showReading();
    const n = groups.reduce((sum, [, rows]) => sum + rows.length, 0);
    this.picks.show(n);
    this.showEmpty(n);
  }

  showEmpty(n) {
    this.empty.hidden = n > 0;
    if (n) return;
    const isAny = this.runs.rows().length > 0;
    const mark = isAny ? "filtered" : JSON.stringify([this.runs.whyNone(), this.runs.folders]);
    if (mark === this.emptyMark) return;
    this.emptyMark = mark;
    const noMatch = "No run matches the filter. Escape clears it.";
    this.empty.replaceChildren(...(isAny ? [noMatch] : emptyHint(this.runs)));
  }

  rowItems(groups) {
    return groups.flatMap(([name, rows]) => [
      ...(state.group ? [{ key: `group ${name}`, build: () => this.groupRow(name, rows) }] : []),
      ...rows.map((row) => this.rowItem(row)),
    ]);
  }

  rowItem(row) {
    return { key: row.id, build: () => this.rowElements.rowOf(row) };
  }

  // A row for each group of runs that the table shows as one; below it its runs, once opened.
  meanItems(listed) {
    const rows = listed.flatMap(([, rows]) => rows);
    return sortedGroups(this.means.groups, rows, state.sort).flatMap((group) => {
      const isOpen = this.means.open.has(group.name);
      const onOpen = () => this.means.toggle(group.name);
      const build = () => this.groupElement(group, isOpen, onOpen);
      const members = isOpen ? group.ids.map((id) => this.runs.rowOf(id)).filter(Boolean) : [];
      return [{ key: `mean ${group.name}`, build }, ...members.map((row) => this.rowItem(row))];
    });
  }

  // Built anew only where it shows something else; the focus stays in it.
  groupElement(group, isOpen, onOpen) {
    const { runs, shown: columns } = this;
    const picked = group.ids.filter((id) => runs.picked().includes(id));
    const colour = picked.length ? styleOf(runs.leaderOf(picked[0])).colour : "transparent";
    const rows = group.ids.map((id) => runs.rowOf(id));
    const states = rows.map((row) => [row?.status, row?.warnings]);
    const mark = JSON.stringify([group, isOpen, picked, colour, states, columns]);
    const known = this.groupElements.get(group.name);
    if (known?.mark === mark) return known.element;
    const props = { runs, columns, picked, colour, isOpen, onOpen, classOf, statusMark };
    const element = groupRow(group, props);
    this.groupElements.set(group.name, { mark, element });
    const focused = known?.element.contains(document.activeElement) && document.activeElement;
    if (focused) queueMicrotask(() => element.querySelector(focused.tagName)?.focus());
    return element;
  }

  showHead() {
    const mark = JSON.stringify([this.shown, state.sort]);
    if (mark === this.headMark) return;
    this.headMark = mark;
    const tick = el("th", { scope: "col", class: "tick" });
    tick.append(el("span", { class: "unseen", text: "drawn" }));
    this.head.replaceChildren(tick, ...this.shown.map((column) => this.headCell(column)));
  }

  headCell(column) {
    const { key, head } = column;
    const isSorted = key === shortOrder();
    const isDown = state.sort.startsWith("-");
    const arrow = isSorted ? (isDown ? "↓" : "↑") : "";
    const direction = isDown ? "descending" : "ascending";
    const sortButton = el(
      "button",
      {
        type: "button",
        class: "sort",
        title: `Sort by ${key}`,
        "aria-label": `${head}, sort by it`,
        onclick: () => change({ sort: nextOrder(key) }),
      },
      el("span", { text: key === "status" && !this.isWide ? "" : head }),
      el("span", { class: "arrow", "aria-hidden": "true", text: arrow }),
    );
    const props = { scope: "col", class: classOf(column) };
    return el("th", { ...props, "aria-sort": isSorted ? direction : null }, sortButton);
  }

  showChoices(settings) {
    const { keys } = this.columns;
    const mark = JSON.stringify([settings, keys, state.group, state.sort, state.colour]);
    if (mark === this.choicesMark) return;
    this.choicesMark = mark;
    const fields = keys.filter((key) => !Object.hasOwn(FIELDS, key));
    const all = [...new Set([...fields, ...settings.map((name) => `config.${name}`)])];
    const ofSettings = all.filter((key) => this.columns.column(key).kind === "setting");
    const textOf = (none) => (key) => (key ? headOf(key.replace(/^-/, "")) : none);
    fillSelect(this.group, ["", "status", ...ofSettings], state.group, textOf("nothing"));
    fillSelect(this.colour, ["", "status", ...ofSettings], state.colour, textOf("run"));
    const orderText = (key) =>
      key === "-started" ? "newest" : key === "started" ? "oldest" : textOf("")(key);
    fillSelect(this.sort, [...SORTS, ...all], state.sort, orderText);
  }

  groupRow(name, rows) {
    const losses = rows.map((row) => row.best_val_loss).filter((v) => typeof v === "number");
    const best = losses.length ? `, best val ${full(Math.min(...losses))}` : "";
    const pick = () => change({ picks: rows.map((row) => row.id).slice(0, PICKS_MAX) });
    const study = () => {
      const of = groupText(fieldOf(rows[0], state.group));
      change({ tab: "study", by: state.group, of, brush: "" });
    };
    const textButton = (label, onclick, text) =>
      button(label, { class: "quiet text", onclick }, text);
    const cell = el(
      "th",
      { colspan: this.shown.length + 1, scope: "rowgroup" },
      el("span", { class: "value", text: `${shortKey(state.group)} ${name}` }),
      el("small", { text: plural(rows.length, "run") + best }),
      textButton("Pick this group alone", pick, "pick"),
      rows.length > 1 ? textButton("Open this group as a study", study, "study") : null,
    );
    return el("tr", { class: "group" }, cell);
  }

  // ---- pointer and keys

  // The line of the row under the pointer, or with the focus, stands out in the charts; the row of
  // the line that is pointed at there stands out here.
  pointAtRows() {
    onPoint((id) => {
      this.body.querySelector("tr.pointed")?.classList.remove("pointed");
      if (id) this.body.querySelector(`tr[data-id="${id}"]`)?.classList.add("pointed");
    });
    const at = (event) => event.target.closest?.("tr[data-id]")?.dataset.id ?? null;
    for (const name of ["pointerover", "focusin"]) {
      this.body.addEventListener(name, (event) => pointAt(at(event), { inList: true }));
    }
    for (const name of ["pointerleave", "focusout"]) {
      this.body.addEventListener(name, () => pointAt(null));
    }
  }

  // Moves the focus to the next or the previous name; where it was lost, as the row was built anew,
  // from where it was.
  step(by) {
    const ids = this.window.items.map(({ key }) => key);
    const row = document.activeElement?.closest("tr[data-id]");
    const rows = ids.filter((id) => this.runs.rowOf(id));
    const isLost = document.activeElement === document.body;
    const from = this.body.contains(row) ? row.getAttribute("data-id") : isLost && this.steppedTo;
    const at = rows.indexOf(from || "");
    const id = rows[Math.min(rows.length - 1, Math.max(0, at + by))];
    if (id === undefined) return;
    this.steppedTo = id;
    this.window.reveal(ids.indexOf(id));
    this.body.querySelector(`tr[data-id="${id}"] a.name`)?.focus();
  }
}

function fillSelect(select, values, chosen, textOf) {
  const all = chosen && !values.includes(chosen) ? [...values, chosen] : values;
  const option = (value) =>
    el("option", { value, text: textOf(value), selected: value === chosen });
  select.replaceChildren(...all.map(option));
}
