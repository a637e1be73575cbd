// The list of runs: filtered, sorted, grouped, and ticked to be drawn.

import { fetchJson } from "./api.js";
import { COLUMNS, classOf, narrowColumns, SORTS, shortOrder, wideColumns } from "./columns.js";
import { button, el, icon, runLink, setText } from "./dom.js";
import { ago, full, moment, plural, settingText, splitName } from "./format.js";
import { groupRow, sortedGroups } from "./grouprow.js";
import { RunGroups } from "./groups.js";
import { MeanControl } from "./mean.js";
import { ownValue } from "./metrics.js";
import {
  fieldOf,
  grouped,
  isExpression,
  isNonfinite,
  matching,
  resultText,
  shortKey,
  sorted,
} from "./rows.js";
import { change, groupText, PICKS_MAX, state } from "./state.js";
import { styleOf } from "./theme.js";

export const PAGE_ROWS = 100; // shown before one asks for more
const FILTER_MS = 120; // after the last key

const STATUSES = ["running", "completed", "interrupted", "failed", "unreadable"];

export class RunList {
  /**
   * @param {any} runs the page's runs
   * @param {boolean} isWide a table with all columns; else a narrow list beside the charts
   */
  constructor(runs, isWide) {
    this.runs = runs;
    this.isWide = isWide;
    this.elements = new Map(); // by id of a run: its row on the page
    this.groupElements = new Map(); // by name of a group of runs: the same
    this.limit = PAGE_ROWS;
    this.matches = null; // ids that the server found for an expression; null: words alone
    this.columns = COLUMNS;
    this.means = new RunGroups(runs, () => this.show());
    this.meanControl = new MeanControl(false);
    this.count = el("p", { class: "count" });
    this.problem = el("p", { class: "problem", role: "status", hidden: true });
    this.body = el("tbody");
    this.head = el("tr");
    this.more = el("button", { type: "button", class: "more", hidden: true });
    this.more.addEventListener("click", () => {
      this.limit = Infinity;
      this.show();
    });
    this.empty = el("div", { class: "hint", hidden: true });
    const caption = el("caption", { class: "unseen", text: "Runs" });
    const table = el("table", {}, caption, el("thead", {}, this.head), this.body);
    this.element = el(
      "div",
      { class: isWide ? "runs wide" : "runs" },
      this.buildTools(),
      this.problem,
      el("div", { class: "scroll" }, table),
      this.empty,
      this.more,
    );
  }

  buildTools() {
    this.filter = this.buildFilter();
    const select = (label, key) => {
      const onchange = (event) => change({ [key]: event.target.value });
      return el("select", { "aria-label": label, onchange });
    };
    this.group = select("Group runs by", "group");
    this.sort = select("Sort runs by", "sort");
    const field = (text, input) => el("label", { class: "field" }, el("span", { text }), input);
    const pickNone = () => change({ picks: [] });
    return el(
      "div",
      { class: "list-tools" },
      this.filter,
      el(
        "div",
        { class: "row" },
        field("Group", this.group),
        this.isWide ? this.meanControl.element : field("Sort", this.sort),
      ),
      el(
        "div",
        { class: "row" },
        this.count,
        button(
          "Pick all listed (a)",
          { class: "quiet text", onclick: () => this.pickAll() },
          "all",
        ),
        button("Pick none (n)", { class: "quiet text", onclick: pickNone }, "none"),
      ),
    );
  }

