"""Figures for a paper: what they show, that they repeat to the byte, and that they stay closed."""

from __future__ import annotations

import re
from dataclasses import replace
from xml.etree import ElementTree

import matplotlib
import numpy as np
import pytest
from outcomes import gating, pruning
from PIL import Image
from report_studies import add, four, make_study

from compress.report.figures import ALIKE, LARGEST, front_figure, write_figures
from compress.report.findings import read
from compress.report.outcome import read_outcome
from compress.report.plates import COLUMN_IN, DPI, OKABE_ITO, UNDATED, save_figure
from compress.report.pruned_figures import course_figure, density_figure, write_outcome_figures


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("study")
    study = four(max_macs=1e8)
    add(study, (0.5, 0.6, 0.7), latency_ms=12.5, macs=1_000_000)
    return {path.name: path for path in write_figures(read(study), folder)}


def drawn(study, cost="macs"):
    """Collections of marks by label, with centres, areas and colours."""
    (axes,) = front_figure(read(study), cost).axes
    return axes, {mark.get_label(): mark for mark in axes.collections}


def test_every_cost_in_three_formats(files):
    names = {f"front-{cost}.{kind}" for cost in ("macs", "params", "latency") for kind in UNDATED}
    assert set(files) == names
    assert {path.parent.name for path in files.values()} == {"figures"}


def test_a_column_wide_at_200_dpi(files):
    image = Image.open(files["front-macs.png"])
    assert image.width == round(COLUMN_IN * DPI)
    assert len(set(image.convert("RGB").get_flattened_data())) > 20
    root = ElementTree.parse(files["front-macs.svg"]).getroot()
    assert float(root.get("width").removesuffix("pt")) == pytest.approx(72 * COLUMN_IN, abs=0.1)
    assert files["front-macs.pdf"].read_bytes().startswith(b"%PDF")


def test_fonts_are_in_the_files(files):
    data = files["front-macs.pdf"].read_bytes()
    assert b"/FontFile2" in data and b"/Type3" not in data
    assert not list(ElementTree.parse(files["front-macs.svg"]).iter("{*}text"))


def test_nothing_tells_a_date_or_fetches_anything(files):
    text = files["front-macs.svg"].read_text("utf-8")
    assert "<dc:date>" not in text and "Matplotlib v" not in text
    assert b"CreationDate" not in files["front-macs.pdf"].read_bytes()
    assert not Image.open(files["front-macs.png"]).text
    links = re.findall(r'(?:href|src)="([^"]*)"', text)
    assert all(link.startswith("#") for link in links)


def test_the_same_study_gives_the_same_bytes(files, tmp_path):
    study = four(max_macs=1e8)
    add(study, (0.5, 0.6, 0.7), latency_ms=12.5, macs=1_000_000)
    again = save_figure(front_figure(read(study), "macs"), tmp_path / "front-macs")
    assert [p.read_bytes() for p in again] == [files[p.name].read_bytes() for p in again]


def test_no_state_is_left_behind(tmp_path):
    from matplotlib import _pylab_helpers

    before = dict(matplotlib.rcParams)
    write_figures(read(four()), tmp_path)
    assert dict(matplotlib.rcParams) == before
    assert not _pylab_helpers.Gcf.figs  # pyplot knows of none


def test_points_gates_and_areas_lie_where_they_belong():
    study = four(max_macs=80_000_000)
    add(study, (0.7, 0.75, 0.80), params=100_000, macs=10_000_000)  # the knee
    axes, marks = drawn(study)
    sets = [m for m in axes.collections if m.get_label().startswith("_") and len(m.get_offsets())]
    by_colour = {matplotlib.colors.to_hex(m.get_facecolor()[0]): m for m in sets[:2]}
    front = by_colour[OKABE_ITO["blue"].lower()]
    rest = by_colour[OKABE_ITO["grey"].lower()]
    assert {tuple(p) for p in front.get_offsets()} == {(5e6, 0.6), (1e7, 0.8), (4e7, 0.85)}
    assert {tuple(p) for p in rest.get_offsets()} == {(2e7, 0.75), (3e7, 0.7)}
    # Area is proportional to parameters: 200 K has the largest, 100 K half of it.
    areas = dict(zip(map(tuple, front.get_offsets()), front.get_sizes(), strict=True))
    assert areas[4e7, 0.85] == LARGEST and areas[1e7, 0.8] == pytest.approx(LARGEST / 2)
    assert tuple(marks["knee"].get_offsets()[0]) == (1e7, 0.80)
    assert tuple(marks["best network"].get_offsets()[0]) == (4e7, 0.85)
    dashed = [line for line in axes.lines if line.get_linestyle() == "--" and len(line.get_xdata())]
    assert [line.get_ydata()[0] for line in dashed if len(set(line.get_ydata())) == 1] == [0.81]
    assert 80e6 in [line.get_xdata()[0] for line in dashed]
    (step,) = [line for line in axes.lines if line.get_drawstyle() == "steps-post"]
    assert list(step.get_xdata()[:3]) == [5e6, 1e7, 4e7]
    assert list(step.get_ydata()) == [0.6, 0.8, 0.85, 0.85]


