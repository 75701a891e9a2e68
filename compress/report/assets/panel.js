// One trial: its figures, its training, its pictures, and commands to take away.

function startPanel() {
  part("chosen").hidden = false;
  listeners.push(showPanel);
  let wide = 0;
  new ResizeObserver(() => {
    const now = part("layers").clientWidth;
    if (now && wide && now !== wide && chosen.at !== null) showLayers(chosen.at);
    wide = now || wide;
  }).observe(part("chosen"));
}

function showPanel(at, how) {
  const fronts = Object.entries(D.fronts).filter(([, list]) => list.includes(at)).map(([cost]) => ({ macs: "MACs", params: "parameters", latency_ms: "latency" })[cost]);
  const badges = [];
  const badge = (text, kind) => badges.push(make("li", { class: kind }, text));
  if (at === D.best) badge(D.provisional ? "best so far" : "best", "good");
  if (C.passes[at]) badge(D.gate ? "passes the d1 gate" : "complete", "good");
  else badge({ complete: "misses the d1 gate", stopped: "stopped early", failed: "failed", running: "in training" }[C.state[at]] || C.state[at], "bad");
  if (fronts.length) badge(`front of ${fronts.join(" and ")}`, "");
  for (const entry of D.references) if (entry.at === at) badge(`reference ${entry.name}`, "");
  const figures = [
    ["d1", fixed(C.delta1[at], 4)], ["NetScore", fixed(C.netscore[at], 2)],
    ["Parameters", amount(C.params[at])], ["MACs", amount(C.macs[at])],
    ["Latency, predicted", C.latency_ms[at] === null ? null : milliseconds(C.latency_ms[at])],
    ["AbsRel", C.abs_rel[at] === null ? null : fixed(C.abs_rel[at])],
    ["RMSE", C.rmse[at] === null ? null : `${fixed(C.rmse[at])} m`],
    ["d2, d3", C.delta2[at] === null ? null : `${fixed(C.delta2[at])}, ${fixed(C.delta3[at])}`],
    ["Trained for", duration(C.seconds[at])],
    ["Reason", C.reason[at] || null],
  ].filter(([, value]) => value !== null);
  part("panel-title").textContent = `Trial ${C.number[at]}`;
  part("badges").replaceChildren(...badges);
  part("figures").replaceChildren(...figures.map(([name, value]) => make("div", {}, make("dt", {}, name), make("dd", {}, value))));
  showCurve(at);
  showCommands(at);
  showPictures(at);
  showGenotype(at);
  showLayers(at).catch((error) => console.error(error));
  if (!how.quiet) {
    part("said").textContent = `Opened ${sentence(at)}`;
    history.replaceState(null, "", `#trial-${C.number[at]}`);
  }
  if (how.scroll) part("panel").scrollIntoView({ block: "nearest", behavior: calm.matches ? "auto" : "smooth" });
}