  buildFilter() {
    const filter = el("input", {
      type: "search",
      placeholder: this.isWide ? "Filter: words, or best_val_loss < 3" : "Filter runs  /",
      "aria-label":
        "Filter runs: words of the name, status or tags, or an expression like best_val_loss < 3",
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

  // ---- which rows

  async applyFilter(text) {
    if (text === this.applied) return;
    this.applied = text;
    if (!isExpression(text)) {
      this.matches = null;
      this.showProblem("");
      return;
    }
    try {
      const answer = await fetchJson("/api/where", { q: text });
      if (text !== this.applied) return;
      this.matches = answer.ids ? new Set(answer.ids) : this.matches;
      this.showProblem(answer.error ?? "");
    } catch (error) {
      this.showProblem(error.message);
    }
    this.show();
  }

  showProblem(text) {
    setText(this.problem, text);
    this.problem.hidden = !text;
  }

  selected() {
    const rows = this.runs.rows();
    if (this.matches) return rows.filter((row) => this.matches.has(row.id));
    return this.problem.textContent ? rows : matching(rows, state.q);
  }

  groups() {
    return grouped(sorted(this.selected(), state.sort), state.group);
  }

  pickAll() {
    const rows = this.groups().flatMap(([, rows]) => rows);
    const readable = rows.filter((row) => row.status !== "unreadable");
    change({ picks: readable.map((row) => row.id).slice(0, PICKS_MAX) });
  }

  // ---- on the page

  show() {
    this.means.show();
    const isTyping = document.activeElement === this.filter;
    if (this.filter.value !== state.q && !isTyping) this.filter.value = state.q;
    this.applyFilter(state.q);
    const settings = this.runs.settings();
    this.columns = this.isWide ? wideColumns(settings) : narrowColumns();
    this.showHead();
    this.meanControl.show(settings);
    this.group.disabled = Boolean(state.mean);
    this.showChoices(settings);
    const groups = this.groups();
    this.place(state.mean ? this.meanElements(groups) : this.rowElements(groups));
    this.element.classList.toggle("means", Boolean(state.mean));
    if (state.mean) this.showProblem(this.means.problem);
    const total = this.runs.rows().length;
    const n = groups.reduce((sum, [, rows]) => sum + rows.length, 0);
    const runs = plural(total, "run");
    setText(this.count, n === total ? runs : `${n.toLocaleString()} of ${runs}`);
    this.more.hidden = n <= this.limit;
    setText(this.more, `Show the other ${(n - this.limit).toLocaleString()}`);
    this.empty.hidden = n > 0;
    const noMatch = "No run matches the filter. Escape clears it.";
    setText(this.empty, total ? noMatch : this.runs.whyNone());
  }

  rowElements(groups) {
    const picked = new Set(this.runs.picked());
    const elements = [];
    let left = this.limit;
    for (const [name, rows] of groups) {
      if (left <= 0) break;
      if (state.group) elements.push(this.groupRow(name, rows));
      for (const row of rows.slice(0, left)) elements.push(this.rowElement(row, picked));
      left -= rows.length;
    }
    return elements;
  }

  // A row for each group of runs that the table shows as one; below it its runs, once opened.
  meanElements(listed) {
    const rows = listed.flatMap(([, rows]) => rows);
    const picked = new Set(this.runs.picked());
    const elements = [];
    for (const group of sortedGroups(this.means.groups, rows, state.sort).slice(0, this.limit)) {
      const isOpen = this.means.open.has(group.name);
      const onOpen = () => this.means.toggle(group.name);
      elements.push(this.groupElement(group, isOpen, onOpen));
      const members = isOpen ? group.ids.map((id) => this.runs.rowOf(id)).filter(Boolean) : [];
      elements.push(...members.map((row) => this.rowElement(row, picked)));
    }
    return elements;
  }

  // Built anew only where it shows something else; the focus stays in it.
  groupElement(group, isOpen, onOpen) {
    const { runs, columns } = this;
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
    const mark = this.columns.map((column) => column.key).join() + state.sort;
    if (mark === this.headMark) return;
    this.headMark = mark;
    const tick = el("th", { scope: "col", class: "tick" });
    tick.append(el("span", { class: "unseen", text: "drawn" }));
    this.head.replaceChildren(tick, ...this.columns.map((column) => this.headCell(column)));
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
        title: `Sort by ${head}`,
        "aria-label": `${head}, sort by it`,
        onclick: () => change({ sort: isSorted && !isDown ? `-${key}` : key }),
      },
      el("span", { text: key === "status" && !this.isWide ? "" : head }),
      el("span", { class: "arrow", "aria-hidden": "true", text: arrow }),
    );
    const props = { scope: "col", class: classOf(column) };
    return el("th", { ...props, "aria-sort": isSorted ? direction : null }, sortButton);
  }

  showChoices(settings) {
    const hasGroups = this.runs.rows().some((row) => ownValue(row.metadata ?? {}, "group"));
    const mark = JSON.stringify([settings, state.group, state.sort, hasGroups]);
    if (mark === this.choicesMark) return;
    this.choicesMark = mark;
    const keys = settings.map((name) => `config.${name}`);
    const groups = ["", "status", ...(hasGroups ? ["metadata.group"] : []), ...keys];
    fillSelect(this.group, groups, state.group, (key) => (key ? shortKey(key) : "nothing"));
    const sorts = [...Object.keys(SORTS), ...keys];
    fillSelect(this.sort, sorts, state.sort, (key) => ownValue(SORTS, key) ?? shortKey(key));
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
      { colspan: this.columns.length + 1, scope: "rowgroup" },
      el("span", { class: "value", text: `${shortKey(state.group)} ${name}` }),
      el("small", { text: plural(rows.length, "run") + best }),
      textButton("Pick this group alone", pick, "pick"),
      rows.length > 1 ? textButton("Open this group as a study", study, "study") : null,
    );
    return el("tr", { class: "group" }, cell);
  }

