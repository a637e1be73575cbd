// The runs there are: filtered, sorted, grouped by a value, ticked to be drawn.

import { el, icon, keep, button } from "./dom.js";
import { askJson } from "./server.js";
import { change, look, state, textOf } from "./state.js";
import { STATUS, ago, full, moment, named, own, shown } from "./words.js";

const AT_ONCE = 100; // rows put on the page before one asks for more
const CONFIG_COLUMNS = 5; // of those settings in which runs differ

const COLUMNS = [
  { key: "status", head: "status" },
  { key: "run", head: "run" },
  { key: "iterations", head: "iterations", number: true },
  { key: "best_val_loss", head: "best val", number: true },
  { key: "final_loss", head: "last loss", number: true },
  { key: "avg_time_ms", head: "ms/iter", number: true },
  { key: "avg_mfu", head: "MFU %", number: true },
  { key: "started", head: "started" },
];

export function value(row, key) {
  if (key === "last_iter") return row.last_iter ?? row.iterations;
  if (Object.hasOwn(row, key)) return row[key];
  const [part, ...rest] = key.split(".");
  if (part === "config" || part === "metadata") return own(row[part] ?? {}, rest.join("."));
  return own(row.config ?? {}, key);
}

export class RunList {
  // `isWide`: a table with all columns; else a narrow list beside the charts.
  constructor(shared, isWide) {
    this.shared = shared;
    this.isWide = isWide;
    this.rows = new Map();
    this.limit = AT_ONCE;
    this.ids = null; // those an expression is true for; null: plain words, judged here
    this.count = el("p", { class: "count" });
    this.problem = el("p", { class: "problem", role: "status", hidden: true });
    this.body = el("tbody");
    this.head = el("tr");
    this.more = el("button", {
      type: "button",
      class: "more",
      hidden: true,
      onclick: () => {
        this.limit = Infinity;
        this.show();
      },
    });
    this.empty = el("div", { class: "hint", hidden: true });
    this.element = el(
      "div",
      { class: isWide ? "runs wide" : "runs" },
      this.tools(),
      this.problem,
      el(
        "div",
        { class: "scroll" },
        el(
          "table",
          {},
          el("caption", { class: "unseen", text: "Runs" }),
          el("thead", {}, this.head),
          this.body,
        ),
      ),
      this.empty,
      this.more,
    );
  }

  tools() {
    this.filter = el("input", {
      type: "search",
      placeholder: this.isWide ? "Filter: words, or best_val_loss < 3" : "Filter runs  /",
      "aria-label":
        "Filter runs: words of the name, status or tags, or an expression like best_val_loss < 3",
      autocomplete: "off",
      spellcheck: "false",
    });
    let wait = 0;
    this.filter.addEventListener("input", () => {
      clearTimeout(wait);
      wait = setTimeout(() => change({ q: this.filter.value }, { replace: true }), 120);
    });
    this.filter.addEventListener("keydown", (event) => {
      if (event.key === "Escape") {
        this.filter.value = "";
        change({ q: "" });
        this.filter.blur();
      }
    });
    this.group = el("select", {
      "aria-label": "Group runs by",
      onchange: () => change({ group: this.group.value }),
    });
    this.sort = el("select", {
      "aria-label": "Sort runs by",
      onchange: () => change({ sort: this.sort.value }),
    });
    return el(
      "div",
      { class: "list-tools" },
      this.filter,
      el(
        "div",
        { class: "row" },
        el("label", { class: "field" }, el("span", { text: "Group" }), this.group),
        this.isWide
          ? null
          : el("label", { class: "field" }, el("span", { text: "Sort" }), this.sort),
      ),
      el(
        "div",
        { class: "row" },
        this.count,
        button(
          "Pick all that are listed (a)",
          { class: "quiet words", onclick: () => this.pickAll() },
          "all",
        ),
        button(
          "Pick none (n)",
          { class: "quiet words", onclick: () => change({ picks: [] }) },
          "none",
        ),
      ),
    );
  }

  // ---- which rows

