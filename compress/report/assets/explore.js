// Drawing the plot and moving in it: controls, pointer and keyboard.

const PLOT_CONFIG = { displayModeBar: false, responsive: true, scrollZoom: false, doubleClick: false, showTips: false };
const NEAR = 14; // pixels from a point that still count as on it

function axisStyle(title) {
  return {
    title: { text: title, font: { size: 13, color: style("--ink") }, standoff: 10 }, automargin: false,
    gridcolor: style("--rule"), linecolor: style("--soft"), zeroline: false, ticks: "",
    tickfont: { size: 12, color: style("--soft") },
  };
}

function baseLayout() {
  return {
    autosize: true, margin: plotMargin(), hovermode: "closest", hoverdistance: NEAR,
    paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
    font: { family: getComputedStyle(document.body).fontFamily, color: style("--ink"), size: 12.5 },
    hoverlabel: { bgcolor: style("--ink"), bordercolor: style("--ink"), font: { color: style("--paper"), size: 12.5 } },
    // A finger scrolls the page; the buttons move the plot.
    dragmode: matchMedia("(pointer: coarse)").matches ? false : "pan",
  };
}

function drawPlot() {
  const groups = drawnTrials();
  plot.largest = C.params.reduce((a, b) => Math.max(a, b), 1);
  if (!plot.view) plot.view = fullView(groups);
  const box = [...plot.view.x, ...plot.view.y];
  const within = (at) => {
    const x = toAxis(costOf(at));
    const y = C.delta1[at];
    return x >= box[0] && x <= box[1] && y >= box[2] && y <= box[3];
  };
  const faint = ["dominated", "missed", "stopped"].filter((kind) => plot[kind]);
  const all = faint.flatMap((kind) => groups[kind]);
  const seen = all.length > MOST_DRAWN ? all.filter(within) : all;
  const { kept, left } = thin(seen, MOST_DRAWN, (at) => toAxis(costOf(at)), (at) => C.delta1[at], box);
  const among = new Set(kept);
  const drawn = Object.fromEntries(faint.map((kind) => [kind, groups[kind].filter((at) => among.has(at))]));
  plot.shown = [...all, ...groups.front];
  plot.order = [...plot.shown].sort((a, b) => costOf(a) - costOf(b) || C.delta1[a] - C.delta1[b]);
  plot.front = groups.front;
  const backdrop = left.length ? { images: [cloud(left, groups)] } : { images: [] };
  const layout = {
    ...baseLayout(), ...backdrop, shapes: gateShapes(), annotations: gateWords(),
    xaxis: { ...axisStyle(LABELS[plot.cost]), type: plot.log ? "log" : "linear", range: plot.view.x, exponentformat: "SI", ...ticksOf() },
    yaxis: { ...axisStyle(innerWidth < 560 ? "d1" : "d1 (share of pixels within 1.25×)"), range: plot.view.y, fixedrange: false },
  };
  Plotly.react(part("plot"), traces(groups, drawn), layout, PLOT_CONFIG);
  placeRing();
  tellPlot(groups, left.length);
}

// Ticks of whole decades and their 2 and 5, said as the rest of the page says counts.
function ticksOf() {
  if (!plot.log) return { tickmode: "auto", nticks: innerWidth < 560 ? 5 : 9, tickformat: plot.cost === "latency_ms" ? "" : "~s" };
  const [low, high] = plot.view.x;
  const digits = high - low < 0.5 ? [1, 1.2, 1.5, 2, 2.5, 3, 4, 5, 6, 7, 8] : high - low < 1.2 ? [1, 1.5, 2, 3, 5, 7] : high - low < 3 ? [1, 2, 5] : [1];
  const values = [];
  for (let decade = Math.floor(low) - 2; decade <= high + 2; decade += 1) for (const digit of digits) values.push(digit * 10 ** decade);
  return { tickmode: "array", tickvals: values, ticktext: values.map((v) => (plot.cost === "latency_ms" ? `${Number(v.toPrecision(3))}` : si(v))) };
}

