// Cards of a run's page: what made the run, and its checkpoints.

import { button, el, scrollable } from "./dom.js";
import { bytes, full, moment } from "./format.js";

const MARKS = {
  "+": "tracked files differ from it: the journal does not have the difference",
  "?": "whether files differ from it is unknown: git was missing, refused or took too long",
};
const HEADS = {
  command: "command",
  cwd: "folder",
  git_commit: "git commit",
  host: "host",
  user: "user",
  platform: "platform",
  versions: "versions",
};

function card(heading, ...children) {
  const head = el("h2", { text: heading });
  return el("section", { class: "card", "aria-label": heading }, head, ...children);
}

/** @param {any[]} origins of the first session, and of later ones what differs */
export function originCard(origins) {
  const none = el("p", {
    class: "hint",
    text: "Not known: it is in the journal, which is not there.",
  });
  const parts = origins.flatMap((origin, i) => [
    i ? el("h3", { text: `Different in session ${origin.session}` }) : "",
    el("dl", { class: "settings origin" }, ...facts(origin)),
  ]);
  return card("Origin", ...(origins.length ? parts : [none]));
}

function facts(origin) {
  const item = (head, ...content) =>
    el("div", {}, el("dt", { text: head }), el("dd", {}, ...content));
  const isFirst = origin.session === 1;
  const isShown = (key) => Object.hasOwn(origin, key) || (key === "git_commit" && isFirst);
  const shown = Object.entries(HEADS).filter(([key]) => isShown(key));
  return shown.map(([key, head]) => item(head, ...contentOf(key, origin[key])));
}

function contentOf(key, value) {
  if (key === "command")
    return [copied(Array.isArray(value) ? value.map(quoted).join(" ") : value)];
  if (key === "git_commit") return value ? commitOf(String(value)) : ["none: not in a repository"];
  if (key === "versions" && value && typeof value === "object") {
    return [
      Object.entries(value)
        .map(([name, version]) => `${name} ${version}`)
        .join(", "),
    ];
  }
  return [String(value)];
}

function commitOf(text) {
  const commit = text.replace(/[+?]$/, "");
  const note = MARKS[text.slice(commit.length)] ?? "no tracked file differs from it";
  return [copied(commit), " ", el("small", { text: note })];
}

// A word of a command as a shell reads it.
const quoted = (word) =>
  /^[\w@%+=:,./-]+$/.test(word) ? word : `'${String(word).replaceAll("'", "'\\''")}'`;

// Text with a button that copies it, where the browser allows that.
function copied(text) {
  const copy = () => navigator.clipboard?.writeText(text);
  const label = `Copy ${text.slice(0, 60)}`;
  const copyButton = button(label, { class: "quiet text", onclick: copy }, "copy");
  return el("span", {}, el("code", { text }), navigator.clipboard ? copyButton : "");
}

/**
 * @param {any[]} checkpoints the latest ones
 * @param {number} n how many there are
 */
export function checkpointsCards(checkpoints, n) {
  if (!checkpoints.length) return [];
  const heads = ["iter", "val loss", "size", "saved", "file"];
  const className = (k) => (k < 3 ? "number" : "");
  const head = heads.map((text, k) => el("th", { scope: "col", class: className(k), text }));
  const row = (one) => {
    const size = typeof one.size_bytes === "number" ? bytes(one.size_bytes) : "–";
    const texts = [
      full(one.iter),
      full(one.val_loss),
      size,
      moment(one.timestamp),
      one.path ?? "–",
    ];
    const title = one.sha256 ? `SHA-256 ${one.sha256}` : null;
    const cells = texts.map((text, k) =>
      el("td", { class: className(k), text, title: k === 4 ? title : null }),
    );
    return el("tr", {}, ...cells);
  };
  const rows = checkpoints.toReversed().map(row);
  const table = el(
    "table",
    { class: "small" },
    el("thead", {}, el("tr", {}, ...head)),
    el("tbody", {}, ...rows),
  );
  const heading = `Checkpoints: ${checkpoints.length < n ? `the latest ${checkpoints.length} of ${full(n)}` : n}`;
  return [card(heading, scrollable(heading, table))];
}
