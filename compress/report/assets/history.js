// NetScore against wall-clock, with the best one so far.

function drawHistory() {
  const node = part("history");
  const done = [];
  for (let at = 0; at < C.number.length; at += 1) {
    if (C.netscore[at] !== null && ["complete", "stopped"].includes(C.state[at])) done.push(at);
  }
  if (!done.some((at) => C.state[at] === "complete")) return;
  const timed = done.every((at) => C.hours[at] !== null) && done.some((at) => C.hours[at] > 0);
  const last = timed ? Math.max(...done.map((at) => C.hours[at])) : 0;
  const [scale, unit] = last > 2 ? [1, "hours"] : last > 1 / 30 ? [60, "minutes"] : [3600, "seconds"];
  const xOf = (at) => (timed ? C.hours[at] * scale : C.number[at]);
  done.sort((a, b) => xOf(a) - xOf(b) || C.number[a] - C.number[b]);
  const line = { x: [], y: [] };
  let best = -Infinity;
  for (const at of done) {
    if (C.passes[at] && C.netscore[at] > best) {
      best = C.netscore[at];
      line.x.push(xOf(at));
      line.y.push(best);
    }
  }
  if (line.x.length) {
    line.x.push(xOf(done[done.length - 1]));
    line.y.push(best);
  }
  const scores = done.map((at) => C.netscore[at]);
  const low = scores.reduce((a, b) => Math.min(a, b), Infinity);
  const high = scores.reduce((a, b) => Math.max(a, b), -Infinity);
  const room = Math.max((high - low) * 0.08, 0.5);
  const right = xOf(done[done.length - 1]) || 1;
  const box = [0, right, low, high + 1e-9];
  const { kept } = thin(done, MOST_DRAWN, xOf, (at) => C.netscore[at], box);
  const kinds = {
    stopped: { symbol: "x-thin-open", size: 6, opacity: 0.6, color: style("--dot") },
    missed: { symbol: "circle-open", size: 7, opacity: 0.8, color: style("--dot") },
    passing: { symbol: "circle", size: 7, opacity: 0.9, color: style("--accent") },
  };
  const kindOf = (at) => (C.state[at] === "stopped" ? "stopped" : C.passes[at] ? "passing" : "missed");
  const found = Object.entries(kinds).map(([kind, marker]) => {
    const of = kept.filter((at) => kindOf(at) === kind);
    return {
      type: "scatter", mode: "markers", name: kind, showlegend: false, hoverinfo: "text", customdata: of,
      x: of.map(xOf), y: of.map((at) => C.netscore[at]), hovertext: of.map(sentence), marker,
    };
  });
  found.push({
    type: "scatter", mode: "lines", name: "best", showlegend: false, hoverinfo: "skip", ...line,
    line: { shape: "hv", color: style("--accent"), width: 1.8 },
  });
  const layout = {
    ...baseLayout(),
    xaxis: { ...axisStyle(timed ? `Wall-clock (${unit})` : "Trial number"), range: [-0.03 * right, 1.03 * right] },
    yaxis: { ...axisStyle("NetScore (dB)"), range: [low - room, high + room] },
  };
  node.hidden = false;
  part("history-key").hidden = false;
  const still = part("history-static");
  if (still) still.hidden = true;
  Plotly.react(node, found, layout, PLOT_CONFIG);
  if (!node.dataset.ready) {
    node.dataset.ready = "yes";
    node.on("plotly_click", (event) => select(event.points[0].customdata, { scroll: true }));
  }
}
