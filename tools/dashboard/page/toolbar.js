// The bars at the top of the page: tabs, connection and theme; then the controls of the charts.

import { button, el, icon, setText } from "./dom.js";
import { MeanControl, toggleMean } from "./mean.js";
import { AXES, axisName } from "./metrics.js";
import { SMOOTHINGS } from "./smooth.js";
import { change, names, offered, state, WHOLE_RANGE } from "./state.js";
import { theme, toggleTheme } from "./theme.js";

export const TABS = ["charts", "runs", "compare", "study"];
const HEADINGS = {
  charts: "Charts of runs",
  runs: "List of runs",
  compare: "Comparison of runs",
  study: "Study of parameters",
};
const AXIS_BUTTONS = { iter: "Iterations", tokens: "Tokens", time: "Time" };
const FIND_MS = 200; // after the last key

const smoothingIndex = () => SMOOTHINGS.findLastIndex((n) => n <= state.smooth);

export function smoothBy(steps) {
  const i = Math.min(SMOOTHINGS.length - 1, Math.max(0, smoothingIndex() + steps));
  change({ smooth: SMOOTHINGS[i] });
}

// ---- what a button or a key toggles

export const toggles = {
  logx: () => change({ logx: !state.logx, ...WHOLE_RANGE }),
  logy: () => change({ logy: !state.logy }),
  fit: () => change({ fit: state.fit === "on" ? "" : "on" }),
  mean: toggleMean,
};

export function nextAxis() {
  const axes = [...(offered.length ? [""] : []), ...Object.keys(AXES), ...offered];
  const at = axes.indexOf(state.x || axes[0]);
  change({ x: axes[(at + 1) % axes.length], ...WHOLE_RANGE });
}

export class TopBar {
  /** @param {() => void} onHelp */
  constructor(onHelp) {
    this.where = el("span", { class: "where" });
    this.heading = el("h1", { class: "unseen" });
    this.live = el("span", { class: "live" }, el("i"), el("span", { text: "connecting" }));
    const title = (name) => name[0].toUpperCase() + name.slice(1);
    this.tabs = TABS.map((name) => {
      const onclick = (event) => {
        event.preventDefault();
        change({ tab: name });
      };
      return el("a", { href: `#tab=${name}`, class: "tab", text: title(name), onclick });
    });
    const help = button("Keys (?)", { class: "quiet", onclick: onHelp }, icon("help"));
    this.theme = button("Light or dark (t)", { class: "quiet", onclick: toggleTheme });
    document
      .getElementById("top")
      .append(
        el("div", { class: "brand" }, el("b", { text: "runs" }), this.where),
        this.heading,
        el("nav", { "aria-label": "Views" }, ...this.tabs),
        el("div", { class: "spring" }),
        this.live,
        help,
        this.theme,
      );
  }

  show(tab, folders) {
    for (const [i, link] of this.tabs.entries()) {
      if (TABS[i] === tab) link.setAttribute("aria-current", "page");
      else link.removeAttribute("aria-current");
    }
    setText(this.heading, HEADINGS[tab] ?? "");
    this.heading.hidden = !this.heading.textContent; // a run's page has its own
    this.theme.replaceChildren(icon(theme() === "dark" ? "sun" : "moon"));
    setText(this.where, folders.join(" "));
  }

  showConnection(isConnected) {
    this.live.className = `live ${isConnected ? "on" : "off"}`;
    setText(this.live.lastChild, isConnected ? "live" : "no connection");
  }
}

// Names of series, with wildcards: these are drawn, also hidden ones.
function buildFind() {
  const label = "Find series by name: val/* lr, or a part of a name (f)";
  const props = { type: "search", class: "find", placeholder: "Find series  val/* lr" };
  const find = el("input", { ...props, "aria-label": label, title: label, spellcheck: "false" });
  let timer = 0;
  find.addEventListener("input", () => {
    clearTimeout(timer);
    timer = setTimeout(() => change({ find: find.value.trim() }, { replace: true }), FIND_MS);
  });
  find.addEventListener("keydown", (event) => {
    if (event.key !== "Escape") return;
    find.value = "";
    change({ find: "" });
    find.blur();
  });
  return find;
}

