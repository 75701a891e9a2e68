"""The page in a real browser: what it asks for, shows, and does when it is clicked."""

from __future__ import annotations

import json
import math
import re
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from many_trials import many, record, ten_thousand
from report_studies import add, four, make_study

from compress.cli.parser import make_parser
from compress.report.findings import read
from compress.report.importance import Importance
from compress.report.page import render

EVIL = "<img src=x onerror=alert(1)><script>alert(2)</script>\"'&</script><b>$x$"
DESKTOP, PHONE = {"width": 1280, "height": 900}, {"width": 390, "height": 844}


class Seen:
    """A page that was opened, and all it asked for, complained of or popped up."""

    def __init__(self, context, path: Path, script: bool = True) -> None:
        self.page = context.new_page()
        self.requests: list[str] = []
        self.complaints: list[str] = []
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.on("console", lambda message: self.complaints.append(message.text))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("dialog", lambda dialog: self.complaints.append(dialog.message))
        self.address = path.as_uri()
        self.page.goto(self.address)
        if script:
            self.page.wait_for_selector("html[data-ready=yes]", state="attached", timeout=60_000)

    def part(self, name: str):
        return self.page.locator(f'[data-part="{name}"]')

    def check_quiet(self) -> None:
        asked = [url for url in self.requests if not url.startswith("data:")]
        assert asked == [self.address] and self.complaints == []


@contextmanager
def opened(chromium, folder: Path, text: str, **options) -> Iterator[Seen]:
    path = folder / "index.html"
    path.write_text(text, encoding="utf-8")
    script = options.get("java_script_enabled", True)
    context = chromium.new_context(**({"viewport": DESKTOP, "reduced_motion": "reduce"} | options))
    try:
        yield Seen(context, path, script)
    finally:
        context.close()


@pytest.fixture(scope="module")
def study():
    return replace(many(80), importance=Importance({"stem": 0.75, "neck": 0.25}, 40))


@pytest.fixture(scope="module")
def desktop(chromium, study, tmp_path_factory) -> Iterator[Seen]:
    """One page for what only reads it, or leaves it as it was."""
    folder = tmp_path_factory.mktemp("desktop")
    other = replace(many(30, seed=5), name="another")
    with opened(chromium, folder, render(study, folder, [other])) as seen:
        yield seen
        seen.check_quiet()


class Axes:
    """Where values lie on the screen, read off the tick labels that a person would read."""

    def __init__(self, seen: Seen) -> None:
        self.x = self._read(seen, "xtick", "x", math.log10)
        self.y = self._read(seen, "ytick", "y", float)

    def _read(self, seen, kind, way, scale):
        marks = seen.page.locator(f'[data-part="plot"] .{kind} text').evaluate_all(
            "all => all.map(one => { const box = one.getBoundingClientRect();"
            " return [one.textContent, box.x + box.width / 2, box.y + box.height / 2]; })"
        )
        place = 1 if way == "x" else 2
        known = sorted((scale(self._value(mark[0])), mark[place]) for mark in marks)
        (low, first), (high, last) = known[0], known[-1]
        return lambda value: first + (scale(value) - low) / (high - low) * (last - first)

    @staticmethod
    def _value(text: str) -> float:
        number, _, unit = text.replace("−", "-").partition(" ")
        return float(number) * {"": 1, "K": 1e3, "M": 1e6, "G": 1e9}[unit]


def test_opening_asks_for_nothing_and_complains_of_nothing(desktop, study):
    desktop.check_quiet()
    assert desktop.page.title() == "many: study report"
    assert desktop.part("plot").is_visible() and desktop.part("history").is_visible()
    assert desktop.part("plot-static").is_hidden() and desktop.part("trial-static").is_hidden()
    assert desktop.part("panel-title").text_content() == f"Trial {study.winner.number}"


