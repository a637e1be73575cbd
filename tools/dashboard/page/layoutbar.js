// The line above the panels: hidden ones, all sections at once, and the usual layout again.

import { button, el } from "./dom.js";
import { canEdit, keepForAll } from "./edit.js";
import { plural } from "./format.js";
import { EMPTY, layoutText } from "./layout.js";
import { changeLayout, keptLayout, layoutNow, state } from "./state.js";

export class LayoutBar {
  /** @param {any} panels */
  constructor(panels) {
    this.panels = panels;
    this.element = el("div", { class: "layout-bar", hidden: true });
  }

  /** @param {{name: string, keys: string[], isOpen: boolean}[]} sections */
  show(sections) {
    const { hide } = layoutNow();
    const known = this.panels.grid.seriesNames();
    const hidden = state.find ? [] : hide.filter((name) => known.includes(name));
    const isArranged = layoutText(layoutNow()) !== layoutText(EMPTY);
    const isNew = canEdit() && layoutText(layoutNow()) !== layoutText(keptLayout());
    const names = sections.map(({ name, isOpen }) => [name, isOpen]);
    const mark = JSON.stringify([hidden, isArranged, isNew, names]);
    if (mark === this.mark) return;
    this.mark = mark;
    const parts = [
      ...(sections.length > 1 ? this.ofSections(sections) : []),
      hidden.length ? this.ofHidden(hidden) : null,
      isNew ? chip("Keep this layout", keepForAll) : null,
      isArranged ? chip("Usual layout", () => changeLayout(EMPTY)) : null,
    ].filter(Boolean);
    this.element.hidden = !parts.length;
    this.element.replaceChildren(...parts);
  }

  ofSections(sections) {
    const all = (isOpen) => () => {
      const open = Object.fromEntries(sections.map(({ name }) => [name, isOpen]));
      changeLayout({ ...layoutNow(), open });
    };
    const closed = sections.filter(({ isOpen }) => !isOpen);
    return [
      closed.length ? chip("Open all sections", all(true)) : null,
      closed.length < sections.length ? chip("Close all sections", all(false)) : null,
    ];
  }

  ofHidden(names) {
    const item = (name) => chip(`Show ${name}`, () => this.panels.toggle("hide", name));
    const all = chip("Show all", () => changeLayout({ ...layoutNow(), hide: [] }));
    const summary = el("summary", { text: `${plural(names.length, "panel")} hidden` });
    return el("details", { class: "hidden-panels" }, summary, ...names.map(item), all);
  }
}

const chip = (text, onclick) => button(text, { class: "chip", onclick }, text);