export class Controls {
  constructor() {
    this.axes = Object.entries(AXIS_BUTTONS).map(([x, text]) => {
      const onclick = () => change({ x, ...WHOLE_RANGE });
      return button(`By ${AXES[x]}`, { "data-x": x, onclick }, text);
    });
    const onSelect = () => change({ x: this.series.value, ...WHOLE_RANGE });
    const label = "Horizontal axis: a series of the runs";
    this.series = el("select", { class: "axis-series", "aria-label": label, onchange: onSelect });
    const chip = (key, label, text = label) =>
      button(label, { class: "chip", "data-key": key, onclick: toggles[key] }, text);
    this.toggles = [
      chip("logy", "Log y"),
      chip("logx", "Log x"),
      chip("fit", "Cut off outliers (o)", "Fit y"),
    ];
    const onReset = () => change(WHOLE_RANGE);
    const resetProps = { class: "chip", onclick: onReset };
    this.reset = button("Show the whole range (0)", resetProps, "Reset zoom");
    this.mean = new MeanControl(true);
    this.find = buildFind();
    this.element = el(
      "section",
      { class: "controls", "aria-label": "How the charts are drawn" },
      el(
        "div",
        { class: "segments", role: "group", "aria-label": "Horizontal axis" },
        ...this.axes,
      ),
      this.series,
      this.find,
      this.buildSmoothing(),
      ...this.toggles,
      this.mean.element,
      this.reset,
    );
    document.body.insertBefore(this.element, document.getElementById("body"));
  }

  // What the runs defined is the first; then the series that are their axes, and all others.
  showSeries() {
    const isSeries = state.x !== "" && !Object.hasOwn(AXES, state.x);
    const axes = [...new Set([...offered, ...(isSeries ? [state.x] : [])])];
    const others = names.filter((name) => !axes.includes(name));
    const mark = JSON.stringify([axes, others, state.x]);
    if (mark === this.seriesMark || document.activeElement === this.series) return;
    this.seriesMark = mark;
    const option = (value, text) => el("option", { value, text, selected: value === state.x });
    const group = (label, values) =>
      values.length &&
      el("optgroup", { label }, ...values.map((name) => option(name, axisName(name))));
    this.series.replaceChildren(
      ...[
        !isSeries && state.x !== "" && option(state.x, "By a series …"),
        option("", offered.length ? "As defined" : "By a series …"),
        group("Axes of the runs", axes),
        group("Any series", others),
      ].filter(Boolean),
    );
  }

  buildSmoothing() {
    const onSmooth = () => change({ smooth: SMOOTHINGS[this.slider.value] }, { replace: true });
    this.slider = el("input", {
      type: "range",
      min: 0,
      max: SMOOTHINGS.length - 1,
      step: 1,
      "aria-label": "Smoothing: how many logged values are averaged",
      oninput: onSmooth,
    });
    this.width = el("output", { class: "smooth-width" });
    const label = el("span", { text: "Smooth" });
    return el("label", { class: "smooth" }, label, this.slider, this.width);
  }

  show(tab, settings) {
    this.element.hidden = tab !== "run" && tab !== "charts";
    if (document.activeElement !== this.find) this.find.value = state.find;
    this.mean.show(settings);
    this.mean.element.hidden = tab !== "charts";
    const x = state.x || (offered.length ? "" : "iter");
    for (const axis of this.axes) axis.setAttribute("aria-pressed", axis.dataset.x === x);
    this.showSeries();
    for (const toggle of this.toggles) {
      const value = state[toggle.dataset.key];
      toggle.setAttribute("aria-pressed", value === true || value === "on");
    }
    if (document.activeElement !== this.slider) this.slider.value = smoothingIndex();
    const { smooth } = state;
    this.slider.setAttribute("aria-valuetext", smooth ? `${smooth} values` : "off");
    setText(this.width, smooth ? String(smooth) : "off");
    this.reset.hidden = state.from === null;
  }
}