def test_a_click_on_a_point_shows_that_trial(desktop, study):
    crowd = [row for row in study.rows if row.delta1 is not None]

    def places() -> dict[int, tuple[float, float]]:
        desktop.part("plot").evaluate("node => node.scrollIntoView({block: 'center'})")
        axes = Axes(desktop)
        return {row.number: (axes.x(row.macs), axes.y(row.delta1)) for row in crowd}

    at = places()
    alone = [
        row
        for row in crowd
        if min(math.dist(at[row.number], at[o.number]) for o in crowd if o is not row) > 22
    ]
    chosen = {row.state: row for row in alone}
    assert chosen.keys() == {"complete", "stopped"}
    for row in chosen.values():
        desktop.page.mouse.click(*places()[row.number])
        assert desktop.part("panel-title").text_content() == f"Trial {row.number}"
        figures = desktop.part("figures").text_content()
        assert f"{row.params:,}" in figures and f"{row.macs:,}" in figures


def test_gate_lines_lie_where_the_gates_are(desktop, study):
    desktop.part("cost").select_option("params")
    try:
        axes = Axes(desktop)
        boxes = desktop.page.locator('[data-part="plot"] .shapelayer path').evaluate_all(
            "all => all.map(one => { const b = one.getBoundingClientRect();"
            " return [b.x, b.y, b.width, b.height]; })"
        )
        frame = desktop.part("plot").bounding_box()
        level = [b for b in boxes if b[3] < 3 and b[2] > 0.5 * frame["width"]]
        upright = [b for b in boxes if b[2] < 3 and b[3] > 0.5 * frame["height"]]
        areas = [b for b in boxes if b[2] > 3 and b[3] > 3]
        assert (len(level), len(upright), len(areas)) == (1, 1, 1)
        assert level[0][1] + level[0][3] / 2 == pytest.approx(axes.y(0.7), abs=1.5)
        assert upright[0][0] + upright[0][2] / 2 == pytest.approx(axes.x(300_000), abs=1.5)
        # What passes lies to the left of one and above the other.
        assert areas[0][0] + areas[0][2] == pytest.approx(axes.x(300_000), abs=1.5)
        assert areas[0][1] + areas[0][3] == pytest.approx(axes.y(0.7), abs=1.5)
    finally:
        desktop.part("cost").select_option("macs")


def numbers(seen: Seen) -> list[int]:
    return [int(text) for text in seen.part("trial-rows").locator("th").all_text_contents()]


def test_the_filter_filters_and_heads_sort(desktop, study):
    sign = {row.number: row for row in study.rows}
    desktop.part("filter").fill("d1>0.5 params<200K")
    wanted = {
        n for n, r in sign.items() if (r.delta1 or 0) > 0.5 and r.params < 200_000
    }  # fmt: skip
    assert 0 < len(wanted) < len(sign)
    count = f"{len(wanted)} trials, 80 in all"
    desktop.part("trial-count").get_by_text(count).wait_for()
    assert set(numbers(desktop)) <= wanted and len(numbers(desktop)) == min(25, len(wanted))
    desktop.part("trial-heads").get_by_role("button", name="MACs").click()
    sizes = [sign[n].macs for n in numbers(desktop)]
    assert sizes == sorted(sizes)
    desktop.part("trial-heads").get_by_role("button", name="MACs").click()
    assert numbers(desktop)[0] == max(wanted, key=lambda n: sign[n].macs)
    assert desktop.page.locator("th[aria-sort]").get_attribute("aria-sort") == "descending"
    desktop.part("filter").fill("for a reason")
    desktop.part("filter-state").select_option("failed")
    assert {sign[n].state for n in numbers(desktop)} == {"failed"}
    desktop.part("filter").fill("no such words")
    assert "None of 80 trials" in desktop.part("trial-count").text_content()
    desktop.part("filter").fill("")
    desktop.part("filter-state").select_option("front")
    fronts = {r.number for cost in ("macs", "params") for r in study.front(cost)}
    assert set(numbers(desktop)) == fronts
    desktop.part("filter-state").select_option("all")