  rowElement(row, picked) {
    let known = this.elements.get(row.id);
    if (!known || known.cells.length !== this.columns.length) {
      known = this.buildRow(row);
      this.elements.set(row.id, known);
    }
    const { element, tick, cells } = known;
    const isPicked = picked.has(row.id);
    element.classList.toggle("open", state.tab === "run" && state.run === row.id);
    tick.checked = isPicked;
    tick.style.setProperty(
      "--run",
      isPicked ? styleOf(this.runs.leaderOf(row.id)).colour : "transparent",
    );
    tick.setAttribute("aria-label", `Draw ${row.run}`);
    tick.disabled = row.status === "unreadable" && !isPicked;
    for (const [i, column] of this.columns.entries()) this.fillCell(cells[i], column, row);
    return element;
  }

  buildRow({ id }) {
    const tick = el("input", { type: "checkbox", onchange: () => this.runs.toggle(id) });
    const cells = this.columns.map((column) =>
      column.key === "run" ? nameCell(id) : el("td", { class: classOf(column) }),
    );
    const element = el("tr", { "data-id": id }, el("td", { class: "tick" }, tick), ...cells);
    return { element, tick, cells };
  }

  fillCell(cell, column, row) {
    const value = fieldOf(row, column.key);
    if (column.key === "run") {
      this.fillName(cell, row);
    } else if (column.key === "status") {
      if (cell.dataset.status === row.status) return;
      cell.dataset.status = row.status;
      cell.replaceChildren(statusMark(row.status));
    } else if (column.key === "started") {
      setText(cell, ago(value));
      cell.title = value ? moment(value) : "";
    } else {
      setText(cell, column.isSetting ? settingText(value) : resultText(row, column.key));
      cell.classList.toggle("bad", isNonfinite(row, column.key));
      if (column.isSetting) cell.title = settingText(value);
    }
  }

  fillName(cell, row) {
    const [link, tags, bar] = cell.children;
    const { name, stamp } = splitName(row.run);
    setText(link.firstChild, name);
    setText(link.lastChild, this.isWide || this.runs.isAmbiguous(name) ? stamp : "");
    link.title = row.error ? `${row.file}: ${row.error}` : row.file;
    const alerts = (row.alerts ?? []).filter((alert) => alert.now);
    const rules = alerts.map(({ rule }) => `⚠ ${rule.replace("_", " ")}`);
    const nonfinite = row.ends_nonfinite ?? []; // series
    if (nonfinite.length) rules.push(`⚠ ends in NaN: ${nonfinite.join(", ")}`);
    rules.push(...row.warnings.map((text) => `⚠ ${text}`));
    setText(tags, row.error || rules.join(" ") || (row.tags ?? []).join(" "));
    tags.className = row.error || rules.length ? "tags bad" : "tags";
    tags.title = [...alerts.map(({ text }) => text), nonfinite.join(", "), ...row.warnings]
      .filter(Boolean)
      .join("; ");
    const hasEnd = row.status === "running" && row.max_iters > 0;
    bar.hidden = !hasEnd;
    if (!hasEnd) return;
    const percent = Math.min(100, (100 * (fieldOf(row, "last_iter") ?? 0)) / row.max_iters);
    bar.firstChild.style.setProperty("width", `${percent.toFixed(1)}%`);
  }

  // Elements that are in place already are not touched.
  place(elements) {
    let next = this.body.firstElementChild;
    for (const element of elements) {
      if (next === element) next = next.nextElementSibling;
      else this.body.insertBefore(element, next);
    }
    while (next) {
      const following = next.nextElementSibling;
      next.remove();
      next = following;
    }
    if (this.elements.size <= 2 * elements.length + 1000) return;
    const shown = new Set(elements);
    for (const [id, { element }] of this.elements) {
      if (!shown.has(element)) this.elements.delete(id);
    }
  }

  // Moves the focus to the next or the previous name.
  step(by) {
    const links = [...this.body.querySelectorAll("a.name")];
    const at = links.indexOf(document.activeElement);
    links[Math.min(links.length - 1, Math.max(0, at + by))]?.focus();
  }
}

function nameCell(id) {
  const open = () => change({ tab: "run", run: id });
  const link = runLink(id, open, { class: "name" }, el("span"), el("small"));
  const bar = el("span", { class: "bar", hidden: true }, el("i"));
  return el("td", { class: "name" }, link, el("span", { class: "tags" }), bar);
}

function fillSelect(select, values, chosen, textOf) {
  const all = chosen && !values.includes(chosen) ? [...values, chosen] : values;
  const option = (value) =>
    el("option", { value, text: textOf(value), selected: value === chosen });
  select.replaceChildren(...all.map(option));
}

export function statusMark(status) {
  const name = STATUSES.includes(status) ? status : "unknown";
  const text = el("span", { class: "word", text: name });
  return el("span", { class: `mark ${name}`, title: name }, icon(name), text);
}
