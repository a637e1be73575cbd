// Groups of runs side by side: mean ± standard deviation, and the difference to the first group.

import { el } from "./dom.js";
import { full, plural } from "./format.js";
import { warningsOf } from "./grouprow.js";
import { styleOf } from "./theme.js";

export function groupHead({ name, ids }, rows) {
  const warnings = warningsOf(rows);
  return el(
    "th",
    { scope: "col" },
    el("span", { class: "swatch", style: { background: styleOf(ids[0]).colour } }),
    el("span", { class: "value", text: name }),
    el("div", {}, el("small", { text: plural(ids.length, "run") })),
    warnings ? el("div", { class: "warning", text: warnings }) : null,
  );
}

/**
 * A row for each result that one of the groups has.
 * @param {any[]} groups {stats, differences} of /api/compare
 * @param {any[]} results {key, text, best}
 */
export function groupResults(groups, results) {
  const isKnown = ({ key }) => groups.some(({ stats }) => Object.hasOwn(stats, key));
  return results.filter(isKnown).map((result) => resultRow(groups, result));
}

function resultRow(groups, { key, text, best }) {
  const means = groups.map(({ stats }) => stats[key]?.mean ?? null);
  const known = means.filter((mean) => mean !== null);
  const bestMean = best && known.length > 1 ? best(...known) : undefined;
  const cells = groups.map(({ stats, differences }, i) => {
    const isBest = bestMean !== undefined && means[i] === bestMean;
    return el(
      "td",
      { class: isBest ? "number best" : "number" },
      stats[key]?.text ?? "–",
      isBest ? el("small", { text: "best" }) : null,
      differences?.[key] ? differenceCell(differences[key]) : null,
    );
  });
  return el("tr", {}, el("th", { scope: "row", text }), ...cells);
}

function differenceCell({ diff, p_text: p, why_no_p: why }) {
  if (diff === null) return null;
  const text = `Δ ${diff > 0 ? "+" : ""}${full(diff)}, ${p === null ? "no p-value" : `p ${p}`}`;
  return el("div", { class: "difference", title: why, text });
}
