// The settings of one panel: the series in it, its scale, smoothing, range, size and place.

import { button, el, icon } from "./dom.js";
import { COLUMNS_MAX, joined, ROWS_MAX, separated } from "./layout.js";
import { SMOOTHINGS } from "./smooth.js";
import { change, changeLayout, layoutNow, state } from "./state.js";

const SUGGESTED_MAX = 4;
const PARTS_OF_DATA = new Set(["train", "training", "val", "valid", "validation", "eval", "test"]);

/**
 * The names that are the same figure of another part of the data: `val/loss` for `train/loss`.
 * @param {string} name
 * @param {string[]} names
 */
export function counterparts(name, names) {
  const words = (text) => text.toLowerCase().split(/[/._-]+/);
  const rest = (text) =>
    words(text)
      .filter((word) => !PARTS_OF_DATA.has(word))
      .join("/");
  const isOne = (other) => other !== name && rest(other) === rest(name);
  return rest(name) ? names.filter(isOne).slice(0, SUGGESTED_MAX) : [];
}

export class PanelMenu {
  /** @param {any} panels */
  constructor(panels) {
    this.panels = panels;
    this.key = "";
    this.element = el("dialog", { class: "panel-menu", "aria-label": "Settings of the panel" });
    this.element.addEventListener("click", (event) => {
      if (event.target === this.element) this.element.close(); // beside it
    });
  }

  get grid() {
    return this.panels.grid;
  }

  /** @param {any} chart */
  open(chart) {
    this.key = chart.key;
    this.show();
    if (!this.element.isConnected) document.body.append(this.element);
    this.element.showModal();
    this.placeBeside(chart.element);
  }

  placeBeside(panel) {
    const box = panel.getBoundingClientRect();
    const { width, height } = this.element.getBoundingClientRect();
    const left = Math.max(8, Math.min(box.right - width, window.innerWidth - width - 8));
    const top = Math.max(8, Math.min(box.top + 34, window.innerHeight - height - 8));
    this.element.style.setProperty("left", `${left}px`);
    this.element.style.setProperty("top", `${top}px`);
  }

  // Its content as of now; again after each change.
  show() {
    const close = button("Close", { class: "quiet close", onclick: () => this.element.close() });
    close.append(icon("close"));
    this.element.replaceChildren(
      el("h2", { text: this.key || "(empty name)" }),
      close,
      this.seriesPart(),
      this.scalePart(),
      this.placePart(),
    );
  }

  update(layout) {
    changeLayout(layout);
    this.show();
  }

  set(options) {
    this.panels.setOptions(this.key, options);
    this.show();
  }

  // ---- which series

  seriesPart() {
    const { with: left = [], right = [] } = this.grid.optionsOf(this.key);
    const item = (name, side) => {
      const drop = () => this.update(separated(layoutNow(), this.key, name));
      const remove = button(`Remove ${name}`, { class: "quiet", onclick: drop }, icon("close"));
      return el("li", {}, el("span", { text: name }), el("small", { text: side }), remove);
    };
    const listed = [
      ...left.map((name) => item(name, "same axis")),
      ...right.map((name) => item(name, "right axis")),
    ];
    return el(
      "fieldset",
      {},
      el("legend", { text: "Also in this panel" }),
      listed.length ? el("ul", {}, ...listed) : null,
      this.suggestions([...left, ...right]),
      this.adder(),
    );
  }

  suggestions(present) {
    const names = counterparts(this.key, this.grid.seriesNames());
    const add = (name) => () => this.update(joined(layoutNow(), this.key, name, "with"));
    const missing = names.filter((name) => !present.includes(name));
    if (!missing.length) return null;
    const chip = (name) =>
      button(`Add ${name}`, { class: "chip", onclick: add(name) }, `+ ${name}`);
    return el("div", { class: "suggested" }, ...missing.map(chip));
  }

