// A chart as a PNG file: with its title, its axis and the names of its runs.

import { el } from "./dom.js";
import { FONT, RIGHT, segments } from "./draw.js";
import { shorten } from "./format.js";
import { axisName } from "./metrics.js";

const SCALE = 2; // device pixels per pixel
const HEAD = 34;
const ROW = 16;

/** @returns {HTMLCanvasElement} */
export function chartImage(chart, colours) {
  const box = { w: Math.max(chart.w, 640), h: Math.max(chart.h, 320) };
  const lines = chart.currentLines();
  const height = HEAD + box.h + ROW * Math.ceil(lines.length / 2) + 10;
  const canvas = el("canvas", { width: box.w * SCALE, height: height * SCALE });
  const ctx = canvas.getContext("2d");
  ctx.setTransform(SCALE, 0, 0, SCALE, 0, 0);
  ctx.fillStyle = colours.panel;
  ctx.fillRect(0, 0, box.w, height);
  drawHead(ctx, chart, box, colours);
  ctx.save();
  ctx.translate(0, HEAD);
  chart.paint(ctx, box, colours);
  ctx.restore();
  for (const [i, line] of lines.entries()) {
    const left = 14 + (i % 2) * (box.w / 2);
    drawName(ctx, line, left, HEAD + box.h + 10 + ROW * Math.floor(i / 2), colours);
  }
  return canvas;
}

function drawHead(ctx, { title, description, axis }, box, colours) {
  ctx.fillStyle = colours.ink;
  ctx.font = FONT.replace("11px", "600 14px");
  ctx.fillText(title + (description ? ` (${description})` : ""), 14, 22);
  ctx.font = FONT;
  ctx.textAlign = "right";
  ctx.fillStyle = colours.faint;
  ctx.fillText(`by ${axisName(axis)}`, box.w - RIGHT, 22);
}

function drawName(ctx, line, left, top, colours) {
  ctx.font = FONT;
  ctx.textAlign = "left";
  ctx.strokeStyle = line.colour;
  ctx.setLineDash(line.dash);
  ctx.lineWidth = 2;
  segments(ctx, [left, top - 3, left + 22, top - 3]);
  ctx.setLineDash([]);
  ctx.fillStyle = colours.ink;
  ctx.fillText(shorten(line.legend, 48), left + 30, top);
}