// The points that are not drawn one by one, as one picture in the plot's own coordinates, and a
// good deal beyond its edges, so that it may be moved.
function cloud(indices, groups) {
  const node = part("plot");
  const margin = plotMargin();
  const over = 0.5;
  const [x0, x1] = plot.view.x;
  const [y0, y1] = plot.view.y;
  const [wide, tall] = [x1 - x0, y1 - y0];
  const scale = Math.min(2, devicePixelRatio || 1);
  const width = (node.clientWidth - margin.l - margin.r) * (1 + 2 * over);
  const height = (node.clientHeight - margin.t - margin.b) * (1 + 2 * over);
  const canvas = make("canvas", { width: Math.round(width * scale), height: Math.round(height * scale) });
  const pen = canvas.getContext("2d");
  pen.scale(scale, scale);
  const inside = new Set(indices);
  for (const [kind, marker] of Object.entries(faintKinds())) {
    pen.globalAlpha = marker.opacity;
    pen.fillStyle = marker.color;
    pen.strokeStyle = marker.line.color || marker.color;
    for (const at of groups[kind]) {
      if (!inside.has(at)) continue;
      pen.beginPath();
      pen.arc(
        ((toAxis(costOf(at)) - x0) / wide + over) / (1 + 2 * over) * width,
        ((y1 - C.delta1[at]) / tall + over) / (1 + 2 * over) * height,
        diameter(C.params[at]) / 2, 0, 7,
      );
      if (kind === "stopped") pen.stroke();
      else pen.fill();
    }
  }
  return {
    source: canvas.toDataURL("image/png"), xref: "x", yref: "y", layer: "below", sizing: "stretch",
    x: plot.log ? x0 - over * wide : x0 - over * wide, y: y1 + over * tall,
    sizex: wide * (1 + 2 * over), sizey: tall * (1 + 2 * over),
  };
}

function tellPlot(groups, left) {
  const limit = D.limits[plot.cost];
  const said = [];
  if (limit && !nearLimit()) said.push(`The limit of ${costText(plot.cost, limit)} lies far beyond the right edge.`);
  if (left) said.push(`${amount(left)} of the faint points are drawn as a picture; zoom in to point at each.`);
  if (!plot.front.length) said.push("No candidate was trained to the end, so that there is no front.");
  part("plot-notes").textContent = said.join(" ");
  for (const kind of ["dominated", "missed", "stopped"]) {
    const box = document.querySelector(`[data-toggle="${kind}"]`);
    box.closest("label").hidden = !groups[kind].length;
    part(`count-${kind}`).textContent = amount(groups[kind].length);
  }
}

// Where a trial lies, in pixels of the plot's element; null outside its frame.
function pixel(at) {
  const node = part("plot");
  const margin = plotMargin();
  const x = margin.l + ((toAxis(costOf(at)) - plot.view.x[0]) / (plot.view.x[1] - plot.view.x[0])) * (node.clientWidth - margin.l - margin.r);
  const y = margin.t + ((plot.view.y[1] - C.delta1[at]) / (plot.view.y[1] - plot.view.y[0])) * (node.clientHeight - margin.t - margin.b);
  const inside = x >= margin.l - 1 && x <= node.clientWidth - margin.r + 1 && y >= margin.t - 1 && y <= node.clientHeight - margin.b + 1;
  return { x, y, inside };
}

function placeRing() {
  const ring = part("ring");
  const at = chosen.at;
  const place = at !== null && drawable(at) ? pixel(at) : { inside: false };
  ring.hidden = !place.inside;
  if (!place.inside) return;
  const size = diameter(C.params[at]) + 12;
  ring.style.width = ring.style.height = `${size}px`;
  ring.style.transform = `translate(${place.x - size / 2}px, ${place.y - size / 2}px)`;
}

function nearest(x, y) {
  const front = new Set(plot.front);
  let found = null;
  let least = NEAR;
  for (const at of plot.shown) {
    const place = pixel(at);
    if (!place.inside) continue;
    // Of points as near as each other the one on the front is meant.
    const away = Math.hypot(place.x - x, place.y - y) - (front.has(at) ? 4 : 0);
    if (away <= least) [found, least] = [at, away];
  }
  return found;
}

function setView(view) {
  plot.view = view;
  drawPlot();
}

function zoom(factor) {
  const about = ([low, high]) => {
    const [middle, half] = [(low + high) / 2, ((high - low) / 2) * factor];
    return [middle - half, middle + half];
  };
  setView({ x: about(plot.view.x), y: about(plot.view.y) });
}

