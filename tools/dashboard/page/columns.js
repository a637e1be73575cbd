// The columns of the table of runs, and what it may be sorted by.

import { state } from "./state.js";

const SETTING_COLUMNS = 5;

export const COLUMNS = [
  { key: "status", head: "status" },
  { key: "run", head: "run" },
  { key: "iterations", head: "iterations", isNumber: true },
  { key: "best_val_loss", head: "best val", isNumber: true },
  { key: "final_loss", head: "last loss", isNumber: true },
  { key: "avg_time_ms", head: "ms/iter", isNumber: true },
  { key: "avg_mfu", head: "MFU %", isNumber: true },
  { key: "started", head: "started" },
];
export const SORTS = {
  "-started": "newest",
  run: "name",
  status: "status",
  best_val_loss: "best val",
  final_loss: "last loss",
  "-iterations": "iterations",
  avg_time_ms: "ms/iter",
  "-avg_mfu": "MFU",
};

export function wideColumns(settings) {
  const column = (name) => ({ key: `config.${name}`, head: name, isSetting: true });
  return [...COLUMNS, ...settings.slice(0, SETTING_COLUMNS).map(column)];
}

export function narrowColumns() {
  return COLUMNS.filter(({ key }) => ["status", "run", "best_val_loss"].includes(key));
}

export const shortOrder = () => state.sort.replace(/^-/, "");

/** @param {{key: string, isNumber?: boolean, isSetting?: boolean}} column */
export function classOf({ key, isNumber, isSetting }) {
  if (isNumber) return "number";
  return isSetting ? "setting" : key === "status" ? "status" : "";
}
