// Beginning: data, then plots; without either the page stays as it was written.

async function begin() {
  startFollowing();
  if (typeof DecompressionStream === "undefined") return;
  D = JSON.parse(await unpack("data"));
  C = D.columns;
  if (!C.number.length) return;
  startPanel();
  startTable();
  select(fromAddress() ?? D.shown ?? 0, { quiet: true });
  if (!part("explore")) return; // no trial was scored: nothing to draw
  const code = document.createElement("script");
  code.textContent = await unpack("plotly");
  document.head.append(code); // runs at once: its hash is in the page's policy
  if (typeof Plotly === "undefined") return;
  startPlot();
  drawHistory();
  if (document.documentElement.dataset.refresh) scrollTo(0, kept("scroll") ?? 0);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
    drawPlot();
    drawHistory();
  });
}

// A page that follows its study loads itself anew, where nobody is busy with it, and comes back as
// it was left.
const KEPT = ["cost", "log", "dominated", "stopped", "missed", "references", "published", "compare", "area", "view"];

function startFollowing() {
  const every = Number(document.documentElement.dataset.refresh);
  if (!every) return;
  let touched = 0;
  for (const event of ["pointerdown", "pointermove", "keydown", "wheel", "touchstart"]) addEventListener(event, () => { touched = performance.now(); }, { passive: true });
  part("follow-box").hidden = false;
  const follow = part("follow");
  follow.checked = kept("follow") ?? true;
  follow.addEventListener("change", () => keep("follow", follow.checked));
  setInterval(() => {
    if (!follow.checked || document.hidden || performance.now() - touched < 4000) return;
    keep("scroll", scrollY);
    if (C && C.number.length) keep("plot", Object.fromEntries(KEPT.map((key) => [key, plot[key]])));
    location.reload();
  }, every * 1000);
}

function keep(key, value) {
  try {
    sessionStorage.setItem(`compress ${location.pathname} ${key}`, JSON.stringify(value));
  } catch (error) {
    // a browser that keeps nothing: the page begins anew
  }
}

function kept(key) {
  try {
    return JSON.parse(sessionStorage.getItem(`compress ${location.pathname} ${key}`));
  } catch (error) {
    return null;
  }
}

// ``#trial-12`` opens that trial.
function fromAddress() {
  const match = /^#trial-(\d+)$/.exec(location.hash);
  const at = match ? C.number.indexOf(Number(match[1])) : -1;
  return at < 0 ? null : at;
}

begin()
  .then(() => { document.documentElement.dataset.ready = "yes"; })
  .catch((error) => {
    document.documentElement.dataset.ready = "failed";
    console.error(error);
  });
