"""The page of a pruning and of a gating: complete, empty, hostile, and in a real browser."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
from outcomes import METRICS, gating, pruning
from test_report import EVIL, Page

from compress.gating.sweep import sweep
from compress.report.pruned import write_pruning_report

POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"


def opened(result, tmp_path: Path) -> Page:
    path = write_pruning_report(result, tmp_path)
    assert path == tmp_path / "index.html"
    page = Page(path.read_text("utf-8"))
    assert [a["content"] for a in page.all("meta") if a.get("http-equiv")] == [POLICY]
    tags = {name for name, _ in page.elements}
    assert not tags & {"script", "link", "iframe", "object", "img", "form", "a"}
    for name, attrs in page.elements:
        assert not any(key.startswith("on") or key in ("src", "href") for key in attrs), name
    assert len(page.all("h1")) == 1
    assert len(page.all("table")) == len(page.all("caption"))
    ids = [attrs["id"] for _, attrs in page.elements if "id" in attrs]
    assert len(ids) == len(set(ids))
    return page


def without(values: dict, *keys: str) -> dict:
    return {key: value for key, value in values.items() if key not in keys}


def test_a_pruning_says_first_whether_the_target_is_met(tmp_path):
    text = opened(pruning(), tmp_path).text
    wanted = "The target is met : at most 10 ms was asked for, 9.70 ms [9.60, 9.90] measured"
    assert wanted in text and "d1 went from 0.8800 to 0.8650" in text
    missed = opened(pruning() | {"reached": False}, tmp_path).text
    assert "The target was not reached : at most 10 ms was asked for" in missed


@pytest.mark.parametrize(
    ("name", "said"),
    [("macs", "at most 13 M MACs were asked for, 12.9 M MACs left"),
     ("params", "at most 13 M parameters were asked for, 48.2 K parameters left")],
)  # fmt: skip
def test_other_targets(tmp_path, name, said):
    assert said in opened(pruning() | {"target": {name: 13e6}}, tmp_path).text


def test_nothing_to_do(tmp_path):
    result = without(pruning(), "iterations", "predictions") | {"nothing_to_do": True}
    text = opened(result, tmp_path).text
    assert "There was nothing to do" in text and "20.00 ms [19.80, 20.30]" in text
    assert "Course of the pruning" not in text


def test_before_and_after_with_intervals(tmp_path):
    text = opened(pruning(), tmp_path).text
    # 48,210 of 127,815 parameters: 62.3 % fewer; 12.9 of 26.4 M MACs: 51.1 % fewer.
    for said in ("2.06× as fast [2.01, 2.11]", "−62.3 %", "−51.1 %", "−0.0150", "[19.80, 20.30]"):
        assert said in text
    assert "held-out 0.8420 0.9700" in text  # d1 and d2 of the held-out images
    assert "compress prune 'my net.safetensors' --target-latency 10ms" in text
    assert "some & any" in text and "onnxruntime" in text


def test_predicted_against_measured(tmp_path):
    result = pruning() | {
        "predictions": [{"predicted_ms": 9.0, "median_ms": 12.0, "high_ms": 12.5, "iteration": 3}]
    }
    assert "1 3 9.00 12.00 12.50 −25.0 %" in opened(result, tmp_path).text


def test_which_layer_was_cut_when(tmp_path):
    result = pruning()
    page = opened(result, tmp_path)
    marks = page.all("rect", "cut")
    assert len(marks) == len(result["iterations"]) == 14
    said = [word for word in page.words if word.startswith("Iteration ") and " → " in word]
    wanted = {f"Iteration {s['number']}: {s['layer']} {s['before']} → {s['after']}"
              for s in result["iterations"]}  # fmt: skip
    assert set(said) == wanted
    # Equal steps apart: a mark stands where its iteration is.
    at = {
        int(word.split()[1].rstrip(":")): float(m["x"]) for word, m in zip(said, marks, strict=True)
    }
    assert at[14] - at[1] == pytest.approx(13 * (at[2] - at[1]), abs=1.5)
    # A layer's row is in the order of the network, not that of the cuts.
    rows = [w for w in page.words if w in result["before"]["widths"]]
    order = [w for i, w in enumerate(rows) if w not in rows[:i]]
    assert order[:6] == list(result["before"]["widths"])[:6]


def test_bands_pale_with_the_width_that_is_left(tmp_path):
    steps = [
        {"number": 1, "layer": "a", "before": 100, "after": 50, "resource": 2.0, "accuracy": 0.5},
        {"number": 3, "layer": "a", "before": 50, "after": 10, "resource": 1.0, "accuracy": 0.4},
    ]
    page = opened({"target": {"macs": 1.0}, "iterations": steps}, tmp_path)
    bands = [float(b["fill-opacity"]) for b in page.all("rect", "left") if float(b["width"]) > 0]
    assert bands == sorted(bands, reverse=True) and len(set(bands)) == 2
    assert bands[0] == pytest.approx(0.08 + 0.62 * 0.5) and bands[1] == pytest.approx(
        0.142, abs=0.01
    )


def test_widths(tmp_path):
    page = opened(pruning(), tmp_path)
    assert "64 32 50 %" in page.text and "As wide as before: 1 layer" in page.text
    was, left = page.all("rect", "was")[0], page.all("rect", "is")[0]
    assert float(left["width"]) == pytest.approx(float(was["width"]) / 2, abs=0.1)
    same = pruning()
    same["after"]["widths"] = same["before"]["widths"]
    assert "No layer became narrower" in opened(same, tmp_path).text


def test_the_target_is_drawn_where_it_is(tmp_path):
    page = opened(pruning(), tmp_path)
    (gate,) = page.all("line", "gate")
    (area,) = page.all("rect", "passing")
    assert float(area["y"]) == float(gate["y1"]) == float(gate["y2"])
    # Latency is linear: 20 ms at the first mark, 9.8 ms at the last, the target of 10 in between.
    marks = [float(c["cy"]) for c in page.all("circle", "front")][:15]
    wanted = marks[0] + (20 - 10) / (20 - 9.8) * (marks[14] - marks[0])
    assert float(gate["y1"]) == pytest.approx(wanted, abs=0.2)


def test_a_gating(tmp_path):
    page = opened(gating(), tmp_path)
    # 26.4 M of the dense one over 14.52 M.
    wanted = "At density 0.5 the network computes 14.5 M MACs an image on average, 1.82× fewer"
    assert wanted in page.text
    assert "It takes 13.00 ms, the dense one 20.00 ms. d1 is 0.8500 instead of 0.8800." in page.text
    assert "The target of 13.5 ms is met" in page.text
    # 14.52 M on average is 45 % less than 26.4 M, whatever all gates open would take.
    assert "26.4 M 14.5 M −45.0 % 14.5 M −45.1 %" in page.text
    assert "d1, held-out 0.8800 0.8500 −0.0300 0.8400 −0.0400" in page.text
    assert "Gating is better here: 1.0 points of d1 more" in page.text
    assert "plain torch takes 24.00 ms [23.50, 24.40]" in page.text
    for said in ("1.54× as fast [1.50, 1.58]", "15.1 M", "15.9 M", "compress gate net.safetensors"):
        assert said in page.text
    assert len(page.all("svg", "chart")) == 4 and len(page.all("circle", "ring")) == 3


def test_how_each_layer_of_a_gating_is_run(tmp_path):
    page = opened(gating(), tmp_path)
    # both, in, dense, both, in, dense, both of seven layers, by hand: .9 2.2 3.5 4.2 5.2 6.5 7.5;
    # the faster of two dense ways: 1.5 + 2.5 + .. + 7.5.
    assert "The chosen ways add up to 30.00 ms, the fastest dense ones to 31.50 ms" in page.text
    assert "both: 3 layers, open inputs and open outputs gathered" in page.text
    assert len(page.all("td", "picked")) == 4  # gathering is faster: layers 0, 1, 3 and 4


def test_densities_by_the_closed_form(tmp_path):
    epochs = [
        {"phase": "lower", "density": d, "delta1": d1, "macs": m}
        for d, d1, m in ((1.0, 0.9, 27e6), (0.7, 0.8, 20e6), (0.5000000001, 0.7, 15e6))
    ]
    page = opened(without(gating(), "static") | {"sweep": sweep(epochs, 13.0)}, tmp_path)
    for said in ("MACs, at most", "MACs that no image exceeds", "density 0.7: 20 M at most"):
        assert said in page.text
    assert "Latency against density" not in page.text and "Chosen density 0.5" in page.text
    assert "0.5 0.7000 15 M 13.00" in page.text
    assert "Static" not in page.text  # of which there is nothing


def test_training_to_a_density(tmp_path):
    page = opened(gating(), tmp_path)
    at = page.text.index("d1 over 6 epochs")
    drawn = page.text[at:]
    places = [drawn.index(f" {density} ") for density in ("1", "0.75", "0.5")]
    assert places == sorted(places)
    assert "Epoch 4, lower, density 0.50: d1 0.8200" in drawn


@pytest.mark.parametrize("make", [pruning, gating])
def test_any_part_may_be_missing(tmp_path, make):
    whole = make()
    for key in whole:
        opened(without(whole, key), tmp_path)
    for side in ("before", "after", "static"):
        for key in whole.get(side, ()):
            opened(whole | {side: without(whole[side], key)}, tmp_path)


def test_nothing_at_all_is_told(tmp_path):
    text = opened({}, tmp_path).text
    for said in (
        "does not say whether a target was met", "holds no figures of a network",
        "holds no iterations", "does not hold the layers' widths", "does not hold the command",
        "Latency was not measured", "Not recorded",
    ):  # fmt: skip
        assert said in text
    text = opened({"sweep": []}, tmp_path).text
    assert "No other density was tried" in text and "does not say how each layer is run" in text


HOSTILE = [None, "x", -1, 0, math.nan, math.inf, 10**400, [], [1], {}, {"a": 1}, True, 1e300, EVIL]


@pytest.mark.parametrize("make", [pruning, gating])
@pytest.mark.parametrize("value", HOSTILE, ids=[str(i) for i in range(len(HOSTILE))])
def test_nonsense_anywhere_is_left_out(tmp_path, make, value):
    whole = make()
    for key in whole:
        write_pruning_report(whole | {key: value}, tmp_path)
    for side in ("before", "after"):
        for key in whole[side]:
            write_pruning_report(whole | {side: whole[side] | {key: value}}, tmp_path)
    for key in ("iterations", "predictions", "sweep", "plan"):
        if key in whole:
            for inner in whole[key][0]:
                bad = whole[key][0] | {inner: value}
                write_pruning_report(whole | {key: [bad, value, *whole[key][1:]]}, tmp_path)
    page = opened(whole, tmp_path)
    assert "nan" not in page.text.split()


@pytest.mark.parametrize("make", [pruning, gating])
def test_hostile_text_stays_text(tmp_path, make):
    result = make()
    result |= {"model": EVIL, "command": ["compress", EVIL], "environment": {EVIL: EVIL}}
    result["after"]["latency"] |= {"backend": EVIL, "device": {EVIL: EVIL}, "verdict": EVIL}
    result["after"]["heldout"] = METRICS | {"protocol": {EVIL: EVIL}}
    if make is pruning:
        result["iterations"][0]["layer"] = EVIL + "\ud800"
        result["before"]["widths"] |= {EVIL: 9}
        result["after"]["widths"] |= {EVIL: 8}
    else:
        result["plan"][0] = {"path": EVIL, "mode": EVIL, "ms": {EVIL: 1.0}}
    page = opened(result, tmp_path)  # no script, no address, no handler: checked in there
    assert "<script>alert(1)</script>" in page.text
    assert "<script" not in (tmp_path / "index.html").read_text("utf-8")


def test_a_file_is_read_and_written_beside(tmp_path):
    source = tmp_path / "small.json"
    source.write_text(json.dumps(pruning()))
    page = write_pruning_report(source, tmp_path / "small.html")
    assert page == tmp_path / "small.html" and "9.70 ms" in page.read_text("utf-8")
    assert {p.name for p in tmp_path.iterdir()} == {"small.json", "small.html"}


@pytest.mark.parametrize("make", [pruning, gating, dict])
def test_in_a_browser(tmp_path, chromium, make):
    path, papers = write_pruning_report(make(), tmp_path), set()
    for width, scheme in ((390, "dark"), (1200, "light")):
        context = chromium.new_context(
            viewport={"width": width, "height": 800}, color_scheme=scheme
        )
        tab = context.new_page()
        asked, told = [], []
        tab.on("request", lambda request, asked=asked: asked.append(request.url))
        tab.on("console", lambda message, told=told: told.append(message.text))
        tab.on("pageerror", lambda error, told=told: told.append(str(error)))
        tab.goto(path.as_uri())
        for summary in tab.locator("summary").all():
            summary.click()
        assert asked == [path.as_uri()] and told == []
        assert tab.evaluate("document.documentElement.scrollWidth") == width
        # What is wider than the page scrolls in a region that the keyboard reaches.
        wide = tab.evaluate(
            "[...document.querySelectorAll('main *')].filter(e => !e.closest('.scroll, svg')"
            " && e.getBoundingClientRect().right > innerWidth + 1).map(e => e.tagName)"
        )
        assert wide == []
        papers.add(tab.evaluate("getComputedStyle(document.body).backgroundColor"))
        context.close()
    assert len(papers) == 2  # a paper of its own for the dark


def test_a_noisy_measurement_is_told_beside_the_verdict(tmp_path):
    result = pruning()
    result["after"]["latency"] |= {"noisy": True, "verdict": "noisy: close other programs"}
    said = "The machine was busy while latency was measured: noisy: close other programs."
    assert said in opened(result, tmp_path).text
    assert "The machine was busy" not in opened(pruning(), tmp_path).text


def test_a_users_own_score_and_network(tmp_path):
    result = pruning()
    result["before"]["accuracy"], result["after"]["accuracy"] = -38785.0, -22177.0
    del result["after"]["validation"], result["after"]["heldout"]
    text = opened(result, tmp_path).text
    assert "Accuracy went from −38785 to −22177" in text and "+16608" in text
    assert "compress predict" not in text  # it is no model file of ours
