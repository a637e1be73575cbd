// What the list says where there is no run: where the server looked, and how to make one.

import { el } from "./dom.js";

const LINES = `import eventlog

with eventlog.init(name="first", dir=DIR) as run:
    for i in range(100):
        run.log({"train/loss": 1 / (i + 1)})`;

/** @param {any} runs the page's runs */
export function emptyHint(runs) {
  const hint = el("p", { text: runs.whyNone() });
  if (!runs.isComplete) return [hint];
  const folder = runs.folders.find((name) => !/[*?[]/.test(name)) ?? "out";
  const code = LINES.replace("DIR", JSON.stringify(folder));
  return [
    hint,
    el("p", { text: "Looked for *.jsonl and *.json of runs in:" }),
    el(
      "ul",
      { class: "places" },
      ...runs.places.map((path) => el("li", {}, el("code", { text: path }))),
    ),
    el("p", { text: "Lines that make a run there:" }),
    el("pre", { tabindex: 0, "aria-label": "Python that makes a run" }, el("code", { text: code })),
  ];
}
