// The switch between a line for each run and the mean of runs that differ in the seed alone.

import { button, el } from "./dom.js";
import { change, state } from "./state.js";

const SEEDS = "seeds";
const BANDS = { std: "± std", range: "min to max" };
const KEYS = "One line for all runs with the same: seeds (all settings but those), or keys";

export const toggleMean = () => change({ mean: state.mean ? "" : SEEDS });

let nControls = 0;

export class MeanControl {
  /** @param {boolean} hasBand whether the band can be chosen, too */
  constructor(hasBand) {
    const label = "Runs that differ in the seed alone as one line: their mean, with a band (e)";
    this.toggle = button(label, { class: "chip", onclick: toggleMean }, "Mean of seeds");
    nControls += 1;
    this.choices = el("datalist", { id: `mean-keys-${nControls}` });
    this.keys = el("input", {
      type: "text",
      "aria-label": KEYS,
      title: KEYS,
      placeholder: "config.lr,config.depth",
      list: this.choices.id,
      autocomplete: "off",
      spellcheck: "false",
      onchange: () => change({ mean: this.keys.value.trim() || SEEDS }),
    });
    const onBand = () => change({ band: this.band.value });
    this.band = el("select", { "aria-label": "Band around the mean", onchange: onBand });
    const option = ([value, text]) => el("option", { value, text });
    this.band.append(...Object.entries(BANDS).map(option));
    const by = [this.keys, this.choices, hasBand && this.band];
    this.by = el("span", { class: "mean-by" }, ...by);
    this.element = el("div", { class: "mean" }, this.toggle, this.by);
  }

  /** @param {string[]} settings in which runs differ */
  show(settings) {
    this.toggle.setAttribute("aria-pressed", Boolean(state.mean));
    this.by.hidden = !state.mean;
    if (document.activeElement !== this.keys) this.keys.value = state.mean;
    this.band.value = state.band;
    const mark = settings.join("\n");
    if (mark === this.mark) return;
    this.mark = mark;
    const keys = [SEEDS, ...settings.map((name) => `config.${name}`)];
    this.choices.replaceChildren(...keys.map((value) => el("option", { value })));
  }
}
