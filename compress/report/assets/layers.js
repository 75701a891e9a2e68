// A network layer by layer: its maps as a diagram, and below it what each layer costs.

const TALL = 54; // pixels of a row of bars

function layerChart(columns, size) {
  const node = part("layers");
  const width = Math.max(280, node.clientWidth || 600);
  const count = columns.name.length;
  const rows = [["params", "Parameters", si], ["macs", "MACs", si]];
  if (columns.latency_ms) rows.push(["latency_ms", "Milliseconds", milliseconds]);
  const diagram = 92;
  const row = TALL + 30;
  const height = diagram + 24 + rows.length * row + 4;
  const step = width / count;
  const bar = Math.max(1, step - Math.min(3, step * 0.25));
  const chart = draw("svg", {
    class: "layers", viewBox: `0 0 ${width} ${height}`, width, height, role: "img",
    "aria-label": `${counted(count, "layer")} in the order they run; the table below lists them`,
  });
  const tallest = Math.max(...columns.height, size ? size[0] : 1);
  chart.append(draw("text", { x: 0, y: 13, class: "row-name" }, `Height of the map after each layer${size ? `, at input ${size.join("×")}` : ""}`));
  chart.append(...stageNames(columns.name, step, width, diagram + 14));
  for (let i = 0; i < count; i += 1) {
    const high = Math.max(2, (diagram - 22) * (Math.log2(1 + columns.height[i]) / Math.log2(1 + tallest)));
    chart.append(draw("rect", { class: "map", x: i * step, width: bar, y: 20 + (diagram - 20 - high) / 2, height: high, rx: Math.min(2, bar / 3) }));
  }
  rows.forEach(([key, name, text], index) => {
    const values = columns[key].map((value) => value || 0);
    const total = values.reduce((a, b) => a + b, 0);
    const most = Math.max(...values, 1e-12);
    const heaviest = values.indexOf(Math.max(...values));
    const top = diagram + 24 + index * row;
    const share = total ? `, ${Math.round((100 * values[heaviest]) / total)} % of them in ${columns.name[heaviest]}` : "";
    chart.append(draw("text", { x: 0, y: top + 13, class: "row-name" }, `${name}: ${text(total)}${share}`));
    values.forEach((value, i) => {
      const high = value ? Math.max(1, (TALL * value) / most) : 0;
      chart.append(draw("rect", { class: `bar ${key}`, x: i * step, width: bar, y: top + 20 + TALL - high, height: high }));
    });
    chart.append(draw("line", { class: "base", x1: 0, x2: width, y1: top + 20.5 + TALL, y2: top + 20.5 + TALL }));
  });
  const mark = draw("rect", { class: "mark", y: 18, height: height - 20, width: step, x: -99 });
  chart.prepend(mark);
  const told = part("layer-told");
  const first = "Point at a layer to read its figures.";
  told.textContent = first;
  const at = (event) => Math.min(count - 1, Math.max(0, Math.floor(((event.clientX - chart.getBoundingClientRect().left) / chart.getBoundingClientRect().width) * count)));
  const show = (event) => {
    const i = at(event);
    mark.setAttribute("x", i * step - (step - bar) / 2);
    told.textContent = layerSentence(columns, i);
  };
  chart.addEventListener("pointermove", show);
  chart.addEventListener("pointerdown", show);
  chart.addEventListener("pointerleave", () => {
    mark.setAttribute("x", -99);
    told.textContent = first;
  });
  node.replaceChildren(chart);
}

// Names under the diagram, those of the longest stages first, as many as there is room for.
function stageNames(names, step, width, y) {
  const many = new Set(names.map((name) => name.split(".")[0])).size > 3;
  const stages = [];
  names.forEach((name, i) => {
    const stage = name.split(".").slice(0, many ? 1 : 2).join(".");
    if (stages.length && stages[stages.length - 1].stage === stage) stages[stages.length - 1].last = i;
    else stages.push({ stage, first: i, last: i });
  });
  const placed = [];
  for (const { stage, first, last } of [...stages].sort((a, b) => (b.last - b.first) - (a.last - a.first))) {
    const half = stage.length * 3.3 + 3;
    const middle = Math.min(width - half, Math.max(half, ((first + last + 1) / 2) * step));
    if (placed.some((other) => Math.abs(other.middle - middle) < other.half + half)) continue;
    placed.push({ stage, middle, half });
  }
  return placed.map(({ stage, middle }) => draw("text", { class: "stage", x: middle, y, "text-anchor": "middle" }, stage));
}

function layerSentence(columns, i) {
  const share = (key) => {
    const total = columns[key].reduce((a, b) => a + b, 0);
    return total ? ` (${((100 * columns[key][i]) / total).toFixed(1)} %)` : "";
  };
  const time = columns.latency_ms ? `, ${milliseconds(columns.latency_ms[i])}${share("latency_ms")}` : "";
  return `${columns.name[i]}: ${columns.height[i]}×${columns.width[i]} × ${columns.channels[i]} channels, ` +
    `${si(columns.params[i])} params${share("params")}, ${si(columns.macs[i])} MACs${share("macs")}${time}`;
}

function layerTable(columns) {
  const heads = ["Layer", "Map", "Channels", "Params", "MACs"];
  if (columns.latency_ms) heads.push("ms");
  const body = make("tbody");
  columns.name.forEach((name, i) => {
    const cells = [`${columns.height[i]}×${columns.width[i]}`, columns.channels[i], amount(columns.params[i]), amount(columns.macs[i])];
    if (columns.latency_ms) cells.push(fixed(columns.latency_ms[i], 4));
    body.append(make("tr", {}, make("th", { scope: "row" }, name), ...cells.map((cell) => make("td", { class: "num" }, String(cell)))));
  });
  const head = make("tr", {}, ...heads.map((name, i) => make("th", { scope: "col", class: i ? "num" : null }, name)));
  part("layer-table").replaceChildren(make("caption", {}, "Layers in the order they run"), make("thead", {}, head), body);
}

async function showLayers(at) {
  const found = await details();
  if (chosen.at !== at) return; // another was chosen meanwhile
  const columns = found.layers[at];
  part("layer-figures").hidden = !columns;
  part("layer-why").hidden = Boolean(columns);
  part("layer-title").textContent = `Layers of trial ${C.number[at]}`;
  if (!columns) {
    part("layer-why").textContent = "The page holds the layers of the fronts and of the best trials only, or this genotype cannot be read.";
    return;
  }
  layerChart(columns, found.size);
  layerTable(columns);
  part("layer-source").textContent = found.table
    ? `Milliseconds as the device table predicts them: ${found.table}. What a run takes besides its layers is in none.`
    : "No device table of this study's backend is on the machine that wrote this page, so that there are no milliseconds.";
}
