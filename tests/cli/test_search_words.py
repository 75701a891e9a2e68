"""Words of ``compress search`` that decide what a candidate is trained on, and its last lines."""

from __future__ import annotations

import json

from compress.cli.display import _conclusion
from compress.cli.parser import make_parser
from compress.report.words import search_command
from compress.search import SearchConfig, SearchResult
from compress.search.fidelity import RungFidelity

WORDS = ["--pruner", "asha", "--fidelity", "data", "--warm-start", "first"]


def test_the_page_gives_the_command_that_was_given():
    args = make_parser().parse_args(["search", *WORDS])
    assert (args.pruner, args.fidelity, args.warm_start) == ("asha", "data", "first")
    config = SearchConfig(pruner="asha", fidelity="data", warm_start="first")
    assert " ".join(WORDS) in search_command(config.to_dict(), "s")
    said = search_command(SearchConfig().to_dict(), "s")
    assert not any(word in said for word in WORDS if word.startswith("--"))


def test_the_last_lines_say_how_rungs_rank():
    rungs = (RungFidelity(3, 0.9, 0.8, 5, (16, 24)), RungFidelity(6, None, None, 2))
    result = SearchResult("s", 9, 0, {}, None, None, "index.html", True, rungs)
    said = _conclusion(result).splitlines()
    at = said.index("rungs against the end, by d1, over candidates trained to the end only:")
    assert said[at + 1 : at + 3] == [
        "  epoch 3 (16x24): Spearman 0.90, Kendall 0.80 (n 5)",
        "  epoch 6: too few (n 2)",
    ]
    told = json.loads(json.dumps(result.to_dict(), allow_nan=False))["rank_fidelity"]
    assert told == [
        {"epoch": 3, "n": 5, "spearman": 0.9, "kendall": 0.8, "size": [16, 24]},
        {"epoch": 6, "n": 2, "spearman": None, "kendall": None},
    ]
    assert "rungs" not in _conclusion(SearchResult("s", 0, 0, {}, None, None, "x", True))
