// The legend of a panel with several series: the line of each, its name, and its latest value.

import { el, svg } from "./dom.js";

/** @param {any} chart */
export function showLegend(chart) {
  const lines = chart.isShared ? linesByName(chart) : [];
  const isOfOneRun = new Set(chart.currentLines().map(({ name }) => name)).size === 1;
  const shown = lines.map((line) => ({
    name: line.key,
    colour: isOfOneRun ? line.colour : "currentColor",
    dash: line.dash.join(" "),
    side: line.side,
    latest: isOfOneRun ? chart.latestOf(line) : "",
  }));
  const mark = JSON.stringify(shown);
  if (mark === chart.legendMark) return;
  chart.legendMark = mark;
  chart.legend.hidden = !shown.length;
  chart.legend.replaceChildren(...shown.map(item));
}

// The first line of each series.
function linesByName(chart) {
  const byName = new Map();
  for (const line of chart.currentLines()) if (!byName.has(line.key)) byName.set(line.key, line);
  return [...byName.values()];
}

function item({ name, colour, dash, side, latest }) {
  const line = svg("line", {
    x1: 0,
    y1: 4,
    x2: 18,
    y2: 4,
    stroke: colour,
    "stroke-dasharray": dash,
  });
  const sample = svg("svg", { viewBox: "0 0 18 8", "aria-hidden": "true", class: "sample" }, line);
  const where = side === "right" ? el("small", { text: "right" }) : null;
  return el(
    "li",
    {},
    sample,
    el("span", { text: name }),
    where,
    latest && el("b", { text: latest }),
  );
}
