// The timeline of a run: its sessions as bars, its events as signs above them.

import { el, svg, svgText } from "./dom.js";
import { full, moment, plural } from "./format.js";
import { ownValue } from "./metrics.js";

const HEIGHT = 66;
const MARGIN = 8;
const CROSS = "M-5 -3 L-3 -5 L0 -2 L3 -5 L5 -3 L2 0 L5 3 L3 5 L0 2 L-3 5 L-5 3 L-2 0 Z";
const SIGNS = {
  open: "M-4 -5 L5 0 L-4 5 Z",
  resume: "M-5 -4 L0 0 L-5 4 Z M0 -4 L5 0 L0 4 Z",
  checkpoint: "M0 -5 L5 0 L0 5 L-5 0 Z",
  close: "M-4 -4 H4 V4 H-4 Z",
  signal: "M0 -5 L5 4 H-5 Z",
  error: CROSS,
  nonfinite: CROSS,
  io_error: CROSS,
  gap: "M-5 -1 H5 V1 H-5 Z",
  alert: "M-2 -6 H2 L1 2 H-1 Z M-1.5 3 H1.5 V6 H-1.5 Z",
  note: "M-4 -5 H4 V2 H0 L-2 5 V2 H-4 Z",
};

export class Timeline {
  constructor() {
    this.element = el("section", { class: "timeline card", "aria-label": "Timeline" });
  }

  /** @param {any} run an answer to /api/run */
  show(run) {
    const sessions = timed(run.sessions);
    const width = this.element.clientWidth;
    const mark = JSON.stringify([run.status, sessions, run.marks.length, width]);
    if (mark === this.mark) return;
    this.mark = mark;
    this.element.hidden = !sessions.length;
    if (!sessions.length) return;
    const heading = el("h2", { text: "Timeline" });
    this.element.replaceChildren(
      el("div", { class: "card-head" }, heading, legend(run.marks)),
      drawing(sessions, run, Math.max(280, width - 32)),
    );
  }
}

// Sessions with the seconds at which they begin and end.
function timed(sessions) {
  const seconds = (t) => Date.parse(t) / 1000;
  const all = sessions.map((s) => ({ ...s, begin: seconds(s.started), end: seconds(s.last) }));
  return all.filter((s) => s.end >= s.begin);
}

function drawing(sessions, run, width) {
  const begin = Math.min(...sessions.map((s) => s.begin));
  const end = Math.max(begin + 1e-3, ...sessions.map((s) => s.end));
  const px = (t) => MARGIN + ((t - begin) / (end - begin)) * (width - 2 * MARGIN);
  const bars = sessions.map((session, i) => bar(session, i, sessions.length, run.status, px));
  const dated = run.marks.filter((mark) => Number.isFinite(Date.parse(mark.t)));
  const signs = dated.map((mark) => sign(mark, px(Date.parse(mark.t) / 1000)));
  const label = (x, anchor, t) => svgText("text", moment(t), { x, y: 60, "text-anchor": anchor });
  const size = { viewBox: `0 0 ${width} ${HEIGHT}`, width, height: HEIGHT };
  return svg(
    "svg",
    { ...size, role: "img", "aria-label": summary(sessions, run.marks) },
    ...bars,
    ...signs,
    label(MARGIN, "start", sessions[0].started),
    label(width - MARGIN, "end", sessions.at(-1).last),
  );
}

function bar(session, i, n, runStatus, px) {
  const [x, end] = [px(session.begin), px(session.end)];
  const status = session.status ?? (i === n - 1 ? runStatus : "interrupted");
  const rect = { x, y: 24, width: Math.max(2, end - x), height: 14, rx: 3 };
  const span = `${moment(session.started)} to ${moment(session.last)}`;
  const texts = [`session ${i + 1}: ${span}`, plural(session.records, "record"), session.status];
  const title = texts.filter(Boolean).join(", ") + (session.reason ? `: ${session.reason}` : "");
  return svg("rect", { ...rect, class: `session ${status}` }, svgText("title", title));
}

function sign(mark, x, y = 12) {
  const path = svg("path", {
    d: ownValue(SIGNS, mark.kind) ?? SIGNS.gap,
    transform: `translate(${x.toFixed(1)} ${y})`,
    class: `sign ${mark.kind}`,
  });
  if (mark.t) {
    const where = `${mark.kind} at iteration ${full(mark.iter)}, ${moment(mark.t)}`;
    path.append(svgText("title", `${where}\n${mark.text}`));
  }
  return path;
}

function legend(marks) {
  const kinds = [...new Set(marks.map((mark) => mark.kind))];
  const size = { viewBox: "0 0 14 14", width: 14, height: 14, "aria-hidden": "true" };
  const item = (kind) =>
    el("li", {}, svg("svg", size, sign({ kind }, 7, 7)), kind === "open" ? "start" : kind);
  return el("ul", { class: "legend" }, ...kinds.map(item));
}

function summary(sessions, marks) {
  const counts = new Map();
  for (const { kind } of marks) counts.set(kind, (counts.get(kind) ?? 0) + 1);
  const events = [...counts].map(([kind, n]) => `${n} ${kind}`).join(", ");
  return `${plural(sessions.length, "session")}; ${events}`;
}