  adder() {
    const options = this.grid.seriesNames().map((value) => el("option", { value }));
    const list = el("datalist", { id: "panel-series" }, ...options);
    const label = "Name of another series";
    const props = { type: "text", list: "panel-series", "aria-label": label, placeholder: label };
    const input = el("input", { ...props, autocomplete: "off", spellcheck: "false" });
    const add = (side) => () => {
      const name = input.value;
      const isKnown = this.grid.seriesNames().includes(name);
      input.setCustomValidity(
        isKnown && name !== this.key ? "" : "Unknown series: choose one of the list",
      );
      if (input.reportValidity()) this.update(joined(layoutNow(), this.key, name, side));
    };
    input.addEventListener("input", () => input.setCustomValidity(""));
    input.addEventListener("keydown", (event) => {
      if (event.key === "Enter") add("with")();
    });
    return el(
      "div",
      { class: "adder" },
      input,
      list,
      button("Add on the same axis", { class: "chip", onclick: add("with") }, "Same axis"),
      button("Add on the right axis", { class: "chip", onclick: add("right") }, "Right axis"),
    );
  }

  // ---- how they are drawn

  scalePart() {
    const { y = "", smooth, fit = "", low, high } = this.grid.optionsOf(this.key);
    const scales = { "": "as all panels", linear: "linear", log: "log" };
    const outliers = { "": "as all panels", on: "cut off", off: "shown" };
    const widths = { "": "as all panels" };
    for (const n of SMOOTHINGS) widths[n] = n ? `${n} values` : "off";
    if (smooth !== undefined) widths[smooth] ??= `${smooth} values`;
    const bound = (label, value, name) => {
      const onchange = ({ target }) =>
        this.set({ [name]: target.value === "" ? undefined : Number(target.value) });
      const shown = value ?? "";
      return el("input", {
        type: "number",
        step: "any",
        "aria-label": label,
        value: shown,
        onchange,
      });
    };
    return el(
      "fieldset",
      {},
      el("legend", { text: "Vertical axis" }),
      choice("Scale", scales, y, (value) => this.set({ y: value || undefined })),
      row(
        "Range",
        bound("From", low, "low"),
        el("span", { text: "to" }),
        bound("To", high, "high"),
      ),
      choice("Outliers", outliers, fit, (value) => this.set({ fit: value || undefined })),
      choice("Smoothing", widths, String(smooth ?? ""), (value) =>
        this.set({ smooth: value === "" ? undefined : Number(value) }),
      ),
    );
  }

  // ---- where it is, and how large

  placePart() {
    const { w = 1, h = 1 } = this.grid.optionsOf(this.key);
    const upTo = (most) =>
      Object.fromEntries(Array.from({ length: most }, (_, i) => [i + 1, i + 1]));
    const size = (name) => (value) =>
      this.set({ [name]: value === "1" ? undefined : Number(value) });
    const isPinned = layoutNow().pin.includes(this.key);
    const isHidden = layoutNow().hide.includes(this.key);
    const does = (text, action) => button(text, { class: "chip", onclick: action }, text);
    const closing = (action) => () => {
      this.element.close();
      action();
    };
    return el(
      "fieldset",
      {},
      el("legend", { text: "Panel" }),
      choice("Width", upTo(COLUMNS_MAX), String(w), size("w")),
      choice("Height", upTo(ROWS_MAX), String(h), size("h")),
      el(
        "div",
        { class: "actions" },
        does("Move earlier", () => this.panels.step(this.key, -1)),
        does("Move later", () => this.panels.step(this.key, 1)),
        does(
          isPinned ? "Unpin" : "Pin",
          closing(() => this.panels.toggle("pin", this.key)),
        ),
        does(
          isHidden ? "Show" : "Hide",
          closing(() => this.hide()),
        ),
      ),
    );
  }

  hide() {
    if (state.big === this.key) change({ big: "" });
    this.panels.toggle("hide", this.key);
  }
}

function row(label, ...controls) {
  return el("div", { class: "row" }, el("span", { text: label }), ...controls);
}

function choice(label, texts, value, onChoose) {
  const option = ([key, text]) => el("option", { value: key, text, selected: key === value });
  const onchange = ({ target }) => onChoose(target.value);
  const entries = Object.entries(texts).sort(([a], [b]) => (a === "" ? -1 : b === "" ? 1 : 0));
  const select = el("select", { "aria-label": label, onchange }, ...entries.map(option));
  return row(label, select);
}
