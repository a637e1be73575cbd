// The sections of the panels: those that are pinned, the usual series, then one for each prefix.

import { el, setText } from "./dom.js";

const FLAT_MAX = 12; // so many panels need no sections
const OPEN_MAX = 60; // panels in the sections that are open at first
export const PINNED = "Pinned";
const USUAL = "Key metrics";
const REST = "Other";

// The section of a name: what it has up to its first "/", or else up to its first ".". Those that
// differ in a number are one: "layer*/" of `layer1/norm`, `layer2/norm`; "grad*" of `grad1`, `grad2`.
function sectionOf(name) {
  const at = name.includes("/") ? name.indexOf("/") : name.indexOf(".");
  if (at > 0) return name.slice(0, at + 1).replace(/\d+(?=.$)/, "*");
  return /\d/.test(name) ? name.replace(/\d+/g, "*") : REST;
}

/**
 * @param {string[]} names of panels, in their order
 * @param {Set<string>} usual
 * @param {{pin: string[], open: Record<string, boolean>}} layout
 * @returns {{name: string, keys: string[], isOpen: boolean}[]} one without a name: no sections
 */
export function sectionsOf(names, usual, layout) {
  if (names.length <= FLAT_MAX && !layout.pin.length)
    return [{ name: "", keys: names, isOpen: true }];
  const pinned = layout.pin.filter((name) => names.includes(name));
  const others = names.filter((name) => !layout.pin.includes(name));
  const byName = new Map([
    [PINNED, pinned],
    [USUAL, others.filter((name) => usual.has(name))],
    ...byPrefix(
      others.filter((name) => !usual.has(name)),
      new Set([...usual].map(sectionOf)),
    ),
  ]);
  const sections = [...byName].filter(([, keys]) => keys.length);
  if (sections.length === 1) return [{ name: "", keys: sections[0][1], isOpen: true }];
  let nOpen = 0;
  return sections.map(([name, keys], k) => {
    const isOpen = Object.hasOwn(layout.open, name)
      ? layout.open[name]
      : k === 0 || nOpen + keys.length <= OPEN_MAX;
    if (isOpen) nOpen += keys.length;
    return { name, keys, isOpen };
  });
}

/**
 * The names by their sections: first those that usual series have, too ("train/", "val/"), last the
 * names that are alone in theirs.
 * @param {string[]} names
 * @param {Set<string>} first
 * @returns {[string, string[]][]}
 */
function byPrefix(names, first) {
  const byName = Map.groupBy(names, sectionOf);
  const rest = new Set(byName.get(REST) ?? []);
  byName.delete(REST);
  for (const [section, keys] of byName) {
    if (keys.length > 1 || first.has(section)) continue;
    byName.delete(section);
    rest.add(keys[0]);
  }
  const isLater = (name) => (first.has(name) ? 0 : 1);
  const ordered = [...byName].sort(([a], [b]) => isLater(a) - isLater(b));
  return [...ordered, [REST, names.filter((name) => rest.has(name))]];
}

// A heading that opens and closes the panels below it.
export class Section {
  /** @param {(name: string, isOpen: boolean) => void} onToggle */
  constructor(name, onToggle) {
    this.name = name;
    this.isOpen = true;
    this.count = el("small");
    const toggle = () => onToggle(name, !this.isOpen);
    const label = el("span", { text: name });
    this.button = el("button", { type: "button", onclick: toggle }, label, this.count);
    this.heading = el("h2", { class: "section-name", hidden: !name }, this.button);
    this.panels = el("div", { class: "panels" });
    this.element = el("section", { class: "panel-section" }, this.heading, this.panels);
  }

  show(nPanels, isOpen) {
    this.isOpen = isOpen;
    setText(this.count, String(nPanels));
    this.button.setAttribute("aria-expanded", isOpen);
    this.panels.hidden = !isOpen;
  }
}
