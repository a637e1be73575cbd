// The dialog in which the columns of the table are chosen: added by name, removed, and ordered.

import { FIELDS, headOf } from "./columns.js";
import { announce, button, el, icon, setText } from "./dom.js";
import { COLUMNS_MAX, change } from "./state.js";

const FOUND_MAX = 60; // names that are listed at once
const FIXED = ["run"]; // a row has its name

export class Chooser {
  /** @param {any} columns of the table */
  constructor(columns) {
    this.columns = columns;
    const label = "Find a setting, a series or a field";
    this.find = el("input", {
      type: "search",
      "aria-label": `${label}; Enter adds the first`,
      placeholder: label,
      autocomplete: "off",
      spellcheck: "false",
      oninput: () => this.showFound(),
    });
    this.find.addEventListener("keydown", (event) => {
      if (event.key !== "Enter") return;
      event.preventDefault();
      this.found.querySelector("button")?.click();
    });
    this.chosen = el("ol", { class: "chosen", "aria-label": "Columns of the table" });
    this.found = el("ul", { class: "found", "aria-label": "Columns to add" });
    this.note = el("p", { class: "hint", role: "status" });
    const close = button("Close", { class: "quiet close", onclick: () => this.dialog.close() });
    close.append(icon("close"));
    const reset = () => {
      change({ columns: null });
      this.show();
    };
    const usual = el("button", {
      type: "button",
      class: "chip",
      onclick: reset,
      text: "By relevance",
    });
    usual.title = "Results, metrics with a goal, and the settings that explain most of the results";
    const add = el("div", {}, this.find, this.found, this.note);
    const shown = el(
      "div",
      {},
      el("div", { class: "card-head" }, el("h3", { text: "Shown" }), usual),
      this.chosen,
    );
    this.dialog = el(
      "dialog",
      { class: "help chooser", "aria-label": "Columns" },
      el("h2", { text: "Columns" }),
      close,
      el("div", { class: "two" }, add, shown),
    );
    document.body.append(this.dialog);
  }

  open() {
    this.find.value = "";
    this.show();
    this.dialog.showModal();
    this.find.focus();
  }

  show() {
    this.showChosen();
    this.showFound();
  }

  set(keys) {
    change({ columns: keys });
    this.show();
  }

  // ---- the columns of the table

  showChosen() {
    const { keys } = this.columns;
    this.chosen.replaceChildren(...keys.map((key, i) => this.chosenItem(key, i, keys)));
  }

  chosenItem(key, i, keys) {
    const name = headOf(key);
    const move = (by) => {
      const others = keys.filter((other) => other !== key);
      others.splice(i + by, 0, key);
      this.set(others);
      const again = this.chosen.children[i + by].querySelector(`[data-by="${by}"]`);
      if (again.disabled) this.chosen.children[i + by].querySelector("button:enabled")?.focus();
      else again.focus();
      announce(`${name}, column ${i + by + 1} of ${keys.length}`);
    };
    const remove = () => {
      this.set(keys.filter((other) => other !== key));
      this.find.focus();
      announce(`${name} removed`);
    };
    const moveButton = (by, label, text) =>
      button(
        `${label}: ${name}`,
        { class: "quiet", "data-by": by, disabled: !keys[i + by], onclick: () => move(by) },
        text,
      );
    return el(
      "li",
      {},
      el("span", { class: "value", text: name, title: key }),
      moveButton(-1, "Move to the left", "↑"),
      moveButton(1, "Move to the right", "↓"),
      button(
        `Remove: ${name}`,
        { class: "quiet", disabled: FIXED.includes(key), onclick: remove },
        "×",
      ),
    );
  }

  // ---- what can be added

  showFound() {
    const text = this.find.value.trim();
    const matching = this.candidates(text);
    const shown = matching.slice(0, FOUND_MAX);
    const items = shown.map(({ key, about }) => this.foundItem(key, about));
    this.found.replaceChildren(...items);
    const { left, n_series: nSeries, n_settings: nSettings, series } = this.columns.offered;
    const parts = [];
    if (matching.length > shown.length)
      parts.push(`${shown.length} of ${matching.length} that match.`);
    if (!matching.length)
      parts.push(text ? `No setting or series matches ${text}.` : "All are shown.");
    if (left) parts.push(`The series of ${left.toLocaleString()} runs are still to be read.`);
    if (nSeries > series.length)
      parts.push(`${nSeries.toLocaleString()} series in all: write the name in full.`);
    parts.push(
      `A series is its last value, or NAME:min, :max, :best, :mean, :first, :count, NAME@1000.`,
    );
    setText(this.note, parts.join(" "));
    this.found.setAttribute(
      "aria-label",
      `Columns to add: ${matching.length} of ${(nSeries ?? 0) + (nSettings ?? 0)}`,
    );
  }

  // Each word must be in the name; a statistic of a series that is written out is one, too.
  candidates(text) {
    const { settings, series } = this.columns.offered;
    const words = text.toLowerCase().split(/\s+/).filter(Boolean);
    const all = [
      ...Object.keys(FIELDS).map((key) => ({ key, about: "field" })),
      ...series.map(({ key, n_runs: n }) => ({ key, about: `series, ${n.toLocaleString()} runs` })),
      ...settings.map((key) => ({ key, about: key.split(".")[0] })),
    ];
    const chosen = new Set(this.columns.keys);
    const matches = ({ key }) =>
      words.every((word) => `${headOf(key)} ${key}`.toLowerCase().includes(word));
    const found = all.filter((one) => !chosen.has(one.key) && matches(one));
    const written = text && !chosen.has(text) && !all.some(({ key }) => key === text);
    const isAsked = written && /[:@/]/.test(text);
    return isAsked ? [{ key: text, about: "series, as written" }, ...found] : found;
  }

  foundItem(key, about) {
    const name = headOf(key);
    const isFull = this.columns.keys.length >= COLUMNS_MAX;
    const add = () => {
      this.set([...this.columns.keys, key]);
      this.find.focus();
      this.find.select(); // the next name replaces this one
      announce(`${name} added`);
    };
    const props = { class: "quiet text", onclick: add, disabled: isFull };
    return el(
      "li",
      {},
      button(`Add ${name}`, props, "+"),
      el("span", { class: "value", text: name, title: key }),
      el("small", { text: about }),
    );
  }
}