  async filterBy(q) {
    if (q === this.asked) return;
    this.asked = q;
    if (!/[<>=%()]|\b(and|or|not|in|like|is)\b/i.test(q)) {
      this.ids = null;
      this.say("");
      return;
    }
    try {
      const answer = await askJson("/api/where", { q });
      if (q !== this.asked) return;
      this.ids = answer.ids ? new Set(answer.ids) : this.ids;
      this.say(answer.error ?? "");
    } catch (error) {
      this.say(error.message);
    }
    this.show();
  }

  say(text) {
    keep(this.problem, text);
    this.problem.hidden = !text;
  }

  selected() {
    const rows = this.shared.rows();
    if (this.ids) return rows.filter((row) => this.ids.has(row.id));
    const words = state.q.toLowerCase().split(/\s+/).filter(Boolean);
    if (!words.length || this.problem.textContent) return rows;
    return rows.filter((row) => {
      const text =
        `${row.run} ${row.file} ${row.status} ${(row.tags ?? []).join(" ")}`.toLowerCase();
      return words.every((word) => text.includes(word));
    });
  }

  ordered(rows) {
    const key = state.sort.replace(/^-/, "");
    const sign = state.sort.startsWith("-") ? -1 : 1;
    const known = (v) => v !== null && v !== undefined && v !== "";
    return [...rows].sort((a, b) => {
      const [x, y] = [value(a, key), value(b, key)];
      if (known(x) !== known(y)) return known(x) ? -1 : 1;
      if (known(x) && x !== y) {
        if (typeof x === "number" && typeof y === "number") return sign * (x - y);
        return sign * String(x).localeCompare(String(y), undefined, { numeric: true });
      }
      return a.id < b.id ? -1 : 1;
    });
  }

  grouped(rows) {
    if (!state.group) return [["", rows]];
    const groups = new Map();
    for (const row of rows) {
      const name = shown(value(row, state.group));
      if (!groups.has(name)) groups.set(name, []);
      groups.get(name).push(row);
    }
    return [...groups].sort(([a], [b]) => a.localeCompare(b, undefined, { numeric: true }));
  }

  listed() {
    return this.grouped(this.ordered(this.selected())).flatMap(([, rows]) => rows);
  }

  pickAll() {
    change({
      picks: this.listed()
        .filter((row) => row.status !== "unreadable")
        .map((row) => row.id)
        .slice(0, 64),
    });
  }

  // ---- on the page

  show() {
    if (this.filter.value !== state.q && document.activeElement !== this.filter)
      this.filter.value = state.q;
    this.filterBy(state.q);
    const settings = this.shared.settings();
    this.columns = this.isWide
      ? [
          ...COLUMNS,
          ...settings
            .slice(0, CONFIG_COLUMNS)
            .map((name) => ({ key: `config.${name}`, head: name, setting: true })),
        ]
      : COLUMNS.filter(({ key }) => ["status", "run", "best_val_loss"].includes(key));
    this.showHead();
    this.showChoices(settings);
    const picked = new Set(this.shared.picked());
    const selected = this.ordered(this.selected());
    const groups = this.grouped(selected);
    const wanted = [];
    let left = this.limit;
    for (const [name, rows] of groups) {
      if (left <= 0) break;
      if (state.group) wanted.push(this.groupRow(name, rows));
      for (const row of rows.slice(0, left)) wanted.push(this.rowOf(row, picked.has(row.id)));
      left -= rows.length;
    }
    this.place(wanted);
    const there = this.shared.rows().length;
    keep(
      this.count,
      selected.length === there
        ? `${there.toLocaleString()} ${there === 1 ? "run" : "runs"}`
        : `${selected.length.toLocaleString()} of ${there.toLocaleString()} runs`,
    );
    this.more.hidden = selected.length <= this.limit;
    keep(this.more, `Show the other ${(selected.length - this.limit).toLocaleString()}`);
    this.showEmpty(there, selected.length);
  }

  showEmpty(there, n) {
    this.empty.hidden = n > 0;
    if (n) return;
    const words = there
      ? "No run is like that. Escape clears the filter."
      : this.shared.whyNoRuns();
    keep(this.empty, words);
  }

