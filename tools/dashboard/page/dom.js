// Elements built from data. Text stays text: nothing on this page parses HTML.

/**
 * An HTML element. `on...` props are event listeners; null, undefined and false are left out.
 * @param {string} tag
 * @param {Record<string, any>} props
 * @param {...any} children
 * @returns {any}
 */
export function el(tag, props = {}, ...children) {
  const element = document.createElement(tag);
  for (const [key, value] of Object.entries(props)) setProp(element, key, value);
  const isShown = (child) => child !== null && child !== undefined && child !== false;
  element.append(...children.flat().filter(isShown));
  return element;
}

function setProp(element, key, value) {
  if (value === null || value === undefined || value === false) return;
  if (key === "class") element.className = value;
  else if (key === "text") element.textContent = value;
  else if (key.startsWith("on")) element.addEventListener(key.slice(2), value);
  else if (key === "style") setStyle(element, value);
  else element.setAttribute(key, value === true ? "" : String(value));
}

// By property: the page's policy forbids style attributes.
function setStyle(element, style) {
  for (const [name, value] of Object.entries(style)) element.style.setProperty(name, value);
}

/**
 * An SVG element.
 * @param {string} tag
 * @param {Record<string, any>} attributes
 * @param {...any} children
 * @returns {any}
 */
export function svg(tag, attributes = {}, ...children) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, String(value));
  element.append(...children);
  return element;
}

export function svgText(tag, text, attributes = {}) {
  const element = svg(tag, attributes);
  element.textContent = text;
  return element;
}

// Paths on a 16 x 16 grid, drawn as lines; filled where they begin with "!".
const SUN_RAYS = "M8 1v1.5M8 13.5V15M1 8h1.5M13.5 8H15M3 3l1 1M12 12l1 1M3 13l1-1M12 4l1-1";
const ICONS = {
  expand: "M9.5 2.5h4v4M13.5 2.5l-4.5 4.5M6.5 13.5h-4v-4M2.5 13.5l4.5-4.5",
  save: "M8 2v8M4.5 7L8 10.5 11.5 7M2.5 13.5h11",
  table: "M2.5 3.5h11v9h-11zM2.5 6.5h11M2.5 9.5h11M6.5 3.5v9",
  sun: `M8 5a3 3 0 100 6 3 3 0 000-6z${SUN_RAYS}`,
  moon: "M13.5 9.5A6 6 0 016.5 2.5a6 6 0 107 7z",
  help: "M5.5 6a2.5 2.5 0 113.5 2.300c-.7.300-1 .7-1 1.700M8 12.5v.5",
  back: "M10 3L5 8l5 5",
  settings: "M2 5h7M12.500 5H14M2 11h2M7.500 11H14M9 3v4h3.500V3zM4 9v4h3.500V9z",
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
  const isFilled = path.startsWith("!");
  return svg(
    "svg",
    { viewBox: "0 0 16 16", "aria-hidden": "true", class: `icon icon-${name}` },
    svg("path", {
      d: isFilled ? path.slice(1) : path,
      fill: isFilled ? "currentColor" : "none",
      stroke: "currentColor",
      "stroke-width": isFilled ? 0 : 1.8,
      "stroke-linecap": "round",
      "stroke-linejoin": "round",
    }),
  );
}

export function button(label, props = {}, ...children) {
  return el("button", { type: "button", "aria-label": label, title: label, ...props }, ...children);
}

// A link to a run's page, opened in this view unless a modifier key asks for another tab.
export function runLink(id, open, props = {}, ...children) {
  const onclick = (event) => {
    if (event.metaKey || event.ctrlKey) return;
    event.preventDefault();
    open();
  };
  return el("a", { href: `#tab=run&run=${id}`, onclick, ...props }, ...children);
}

// A part that scrolls by itself, also by the keyboard.
export function scrollable(label, ...children) {
  const props = { class: "scroll", tabindex: 0, role: "region", "aria-label": label };
  return el("div", props, ...children);
}

// Writes only where the text differs, so that updates do not flicker or drop a selection.
export function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

export function download(blob, name) {
  const url = URL.createObjectURL(blob);
  el("a", { href: url, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(url), 10_000);
}

// Read out by screen readers.
export function announce(text) {
  document.getElementById("spoken").textContent = text;
}
