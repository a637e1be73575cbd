// The keys of the page, and the dialog that lists them.

import { announce, button, el, icon } from "./dom.js";
import { change, state, WHOLE_RANGE } from "./state.js";
import { toggleTheme } from "./theme.js";
import { nextAxis, smoothBy, TABS, toggles } from "./toolbar.js";

const HELP = [
  ["1 2 3 4", "charts, runs, compare, study"],
  ["/", "filter the runs"],
  ["f", "find series by name"],
  ["j k", "next, previous run"],
  ["space", "draw the focused run, or stop drawing it"],
  ["Enter", "open it"],
  ["a n", "pick all listed runs, none"],
  ["x", "iterations, tokens, time"],
  ["s S", "smooth more, less"],
  ["l g", "log scale for y, for x"],
  ["o", "cut off outliers"],
  ["e", "runs that differ in the seed alone as one line"],
  ["drag", "zoom; double click: back"],
  ["0", "show the whole range"],
  ["← →", "move the cursor of the focused chart"],
  ["+ −", "zoom there"],
  ["t", "light or dark"],
  ["?", "this list"],
];

export function helpDialog() {
  const item = ([keys, text]) => {
    const caps = keys.split(" ").map((key) => el("kbd", { text: key }));
    return el("div", {}, el("dt", {}, ...caps), el("dd", { text }));
  };
  const close = button(
    "Close",
    { class: "quiet close", type: "submit", onclick: () => dialog.close() },
    icon("close"),
  );
  const heading = el("h2", { text: "Keys" });
  const form = el("form", { method: "dialog" }, heading, close, el("dl", {}, ...HELP.map(item)));
  const dialog = el("dialog", { class: "help", "aria-label": "Keys" }, form);
  document.body.append(dialog);
  return dialog;
}

function announceSmoothing(steps) {
  smoothBy(steps);
  announce(`smoothing ${state.smooth || "off"}`);
}

/**
 * @param {{runs: any, help: HTMLDialogElement, list: () => any}} page `list` is the list shown
 */
export function listenToKeys({ runs, help, list }) {
  const actions = {
    ...Object.fromEntries(TABS.map((tab, i) => [i + 1, () => change({ tab })])),
    "/": () => list().filter.focus(),
    f: () => /** @type {HTMLElement} */ (document.querySelector("input.find")).focus(),
    j: () => list().step(1),
    k: () => list().step(-1),
    a: () => list().pickAll(),
    n: () => change({ picks: [] }),
    x: nextAxis,
    s: () => announceSmoothing(1),
    S: () => announceSmoothing(-1),
    l: toggles.logy,
    g: toggles.logx,
    o: toggles.fit,
    e: toggles.mean,
    0: () => change(WHOLE_RANGE),
    t: toggleTheme,
    "?": () => help.showModal(),
  };
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || help.open) return;
    const target = /** @type {Element} */ (event.target);
    if (target.matches("input[type=search], input[type=text], select, textarea")) return;
    const row = /** @type {HTMLElement} */ (target.closest("tr[data-id]"));
    let action = Object.hasOwn(actions, event.key) ? actions[event.key] : null;
    if (event.key === " " && row && target.matches("a")) action = () => runs.toggle(row.dataset.id);
    if (event.key === "Escape" && state.big) action = () => change({ big: "" });
    if (!action) return;
    event.preventDefault();
    action();
  });
}