  showHead() {
    const mark = this.columns.map((column) => column.key).join() + state.sort;
    if (mark === this.headMark) return;
    this.headMark = mark;
    const by = state.sort.replace(/^-/, "");
    this.head.replaceChildren(
      el("th", { scope: "col", class: "tick" }, el("span", { class: "unseen", text: "drawn" })),
      ...this.columns.map((column) => {
        const isBy = column.key === by;
        const isDown = state.sort.startsWith("-");
        return el(
          "th",
          {
            scope: "col",
            class: `${column.number ? "number" : ""} ${column.key === "status" ? "status" : ""}`,
            "aria-sort": isBy ? (isDown ? "descending" : "ascending") : null,
          },
          el(
            "button",
            {
              type: "button",
              class: "sort",
              title: `Sort by ${column.head}`,
              "aria-label": `${column.head}, sort by it`,
              onclick: () => change({ sort: isBy && !isDown ? `-${column.key}` : column.key }),
            },
            el("span", { text: column.key === "status" && !this.isWide ? "" : column.head }),
            el("span", {
              class: "arrow",
              "aria-hidden": "true",
              text: isBy ? (isDown ? "↓" : "↑") : "",
            }),
          ),
        );
      }),
    );
  }

  showChoices(settings) {
    const hasGroups = this.shared.rows().some((row) => own(row.metadata ?? {}, "group")); // a study's trials
    const mark = `${settings.join("\n")}|${state.group}|${state.sort}|${hasGroups}`;
    if (mark === this.choicesMark) return;
    this.choicesMark = mark;
    const choice = (name, text, chosen) =>
      el("option", { value: name, text, selected: name === chosen });
    const groups = [
      "",
      "status",
      ...(hasGroups ? ["metadata.group"] : []),
      ...settings.map((name) => `config.${name}`),
    ];
    if (state.group && !groups.includes(state.group)) groups.push(state.group);
    this.group.replaceChildren(
      ...groups.map((name) =>
        choice(name, name ? name.replace(/^(config|metadata)\./, "") : "nothing", state.group),
      ),
    );
    const sorts = [
      "-started",
      "run",
      "status",
      "best_val_loss",
      "final_loss",
      "-iterations",
      "avg_time_ms",
      "-avg_mfu",
      ...settings.map((name) => `config.${name}`),
    ];
    if (!sorts.includes(state.sort)) sorts.push(state.sort);
    const words = {
      "-started": "newest",
      run: "name",
      best_val_loss: "best val",
      final_loss: "last loss",
      "-iterations": "iterations",
      avg_time_ms: "ms/iter",
      "-avg_mfu": "MFU",
    };
    this.sort.replaceChildren(
      ...sorts.map((name) => choice(name, words[name] ?? name.replace(/config\./, ""), state.sort)),
    );
  }

  groupRow(name, rows) {
    const known = rows.map((row) => row.best_val_loss).filter((v) => typeof v === "number");
    const best = known.length ? `, best val ${full(Math.min(...known))}` : "";
    const ids = rows.map((row) => row.id);
    return el(
      "tr",
      { class: "group" },
      el(
        "th",
        { colspan: this.columns.length + 1, scope: "rowgroup" },
        el("span", {
          class: "value",
          text: `${state.group.replace(/^(config|metadata)\./, "")} ${name}`,
        }),
        el("small", { text: `${rows.length} ${rows.length === 1 ? "run" : "runs"}${best}` }),
        button(
          "Pick this group alone",
          { class: "quiet words", onclick: () => change({ picks: ids.slice(0, 64) }) },
          "pick",
        ),
        rows.length > 1
          ? button(
              "Open this group as a study",
              {
                class: "quiet words",
                onclick: () =>
                  change({
                    tab: "study",
                    by: state.group,
                    of: textOf(value(rows[0], state.group)),
                    brush: "",
                  }),
              },
              "study",
            )
          : null,
      ),
    );
  }