function showCurve(at) {
  const node = part("curve");
  const rungs = C.rungs[at];
  part("curve-box").hidden = !rungs.length;
  if (!rungs.length) return;
  const rival = D.best !== null && D.best !== at ? C.rungs[D.best] : [];
  const full = at === D.shown && D.full.delta1 !== null && D.full.epochs ? [[D.full.epochs, D.full.delta1]] : [];
  const [width, height, left, right, top, bottom] = [340, 198, 46, 326, 10, 158];
  const all = [...rungs, ...rival, ...full];
  const scores = [...all.map((rung) => rung[1]), ...(D.gate ? [D.gate] : [])];
  const most = Math.max(...all.map((rung) => rung[0]), 1);
  const spread = Math.max(0.05, Math.max(...scores) - Math.min(...scores));
  const low = Math.max(0, Math.min(...scores) - 0.12 * spread);
  const high = Math.min(1.005, Math.max(...scores) + 0.12 * spread);
  const x = (epoch) => left + ((right - left) * epoch) / most;
  const y = (score) => bottom - ((bottom - top) * (score - low)) / (high - low);
  const path = (list) => list.map(([epoch, score], i) => `${i ? "L" : "M"}${x(epoch).toFixed(1)} ${y(score).toFixed(1)}`).join("");
  const chart = draw("svg", { class: "chart", viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": `d1 after ${rungs.map(([e, d]) => `${e} epochs ${fixed(d)}`).join(", ")}` });
  const step = [0.005, 0.01, 0.02, 0.05, 0.1, 0.2].find((size) => (high - low) / size <= 6) || 0.25;
  for (let value = Math.ceil(low / step) * step; value <= high; value += step) {
    chart.append(draw("line", { class: "grid", x1: left, x2: right, y1: y(value), y2: y(value) }));
    chart.append(draw("text", { x: left - 6, y: y(value) + 4, "text-anchor": "end" }, value.toFixed(step < 0.01 ? 3 : 2)));
  }
  let last = -99;
  for (const epoch of [...new Set([...rungs, ...full].map((rung) => rung[0]))].sort((a, b) => a - b)) {
    if (x(epoch) - last < 22) continue;
    last = x(epoch);
    chart.append(draw("text", { x: x(epoch), y: bottom + 16, "text-anchor": "middle" }, String(epoch)));
  }
  chart.append(draw("text", { x: (left + right) / 2, y: height - 2, "text-anchor": "middle" }, "epochs"));
  chart.append(draw("line", { class: "axis", x1: left, x2: right, y1: bottom, y2: bottom }));
  if (D.gate) chart.append(draw("line", { class: "gate", x1: left, x2: right, y1: y(D.gate), y2: y(D.gate) }));
  if (rival.length) chart.append(draw("path", { class: "rival", d: path(rival) }));
  chart.append(draw("path", { class: "front-line", d: path(rungs) }));
  for (const [epoch, score] of rungs) chart.append(draw("circle", { class: "point front", cx: x(epoch), cy: y(score), r: 3.5 }, draw("title", {}, `epoch ${epoch}: d1 ${fixed(score, 4)}`)));
  for (const [epoch, score] of full) chart.append(draw("circle", { class: "ring", cx: x(epoch), cy: y(score), r: 5 }, draw("title", {}, `full budget, ${epoch} epochs: d1 ${fixed(score, 4)}`)));
  node.replaceChildren(chart);
  const said = [D.gate ? "dashed: the gate" : "", rival.length ? "grey: the best trial" : "", full.length ? "ring: at full budget" : ""].filter(Boolean);
  part("curve-key").textContent = `Validation d1 after each rung${said.length ? `; ${said.join(", ")}` : ""}.`;
}

// What a shell takes for one word. Control characters, which a terminal would obey, are dropped.
function quoted(text) {
  const plain = text.replace(/[\u0000-\u001f\u007f-\u009f]/g, "");
  return `'${plain.replace(/'/g, `'"'"'`)}'`;
}

function showCommands(at) {
  const number = C.number[at];
  const file = D.files[number];
  const train = async () => {
    const genotype = (await details()).genotypes[at];
    return `printf '%s\\n' ${quoted(JSON.stringify(JSON.parse(genotype)))} > trial-${number}.json && ` +
      `compress train trial-${number}.json ${D.train} -o trial-${number}.safetensors`;
  };
  const buttons = [
    copyButton("Copy train command", train),
    copyButton("Copy genotype", async () => (await details()).genotypes[at]),
  ];
  if (file) buttons.splice(1, 0, copyButton("Copy export command", async () => file.export));
  part("commands").replaceChildren(...buttons);
  part("kept").textContent = file ? `Its network lies in ${file.path}.` : "Its network was not kept, so that there is nothing to export: train it first.";
}

function copyButton(name, text) {
  const button = make("button", { type: "button" }, name);
  button.addEventListener("click", async () => {
    let done = false;
    try {
      done = await copied(await text());
    } catch (error) {
      done = false; // a genotype that is no JSON
    }
    button.textContent = done ? "Copied" : "Could not copy";
    part("said").textContent = button.textContent;
    setTimeout(() => { button.textContent = name; }, 1600);
  });
  return button;
}

async function copied(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch (error) { // a browser that lets no page from a file use the clipboard
    const field = make("textarea", { class: "unseen", "aria-hidden": "true" });
    field.value = text;
    document.body.append(field);
    field.select();
    const done = document.execCommand("copy");
    field.remove();
    return done;
  }
}

function showPictures(at) {
  let any = false;
  for (const figure of document.querySelectorAll("[data-trial]")) {
    figure.hidden = Number(figure.dataset.trial) !== C.number[at];
    any = any || !figure.hidden;
  }
  const section = part("pictures");
  if (section) part("no-pictures").hidden = any;
  if (section && !any) part("no-pictures").textContent = `There are no depth pictures of trial ${C.number[at]}; the page holds those of ${D.pictures.map((n) => `trial ${n}`).join(", ") || "another network"}.`;
}

async function showGenotype(at) {
  const text = (await details()).genotypes[at];
  if (chosen.at !== at) return;
  let shown = text;
  try {
    shown = JSON.stringify(JSON.parse(text), null, 1).replace(/\n\s+(?=-?[\d."\]][^:]*$)/gm, " ");
  } catch (error) {
    shown = text; // as it is
  }
  part("genotype").textContent = shown;
  part("hash").textContent = C.hash[at];
}
