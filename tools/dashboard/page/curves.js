// The curves of some runs in one view, fetched and then extended as the runs grow.

import { fetchFrom } from "./api.js";
import { escaped } from "./metrics.js";

const GROWTH_MAX = 4; // times the points that fit: a curve that has grown so far is fetched anew
const RETRY_MS = 1000;

// Points that grow at their end; only the first `n` places of the arrays are in use.
class Points {
  constructor(x, y) {
    this.x = x;
    this.y = y;
    this.n = x.length;
  }

  append(x, y) {
    const n = this.n + x.length;
    if (n > this.x.length) {
      this.x = this.grown(this.x, n);
      this.y = this.grown(this.y, n);
    }
    this.x.set(x, this.n);
    this.y.set(y, this.n);
    this.n = n;
  }

  grown(array, n) {
    const larger = new Float64Array(Math.ceil(n * 1.5) + 64);
    larger.set(array.subarray(0, this.n));
    return larger;
  }
}

// A curve. Where it is thinned, `points` are the extremes and `means` the means of its buckets;
// for a smoothed line, they also have what is before and after it.
class Series {
  constructor(sizes, arrays) {
    this.points = new Points(arrays[0], arrays[1]);
    this.means = sizes.means ? new Points(arrays[2], arrays[3]) : this.points;
    this.counts = sizes.means ? new Points(arrays[2], arrays[4]) : null;
    this.axis = sizes.axis; // its horizontal axis
    this.unit = sizes.unit;
    this.note = sizes.note; // why there is nothing to draw
    this.table = sizes.table; // what it is a column of: "iter", "eval", "metrics" or "system"
    this.isThinned = sizes.thinned;
    this.isNoisy = sizes.noisy; // smoothed unless a person chooses otherwise
    this.nonfinite = sizes.nonfinite; // [x, text] of each value that is not finite
    this.version = 0;
    this.nRuns = sizes.runs ?? 1; // that it is the mean of
    if (sizes.runs === undefined) return;
    const [std, low, high, n] = arrays.slice(-4);
    this.spread = { std, low, high, n }; // at each point
    this.nOthers = sizes.others; // runs that have it by another axis
    this.nAveraged = sizes.averaged; // of its runs: read as means of buckets
  }

  // The edges of the band around a mean, as lines: mean ± std, or min and max.
  bandOf(kind) {
    if (this.band?.kind !== kind) {
      const { x, y, n } = this.points;
      const { std, low, high } = this.spread;
      const edge = (sign) => y.map((mean, i) => mean + sign * (std[i] || 0)); // one run: no std
      const [below, above] = kind === "range" ? [low, high] : [edge(-1), edge(1)];
      this.band = { kind, low: { x, y: below, n }, high: { x, y: above, n } };
    }
    return this.band;
  }

  append(sizes, [x, y]) {
    this.version += 1;
    this.note = sizes.note;
    this.points.append(x, y);
    if (this.counts) {
      const onlyFinite = (values) => values.filter((_, i) => Number.isFinite(y[i]));
      this.means.append(onlyFinite(x), onlyFinite(y));
      this.counts.append(onlyFinite(x), onlyFinite(x).fill(1));
    }
    this.nonfinite = this.nonfinite.concat(sizes.nonfinite);
  }
}

// A response to /api/curves: the length of its JSON, the JSON, then the arrays that it describes.
function unpack(buffer) {
  const length = new DataView(buffer).getUint32(0, true);
  const head = JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, 4, length)));
  let offset = 4 + length;
  const next = (n) => {
    const array = new Float64Array(buffer, offset, n);
    offset += 8 * n;
    return array;
  };
  for (const one of [...head.runs, ...(head.groups ?? [])]) {
    for (const series of one.series ?? []) {
      const { n, means, runs } = series;
      const spread = runs === undefined ? [] : [n, n, n, n];
      series.arrays = [n, n, ...(means ? [means, means, means] : []), ...spread].map(next);
    }
  }
  return head;
}

export class Curves {
  /**
   * @param {(ids: string[], start: number) => void} onChange what was fetched, and since when (ms)
   * @param {(error: Error | null) => void} onError null where a request succeeded again
   */
  constructor(onChange, onError) {
    this.onChange = onChange;
    this.onError = onError;
    /** @type {Map<string, any>} */
    this.runs = new Map();
    this.groups = []; // of runs that are drawn as one: {name, ids, series}
    this.problem = ""; // why there are none
    this.isGrouped = false;
    this.groupedIds = ""; // the runs that they are of
    this.wanted = { ids: [], keys: [], x: "", from: null, to: null, px: 600, group: "" };
    this.view = ""; // the view that `runs` has curves of, as JSON
    this.isBusy = false;
    this.isStale = false;
    this.states = new Map(); // how many rows each run has, as the server last said
  }