function stepThrough(key) {
  const along = key === "ArrowUp" || key === "ArrowDown" ? plot.front : plot.order;
  if (!along.length) return;
  const forward = key === "ArrowRight" || key === "ArrowUp";
  let place = along.indexOf(chosen.at);
  if (key === "Home" || key === "End") place = key === "Home" ? 0 : along.length - 1;
  else if (place < 0) {
    const from = chosen.at !== null && drawable(chosen.at) ? costOf(chosen.at) : 0;
    place = along.findIndex((at) => costOf(at) >= from);
    if (place < 0) place = along.length - 1;
  } else place = Math.min(along.length - 1, Math.max(0, place + (forward ? 1 : -1)));
  select(along[place], { quiet: true });
  part("said").textContent = sentence(along[place]);
}

function startPlot() {
  const node = part("plot");
  part("explore").hidden = false;
  part("plot-static").hidden = true;
  part("key-chosen").hidden = false;
  part("key-references").hidden = !D.references.length && !D.published.length;
  plot.cost = D.costs.includes("macs") ? "macs" : D.costs[0] || "macs";
  plot.published = D.published.some((entry) => entry.same);
  const before = document.documentElement.dataset.refresh ? kept("plot") : null;
  if (before && D.costs.includes(before.cost)) Object.assign(plot, before);
  startControls();
  drawPlot();
  node.on("plotly_relayouting", (change) => {
    follow(change);
    placeRing();
  });
  node.on("plotly_relayout", (change) => { if (follow(change)) drawPlot(); });
  let down = null;
  node.addEventListener("pointerdown", (event) => { down = [event.clientX, event.clientY]; }, true);
  addEventListener("pointerup", (event) => {
    const still = down && Math.hypot(event.clientX - down[0], event.clientY - down[1]) < 5;
    down = null;
    if (!still) return;
    const frame = node.getBoundingClientRect();
    const at = nearest(event.clientX - frame.left, event.clientY - frame.top);
    if (at !== null) select(at, { scroll: true });
  }, true);
  node.addEventListener("keydown", (event) => {
    if (event.altKey || event.ctrlKey || event.metaKey) return;
    if (event.key.startsWith("Arrow") || event.key === "Home" || event.key === "End") stepThrough(event.key);
    else if (event.key === "Enter") part("panel").focus();
    else if (event.key === "+" || event.key === "=") zoom(0.5);
    else if (event.key === "-") zoom(2);
    else if (event.key === "0") setView(null);
    else return;
    event.preventDefault();
  });
  listeners.push(placeRing);
  let wide = node.clientWidth;
  new ResizeObserver(() => {
    if (node.clientWidth && node.clientWidth !== wide) {
      wide = node.clientWidth;
      requestAnimationFrame(drawPlot);
    }
  }).observe(node);
}

// Take over the ranges that dragging made; whether there were any.
function follow(change) {
  let moved = false;
  for (const axis of ["x", "y"]) {
    const range = change[`${axis}axis.range`] || (`${axis}axis.range[0]` in change ? [change[`${axis}axis.range[0]`], change[`${axis}axis.range[1]`]] : null);
    if (range) {
      plot.view = { ...plot.view, [axis]: range.map(Number) };
      moved = true;
    }
  }
  return moved;
}

function startControls() {
  const against = part("cost");
  for (const cost of D.costs) {
    const name = { macs: "MACs", params: "parameters", latency_ms: "latency" }[cost];
    against.append(make("option", { value: cost, selected: cost === plot.cost }, name));
  }
  against.addEventListener("change", () => { plot.cost = against.value; setView(null); });
  part("scale").value = plot.log ? "log" : "linear";
  part("scale").addEventListener("change", (event) => { plot.log = event.target.value === "log"; setView(null); });
  for (const box of document.querySelectorAll("[data-toggle]")) {
    const kind = box.dataset.toggle;
    box.checked = plot[kind];
    box.addEventListener("change", () => { plot[kind] = box.checked; setView(null); });
    const none = { references: !D.references.length, published: !D.published.length, compare: !D.compare.length }[kind];
    if (none) box.closest("label").hidden = true;
  }
  for (const [name, what] of [["closer", () => zoom(0.5)], ["further", () => zoom(2)], ["reset", () => setView(null)]]) part(name).addEventListener("click", what);
}
