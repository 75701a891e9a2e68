// What the other parts share: the data, words, elements and the selection.

let D = null; // the page's data
let C = null; // its columns
const waiting = { details: null }; // unpacked when first asked for
const chosen = { at: null };
const listeners = [];
const calm = matchMedia("(prefers-reduced-motion: reduce)");
const DASH = "–";

const part = (name) => document.querySelector(`[data-part="${name}"]`);

async function unpack(name) {
  const text = part(name).textContent.trim();
  const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Response(stream).text();
}

function details() {
  if (!waiting.details) waiting.details = unpack("details").then(JSON.parse);
  return waiting.details;
}

// Children are text or nodes; text never becomes markup.
function make(tag, attributes, ...children) {
  const node = document.createElement(tag);
  return filled(node, attributes, children);
}

function draw(tag, attributes, ...children) {
  return filled(document.createElementNS("http://www.w3.org/2000/svg", tag), attributes, children);
}

function filled(node, attributes, children) {
  for (const [key, value] of Object.entries(attributes || {})) {
    if (key === "on") for (const [event, what] of Object.entries(value)) node.addEventListener(event, what);
    else if (value !== null && value !== undefined && value !== false) node.setAttribute(key, value === true ? "" : value);
  }
  node.append(...children.filter((child) => child !== null && child !== undefined && child !== ""));
  return node;
}

// plotly reads tags and entities in its texts; a name is to stay a name.
const literal = (text) => String(text).replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;");

function fixed(value, digits = 3) {
  if (value === null || value === undefined) return DASH;
  return value.toFixed(digits).replace("-", "−");
}

function si(value) {
  if (value === null || value === undefined) return DASH;
  for (const [size, unit] of [[1e9, "G"], [1e6, "M"], [1e3, "K"]]) {
    if (value >= size * 0.9995) {
      const scaled = value / size;
      return `${scaled < 999.5 ? String(Number(scaled.toPrecision(3))) : scaled.toFixed(0)} ${unit}`;
    }
  }
  return String(Number(value.toPrecision(3)));
}

function milliseconds(value) {
  return value === null || value === undefined ? DASH : `${Number(value.toPrecision(3))} ms`;
}

function duration(seconds) {
  if (seconds === null || seconds === undefined) return DASH;
  if (seconds < 59.95) return `${seconds.toFixed(1)} s`;
  const whole = Math.round(seconds);
  if (whole < 3600) return `${Math.floor(whole / 60)} min ${whole % 60} s`;
  return `${Math.floor(whole / 3600)} h ${Math.floor((whole % 3600) / 60)} min`;
}

const amount = (value) => value.toLocaleString("en");
const counted = (n, one, many = `${one}s`) => `${amount(n)} ${n === 1 ? one : many}`;
const costText = (cost, value) => (cost === "latency_ms" ? milliseconds(value) : si(value));
const style = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

function sentence(at) {
  const state = C.state[at] === "complete" ? "" : `, ${C.state[at] === "stopped" ? "stopped early" : C.state[at]}`;
  return `Trial ${C.number[at]}${state}: d1 ${fixed(C.delta1[at])}, ${si(C.params[at])} params, ` +
    `${si(C.macs[at])} MACs, NetScore ${fixed(C.netscore[at], 2)}`;
}

// Everything that shows the selection is told of it.
function select(at, how = {}) {
  if (at === null || at === undefined || at < 0) return;
  chosen.at = at;
  for (const listener of listeners) listener(at, how);
}

// At most ``most`` of ``indices``: one of every cell of a grid first, so that the outline of the
// cloud stays, then others spread evenly.
function thin(indices, most, xOf, yOf, box) {
  if (indices.length <= most) return { kept: indices, left: [] };
  const cells = new Set();
  const kept = [];
  const rest = [];
  const columns = Math.floor(Math.sqrt(most * 1.2));
  const rows = Math.max(1, Math.floor((most * 0.7) / columns));
  for (const at of indices) {
    const column = Math.floor(((xOf(at) - box[0]) / (box[1] - box[0])) * columns);
    const row = Math.floor(((yOf(at) - box[2]) / (box[3] - box[2])) * rows);
    const key = row * columns + column;
    if (cells.has(key)) rest.push(at);
    else {
      cells.add(key);
      kept.push(at);
    }
  }
  const room = most - kept.length;
  const left = [];
  rest.forEach((at, i) => {
    if (Math.floor(((i + 1) * room) / rest.length) > Math.floor((i * room) / rest.length)) kept.push(at);
    else left.push(at);
  });
  return { kept, left };
}
