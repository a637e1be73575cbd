// The line above the charts: what is being read, what is not drawn, and why.

import { plural } from "./format.js";
import { axisName, ownValue } from "./metrics.js";
import { state } from "./state.js";

/**
 * @param {any} grid
 * @param {string[]} keys the series that are drawn
 */
export function hintText(grid, keys) {
  if (!grid.runs.rows().length) return "No runs yet. The list has the lines that make one.";
  if (!grid.ids.length) return "No run is picked. Tick one in the list, or press a.";
  const runs = grid.curvesShown;
  const reading = runs.filter((run) => run.reading !== null && run.reading !== undefined);
  if (reading.length) {
    const share = reading.reduce((sum, run) => sum + run.reading, 0) / reading.length;
    return `Reading ${plural(reading.length, "journal")}: ${Math.round(share * 100)} % …`;
  }
  if (grid.error) return `Could not load the curves: ${grid.error.message}. Retrying.`;
  if (grid.curves.problem) return grid.curves.problem;
  const notes = () => [missingAxisText(grid), averagedText(grid), moreText(grid, keys)];
  if (keys.length) return notes().filter(Boolean).join(" ");
  if (runs.length < grid.ids.length) return "Loading …";
  const broken = runs.find((run) => run.error);
  if (broken) return `Cannot draw this run: ${broken.error}`;
  return missingAxisText(grid) || noneText(runs, grid);
}

function noneText(runs, grid) {
  if (grid.seriesNames().length && !grid.panelNames().length) return "All panels are hidden.";
  if (grid.seriesNames().length && !grid.openKeys().length) return "All sections are closed.";
  if (state.find) return `No series matches ${state.find}. Escape clears it.`;
  if (runs.some((run) => Object.values(run.rows).some((n) => n > 0)))
    return "No number has been logged yet. The page of the run lists the other values.";
  return "Nothing has been logged yet. Charts appear with the first values.";
}

// How many series are not drawn: beyond the limit, hidden, or without a number.
function moreText(grid, keys) {
  if (keys.length === 1 && state.big === keys[0]) return "";
  const runs = grid.curvesShown;
  const nMore = Math.max(0, ...runs.map((run) => run.nMore));
  const nDrawn = grid.keys().length;
  const n = grid.openKeys().length + nMore;
  const more = n > nDrawn ? `${nDrawn} of ${n.toLocaleString()} series` : "";
  if (state.find) return more ? `${more} that match.` : `${n.toLocaleString()} series found.`;
  const unlisted = ({ usual, others, nMore, nSeries }) =>
    nSeries - usual.length - others.length - nMore;
  const nUnlisted = Math.max(0, ...runs.map(unlisted));
  const hidden = nUnlisted ? `${nUnlisted.toLocaleString()} hidden or without a number` : "";
  const text = [more, hidden].filter(Boolean).join(", and ");
  return text && `${text}: find them by name (f).`;
}

function averagedText(grid) {
  const isAveraged = (series) => [...series.values()].some((one) => one.nAveraged);
  if (!grid.curves.isGrouped || !grid.seriesShown.some(isAveraged)) return "";
  return "Runs with many values are averaged over short ranges first; zoom in for the exact band.";
}

function missingAxisText(grid) {
  if (!state.x) return otherAxisText(grid);
  const n = grid.curvesShown.filter((run) => run.hasNoAxis).length;
  if (!n) return "";
  const reasons = {
    tokens: "the tokens of a step are unknown",
    time: "the start time is unknown",
  };
  const axis = axisName(state.x);
  const reason = ownValue(reasons, state.x) ?? "no such series is logged";
  const runs = plural(grid.ids.length, "run");
  return `Not shown by ${axis}: ${n} of ${runs}, where ${reason}.`;
}

// Of a series that runs have by different axes, those by that of the first run are drawn.
function otherAxisText(grid) {
  const isOther = ([key, series]) =>
    series.nOthers > 0 || (series.points.n && series.axis !== grid.axisOf(key));
  const n = grid.seriesShown.filter((series) => [...series].some(isOther)).length;
  const runs = plural(grid.seriesShown.length, grid.curves.isGrouped ? "group" : "run");
  return n ? `Series by another axis than the first run's are not shown: of ${n} of ${runs}.` : "";
}
