"""How a study's page bears 10,000 trials: its size, how long it takes to open, frames in panning.

The study is made up: real genotypes with altered values, so that the page is as heavy as that of a
real study. The page is opened in headless chromium and its plot dragged back and forth; frames are
what `requestAnimationFrame` sees meanwhile.

    python benchmarks/report_pan.py --trials 10000 --seconds 10
"""

from __future__ import annotations

import argparse
import json
import math
import random
import shutil
import statistics
import tempfile
import time
from datetime import datetime, timedelta
from pathlib import Path

from _timing import table

from compress.cost import cost
from compress.netscore import netscore
from compress.report.findings import Findings
from compress.report.page import render
from compress.search.records import Record, Rung, best
from compress.space import load_space

SIZE = (96, 128)
FLAGS = ["--no-sandbox", "--disable-background-networking", "--disable-sync", "--no-first-run"]
RECORD = """() => {
  window.frames_ms = [];
  let before = performance.now();
  const look = (now) => { window.frames_ms.push(now - before); before = now;
    window.looking = requestAnimationFrame(look); };
  window.looking = requestAnimationFrame(look);
}"""


def made_up(trials: int) -> Findings:
    """A finished study of so many candidates, half of them trained to the end."""
    chance, space, began = random.Random(0), load_space("depthnet-nano"), datetime(2026, 3, 1)
    drawn = [space.sample(seed) for seed in range(60)]
    sizes = [cost(one, SIZE) for one in drawn]
    rows = []
    for number in range(trials):
        turn, stretch = number % len(drawn), chance.uniform(0.4, 1.6)
        params, macs = (round(stretch * sizes[turn][i]) for i in (0, 1))
        reached = min(0.95, max(0.1, 0.35 + 0.05 * chance.gauss(0, 2) + macs / 2e8))
        done = number % 2 == 0
        rungs = [
            Rung(epoch, share * reached, netscore(100 * share * reached, params, macs), 9.0 * epoch)
            for epoch, share in ((3, 0.8), (6, 0.9), (12, 1.0))[: 3 if done else 1]
        ]
        values = {key: chance.randint(1, 4096) for key in drawn[turn].values}
        rows.append(
            Record(
                number, "complete" if done else "stopped", f"{chance.getrandbits(64):016x}",
                params, macs, macs + 1000, tuple(rungs), {"delta1": reached} if done else {}, 40.0,
                "" if done else "NetScore at most 30.00 expected at epoch 3, best 34.00",
                json.dumps(drawn[turn].to_dict() | {"values": values}),
                (began + timedelta(minutes=number)).isoformat(timespec="seconds"),
            )
        )  # fmt: skip
    limits = {"max_params": 300_000, "delta1": 0.7, "size": list(SIZE)}
    config = {"space": "depthnet-nano", "data": "scenes", "delta1": 0.7}
    winner = best(rows, 0.7)
    return Findings("made-up", tuple(rows), config, limits, winner=winner, provisional=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--trials", type=int, default=10_000)
    parser.add_argument("--seconds", type=float, default=10.0, help="of panning (default: 10)")
    parser.add_argument("--opens", type=int, default=5, help="times it is opened (default: 5)")
    args = parser.parse_args()
    from playwright.sync_api import sync_playwright

    names = ("chromium", "chromium-browser", "google-chrome")
    browser_path = next(filter(None, map(shutil.which, names)), None)
    if browser_path is None:
        raise SystemExit("no chromium on this machine: apt-get install chromium")
    began = time.perf_counter()
    text = render(made_up(args.trials), Path("/nowhere")).encode()
    rows = [
        ("what", "figure"),
        ("trials", f"{args.trials:,}"),
        ("page", f"{len(text) / 1e6:.2f} MB"),
        ("made in", f"{time.perf_counter() - began:.1f} s"),
    ]
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        path = Path(folder) / "index.html"
        path.write_bytes(text)
        browser = playwright.chromium.launch(executable_path=browser_path, args=FLAGS)
        rows.append(("browser", f"chromium {browser.version}, headless, 1280x900"))
        opened = []
        for _ in range(args.opens):
            page = browser.new_page(viewport={"width": 1280, "height": 900})
            start = time.perf_counter()
            page.goto(path.as_uri())
            page.wait_for_selector("html[data-ready=yes]", state="attached", timeout=120_000)
            opened.append(time.perf_counter() - start)
        rows.append(("opens in, median", f"{statistics.median(opened):.2f} s"))
        rows += panned(page, args.seconds)
        browser.close()
    table(rows)


def panned(page, seconds: float) -> list[tuple[str, str]]:
    """Drag the plot in circles and count frames, beside those of a page at rest."""
    plot = page.locator('[data-part="plot"]')
    plot.scroll_into_view_if_needed()
    page.evaluate(RECORD)
    page.wait_for_timeout(2000)
    rest = page.evaluate("window.frames_ms.splice(0)")[5:]
    box = plot.bounding_box()
    middle = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    tick = plot.locator(".xtick text").first.bounding_box()
    page.mouse.move(*middle)
    page.mouse.down()
    page.evaluate("window.frames_ms.splice(0)")
    began, moves = time.perf_counter(), 0
    while (gone := time.perf_counter() - began) < seconds:
        angle = 2 * math.pi * gone / 2.0  # once around in two seconds
        page.mouse.move(middle[0] + 120 * math.sin(angle), middle[1] + 60 * (1 - math.cos(angle)))
        moves += 1
    frames = page.evaluate("window.frames_ms.splice(0)")
    page.mouse.up()
    if plot.locator(".xtick text").first.bounding_box() == tick:
        raise SystemExit("the plot did not move: nothing was measured")
    return [
        ("frames at rest, median", f"{statistics.median(rest):.1f} ms"),
        ("frames while panning, median", f"{statistics.median(frames):.1f} ms"),
        ("95th percentile", f"{statistics.quantiles(frames, n=20)[-1]:.1f} ms"),
        ("longest", f"{max(frames):.1f} ms"),
        ("frames, mouse moves", f"{len(frames)}, {moves} in {seconds:g} s"),
    ]


if __name__ == "__main__":
    main()