  /** @param {Record<string, any>} wanted parts of the view that may have changed */
  setView(wanted) {
    const before = JSON.stringify(this.wanted);
    Object.assign(this.wanted, wanted);
    if (JSON.stringify(this.wanted) === before) return;
    for (const id of [...this.runs.keys()]) if (!this.wanted.ids.includes(id)) this.runs.delete(id);
    this.fetchStale();
  }

  /** @param {Record<string, any>} states by id: how many rows a run has */
  update(states) {
    for (const [id, state] of Object.entries(states)) this.states.set(id, state);
    if (this.wanted.ids.some((id) => this.isBehind(id))) this.fetchStale();
  }

  isBehind(id) {
    const state = this.states.get(id);
    const run = this.runs.get(id);
    if (!run) return true;
    if (!state) return false;
    return (
      state.generation !== run.generation ||
      state.reading !== run.reading ||
      state.error !== run.error ||
      Object.entries(state.rows).some(([table, n]) => n !== run.rows[table])
    );
  }

  // One request at a time; changes in the meantime are requested by the next one.
  async fetchStale() {
    this.isStale = true;
    if (this.isBusy) return;
    this.isBusy = true;
    while (this.isStale && this.wanted.ids.length) {
      this.isStale = false;
      try {
        await this.fetchOnce();
      } catch (error) {
        this.onError(error);
        await new Promise((done) => setTimeout(done, RETRY_MS));
        this.isStale = true;
      }
    }
    this.isBusy = false;
  }

  async fetchOnce() {
    const { ids, ...options } = this.wanted;
    const view = JSON.stringify(options);
    const behind = ids.filter((id) => view !== this.view || this.isBehind(id));
    const isRegrouped = options.group && ids.join() !== this.groupedIds;
    if (!behind.length && !isRegrouped) return;
    const stale = options.group ? ids : behind; // a mean needs all of its runs
    const response = await fetchFrom("/api/curves", {
      ...options,
      runs: stale.map((id) => this.position(id, view)).join(","),
      keys: options.keys.map(escaped).join("\n"),
    });
    const start = performance.now();
    const { runs, groups = [], problem = "" } = unpack(await response.arrayBuffer());
    const { ids: _, ...latest } = this.wanted;
    if (JSON.stringify(latest) !== view) return; // another view was asked for meanwhile
    const isNewView = view !== this.view;
    this.view = view;
    for (const run of runs) this.store(run, isNewView);
    this.groups = groups.map(({ name, ids, series }) => {
      const byKey = series.map((one) => [one.key, new Series(one, one.arrays)]);
      return { name, ids, series: new Map(byKey) };
    });
    this.problem = problem;
    this.isGrouped = Boolean(options.group);
    this.groupedIds = ids.join();
    this.onError(null);
    this.onChange(
      runs.map((run) => run.id),
      start,
    );
  }

  // A run's id, and how far the page has its curves: the server then sends only what is new.
  position(id, view) {
    const run = this.runs.get(id);
    if (!run || view !== this.view || run.isFull || this.wanted.group) return id;
    return [id, run.generation, ...Object.values(run.rows)].join("~");
  }

  store(answer, isNewView) {
    if (answer.gone) {
      this.runs.delete(answer.id);
      return;
    }
    let run = this.runs.get(answer.id);
    if (!run || isNewView || run.generation !== answer.generation || run.isFull) {
      run = { series: new Map(), superseded: [], isFull: false };
      this.runs.set(answer.id, run);
    }
    const { generation, rows, reading, error, no_axis: hasNoAxis } = answer;
    const { usual, others, axes, n_more: nMore, n_series: nSeries, resumes = {} } = answer;
    const { starts = [] } = answer; // of sessions after the first, on the axis of time
    const names = { axes, usual, others, nMore, nSeries, resumes, starts };
    Object.assign(run, { generation, rows, reading, error, hasNoAxis, ...names });
    for (const series of answer.series) this.storeSeries(run, series);
  }

  storeSeries(run, answer) {
    const { key } = answer;
    const known = run.series.get(key);
    if (answer.superseded !== undefined) {
      run.superseded.push({ key, series: new Series(answer, answer.arrays) });
    } else if (answer.tail && known) {
      known.append(answer, answer.arrays);
      run.isFull ||= known.points.n > GROWTH_MAX * 2 * this.wanted.px;
    } else {
      run.series.set(key, new Series(answer, answer.arrays));
    }
  }
}
