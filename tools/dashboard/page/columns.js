// The columns of the table of runs: those that the user chose, or those that matter.

import { Answer } from "./answer.js";
import { fieldOf } from "./rows.js";
import { state } from "./state.js";

/** @typedef {{key: string, head: string, kind: string, isNumber: boolean}} Column */

// Fields of every run: what they are called, and what they are.
export const FIELDS = {
  status: ["status", "status"],
  run: ["run", "run"],
  iterations: ["iterations", "number"],
  best_val_loss: ["best val", "number"],
  final_loss: ["last loss", "number"],
  avg_time_ms: ["ms/iter", "number"],
  avg_mfu: ["MFU %", "number"],
  started: ["started", "time"],
  ended: ["ended", "time"],
  tags: ["tags", "text"],
  note: ["notes", "text"],
  sessions: ["sessions", "number"],
  defects: ["defects", "number"],
  lost: ["lost events", "number"],
  file: ["file", "text"],
};
const DESCENDING = ["started", "iterations", "avg_mfu"]; // the greatest first, where one sorts by it
const AT_FIRST = ["status", "run", "best_val_loss", "final_loss", "started"];
const NEVER = ["status", "run"]; // of no column beside a name

export const isSetting = (key) => /^(config|metadata)\./.test(key);
export const isSeries = (key) => !Object.hasOwn(FIELDS, key) && !isSetting(key);

// A key as it is shown: without "config." and "metadata.".
export const headOf = (key) =>
  Object.hasOwn(FIELDS, key) ? FIELDS[key][0] : key.replace(/^(config|metadata)\./, "");

export const shortOrder = () => state.sort.replace(/^-/, "");

// The order of the rows after a click on the head of a column.
export function nextOrder(key) {
  const first = DESCENDING.includes(key) ? `-${key}` : key;
  const second = DESCENDING.includes(key) ? key : `-${key}`;
  return state.sort === first ? second : first;
}

/** @param {Column} column */
export function classOf({ kind, isNumber }) {
  if (isNumber) return "number";
  return kind === "text" || kind === "setting" || kind === "series" ? "setting" : kind;
}

export class Columns {
  /**
   * @param {any} runs the page's runs
   * @param {() => void} onChange
   */
  constructor(runs, onChange) {
    this.runs = runs;
    this.onChange = onChange;
    /** @type {any} */
    this.offered = { default: AT_FIRST, settings: [], series: [], left: 0 }; // of /api/columns
    this.areNumbers = new Map(); // of each setting or series that was looked at
    this.answer = new Answer(
      "/api/columns",
      (answer) => this.onAnswer(answer),
      () => this.ask(),
    );
  }

  // Asked again where there are other runs, and while the server reads their series.
  ask() {
    const { left } = this.offered;
    const n = this.runs.rows().length;
    if (n) this.answer.ask({}, `${n} ${this.runs.isComplete} ${left}`);
  }

  onAnswer(answer) {
    if (answer.error) return;
    const known = this.offered.default;
    const isSame = [...known].sort().join() === [...answer.default].sort().join();
    this.offered = isSame ? { ...answer, default: known } : answer;
    this.onChange();
  }

  get keys() {
    return state.columns ?? this.offered.default;
  }

  /** @returns {Column[]} */
  wide() {
    return this.keys.map((key) => this.column(key));
  }

  // Beside the charts: one figure, that by which the list is sorted if it is one of a run.
  narrow() {
    const order = shortOrder();
    const isFigure = (key) => !NEVER.includes(key) && this.column(key).kind !== "time";
    const first = this.keys.find((key) => isFigure(key) && this.column(key).isNumber);
    const key = isFigure(order) ? order : (first ?? "best_val_loss");
    return ["status", "run", key].map((one) => this.column(one));
  }

  /** @returns {Column} */
  column(key) {
    if (Object.hasOwn(FIELDS, key)) {
      const [head, kind] = FIELDS[key];
      return { key, head, kind, isNumber: kind === "number" };
    }
    const kind = isSetting(key) ? "setting" : "series";
    return { key, head: headOf(key), kind, isNumber: this.isOfNumbers(key) };
  }

  // Whether all that is known of a setting or series is numbers.
  isOfNumbers(key) {
    const mark = `${this.runs.version} ${isSeries(key) ? this.runs.valuesVersion : ""}`;
    if (this.areNumbers.get(key)?.mark !== mark) {
      const isNumber = (value) =>
        typeof value === "number" || ["nan", "inf", "-inf"].includes(value);
      const values = this.runs.rows().map((row) => fieldOf(row, key));
      const known = values.filter((value) => value !== null && value !== undefined);
      const isOfNumbers = known.length > 0 && known.every(isNumber);
      this.areNumbers.set(key, { mark, isOfNumbers });
    }
    return this.areNumbers.get(key).isOfNumbers;
  }

  // The series that the table needs: of its columns, its order, its groups and its colours.
  seriesNeeded() {
    const keys = [...this.keys, ...this.narrow().map(({ key }) => key)];
    const all = [...keys, shortOrder(), state.group, state.colour].filter(Boolean);
    return [...new Set(all)].filter(isSeries);
  }
}
