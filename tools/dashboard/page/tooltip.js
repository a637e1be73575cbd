// The box beside the cursor of a chart, drawn on its canvas: the value of each line there.

import { FONT, LEFT, segments, TOP } from "./draw.js";

const LINE = 15; // px from one row to the next
const GAP = 10;

/**
 * @param {CanvasRenderingContext2D} ctx
 * @param {{head: string, rows: {colour: string, value: string, range: string, name: string}[],
 *   more: string}} content
 * @param {number} px where the cursor is
 * @param {number} chartWidth
 * @param {Record<string, string>} colours
 */
export function drawTooltip(ctx, { head, rows, more }, px, chartWidth, colours) {
  ctx.font = FONT;
  ctx.textBaseline = "middle";
  ctx.textAlign = "left";
  const widthOf = (text) => (text ? ctx.measureText(text).width : 0);
  const widest = (key) => Math.max(...rows.map((row) => widthOf(row[key])));
  const columns = { value: widest("value"), range: widest("range"), name: widest("name") };
  const inner = () => 16 + columns.value + padded(columns.range) + padded(columns.name);
  // The box must fit beside the cursor and not cover it; if it does not fit, without the ranges.
  if (inner() + 30 > Math.max(chartWidth - px, px - LEFT)) columns.range = 0;
  const width = Math.max(inner(), widthOf(head), widthOf(more)) + 16;
  const height = (rows.length + (head ? 1 : 0) + (more ? 1 : 0)) * LINE + 9;
  const left = px + 12 + width < chartWidth - 2 ? px + 12 : Math.max(2, px - 12 - width);
  drawBox(ctx, left, width, height, colours);
  let y = TOP + 12;
  const drawLine = (text) => {
    if (!text) return;
    ctx.fillStyle = colours.faint;
    ctx.fillText(text, left + 8, y);
    y += LINE;
  };
  drawLine(head);
  for (const row of rows) {
    drawRow(ctx, row, columns, left, y, colours);
    y += LINE;
  }
  drawLine(more);
}

const padded = (width) => (width ? width + GAP : 0);

function drawBox(ctx, left, width, height, colours) {
  ctx.fillStyle = colours.tip;
  ctx.strokeStyle = colours.axis;
  ctx.lineWidth = 1;
  ctx.beginPath();
  ctx.roundRect(Math.round(left) + 0.5, TOP + 0.5, Math.round(width), height, 5);
  ctx.fill();
  ctx.stroke();
}

function drawRow(ctx, row, columns, left, y, colours) {
  ctx.strokeStyle = row.colour;
  ctx.lineWidth = 2.5;
  segments(ctx, [left + 8, y, left + 18, y]);
  const valueEnd = left + 24 + columns.value;
  ctx.fillStyle = colours.ink;
  ctx.textAlign = "right";
  ctx.fillText(row.value, valueEnd, y);
  ctx.fillStyle = colours.faint;
  ctx.textAlign = "left";
  if (columns.range) ctx.fillText(row.range, valueEnd + GAP, y);
  ctx.fillText(row.name, valueEnd + GAP + padded(columns.range), y);
}
