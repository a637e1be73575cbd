// The appearance of a trial of a study: its colour, its dash, its sign and its values as text.

import { svg } from "./dom.js";
import { short } from "./format.js";
import { ownValue } from "./metrics.js";

// viridis, whose colours colour-blind readers can distinguish, too
const RAMP = "#440154 #472d7b #3b528b #2c728e #21918c #28ae80 #5ec962 #addc30 #fde725".split(" ");
const DASHES = { pruned: "6 4", running: "2 3", failed: "1 5", interrupted: "1 5" };
const DISC = "M-3 0 A3 3 0 1 0 3 0 A3 3 0 1 0 -3 0 Z";
const SIGNS = {
  complete: DISC,
  pruned: DISC,
  running: "M-3 -4 L4 0 L-3 4 Z",
  failed: "M-3 -3 L3 3 M-3 3 L3 -3",
  interrupted: "M-2 -4 V4 M2 -4 V4",
};

// From the best (0) to the worst (1): the best has the strongest contrast.
export function rankColour(rank, theme) {
  const at = (theme === "dark" ? 1 - 0.72 * rank : 0.76 * rank) * (RAMP.length - 1);
  const i = Math.min(RAMP.length - 2, Math.floor(at));
  const channel = (k) => {
    const [a, b] = [RAMP[i], RAMP[i + 1]].map((colour) => parseInt(colour.slice(k, k + 2), 16));
    return Math.round(a + (b - a) * (at - i))
      .toString(16)
      .padStart(2, "0");
  };
  return `#${[1, 3, 5].map(channel).join("")}`;
}

export const dashOf = (state) => ownValue(DASHES, state) ?? "none";

export function sign(state, x, y, colour) {
  const isFilled = state === "complete" || state === "running";
  return svg("path", {
    d: ownValue(SIGNS, state) ?? SIGNS.interrupted,
    transform: `translate(${x.toFixed(1)} ${y.toFixed(1)})`,
    stroke: colour,
    "stroke-width": 1.5,
    fill: isFilled ? colour : "none",
    class: `sign-${state}`,
  });
}

// The line and the sign of a state, for a legend.
export function sample(state) {
  const line = svg("path", {
    d: "M1 7 H27",
    fill: "none",
    stroke: "currentColor",
    "stroke-width": 1.6,
    "stroke-dasharray": dashOf(state),
  });
  const size = { viewBox: "0 0 36 14", width: 36, height: 14, "aria-hidden": "true" };
  return svg("svg", size, line, sign(state, 31, 7, "currentColor"));
}

export function trialText(value) {
  return typeof value === "number" ? short(value) : (value ?? "–");
}