def test_a_limit_far_off_does_not_squeeze_the_rest():
    axes, _ = drawn(four(), "params")
    assert axes.get_xlim()[1] > 5e5  # a limit near by is shown
    far, _ = drawn(four(max_params=1e9), "params")
    assert far.get_xlim()[1] < 1e6


def test_a_gate_far_below_is_told_in_words():
    def drawn(gate):
        figure = front_figure(read(four(delta1=gate)), "macs")  # d1 from .6 to .85
        axes = figure.axes[0]
        labels = [text.get_text() for legend in figure.legends for text in legend.get_texts()]
        return axes.get_ylim()[0], axes.texts[0].get_text(), "gate" in labels

    assert drawn(0.5) == (pytest.approx(0.458), "d1 ≥ 0.5", True)
    assert drawn(0.3) == (pytest.approx(0.57), "d1 ≥ 0.3: all pass", False)


def test_networks_of_one_size_have_small_marks():
    rows = tuple(replace(row, params=100_000 + row.number) for row in read(four()).rows)
    figure = front_figure(replace(read(four()), rows=rows), "macs")
    areas = [size for dots in figure.axes[0].collections[:4] for size in dots.get_sizes()]
    assert max(areas) == pytest.approx(ALIKE)


def test_many_candidates_become_a_picture_inside(tmp_path):
    study = make_study()
    add(study, (0.8, 0.85, 0.9), macs=10**6)
    found = read(study)
    rng = np.random.default_rng(0)
    from dataclasses import replace

    rows = [
        replace(
            found.rows[0],
            number=i,
            macs=int(m),
            rungs=(replace(found.rows[0].rungs[-1], delta1=d),),
        )
        for i, (m, d) in enumerate(
            zip(rng.uniform(2e6, 9e8, 4000), rng.uniform(0.3, 0.8, 4000), strict=True), 1
        )
    ]
    figure = front_figure(replace(found, rows=(*found.rows, *rows)), "macs")
    svg, _, _ = save_figure(figure, tmp_path / "many")
    assert "data:image/png" in svg.read_text("utf-8") and svg.stat().st_size < 600_000


def test_nothing_scored_gives_no_figure(tmp_path):
    assert write_figures(read(make_study()), tmp_path) == []
    assert front_figure(read(four()), "latency_ms") is None
    assert write_outcome_figures(read_outcome({}), tmp_path, "x") == []
    assert not list(tmp_path.iterdir())


def test_the_course_of_a_pruning(tmp_path):
    found = read_outcome(pruning())
    upper, lower = course_figure(found).axes
    lines = {line.get_label(): line for line in upper.lines}
    assert list(lines["predicted"].get_xdata()) == list(range(15))
    assert lines["predicted"].get_ydata()[0] == 20.0  # the original, as measured
    assert list(lines["target"].get_ydata()) == [10.0, 10.0]
    (bars,) = upper.containers
    assert list(bars.lines[0].get_xdata()) == [9, 14, 14]
    tuned = {line.get_label(): line for line in lower.lines}["fine-tuned"]
    assert list(tuned.get_ydata()) == [0.865]
    names = [path.name for path in write_outcome_figures(found, tmp_path, "small")]
    assert names == [f"small-course.{kind}" for kind in UNDATED]


def test_densities():
    accuracy, macs, latency = density_figure(read_outcome(gating())).axes
    lines = {line.get_label(): line for line in macs.lines}
    assert list(lines["mean"].get_xdata()) == [0.25, 0.5, 0.75, 1.0]
    assert lines["mean"].get_ydata()[1] == pytest.approx(14.52e6)
    assert list(lines["dense"].get_ydata()) == [26.4e6] * 2
    for axes in (accuracy, macs, latency):
        chosen = {line.get_label(): line for line in axes.lines}["chosen"]
        assert list(chosen.get_xdata()) == [0.5, 0.5]
    few = gating()
    for item in few["sweep"]:
        del item["latency"], item["delta1"]
    assert len(density_figure(read_outcome(few)).axes) == 1
