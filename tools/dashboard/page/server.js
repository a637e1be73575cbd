// What the server says: rows of the table, curves of the runs looked at, and what changes.

export async function ask(path, given = {}) {
  const words = new URLSearchParams();
  for (const [key, value] of Object.entries(given)) {
    if (value !== null && value !== undefined && value !== "" && value !== false) words.set(key, value === true ? "1" : value);
  }
  const answer = await fetch(words.size ? `${path}?${words}` : path, { credentials: "same-origin" });
  if (!answer.ok) throw new Error((await answer.text()).trim() || `the server says ${answer.status}`);
  return answer;
}

export const askJson = async (path, given) => (await ask(path, given)).json();

// ---- listening

export class Listening {
  // `heard(name, data)` for each event; `told(isConnected)` when that changes.
  constructor(heard, told) {
    this.heard = heard;
    this.told = told;
    this.ids = [];
    this.since = 0;
    this.source = null;
    this.again = null;
  }

  to(ids) {
    const wanted = [...ids].sort();
    if (this.source && wanted.join() === this.ids.join()) return;
    this.ids = wanted;
    this.open();
  }

  open() {
    clearTimeout(this.again);
    this.source?.close();
    const source = new EventSource(`/api/live?since=${this.since}&runs=${this.ids.join(",")}`);
    this.source = source;
    source.addEventListener("open", () => this.told(true));
    source.addEventListener("error", () => {
      // The browser tries again by itself, but with the address, and so the version, of long ago.
      source.close();
      if (this.source !== source) return;
      this.told(false);
      this.again = setTimeout(() => this.open(), 1000);
    });
    for (const name of ["runs", "rows"]) {
      source.addEventListener(name, (event) => {
        const data = JSON.parse(event.data);
        if (name === "runs") this.since = data.version;
        this.heard(name, data);
      });
    }
  }
}

// ---- curves

class Line {
  // Points that grow at their end.
  constructor(x, y) {
    this.x = x;
    this.y = y;
    this.n = x.length;
  }

  append(x, y) {
    const n = this.n + x.length;
    if (n > this.x.length) {
      for (const name of ["x", "y"]) {
        const space = new Float64Array(Math.ceil(n * 1.5) + 64);
        space.set(this[name].subarray(0, this.n));
        this[name] = space;
      }
    }
    this.x.set(x, this.n);
    this.y.set(y, this.n);
    this.n = n;
  }
}

class Series {
  constructor(told, arrays) {
    this.points = new Line(arrays[0], arrays[1]);
    this.means = told.means ? new Line(arrays[2], arrays[3]) : this.points;
    this.counts = told.means ? new Line(arrays[2], arrays[4]) : null;
    this.nonfinite = told.nonfinite;
    this.version = 0;
    this.n0 = this.points.n;
  }

  get isThinned() {
    return this.counts !== null;
  }

  append(told, [x, y]) {
    this.version += 1;
    this.points.append(x, y);
    if (this.counts) {
      const finite = Array.from(y, Number.isFinite);
      const only = (values) => values.filter((_, i) => finite[i]);
      this.means.append(only(x), only(y));
      this.counts.append(only(x), only(x).fill(1));
    }
    this.nonfinite = this.nonfinite.concat(told.nonfinite);
  }
}

function unpack(buffer) {
  const length = new DataView(buffer).getUint32(0, true);
  const head = JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, 4, length)));
  let at = 4 + length;
  const take = (n) => {
    const array = new Float64Array(buffer, at, n);
    at += 8 * n;
    return array;
  };
  for (const run of head.runs) {
    for (const series of run.series ?? []) {
      series.arrays = [take(series.n), take(series.n)];
      if (series.means) series.arrays.push(take(series.means), take(series.means), take(series.means));
    }
  }
  return head.runs;
}

const AGAIN_FACTOR = 4; // a curve that has grown to so many times what fits is asked for anew

export class Curves {
  // The curves of some runs in one view; `changed(ids)` when something came.
  constructor(changed, failed) {
    this.changed = changed;
    this.failed = failed;
    this.runs = new Map();
    this.wanted = { ids: [], keys: [], x: "iter", from: null, to: null, px: 600, log: false, takes: false };
    this.view = "";
    this.busy = false;
    this.stale = false;
    this.news = new Map();
  }

  want(given) {
    const before = JSON.stringify(this.wanted);
    Object.assign(this.wanted, given);
    if (JSON.stringify(this.wanted) === before) return;
    for (const id of [...this.runs.keys()]) if (!this.wanted.ids.includes(id)) this.runs.delete(id);
    this.pump(true);
  }

  // The server says how many rows there are.
  hear(states) {
    for (const [id, told] of Object.entries(states)) this.news.set(id, told);
    const behind = this.wanted.ids.some((id) => this.isBehind(id));
    if (behind) this.pump(true);
  }

  forget() {
    this.view = "";
    this.pump(true);
  }

  isBehind(id) {
    const told = this.news.get(id);
    const run = this.runs.get(id);
    if (!run) return true;
    if (!told) return false;
    return told.generation !== run.generation || told.reading !== run.reading || told.error !== run.error
      || Object.entries(told.rows).some(([table, n]) => n !== run.rows[table]);
  }

  async pump(isStale) {
    this.stale ||= isStale;
    if (this.busy) return;
    this.busy = true;
    while (this.stale && this.wanted.ids.length) {
      this.stale = false;
      const { ids, ...rest } = this.wanted;
      const view = JSON.stringify(rest);
      const asked = ids.filter((id) => view !== this.view || this.isBehind(id));
      if (!asked.length) continue;
      try {
        const answer = await ask("/api/curves", {
          runs: asked.map((id) => this.known(id, view)).join(","),
          keys: rest.keys.join("\n"), x: rest.x, from: rest.from, to: rest.to, px: rest.px, log: rest.log, takes: rest.takes,
        });
        const start = performance.now();
        const isNewView = view !== this.view;
        const came = unpack(await answer.arrayBuffer());
        const { ids: _, ...now } = this.wanted;
        if (JSON.stringify(now) !== view) continue; // asked for something else meanwhile
        this.view = view;
        for (const run of came) this.take(run, isNewView);
        this.failed(null);
        this.changed(came.map((run) => run.id), start);
      } catch (error) {
        this.failed(error);
        await new Promise((done) => setTimeout(done, 1000));
        this.stale = true;
      }
    }
    this.busy = false;
  }

  known(id, view) {
    const run = this.runs.get(id);
    if (!run || view !== this.view || run.isFull) return id;
    return [id, run.generation, run.rows.iter, run.rows.eval, run.rows.system].join("~");
  }

  take(told, isNewView) {
    if (told.gone) {
      this.runs.delete(told.id);
      return;
    }
    let run = this.runs.get(told.id);
    if (!run || isNewView || run.generation !== told.generation || run.isFull) {
      run = { series: new Map(), takes: [], isFull: false };
      this.runs.set(told.id, run);
    }
    Object.assign(run, { generation: told.generation, rows: told.rows, figures: told.figures, reading: told.reading, error: told.error, noAxis: told.no_axis });
    for (const series of told.series) {
      if (series.take !== undefined) {
        const made = new Series(series, series.arrays);
        run.takes.push({ key: series.key, take: series.take, series: made });
      } else if (series.tail && run.series.has(series.key)) {
        const known = run.series.get(series.key);
        known.append(series, series.arrays);
        run.isFull ||= known.points.n > AGAIN_FACTOR * 2 * this.wanted.px;
      } else {
        run.series.set(series.key, new Series(series, series.arrays));
      }
    }
  }
}
