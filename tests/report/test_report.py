import base64
import csv
import hashlib
import json
import math
import re
import shlex
from html.parser import HTMLParser
from pathlib import Path
from time import perf_counter

import optuna
import pytest
from optuna.trial import TrialState
from report_studies import add, finish, four, make_study

from compress.cli.parser import make_parser
from compress.report import page as page_module
from compress.report import write_report
from compress.report.charts import pareto
from compress.report.findings import read
from compress.report.kept import open_kept
from compress.report.tables import COLUMNS
from compress.report.words import recipe_lines, search_command
from compress.search.config import SearchConfig, read_recipe, recipe_names
from compress.search.fidelity import rank_fidelity

VOID = {"meta", "img", "br", "hr", "link", "input"}
EVIL = "<script>alert(1)</script>\"'&<img src=http://evil.test/x onerror=alert(2)>"


class Page(HTMLParser):
    """Reads a page strictly: every element closed, in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.words: list[str] = []
        self.scripts: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, {key: value or "" for key, value in attrs}))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open and self.open[-1] == tag, (tag, self.open)
        self.open.pop()

    def handle_data(self, data):
        if self.open and self.open[-1] == "script":
            self.scripts.append(data)
        elif self.open and self.open[-1] != "style":
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())

    def all(self, tag: str, kind: str | None = None) -> list[dict[str, str]]:
        return [
            attrs
            for name, attrs in self.elements
            if name == tag and (kind is None or kind in attrs.get("class", "").split())
        ]


def opened(study, folder: Path) -> Page:
    path = write_report(study, folder)
    assert path == folder / "index.html"
    page = Page(path.read_text(encoding="utf-8"))
    check_self_contained(page)
    return page


def check_self_contained(page: Page) -> None:
    policy = [
        a["content"]
        for a in page.all("meta")
        if a.get("http-equiv", "") == "Content-Security-Policy"
    ]
    rules = dict(rule.strip().split(" ", 1) for rule in policy[0].split(";"))
    assert len(policy) == 1 and rules.pop("script-src").count("'sha256-") == 2
    assert rules == {
        "default-src": "'none'", "style-src": "'unsafe-inline'", "img-src": "data:",
        "base-uri": "'none'", "form-action": "'none'",
    }  # fmt: skip
    own = base64.b64encode(hashlib.sha256(page.scripts[-1].encode()).digest()).decode()
    assert f"'sha256-{own}'" in policy[0]
    # All but the page's own script are data, in letters that hold no markup.
    kinds = [attrs.get("type", "") for attrs in page.all("script")]
    assert kinds == ["application/gzip"] * 3 + [""] and len(page.scripts) == 4
    assert all(re.fullmatch(r"[A-Za-z0-9+/=]+", text) for text in page.scripts[:-1])
    tags = {name for name, _ in page.elements}
    assert not tags & {"link", "iframe", "object", "embed", "base", "form", "video"}
    for name, attrs in page.elements:
        assert not any(key.startswith("on") for key in attrs), (name, attrs)
        if "src" in attrs:
            assert attrs["src"].startswith("data:image/png;base64,")
        if "href" in attrs:
            assert attrs["href"] == "trials.csv"
    assert page.all("html")[0]["lang"] == "en"
    assert len(page.all("h1")) == 1 and len(page.all("title")) >= 1
    assert len(page.all("table")) == len(page.all("caption"))
    ids = [attrs["id"] for _, attrs in page.elements if "id" in attrs]
    assert len(ids) == len(set(ids))
    named = {a["aria-labelledby"] for _, a in page.elements if "aria-labelledby" in a}
    assert named <= set(ids)


def rows_of(folder: Path) -> list[dict[str, str]]:
    with (folder / "trials.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_winner_comes_first_with_its_figures(tmp_path):
    study = four()
    finish(study, 2, 0.8712, heldout=0.8342)
    page = opened(study, tmp_path)
    lede = "The best network that passes the gates has 200 K parameters and 40 M MACs. On held-out"
    assert lede in page.text
    assert "83.4 % of pixels" in page.text
    assert "0.871" in page.text and "0.834" in page.text
    assert "one multiply-add counts as one mac" in page.text.lower()
    assert "exponents depthnet-nano" in page.text and "a^0.7" in page.text
    assert "nyu validation, 90 images (split a8b2f11f04b6), input 96x128, crop nyu" in page.text
    assert "Provisional" not in page.text and "Not finished" not in page.text
    assert page.text.count("passes") >= 3 and "missed" not in page.text
    order = [page.text.index(w) for w in ("The best", "Gates", "Do it again", "Course of", "All 6")]
    assert order == sorted(order)


def test_command_reproduces_the_study(tmp_path):
    page = opened(four(), tmp_path)
    match = re.search(r"compress search --.*? --seed 3", page.text)
    words = shlex.split(match[0])
    given = dict(zip(words[2::2], words[3::2], strict=True))
    assert given == {
        "--space": "depthnet-nano", "--budget": "500K", "--delta1": "0.81",
        "--data": "nyu:my data", "--study": "demo", "--seed": "3",
    }  # fmt: skip


def test_command_parses_back_to_the_configuration():
    config = {
        "space": "a b.toml", "data": "folder:/x'y", "budget": 123_456.0, "max_macs": 4e8,
        "size": [96, 128], "flip_average": True, "minutes": 2.5, "seed": 7, "cap_m": 80.0,
    }  # fmt: skip
    words = shlex.split(search_command(config, "s"))
    assert words[:2] == ["compress", "search"] and "--flip" in words
    for flag, value in (
        ("--space", "a b.toml"), ("--data", "folder:/x'y"), ("--budget", "123456"),
        ("--max-macs", "400M"), ("--size", "96x128"), ("--minutes", "2.5"), ("--cap", "80"),
    ):  # fmt: skip
        assert words[words.index(flag) + 1] == value
    assert "--delta1" not in words  # the default of its data, as when it was made


def test_training_without_flags_becomes_a_recipe(tmp_path):
    import tomllib

    training = {"lr": 0.002, "loss": "log-l1", "augment": {"flip": 0.5}}
    config = {"training": training, "fix": {}, "early_stop": True, "seed": 3}
    assert tomllib.loads(recipe_lines(config)) == {"training": training}
    page = opened(make_study(config=config), tmp_path)
    assert "--recipe recipe.toml" in page.text and "lr = 0.002" in page.text
    assert recipe_lines({"seed": 3, "fix": "nonsense", "training": None}) == ""


@pytest.mark.parametrize("name", recipe_names())
def test_what_a_page_says_makes_the_same_study_again(tmp_path, name):
    config = SearchConfig.from_dict(read_recipe(name) | {"max_latency": 7.5}, name).to_dict()
    words, lines = search_command(config, "s"), recipe_lines(config)
    assert ("--recipe recipe.toml" in words) is bool(lines)
    args = make_parser().parse_args(shlex.split(words)[1:])
    given = {k: v for k, v in vars(args).items() if k in config and v is not None and k != "fix"}
    path = tmp_path / "recipe.toml"
    path.write_text(lines)
    given |= read_recipe(str(path)) | ({} if args.cap is None else {"cap_m": args.cap})
    assert SearchConfig.from_dict(given, "page").to_dict() == config


def test_model_file_is_named_when_it_is_there(tmp_path):
    folder = tmp_path / "my study"
    study = four()
    finish(study, 2, 0.87, heldout=0.83)
    assert "is not in this folder" in opened(study, folder).text
    (folder / "best.safetensors").write_bytes(b"not a model")
    page = opened(study, folder)
    model = shlex.quote(str(folder / "best.safetensors"))
    assert f"compress predict {model} photo.jpg -o depth.png" in page.text


def test_heldout_protocol_comes_from_the_model_file(tmp_path):
    import numpy as np
    from report_studies import PROTOCOL
    from safetensors.numpy import save_file

    study = four()
    finish(study, 2, 0.87, heldout=0.83)
    protocol = PROTOCOL | {"split": "heldout", "images": 654, "split_hash": "feedfeedfeed"}
    path = tmp_path / "best.safetensors"
    for trial, there in ((2, True), (1, False)):  # a file of another network says nothing
        info = json.dumps({"trial": trial, "heldout": {"protocol": protocol}})
        save_file({"w": np.zeros(1, np.float32)}, path, metadata={"info": info})
        assert ("nyu heldout, 654 images" in opened(study, tmp_path).text) is there


def test_nothing_passed_names_the_nearest_miss(tmp_path):
    study = four(delta1=0.9)
    page = opened(study, tmp_path)
    expected = "The nearest miss, trial 2, reached d1 0.8500: 0.0500 short of the 0.9 that was"
    assert "No network passed the gates. " + expected in page.text
    assert "missed , 0.0500 short" in page.text
    finish(study, 2, 0.8877)
    page = opened(study, tmp_path)
    assert "reached d1 0.8877 at full budget: 0.0123 short" in page.text


def test_passing_candidate_that_fails_at_full_budget_is_no_winner(tmp_path):
    study = four()
    finish(study, 2, 0.80)
    page = opened(study, tmp_path)
    assert "No network passed the gates." in page.text and "0.0100 short" in page.text
    assert not page.all("g", "winner")


def test_interrupted_study_is_provisional(tmp_path):
    study = four()
    add(study, (0.5,), state=TrialState.RUNNING)
    study.enqueue_trial({"x": 1})
    page = opened(study, tmp_path)
    assert "So far the best network" in page.text and "Provisional." in page.text
    assert "1 candidate in training; 1 candidate waiting" in page.text


def test_finished_study_leaves_its_queue_unmentioned(tmp_path):
    study = four()
    finish(study, 2, 0.87, heldout=0.83)
    study.enqueue_trial({"x": 1})
    assert "Not finished" not in opened(study, tmp_path).text


def test_overtaken_winner_is_told(tmp_path):
    study = four()
    finish(study, 2, 0.87, heldout=0.83)
    add(study, (0.8, 0.85, 0.89), params=30_000, macs=2_000_000)
    page = opened(study, tmp_path)
    assert "200 K parameters" in page.text
    assert "trial 6, which scores higher, not yet at full budget" in page.text


def _nothing_at_all(study):
    for key in list(study.user_attrs):
        study.set_user_attr(key, None)


def _failed(study):
    for _ in range(3):
        add(study, state=TrialState.FAIL, reason="diverged")


def _nan(study):
    add(study, (0.5, 0.6, 0.7))
    bad = [{"epoch": 3, "delta1": math.nan, "netscore": math.nan, "seconds": 1.0}]
    add(study, (), rungs=bad, metrics={"delta1": math.nan, "rmse": None})
    add(study, (), rungs=[{"epoch": 3, "delta1": 0.0, "netscore": -math.inf, "seconds": 1.0}])
    add(study, (), rungs=[{"epoch": 3, "delta1": 9e99, "netscore": None, "seconds": None}])
    add(study, (0.8, 0.82, 0.85), metrics=None, seconds=math.nan, latency_ms=math.inf)


def _malformed(study):
    add(study, (0.5, 0.6, 0.7), raw={"params": None})
    add(study, (0.5, 0.6, 0.7), raw={"macs": "many"})
    add(study, (0.5, 0.6, 0.7), raw={"macs": 0})
    add(study, (0.5, 0.6, 0.7), rungs=[{"nonsense": 1}])
    add(study, (0.5, 0.6, 0.7), genotype={"not": "text"}, hash=7)
    study.tell(study.ask(), 1.0)  # of another program
    for key, value in (
        ("config", "{not json"), ("gates", {"delta1": "high", "size": "96"}), ("final", [1]),
        ("protocol", {"a": 1}), ("environment", 3), ("refused", {"params": "x"}), ("seconds", "?"),
    ):  # fmt: skip
        study.set_user_attr(key, value)


@pytest.mark.parametrize(
    ("fill", "said", "listed"),
    [
        (lambda s: s.set_user_attr("refused", {}), "This study is empty", 0),
        (lambda s: None, "all 1,206 candidates proposed so far were refused before training", 0),
        (_nothing_at_all, "holds no configuration", 0),
        (_failed, "3 candidates were tried, and all of them failed", 3),
        (lambda s: add(s, (0.5, 0.6, 0.7)), "The nearest miss, trial 0", 1),
        (lambda s: add(s, (0.9, 0.9, 0.9)), "So far the best network", 1),
        (lambda s: add(s, (), state=TrialState.RUNNING), "none of them scored yet", 1),
        (lambda s: add(s, (0.9,), state=TrialState.PRUNED), "it was not trained to the end", 1),
        (lambda s: s.enqueue_trial({"x": 1}), "1 candidate waiting", 0),
        (_nan, "So far the best network", 5),
        (_malformed, "4 trials of this study could not be read", 1),
    ],
)
def test_every_kind_of_study_gets_a_page(tmp_path, fill, said, listed):
    study = make_study()
    fill(study)
    page = opened(study, tmp_path)
    assert said in page.text
    assert len(rows_of(tmp_path)) == listed
    # Only the malformed study's own values may hold such words.
    assert not re.search(r"\bNone\b(?!\.)|\bUndefined\b|[\s>]nan\b", page.text)


def test_hostile_text_stays_text(tmp_path):
    study = make_study(
        EVIL, {"data": EVIL, EVIL: EVIL, "exponents": EVIL, "training": {EVIL: EVIL}}
    )
    add(study, (0.8, 0.85, 0.9), hash=EVIL, genotype=EVIL)
    add(study, (0.2,), state=TrialState.PRUNED, reason=EVIL)
    add(study, state=TrialState.FAIL, reason=EVIL + "\ud800\x00")
    study.set_user_attr("environment", {EVIL: EVIL})
    study.set_user_attr("protocol", {EVIL: EVIL})
    study.set_user_attr("refused", {EVIL: 3})
    finish(study, 0, 0.9, heldout=0.9)
    page = opened(study, tmp_path)  # no script, no foreign address, no handler: checked in there
    text = (tmp_path / "index.html").read_text(encoding="utf-8")
    assert text.count("<script") == 4 and "<img src=http" not in text
    assert "".join(page.words).count("<script>alert(1)</script>") >= 10
    assert rows_of(tmp_path)[1]["reason"] == EVIL


def test_csv_holds_every_trial(tmp_path):
    opened(four(), tmp_path)
    rows = rows_of(tmp_path)
    assert list(rows[0]) == list(COLUMNS)
    assert [r["number"] for r in rows] == list("012345")
    assert [r["state"] for r in rows] == ["complete"] * 4 + ["stopped", "failed"]
    assert [r["on_front"] for r in rows] == ["true"] * 3 + ["false"] * 3
    on_params = ["false", "true", "true", "true", "false", "false"]
    assert [r["on_front_params"] for r in rows] == on_params
    assert [r["passes_gates"] for r in rows] == ["false", "false", "true"] + ["false"] * 3
    assert rows[2]["delta1"] == "0.85" and rows[2]["abs_rel"] == "0.12"
    assert rows[2]["epochs"] == "12" and rows[4]["epochs"] == "3" and rows[5]["epochs"] == ""
    assert rows[4]["abs_rel"] == "" and rows[5]["delta1"] == ""
    assert json.loads(rows[3]["genotype"])["spec"] == {"stem": 3}


def test_columns_are_explained(tmp_path):
    page = opened(four(), tmp_path)
    assert all(meaning in page.text for meaning in COLUMNS.values())


def chart_of(study, cost="macs", limit=None) -> Page:
    return Page(str(pareto(read(study), cost, limit).svg))


def test_gates_and_points_lie_where_they_belong():
    drawn = chart_of(four(), "params", 500_000)
    (d1,) = drawn.all("line", "gate-d1")
    (budget,) = drawn.all("line", "gate-cost")
    points = {
        int(re.search(r"Trial (\d+)", word)[1]): attrs
        for attrs, word in zip(
            drawn.all("circle", "point"), [w for w in drawn.words if "Trial" in w], strict=False
        )
    }
    assert sorted(points) == [0, 1, 2, 3, 4]  # the failed one has nothing to show
    assert d1["y1"] == d1["y2"] and budget["x1"] == budget["x2"]
    # d1 is linear: interpolate the gate between candidates 1 (0.75) and 2 (0.85).
    y1, y2 = (float(points[n]["cy"]) for n in (1, 2))
    assert float(d1["y1"]) == pytest.approx(y1 + (0.81 - 0.75) / 0.10 * (y2 - y1), abs=0.2)
    # Parameters are logarithmic: 50 K (3), 200 K (2) and the limit of 500 K.
    x3, x2 = (float(points[n]["cx"]) for n in (3, 2))
    expected = x3 + math.log(500 / 50) / math.log(200 / 50) * (x2 - x3)
    assert float(budget["x1"]) == pytest.approx(expected, abs=0.3)
    (area,) = drawn.all("rect", "passing")
    assert float(area["x"]) + float(area["width"]) == pytest.approx(float(budget["x1"]))
    assert float(area["y"]) + float(area["height"]) == pytest.approx(float(d1["y1"]))
    front = [n for n, a in points.items() if "front" in a["class"].split()]
    assert sorted(front) == [1, 2, 3]
    assert [n for n, a in points.items() if "stopped" in a["class"].split()] == [4]


def test_front_is_a_staircase_of_hand_worked_points():
    drawn = chart_of(four())
    (line,) = drawn.all("path", "front-line")
    at = [(a["cx"], a["cy"]) for a in drawn.all("circle", "front")]
    (x0, y0), (x1, y1), (x2, y2) = at
    assert line["d"] == f"M{x0} {y0}H{x1}V{y1}H{x2}V{y2}H470"
    assert float(x0) < float(x1) < float(x2) and float(y0) > float(y1) > float(y2)


def test_winner_is_marked_and_a_far_limit_is_told():
    study = four()
    drawn = chart_of(study)
    (ring,) = drawn.all("circle", "ring")
    assert (ring["cx"], ring["cy"]) == max(
        ((a["cx"], a["cy"]) for a in drawn.all("circle", "front")), key=lambda p: float(p[0])
    )
    chart = pareto(read(study), "params", 1e9)
    assert chart.note == "The limit of 1 G lies beyond the right edge."
    assert "gate-cost" not in chart.svg


def test_latency_appears_where_it_was_measured(tmp_path):
    study = four()
    add(study, (0.5, 0.6, 0.7), latency_ms=12.5)
    page = opened(study, tmp_path)
    assert "Latency (ms)" in page.text and len(page.all("svg", "chart")) == 4
    assert "latency" not in opened(four(), tmp_path / "other").text.split("What the columns")[0]


def test_rank_fidelity_against_hand_worked_ranks(tmp_path):
    text = opened(four(), tmp_path).text  # four candidates, in one order all the time
    assert "3 4 1.00 1.00 6 4 1.00 1.00" in " ".join(text.split())
    study = make_study()
    for early, middle, last in (
        (0.1, 0.5, 0.5), (0.2, 0.4, 0.6), (0.3, 0.3, 0.7), (0.5, 0.2, 0.8), (0.4, 0.1, 0.9),
    ):  # fmt: skip
        add(study, (early, middle, last))
    # The last two the other way round: rho = 1 - 6 * 2 / (5 * 24), one of ten pairs discordant.
    found = rank_fidelity(read(study).rows)
    assert [(f.epoch, f.n) for f in found] == [(3, 5), (6, 5)]
    assert [f.spearman for f in found] == pytest.approx([0.9, -1.0])
    assert [f.kendall for f in found] == pytest.approx([0.8, -1.0])
    text = opened(study, tmp_path / "other").text
    assert "After epoch Candidates Spearman Kendall 3 5 0.90 0.80" in " ".join(text.split())
    assert "Trained on" not in text


def test_rungs_say_what_they_were_spared(tmp_path):
    study = make_study()
    for last in (0.5, 0.6):
        rungs = [
            {"epoch": 3, "delta1": 0.3, "netscore": 9.0, "seconds": 1.0, "size": [16, 24]},
            {"epoch": 6, "delta1": 0.4, "netscore": 9.5, "seconds": 2.0, "share": 0.5},
            {"epoch": 12, "delta1": last, "netscore": 9.9, "seconds": 3.0},
        ]
        add(study, (0.3, 0.4, last), rungs=rungs)
    text = " ".join(opened(study, tmp_path).text.split())
    assert "3 16x24 2 too few" in text and "6 50% of the images 2 too few" in text
    (kept, _) = read(open_kept(tmp_path)).rows
    assert [(r.size, r.share) for r in kept.rungs] == [((16, 24), 1), (None, 0.5), (None, 1)]
    assert kept.rungs == read(study).rows[0].rungs


def test_large_study_shows_the_best_and_stays_fast(tmp_path):
    study = make_study()
    for i in range(620):
        add(study, (0.3, 0.4, 0.5 + (i * 37 % 400) / 1000), 50_000 + 400 * i, 10**6 * (i + 1))
    began = perf_counter()
    page = opened(study, tmp_path)
    assert perf_counter() - began < 3
    listed = len(page.all("table", "trials")) and page.text.count("complete")
    assert 300 <= listed < 500
    assert "of 620 candidates" in page.text
    assert len(rows_of(tmp_path)) == 620


def test_reasons_and_refusals_are_listed(tmp_path):
    page = opened(four(), tmp_path)
    assert "Stopped early: 1" in page.text and "Failed: 1" in page.text
    assert "at most 0.660 expected" in page.text and "diverged: loss is NaN" in page.text
    assert "1,203" in page.text and "the same network as an earlier candidate" in page.text


def test_pictures_are_embedded_when_they_are_there(tmp_path):
    from PIL import Image

    Image.new("RGB", (30, 20)).save(tmp_path / "samples.png")
    (image,) = opened(four(), tmp_path).all("img")
    assert (image["width"], image["height"]) == ("30", "20") and "depth" in image["alt"]
    (tmp_path / "samples.png").write_bytes(b"<svg onload=alert(1)>")
    assert not opened(four(), tmp_path).all("img")


@pytest.mark.parametrize("step", ["render", "replace"])
def test_a_failure_leaves_the_page_that_was_there(tmp_path, monkeypatch, step):
    study = four()
    write_report(study, tmp_path)
    before = {p.name: p.read_bytes() for p in tmp_path.iterdir()}
    add(study, (0.5, 0.6, 0.7))

    def broken(*args, **kwargs):
        raise OSError("disk full")

    if step == "render":
        monkeypatch.setattr(page_module, "render", broken)
    else:
        monkeypatch.setattr(Path, "replace", broken)
    with pytest.raises(OSError, match="disk full"):
        write_report(study, tmp_path)
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == before


def test_a_sqlite_study_is_read_while_another_handle_writes(tmp_path):
    url = f"sqlite:///{tmp_path / 'study.db'}"
    writer = optuna.create_study(study_name="live", storage=url, direction="maximize")
    add(writer, (0.5, 0.6, 0.7))
    trial = writer.ask()
    reader = optuna.load_study(study_name="live", storage=url)
    assert "live" in opened(reader, tmp_path / "out").text
    writer.tell(trial, 1.0)
