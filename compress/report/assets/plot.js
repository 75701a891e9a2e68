// The plot of d1 against a cost: points, fronts, gates and what is laid over them.

const LABELS = {
  macs: "MACs (multiply-adds, conv and linear layers)",
  params: "Parameters",
  latency_ms: "Latency (ms)",
};
const MOST_DRAWN = 800; // points that are drawn one by one; the others are one picture behind them
const FAR = 30; // a limit further than this from the largest network is told, not drawn
const SYMBOLS = ["square", "triangle-up", "cross", "pentagon", "star", "hexagon"];
const plot = {
  cost: "macs", log: true, dominated: true, stopped: true, missed: true, references: true,
  published: false, compare: true, area: true, view: null, order: [], shown: [],
};

function plotMargin() {
  return innerWidth < 560 ? { l: 46, r: 10, t: 12, b: 46 } : { l: 62, r: 18, t: 14, b: 52 };
}

const costOf = (at) => C[plot.cost][at];
const toAxis = (value) => (plot.log ? Math.log10(value) : value);
const drawable = (at) => C.delta1[at] !== null && costOf(at) > 0;

function drawnTrials() {
  const front = new Set(D.fronts[plot.cost] || []);
  const groups = { front: [...front].filter(drawable), dominated: [], missed: [], stopped: [] };
  for (let at = 0; at < C.number.length; at += 1) {
    if (front.has(at) || !drawable(at)) continue;
    if (C.state[at] === "stopped") groups.stopped.push(at);
    else if (C.state[at] === "complete") groups[C.passes[at] || !D.gate ? "dominated" : "missed"].push(at);
  }
  return groups;
}

function withPublished() {
  return plot.published ? D.published.filter((entry) => entry[plot.cost] > 0) : [];
}

function fullView(groups) {
  const shown = [...groups.front];
  for (const kind of ["dominated", "missed", "stopped"]) if (plot[kind]) shown.push(...groups[kind]);
  const costs = shown.map(costOf);
  const scores = shown.map((at) => C.delta1[at]);
  for (const entry of withPublished()) {
    costs.push(entry[plot.cost]);
    scores.push(entry.delta1);
  }
  if (plot.compare) {
    for (const other of D.compare) {
      for (const [, cost, delta1] of other.fronts[plot.cost] || []) {
        if (cost > 0 && delta1 !== null) {
          costs.push(cost);
          scores.push(delta1);
        }
      }
    }
  }
  if (!costs.length) return { x: plot.log ? [3, 9] : [0, 1], y: [0, 1] };
  const limit = nearLimit();
  const bounds = (values) => values.reduce(([a, b], v) => [Math.min(a, v), Math.max(b, v)], [Infinity, -Infinity]);
  let [low, high] = bounds(limit ? [...costs, limit] : costs);
  let x;
  if (plot.log) {
    const room = Math.max(0.06 * Math.log10(high / low), high / low > 1.2 ? 0.05 : 0.2);
    x = [Math.log10(low) - room, Math.log10(high) + room];
  } else {
    x = [Math.max(0, low - 0.08 * (high - low)) , high + 0.06 * (high - low || high)];
  }
  [low, high] = bounds(D.gate ? [...scores, D.gate] : scores);
  const room = Math.max((high - low) * 0.09, (0.1 - (high - low)) / 2);
  return { x, y: [Math.max(low - room, -0.02), Math.min(high + room, 1.02)] };
}

function nearLimit() {
  const limit = D.limits[plot.cost];
  if (!limit) return null;
  let most = 0;
  for (let at = 0; at < C.number.length; at += 1) if (drawable(at)) most = Math.max(most, costOf(at));
  return limit <= FAR * most ? limit : null;
}

function diameter(params) {
  if (!plot.area) return 7;
  const most = C.number.length > 300 ? 15 : 24;
  return Math.max(4.5, most * Math.sqrt(params / plot.largest));
}

function points(indices, marker, name) {
  return {
    type: "scatter", mode: "markers", name, hoverinfo: "text", showlegend: false,
    x: indices.map(costOf), y: indices.map((at) => C.delta1[at]), customdata: indices,
    hovertext: indices.map(sentence),
    marker: { size: indices.map((at) => diameter(C.params[at])), ...marker },
  };
}

function faintKinds() {
  return {
    dominated: { color: style("--dot"), opacity: 0.5, line: { width: 0 } },
    missed: { color: style("--dot"), opacity: 0.28, line: { width: 0 } },
    stopped: { color: "rgba(0,0,0,0)", opacity: 0.55, line: { width: 1.2, color: style("--dot") } },
  };
}

