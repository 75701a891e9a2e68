"""Reading what a pruning or a gating came to."""

from __future__ import annotations

import pytest
from outcomes import gating, pruning

from compress.errors import CompressError
from compress.report.outcome import open_outcome, read_outcome
from compress.report.parts import Span


def test_a_pruning_is_read_as_it_was_written():
    found = read_outcome(pruning())
    assert (found.kind, found.target, found.reached) == ("prune", ("latency_ms", 10.0), True)
    assert found.before.latency == Span(20.0, 19.8, 20.3)
    assert found.after.speedup == (2.06, 2.01, 2.11)
    assert found.after.parts["heldout"]["delta1"] == 0.842 and len(found.steps) == 14
    assert found.command == "compress prune 'my net.safetensors' --target-latency 10ms"


def test_a_gating_is_told_from_a_pruning():
    found = read_outcome(gating())
    assert found.kind == "gate" and found.macs["dense"] == 26.4e6
    assert [item.density for item in found.sweep] == [0.25, 0.5, 0.75, 1.0]
    assert read_outcome(gating() | {"sweep": gating()["sweep"][::-1]}).sweep == found.sweep
    assert found.epochs[3] == ("lower", 0.5, 0.82) and found.reached is True


def test_what_cannot_be_read_is_counted():
    steps = pruning()["iterations"]
    found = read_outcome(pruning() | {"iterations": [steps[0], {"layer": "x"}, 7]})
    assert len(found.steps) == 1 and found.unreadable == 2


def test_rounds_are_placed_after_the_cuts_they_measured():
    found = read_outcome(pruning())
    assert [round_.step for round_ in found.rounds] == [9, 14]
    result = pruning()
    result["predictions"][0]["iteration"] = 4
    assert [round_.step for round_ in read_outcome(result).rounds] == [4, 14]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "cannot be read \\(No such file"),
        (b"{", "is no JSON"),
        (b"\xff\xfe{}", "is no JSON"),
        (b"[" * 100_000, "is no JSON"),
        (b"[1, 2]", "holds no result"),
        (b'{"space": "fastdepth"}', "holds no result"),
    ],
)
def test_other_files_are_refused_in_one_line(tmp_path, content, said):
    path = tmp_path / "x.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(CompressError, match=said) as error:
        open_outcome(path)
    assert "\n" not in str(error.value) and "compress prune" in str(error.value)
