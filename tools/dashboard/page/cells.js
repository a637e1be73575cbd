// The rows of the list of runs as elements: built once, then filled where something changed.

import { classOf } from "./columns.js";
import { el, icon, runLink, setText } from "./dom.js";
import { ago, moment, splitName } from "./format.js";
import { cellText, exactText, fieldOf, isNonfinite } from "./rows.js";
import { change, state } from "./state.js";
import { styleOf } from "./theme.js";

const STATUSES = ["running", "completed", "interrupted", "failed", "unreadable"];
const KEPT = 1000; // rows beside those in view

export class RowElements {
  /**
   * @param {any} runs the page's runs
   * @param {boolean} isWide
   */
  constructor(runs, isWide) {
    this.runs = runs;
    this.isWide = isWide;
    this.known = new Map(); // by id of a run
    this.columns = [];
    this.mark = "";
  }

  // Rows of other columns are built anew.
  show(columns) {
    const mark = JSON.stringify(columns);
    if (mark !== this.mark || this.known.size > KEPT) this.known.clear();
    this.mark = mark;
    this.columns = columns;
    this.picked = new Set(this.runs.picked());
  }

  rowOf(row) {
    let known = this.known.get(row.id);
    if (!known) {
      known = this.build(row);
      this.known.set(row.id, known);
    }
    const { element, tick, cells } = known;
    const isPicked = this.picked.has(row.id);
    element.classList.toggle("open", state.tab === "run" && state.run === row.id);
    const colour = isPicked ? styleOf(this.runs.leaderOf(row.id)).colour : "transparent";
    tick.checked = isPicked;
    const { run, status } = row;
    const mark = [run, status, isPicked, colour].join("\n");
    if (known.tickMark !== mark) {
      known.tickMark = mark;
      tick.style.setProperty("--run", colour);
      tick.setAttribute("aria-label", `Draw ${run}`);
      tick.disabled = status === "unreadable" && !isPicked;
    }
    for (const [i, column] of this.columns.entries()) this.fill(cells[i], column, row);
    return element;
  }

  build({ id }) {
    const tick = el("input", { type: "checkbox", onchange: () => this.runs.toggle(id) });
    const cells = this.columns.map((column) =>
      column.key === "run" ? nameCell(id) : el("td", { class: classOf(column) }),
    );
    const element = el("tr", { "data-id": id }, el("td", { class: "tick" }, tick), ...cells);
    return { element, tick, cells, tickMark: "" };
  }

  fill(cell, column, row) {
    const { key, kind } = column;
    if (key === "run") {
      this.fillName(cell, row);
    } else if (key === "status") {
      if (cell.dataset.status === row.status) return;
      cell.dataset.status = row.status;
      cell.replaceChildren(statusMark(row.status));
    } else if (kind === "time") {
      const value = fieldOf(row, key);
      setText(cell, ago(value));
      setTitle(cell, value ? moment(value) : "");
    } else {
      setText(cell, cellText(row, column));
      setTitle(cell, exactText(row, key));
      cell.classList.toggle("bad", isNonfinite(row, key));
    }
  }

  fillName(cell, row) {
    const [link, tags, bar] = cell.children;
    const { name, stamp } = splitName(row.run);
    setText(link.firstChild, name);
    setText(link.lastChild, this.isWide || this.runs.isAmbiguous(name) ? stamp : "");
    setTitle(link, row.error ? `${row.file}: ${row.error}` : row.file);
    const { texts, title } = troubleOf(row);
    setText(tags, row.error || texts.join(" ") || (row.tags ?? []).join(" "));
    tags.className = row.error || texts.length ? "tags bad" : "tags";
    setTitle(tags, title);
    const hasEnd = row.status === "running" && row.max_iters > 0;
    bar.hidden = !hasEnd;
    if (!hasEnd) return;
    const percent = Math.min(100, (100 * (fieldOf(row, "last_iter") ?? 0)) / row.max_iters);
    bar.firstChild.style.setProperty("width", `${percent.toFixed(1)}%`);
  }
}

// What is wrong with a run: alerts, series that end in NaN, what is missing in its files.
function troubleOf(row) {
  const alerts = (row.alerts ?? []).filter((alert) => alert.now);
  const texts = alerts.map(({ rule }) => `⚠ ${rule.replace("_", " ")}`);
  const nonfinite = row.ends_nonfinite ?? []; // series
  if (nonfinite.length) texts.push(`⚠ ends in NaN: ${nonfinite.join(", ")}`);
  texts.push(...row.warnings.map((text) => `⚠ ${text}`));
  const title = [...alerts.map(({ text }) => text), nonfinite.join(", "), ...row.warnings];
  return { texts, title: title.filter(Boolean).join("; ") };
}

function setTitle(element, title) {
  if (element.title !== title) element.title = title;
}

function nameCell(id) {
  const open = () => change({ tab: "run", run: id });
  const link = runLink(id, open, { class: "name" }, el("span"), el("small"));
  const bar = el("span", { class: "bar", hidden: true }, el("i"));
  return el("td", { class: "name" }, link, el("span", { class: "tags" }), bar);
}

export function statusMark(status) {
  const name = STATUSES.includes(status) ? status : "unknown";
  const text = el("span", { class: "word", text: name });
  return el("span", { class: `mark ${name}`, title: name }, icon(name), text);
}