function traces(groups, kept) {
  const found = [];
  for (const [kind, marker] of Object.entries(faintKinds())) {
    const drawn = kept[kind] || [];
    if (drawn.length) found.push(points(drawn, marker, kind));
  }
  if (plot.compare) D.compare.forEach((other, i) => found.push(...overlay(other, i)));
  const front = groups.front;
  if (front.length) {
    found.push({
      type: "scatter", mode: "lines", hoverinfo: "skip", showlegend: false, name: "front-line",
      x: [...front.map(costOf), plot.log ? 10 ** (plot.view.x[1] + 9) : plot.view.x[1] * 50],
      y: [...front.map((at) => C.delta1[at]), C.delta1[front[front.length - 1]]],
      line: { shape: "hv", color: style("--accent"), width: 1.8 },
    });
    const marked = points(front, { color: style("--accent"), opacity: 1, line: { width: 1, color: style("--paper") } }, "front");
    marked.marker.size = marked.marker.size.map((size) => Math.max(8, size)); // the front is seen first
    found.push(marked);
  }
  if (plot.references) found.push(...named());
  if (D.best !== null && drawable(D.best)) {
    const size = diameter(C.params[D.best]) + 9;
    found.push({
      ...points([D.best], { color: "rgba(0,0,0,0)", line: { width: 2, color: style("--ink") } }, "best"),
      hoverinfo: "skip", mode: "markers+text", text: ["best"], textposition: toAxis(costOf(D.best)) < plot.view.x[0] + 0.14 * (plot.view.x[1] - plot.view.x[0]) ? "top right" : "top left",
      textfont: { color: style("--ink"), size: 13, weight: 650 },
    });
    found[found.length - 1].marker.size = size;
  }
  return found;
}

function overlay(other, index) {
  const rows = (other.fronts[plot.cost] || []).filter(([, cost, d1]) => cost > 0 && d1 !== null);
  if (!rows.length) return [];
  const color = style(`--other${(index % 4) + 1}`);
  return [{
    type: "scatter", mode: "lines+markers", name: `compare-${index}`, showlegend: false, hoverinfo: "text",
    x: rows.map((row) => row[1]), y: rows.map((row) => row[2]),
    hovertext: rows.map(([number, cost, d1]) => literal(`${other.name}, trial ${number}: d1 ${fixed(d1)}, ${costText(plot.cost, cost)}`)),
    line: { shape: "hv", color, width: 1.6, dash: "dot" },
    marker: { symbol: SYMBOLS[index % SYMBOLS.length], color, size: rows.map((row) => Math.max(6, diameter(row[3]))) },
  }];
}

function named() {
  const label = (entries, name, marker) => entries.length ? [{
    type: "scatter", mode: "markers+text", name, showlegend: false, hoverinfo: "text",
    x: entries.map((e) => e.x), y: entries.map((e) => e.y), customdata: entries.map((e) => e.at),
    text: entries.map((e) => literal(e.name)), hovertext: entries.map((e) => literal(e.about)),
    textposition: "bottom right", textfont: { color: style("--ref"), size: 12 },
    marker: { symbol: "diamond-open", size: 13, color: style("--ref"), line: { width: 2, color: style("--ref") }, ...marker },
  }] : [];
  const own = D.references.filter((entry) => drawable(entry.at)).map((entry) => ({
    x: costOf(entry.at), y: C.delta1[entry.at], at: entry.at, name: entry.name,
    about: `${entry.name}: ${entry.about}. ${sentence(entry.at)}`,
  }));
  const papers = withPublished().map((entry) => ({
    x: entry[plot.cost], y: entry.delta1, at: null, name: entry.name,
    about: `${entry.name}, as published on ${entry.data}: d1 ${fixed(entry.delta1)}, ${costText(plot.cost, entry[plot.cost])}`,
  }));
  return [...label(own, "references", {}), ...label(papers, "published", { symbol: "diamond-tall-open" })];
}

function gateShapes() {
  const limit = nearLimit();
  const shapes = [];
  if (D.gate || limit) {
    shapes.push({
      type: "rect", layer: "below", line: { width: 0 }, fillcolor: style("--shade"),
      xref: limit ? "x" : "paper", x0: limit ? limit * (plot.log ? 1e-12 : -99) : 0, x1: limit || 1,
      yref: D.gate ? "y" : "paper", y0: D.gate || 0, y1: D.gate ? 9 : 1, name: "feasible",
    });
  }
  const line = { color: style("--gate"), width: 1.4, dash: "dash" };
  if (D.gate) shapes.push({ type: "line", name: "gate-d1", xref: "paper", x0: 0, x1: 1, y0: D.gate, y1: D.gate, line });
  if (limit) shapes.push({ type: "line", name: "gate-cost", yref: "paper", y0: 0, y1: 1, x0: limit, x1: limit, line });
  return shapes;
}

function gateWords() {
  const limit = nearLimit();
  const font = { color: style("--gate"), size: 12.5 };
  const said0 = { bgcolor: style("--paper"), opacity: 0.85, borderpad: 2 };
  const said = [];
  if (D.gate) {
    said.push({ ...said0, xref: "paper", x: 1, xanchor: "right", y: D.gate, yanchor: "top", text: `d1 ≥ ${Number(D.gate.toPrecision(6))}`, showarrow: false, font });
  }
  if (limit) {
    said.push({ ...said0, yref: "paper", y: 0, yanchor: "bottom", x: toAxis(limit), xanchor: "right", text: `≤ ${costText(plot.cost, limit)}`, showarrow: false, font });
  }
  return said;
}
