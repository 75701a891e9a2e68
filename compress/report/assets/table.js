// Every trial: sorted by any column, filtered by words and by figures, a page at a time.

const PER_PAGE = 25;
const HEADS = [
  ["number", "Trial", String], ["state", "State", null], ["params", "Params", si], ["macs", "MACs", si],
  ["latency_ms", "Latency (ms)", (v) => fixed(v, 2)], ["delta1", "d1", fixed],
  ["netscore", "NetScore", (v) => fixed(v, 2)], ["abs_rel", "AbsRel", fixed], ["rmse", "RMSE (m)", fixed],
  ["seconds", "Time", duration], ["reason", "Reason", null],
];
const FIGURES = { trial: "number", number: "number", params: "params", macs: "macs", latency: "latency_ms", d1: "delta1", delta1: "delta1", netscore: "netscore", absrel: "abs_rel", rmse: "rmse", time: "seconds" };
const UNITS = { "": 1, k: 1e3, m: 1e6, g: 1e9 };
const table = { key: null, down: true, page: 0, rows: [], words: null };

// ``d1>0.8 params<200K stage`` asks for all three; a test says whether a trial is meant.
function readFilter(text) {
  const tests = [];
  for (const word of text.trim().toLowerCase().split(/\s+/).filter(Boolean)) {
    const match = /^([a-z1_]+)(<=|>=|<|>|=)(-?[\d.]+)([kmg]?)$/.exec(word);
    const key = match && FIGURES[match[1].replace("_", "")];
    if (!key) {
      tests.push((at) => table.words(at).includes(word));
      continue;
    }
    const limit = Number(match[3]) * UNITS[match[4]];
    const meets = { "<": (v) => v < limit, ">": (v) => v > limit, "<=": (v) => v <= limit, ">=": (v) => v >= limit, "=": (v) => v === limit }[match[2]];
    tests.push((at) => C[key][at] !== null && meets(C[key][at]));
  }
  return (at) => tests.every((test) => test(at));
}

function filterTable() {
  const test = readFilter(part("filter").value);
  const state = part("filter-state").value;
  const fronts = new Set(Object.values(D.fronts).flat());
  const kinds = {
    all: () => true, passes: (at) => C.passes[at] === 1, front: (at) => fronts.has(at),
    complete: (at) => C.state[at] === "complete", stopped: (at) => C.state[at] === "stopped",
    failed: (at) => C.state[at] === "failed", running: (at) => C.state[at] === "running",
  };
  table.rows = [...C.number.keys()].filter((at) => kinds[state](at) && test(at));
  sortTable();
  table.page = 0;
  showTable();
}

function sortTable() {
  const order = { complete: 1, stopped: 2, running: 3, failed: 4 };
  if (!table.key) { // those that pass first, by NetScore, as in the plain table
    const rank = (at) => (C.passes[at] ? 0 : order[C.state[at]]);
    table.rows.sort((a, b) => rank(a) - rank(b) || (C.netscore[b] ?? -Infinity) - (C.netscore[a] ?? -Infinity) || C.number[a] - C.number[b]);
    return;
  }
  const values = C[table.key];
  const sign = table.down ? -1 : 1;
  table.rows.sort((a, b) => {
    const [x, y] = [values[a], values[b]];
    const missing = (x === null || x === "") - (y === null || y === "");
    if (missing) return missing; // what is not known comes last, either way
    return sign * (typeof x === "string" ? x.localeCompare(y) : x - y) || C.number[a] - C.number[b];
  });
}

function showTable() {
  const fronts = new Set(Object.values(D.fronts).flat());
  const first = table.page * PER_PAGE;
  const shown = table.rows.slice(first, first + PER_PAGE);
  part("trial-rows").replaceChildren(...shown.map((at) => {
    const open = make("button", { type: "button", class: "open", "aria-label": `Open trial ${C.number[at]}` }, String(C.number[at]));
    const cells = tableHeads().slice(1).map(([key, , text]) => {
      if (key === "state") return make("td", {}, C.state[at] + (C.passes[at] && D.gate ? ", passes" : ""));
      if (key === "reason") return make("td", { class: C.reason[at] ? "wide" : null }, C.reason[at]);
      return make("td", { class: "num" }, text(C[key][at]));
    });
    const row = make("tr", { class: fronts.has(at) ? "on-front" : null, "data-at": at, "aria-current": at === chosen.at ? "true" : null }, make("th", { scope: "row", class: "num" }, open), ...cells);
    row.addEventListener("click", () => select(at, { scroll: true }));
    return row;
  }));
  const last = first + shown.length;
  part("trial-count").textContent = table.rows.length
    ? `${amount(first + 1)}–${amount(last)} of ${counted(table.rows.length, "trial")}${table.rows.length < C.number.length ? `, ${amount(C.number.length)} in all` : ""}`
    : `None of ${counted(C.number.length, "trial")} is meant.`;
  part("earlier").disabled = table.page === 0;
  part("later").disabled = last >= table.rows.length;
}

function tableHeads() {
  return HEADS.filter(([key]) => key !== "latency_ms" || D.costs.includes("latency_ms"));
}

function startTable() {
  const known = new Map();
  table.words = (at) => {
    if (!known.has(at)) known.set(at, `${C.number[at]} ${C.state[at]} ${C.passes[at] ? "passes" : ""} ${C.reason[at]} ${C.hash[at]}`.toLowerCase());
    return known.get(at);
  };
  const heads = tableHeads().map(([key, name, text]) => {
    const button = make("button", { type: "button" }, name);
    const head = make("th", { scope: "col", class: text ? "num" : null, "data-key": key }, button);
    button.addEventListener("click", () => {
      table.down = table.key === key ? !table.down : !["number", "state", "reason", "params", "macs", "latency_ms", "abs_rel", "rmse"].includes(key);
      table.key = key;
      for (const other of part("trial-heads").children) other.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", table.down ? "descending" : "ascending");
      sortTable();
      table.page = 0;
      showTable();
    });
    return head;
  });
  part("trial-heads").replaceChildren(...heads);
  let due = 0;
  part("filter").addEventListener("input", () => { clearTimeout(due); due = setTimeout(filterTable, C.number.length > 2000 ? 150 : 0); });
  part("filter-state").addEventListener("change", filterTable);
  part("earlier").addEventListener("click", () => { table.page -= 1; showTable(); });
  part("later").addEventListener("click", () => { table.page += 1; showTable(); });
  listeners.push((at) => {
    for (const row of part("trial-rows").children) {
      if (Number(row.dataset.at) === at) row.setAttribute("aria-current", "true");
      else row.removeAttribute("aria-current");
    }
  });
  filterTable();
  part("trial-static").hidden = true;
  part("trial-live").hidden = false;
}
