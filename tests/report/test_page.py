"""The page as text: what it weighs, what its policy allows, what it says of odd studies."""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import math
import re
from dataclasses import replace
from importlib.resources import files

import pytest
from many_trials import many, ten_thousand
from report_studies import add, finish, four, make_study

from compress.report import script
from compress.report.findings import read
from compress.report.importance import Importance
from compress.report.page import render, write_report
from compress.report.summary import gates, measured, stopped_after


def parts_of(page: str) -> dict[str, str]:
    """The page's data by name."""
    found = re.findall(r'<script type="application/gzip" data-part="(\w+)">([^<]*)</script>', page)
    return {name: gzip.decompress(base64.b64decode(text)).decode() for name, text in found}


def test_the_policy_lets_the_two_scripts_run_and_nothing_else(tmp_path):
    page = render(read(four()), tmp_path)
    (policy,) = re.findall(r'Content-Security-Policy" content="([^"]+)"', page)
    allowed = re.search(r"script-src ([^;]+);", policy.replace("&#39;", "'"))[1].split()
    (own,) = re.findall(r"<script>(.*?)</script>", page, re.DOTALL)
    plotly = parts_of(page)["plotly"]
    assert plotly == files("plotly").joinpath("package_data", "plotly.min.js").read_text("utf-8")
    hashes = [hashlib.sha256(text.encode()).digest() for text in (own, plotly)]
    assert allowed == [f"'sha256-{base64.b64encode(h).decode()}'" for h in hashes]
    assert "unsafe-eval" not in policy and "http" not in policy


def test_the_script_writes_text_and_never_markup():
    text = script.page_script()
    for way in ("innerHTML", "outerHTML", "insertAdjacent", "document.write", "eval(", "Function("):
        assert way not in text
    assert "</script" not in text and "fetch(" not in text and "import(" not in text


def test_ten_thousand_trials_weigh_less_than_eight_megabytes():
    page = ten_thousand()
    assert len(page.encode()) < 8e6
    parts = parts_of(page)
    assert len(json.loads(parts["data"])["columns"]["number"]) == 10_000
    assert len(set(json.loads(parts["details"])["genotypes"])) > 9_900


def test_pages_of_the_same_study_are_the_same(tmp_path):
    found = many(20)
    first, second = (re.sub(r"Written [^<]*", "", render(found, tmp_path)) for _ in range(2))
    assert first == second


def test_latency_gate_has_its_verdict():
    study = four(max_latency_ms=20.0)
    for trial in study.trials:
        trial.user_attrs["latency_ms"] = None
    add(study, (0.7, 0.8, 0.9), latency_ms=12.5)
    verdicts = {gate["name"]: gate for gate in gates(read(study))}
    latency = verdicts["Latency, predicted"]
    assert (latency["limit"], latency["value"]) == ("at most 20 ms", "12.5 ms")
    assert latency["passes"] is True
    slow = make_study(max_latency_ms=10.0)
    add(slow, (0.7, 0.8, 0.9), latency_ms=12.5)
    (latency,) = (g for g in gates(read(slow)) if g["name"] == "Latency, predicted")
    assert latency["passes"] is False and latency["miss"] == "2.5 ms too long"


def test_prediction_is_compared_with_measurement(tmp_path):
    study = four()
    finish(study, 2, 0.87, heldout=0.83)
    key = study.trials[2].user_attrs["hash"]
    final = study.user_attrs["final"]
    latency = {
        "predicted_ms": 9.0, "measured_ms": 10.0, "low_ms": 9.8, "high_ms": 10.3,
        "backend": "onnxruntime", "threads": 1,
    }  # fmt: skip
    study.set_user_attr("final", {key: final[key] | {"latency": latency}})
    (found,) = measured(read(study))
    assert found["number"] == 2 and found["off"] == pytest.approx(-0.1)
    page = render(read(study), tmp_path)
    assert "−10.0 %" in page and "9.800 to 10.300" in page
    assert "Measured on onnxruntime with 1 thread." in page
    for odd in ({"latency": 3}, {"latency": {"predicted_ms": "x"}}, {"latency": {}}):
        study.set_user_attr("final", {key: final[key] | odd})
        assert measured(read(study)) == []


def test_rungs_of_early_stops_are_counted():
    found = many(60)
    stopped = sum(row.state == "stopped" for row in found.rows)
    assert stopped_after(found) == [(3, stopped)] and stopped > 20


def test_importance_is_a_table_or_a_sentence(tmp_path):
    found = many(4)
    shown = render(replace(found, importance=Importance({"<i>": 0.75, "b": 0.25}, 40)), tmp_path)
    assert "&lt;i&gt;" in shown and "<i>" not in shown
    assert re.search(r'width="100.0" height="10"', shown)
    assert re.search(r'width="33.3" height="10"', shown)
    assert "too few" in render(replace(found, importance=Importance(why="too few")), tmp_path)


def test_compared_studies_are_named_and_laid_over(tmp_path):
    write_report(four(), tmp_path, [four(), replace(read(four()), name="the <other>")])
    page = (tmp_path / "index.html").read_text(encoding="utf-8")
    assert "the &lt;other&gt;" in page
    assert [o["name"] for o in json.loads(parts_of(page)["data"])["compare"]] == [
        "demo", "the <other>",
    ]  # fmt: skip


def test_pictures_belong_to_trials(tmp_path):
    from PIL import Image

    for name in ("samples.png", "samples-1.png", "samples-77777777777.png"):
        Image.new("RGB", (30, 20)).save(tmp_path / name)
    (tmp_path / "samples-0.png").write_bytes(b"no picture")
    study = four()
    finish(study, 2, 0.87, heldout=0.83)
    page = render(read(study), tmp_path)
    assert re.findall(r'data-trial="(-?\d+)"', page) == ["2", "1"]
    assert json.loads(parts_of(page)["data"])["pictures"] == [1, 2]


def test_a_followed_page_loads_itself_again_with_and_without_script(tmp_path):
    study = four()
    write_report(study, tmp_path, refresh=12)
    page = (tmp_path / "index.html").read_text(encoding="utf-8")
    assert '<noscript><meta http-equiv="refresh" content="12"></noscript>' in page
    assert '<html lang="en" data-refresh="12">' in page and "every 12 seconds" in page
    write_report(study, tmp_path)
    page = (tmp_path / "index.html").read_text(encoding="utf-8")
    assert 'http-equiv="refresh"' not in page and '<html lang="en">' in page


def test_fronts_have_their_area_and_knee(tmp_path):
    page = render(read(four()), tmp_path)
    cells = re.findall(r'<th scope="row">MACs</th>(.*?)</tr>', page, re.DOTALL)[-1]
    found = re.findall(r">([^<>]+)</", cells)
    # By hand: 5, 20 and 40 M at 0.60, 0.75 and 0.85, up to 40 M: log10(4) 0.60 + log10(2) 0.15.
    area = math.log10(40 / 5) * 0.60 + math.log10(40 / 20) * 0.15
    assert found[0] == "3" and float(found[1]) == pytest.approx(area, abs=5e-4)
    assert found[2] == "40 M"