  rowOf(row, isPicked) {
    let known = this.rows.get(row.id);
    const mark = this.columns.length;
    if (!known || known.mark !== mark) {
      known = this.makeRow(row, mark);
      this.rows.set(row.id, known);
    }
    const isOpen = state.tab === "run" && state.run === row.id;
    known.element.classList.toggle("open", isOpen);
    known.tick.checked = isPicked;
    const { colour } = look(row.id);
    known.tick.style.setProperty("--run", isPicked ? colour : "transparent");
    known.tick.setAttribute("aria-label", `Draw ${row.run}`);
    known.tick.disabled = row.status === "unreadable" && !isPicked;
    this.columns.forEach((column, i) => this.fill(known.cells[i], column, row));
    return known.element;
  }

  makeRow(row, mark) {
    const { id } = row;
    const tick = el("input", { type: "checkbox", onchange: () => this.shared.toggle(id) });
    const cells = this.columns.map((column) => {
      if (column.key === "run") {
        const link = el("a", { class: "name", href: "#" }, el("span"), el("small"));
        link.addEventListener("click", (event) => {
          if (event.metaKey || event.ctrlKey) return;
          event.preventDefault();
          change({ tab: "run", run: id });
        });
        const bar = el("span", { class: "bar", hidden: true }, el("i"));
        return el("td", { class: "name" }, link, el("span", { class: "tags" }), bar);
      }
      return el("td", {
        class: [
          column.number ? "number" : "",
          column.key === "status" ? "status" : "",
          column.setting ? "setting" : "",
        ]
          .join(" ")
          .trim(),
      });
    });
    const element = el("tr", { "data-id": id }, el("td", { class: "tick" }, tick), ...cells);
    return { element, tick, cells, mark };
  }

  fill(cell, column, row) {
    const v = value(row, column.key);
    if (column.key === "status") {
      if (cell.dataset.status === row.status) return;
      cell.dataset.status = row.status;
      cell.replaceChildren(statusMark(row.status));
    } else if (column.key === "run") {
      const [link, tags, bar] = cell.children;
      const { name, stamp } = named(row.run);
      keep(link.firstChild, name);
      keep(link.lastChild, this.isWide || this.shared.isAmbiguous(name) ? stamp : "");
      link.title = row.error ? `${row.file}: ${row.error}` : row.file;
      link.href = `#tab=run&run=${row.id}`;
      const wrong = (row.alerts ?? []).filter((alert) => alert.now);
      keep(
        tags,
        row.error ||
          wrong.map(({ rule }) => `⚠ ${rule.replace("_", " ")}`).join(" ") ||
          (row.tags ?? []).join(" "),
      );
      tags.className = row.error || wrong.length ? "tags why" : "tags";
      tags.title = wrong.map(({ text }) => text).join("; ");
      const share =
        row.status === "running" && row.max_iters > 0
          ? (value(row, "last_iter") ?? 0) / row.max_iters
          : null;
      bar.hidden = share === null;
      if (share !== null)
        bar.firstChild.style.setProperty("width", `${Math.min(100, 100 * share).toFixed(1)}%`);
    } else if (column.key === "started") {
      keep(cell, ago(v));
      cell.title = v ? moment(v) : "";
    } else {
      keep(cell, column.setting ? shown(v) : full(v, column.key));
      if (column.setting) cell.title = shown(v);
    }
  }

  place(wanted) {
    let at = this.body.firstElementChild;
    for (const element of wanted) {
      if (at === element) at = at.nextElementSibling;
      else this.body.insertBefore(element, at);
    }
    while (at) {
      const next = at.nextElementSibling;
      at.remove();
      at = next;
    }
    if (this.rows.size > 2 * wanted.length + 1000) {
      const kept = new Set(wanted);
      for (const [id, { element }] of this.rows) if (!kept.has(element)) this.rows.delete(id);
    }
  }

  // The next or previous name gets the focus.
  step(by) {
    const links = [...this.body.querySelectorAll("a.name")];
    const at = links.indexOf(document.activeElement);
    links[Math.min(links.length - 1, Math.max(0, at + by))]?.focus();
  }
}

export function statusMark(status) {
  const name = own(STATUS, status) ?? "unknown";
  return el(
    "span",
    { class: `mark ${name}`, title: name },
    icon(name),
    el("span", { class: "word", text: name }),
  );
}