def test_the_keyboard_reaches_every_point(desktop, study):
    front = [row.number for row in study.front("macs")]
    desktop.part("plot").focus()
    desktop.page.keyboard.press("Home")
    for key in ("ArrowUp", "ArrowUp", "ArrowDown"):
        desktop.page.keyboard.press(key)
    shown = int(desktop.part("panel-title").text_content().split()[1])
    assert shown in front
    by_size = sorted(
        (r for r in study.rows if r.delta1 is not None), key=lambda r: (r.macs, r.delta1)
    )
    desktop.page.keyboard.press("Home")
    desktop.page.keyboard.press("ArrowRight")
    assert desktop.part("panel-title").text_content() == f"Trial {by_size[1].number}"
    assert desktop.part("said").text_content().startswith(f"Trial {by_size[1].number}")
    desktop.page.keyboard.press("Enter")
    assert desktop.page.evaluate("document.activeElement.dataset.part") == "panel"
    opener = desktop.part("trial-rows").locator("button").nth(3)
    opener.focus()
    desktop.page.keyboard.press("Enter")
    assert desktop.part("panel-title").text_content() == f"Trial {opener.text_content()}"


def test_layers_and_commands_of_the_chosen_trial(desktop, study):
    desktop.part("filter").fill("trial=4")
    desktop.part("trial-rows").locator("button").first.click()
    desktop.part("layer-title").get_by_text("Layers of trial 4").wait_for()
    row = study.rows[4]
    desktop.part("layer-table").locator("tr").nth(5).wait_for(state="attached")
    cells = (
        desktop.part("layer-table")
        .locator("tbody tr")
        .evaluate_all("all => all.map(row => [...row.children].map(cell => cell.textContent))")
    )
    assert sum(int(c[4].replace(",", "")) for c in cells) > 1e6
    assert desktop.part("layers").locator("rect.params").count() == len(cells)
    desktop.part("filter").fill("")
    desktop.page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    desktop.page.get_by_role("button", name="Copy train command").click()
    desktop.page.get_by_role("button", name="Copied").wait_for()
    copied = desktop.page.evaluate("navigator.clipboard.readText()")
    words = shlex.split(copied)
    assert words[0] == "printf" and json.loads(words[2]) == json.loads(row.genotype)
    command = words[words.index("&&") + 1 :]
    arguments = make_parser().parse_args(command[1:])
    assert arguments.model == "trial-4.json" and arguments.data == "folder:my pairs"
    assert arguments.epochs == 7 and command[0] == "compress"


def test_gates_and_others_can_be_taken_away(desktop):
    def drawn() -> int:
        return desktop.page.locator('[data-part="plot"] .scatterlayer .points path').count()

    before = drawn()
    for name in ("stopped", "compare"):
        desktop.page.locator(f'[data-toggle="{name}"]').uncheck()
    after = drawn()
    for name in ("stopped", "compare"):
        desktop.page.locator(f'[data-toggle="{name}"]').check()
    assert after < before == drawn()


# Colours of text that stands on a page, with the nearest opaque ground behind each.
CONTRAST = """() => {
  const read = (text) => text.match(/[\\d.]+/g).map(Number);
  const light = ([r, g, b]) => [r, g, b].map((v) => v / 255)
    .map((v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4))
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const found = [];
  const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walk.nextNode()) {
    const node = walk.currentNode.parentElement;
    const words = walk.currentNode.data.trim();
    if (!words || !node.checkVisibility() || node.closest("script,title,:disabled")) continue;
    const looks = getComputedStyle(node);
    const fill = (one) => read(getComputedStyle(one).backgroundColor);
    let ground = node;
    while (ground && (fill(ground)[3] ?? 1) < 1) ground = ground.parentElement;
    const behind = ground ? fill(ground) : [255, 255, 255];
    const ink = read(node.namespaceURI.endsWith("svg") ? looks.fill : looks.color);
    const [a, b] = [light(ink), light(behind)];
    found.push([(Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05), words.slice(0, 40)]);
  }
  return found;
}"""


