// Elements from data. Text is always text: nothing here, or anywhere on the page, parses HTML.

export function el(tag, given = {}, ...children) {
  const element = document.createElement(tag);
  set(element, given);
  element.append(
    ...children.flat().filter((child) => child !== null && child !== undefined && child !== false),
  );
  return element;
}

function set(element, given) {
  for (const [key, value] of Object.entries(given)) {
    if (value === null || value === undefined || value === false) continue;
    if (key === "class") element.className = value;
    else if (key === "text") element.textContent = value;
    else if (key.startsWith("on")) element.addEventListener(key.slice(2), value);
    else if (key === "style")
      for (const [name, v] of Object.entries(value)) element.style.setProperty(name, v);
    else if (value === true) element.setAttribute(key, "");
    else element.setAttribute(key, String(value));
  }
}

const SVG = "http://www.w3.org/2000/svg";

export function svg(tag, given = {}, ...children) {
  const element = document.createElementNS(SVG, tag);
  for (const [key, value] of Object.entries(given)) element.setAttribute(key, String(value));
  element.append(...children);
  return element;
}

// Paths on a 16 x 16 grid, drawn as lines unless they begin with "!".
const ICONS = {
  expand: "M9.5 2.5h4v4M13.5 2.5l-4.5 4.5M6.5 13.5h-4v-4M2.5 13.5l4.5-4.5",
  shrink: "M13.5 6.5h-4v-4M9.5 6.5l4.5-4.5M2.5 9.5h4v4M6.5 9.5l-4.5 4.5",
  save: "M8 2v8M4.5 7L8 10.5 11.5 7M2.5 13.5h11",
  table: "M2.5 3.5h11v9h-11zM2.5 6.5h11M2.5 9.5h11M6.5 3.5v9",
  sun: "M8 5a3 3 0 100 6 3 3 0 000-6zM8 1v1.5M8 13.5V15M1 8h1.5M13.5 8H15M3 3l1 1M12 12l1 1M3 13l1-1M12 4l1-1",
  moon: "M13.5 9.5A6 6 0 016.5 2.5a6 6 0 107 7z",
  help: "M5.5 6a2.5 2.5 0 113.5 2.300c-.7.300-1 .7-1 1.700M8 12.5v.5",
  back: "M10 3L5 8l5 5",
  close: "M4 4l8 8M12 4l-8 8",
  running: "!M8 3a5 5 0 100 10A5 5 0 008 3z",
  completed: "M3 8.5l3.5 3.5L13 4.5",
  interrupted: "M5.5 3.5v9M10.5 3.5v9",
  failed: "M4 4l8 8M12 4l-8 8",
  unreadable: "M8 2.5v7M8 12v1.5",
  unknown: "M4 8h8",
};

export function icon(name) {
  const path = ICONS[name] ?? ICONS.unknown;
  const filled = path.startsWith("!");
  return svg(
    "svg",
    { viewBox: "0 0 16 16", "aria-hidden": "true", class: `icon icon-${name}` },
    svg("path", {
      d: filled ? path.slice(1) : path,
      fill: filled ? "currentColor" : "none",
      stroke: "currentColor",
      "stroke-width": filled ? 0 : 1.8,
      "stroke-linecap": "round",
      "stroke-linejoin": "round",
    }),
  );
}

export function button(label, given = {}, ...children) {
  return el("button", { type: "button", "aria-label": label, title: label, ...given }, ...children);
}

// Changes what an element holds only where it differs: a page that is looked at must not flicker.
export function keep(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

export function save(blob, name) {
  const url = URL.createObjectURL(blob);
  const link = el("a", { href: url, download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(url), 10_000);
}

let spoken = null;
export function say(text) {
  spoken ??= document.getElementById("spoken");
  spoken.textContent = text;
}
