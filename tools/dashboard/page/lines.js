// The lines of the charts: one for each run, or one for each group of runs with a band around it.

import { plural } from "./format.js";
import { emphasized } from "./pointing.js";
import { smooth } from "./smooth.js";
import { state } from "./state.js";
import { dashOf, styleAt, styleOf } from "./theme.js";

export class Lines {
  /**
   * @param {any} curves what was fetched
   * @param {any} runs the page's runs
   */
  constructor(curves, runs) {
    this.curves = curves;
    this.runs = runs;
    this.smoothed = new WeakMap();
  }

  /**
   * @param {string} key of a series
   * @param {string[]} ids the runs that are drawn
   * @param {string} axis curves by another axis are left out
   * @param {(series: any) => number} widthOf the smoothing of a curve, in logged values
   */
  of(key, ids, axis, widthOf) {
    const lines = this.curves.isGrouped
      ? this.ofGroups(key, axis, widthOf)
      : this.ofRuns(key, ids, axis, widthOf);
    return emphasized(lines.map((line) => ({ ...line, key })));
  }

  ofGroups(key, axis, widthOf) {
    const lines = [];
    for (const { name, ids, series } of this.curves.groups) {
      const one = series.get(key);
      if (one?.axis !== axis) continue;
      const legend = `${name}, ${plural(one.nRuns, "run")}`;
      const named = { ...styleOf(ids[0]), id: ids[0], ids, name, legend };
      const line = this.lineOf(one, widthOf(one));
      const band = one.bandOf(state.band);
      lines.push({ ...named, ...line, isEval: key.startsWith("eval/"), band, spread: one.spread });
    }
    return lines;
  }

  ofRuns(key, ids, axis, widthOf) {
    const lines = [];
    for (const id of ids) {
      const run = this.curves.runs.get(id);
      if (!run) continue;
      const name = this.runs.nameOf(id);
      const gaps = axis === "time" ? run.starts : []; // nobody was running before them
      const isEval = key.startsWith("eval/");
      const line = { ...styleOf(id), id, ids: [id], name, legend: name, isEval, gaps };
      const series = run.series.get(key);
      if (series?.axis === axis) {
        lines.push({ ...line, ...this.lineOf(series, widthOf(series)) });
      }
      for (const { key: other, series } of run.superseded) {
        if (other !== key) continue;
        lines.push({ ...line, ...this.lineOf(series, 0), isSuperseded: true });
      }
    }
    return lines;
  }

  lineOf(series, width) {
    const { points, means, isThinned, nonfinite } = series;
    const smoothed = this.smoothedOf(series, width);
    return { points, means, isThinned, nonfinite, smoothed, isSuperseded: false };
  }

  smoothedOf(series, width) {
    const { x, y, n } = series.means;
    if (width < 2 || n < 3) return null;
    const known = this.smoothed.get(series);
    if (known?.width === width && known.version === series.version) return known.line;
    const line = { x, y: smooth(y.subarray(0, n), width, series.counts?.y), n };
    this.smoothed.set(series, { width, version: series.version, line });
    return line;
  }
}

/**
 * The lines of several series in one panel. Of one run each series has a colour; of several, each
 * run has its colour and each series its dashes.
 * @param {any[]} lines
 * @param {string[]} names
 */
export function distinct(lines, names) {
  const runs = new Set(lines.map((line) => line.name));
  return lines.map((line) => {
    const at = names.indexOf(line.key);
    const style = runs.size > 1 ? { dash: dashOf(at) } : styleAt(at);
    return { ...line, ...style, legend: `${line.legend}, ${line.key}` };
  });
}