@pytest.fixture(scope="module")
def phone(chromium, tmp_path_factory) -> Iterator[Seen]:
    """A study whose every name is hostile, and longer than a phone is wide."""
    found = many(12)
    rows = tuple(replace(row, reason=EVIL, hash=EVIL, genotype=EVIL) for row in found.rows[:9])
    hostile = replace(
        found,
        name=EVIL,
        rows=(*found.rows[9:], *rows),
        config={EVIL: EVIL, "space": EVIL, "data": EVIL},
        environment={EVIL: EVIL, "device_table": EVIL},
        refused={EVIL: 3},
        importance=Importance({EVIL: 1.0}, 30),
    )
    folder = tmp_path_factory.mktemp("phone")
    text = render(hostile, folder, [replace(many(8, seed=2), name=EVIL)])
    options = {"viewport": PHONE, "color_scheme": "light", "is_mobile": True, "has_touch": True}
    with opened(chromium, folder, text, **options) as seen:
        yield seen
        seen.check_quiet()


def test_a_phone_shows_it_whole_and_readably(phone):
    for scheme in ("light", "dark"):  # it follows the device while it is open
        phone.page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
        assert phone.page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
        paper = phone.page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert (int(re.search(r"\d+", paper)[0]) < 64) is (scheme == "dark")
        contrasts = phone.page.evaluate(CONTRAST)
        assert len(contrasts) > 150
        assert [entry for entry in contrasts if entry[0] < 4.5] == []


def test_hostile_names_stay_names(phone):
    for number in ("0", "10"):
        phone.part("filter").fill(f"trial={number}")
        phone.part("trial-rows").locator("button").first.click()
    phone.part("plot").focus()
    for key in ("Home", "ArrowRight", "ArrowUp", "Enter"):
        phone.page.keyboard.press(key)
    frame = phone.part("plot").bounding_box()
    for share in (0.2, 0.5, 0.8):  # what is under the pointer is told in a label
        phone.page.mouse.move(frame["x"] + share * frame["width"], frame["y"] + 60)
    assert phone.page.title() == f"{EVIL}: study report"
    assert phone.page.locator("body img, body b, body a:not([href='trials.csv'])").count() == 0
    # The page's own four, and plotly where the page put it.
    assert phone.page.locator("script").count() == 5
    phone.check_quiet()


def test_without_script_the_charts_and_tables_are_there(chromium, study, tmp_path):
    with opened(chromium, tmp_path, render(study, tmp_path), java_script_enabled=False) as seen:
        assert seen.part("plot-static").locator("svg").count() == 2
        assert seen.part("plot-static").is_visible() and seen.part("trial-static").is_visible()
        assert seen.part("explore").is_hidden() and seen.part("chosen").is_hidden()
        seen.check_quiet()


def _single():
    study = make_study()
    add(study, (0.5, 0.6, 0.7))
    return read(study)


def _odd():
    row = record(0, "complete", (0.0, 0.0, 0.0), params=5, macs=7, finished="never")
    return replace(many(1), rows=(row, record(1, "running", (), params=5, macs=7)), winner=None)


@pytest.mark.parametrize(
    ("make", "trials"),
    [
        (lambda: read(make_study()), 0),
        (_single, 1),
        (lambda: replace(read(four()), rows=read(four()).rows[5:], winner=None, miss=None), 1),
        (_odd, 2),
    ],
    ids=["empty", "one trial", "all failed", "no finite score"],
)
def test_odd_studies_open_without_a_complaint(chromium, tmp_path, make, trials):
    with opened(chromium, tmp_path, render(make(), tmp_path)) as seen:
        assert seen.part("trial-rows").locator("tr").count() == trials
        assert seen.page.locator("h1").is_visible()
        seen.check_quiet()


def test_ten_thousand_trials_are_drawn_as_few_points(chromium, tmp_path):
    with opened(chromium, tmp_path, ten_thousand()) as seen:
        points = seen.page.locator('[data-part="plot"] .scatterlayer .points path')
        assert 500 < points.count() < 1200
        assert seen.page.locator('[data-part="plot"] image').count() == 1
        assert seen.part("trial-rows").locator("tr").count() == 25
        # Zoomed in until each can be pointed at.
        for _ in range(6):
            if seen.page.locator('[data-part="plot"] image').count():
                seen.part("closer").click()
        assert seen.page.locator('[data-part="plot"] image').count() == 0
        seen.check_quiet()
