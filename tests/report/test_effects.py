"""The table of an ablation, against means worked by hand."""

from __future__ import annotations

import json

import pytest

from compress.report.effects import ablation
from compress.search.records import Record, Rung


def row(number: int, delta1: float, state: str = "complete", **spec: object) -> Record:
    genotype = json.dumps({"family": "mobiledepth", "spec": {"encoder": "x", **spec}})
    return Record(
        number, state, f"{number}", 100 * number, 1000, 1000,
        rungs=(Rung(3, delta1, 1.0, 1.0),), metrics={"abs_rel": 1 - delta1}, genotype=genotype,
    )  # fmt: skip


ROWS = [
    row(1, 0.5, block="ds", skip="add"),
    row(2, 0.6, block="ds", skip="none"),
    row(3, 0.8, block="shuffle", skip="add"),
    row(4, 0.9, "stopped", block="shuffle", skip="none"),
]


def test_means_by_hand():
    found = ablation(ROWS)
    assert found is not None and list(found.effects) == ["block", "skip"]
    assert [(e.value, e.count, e.delta1) for e in found.effects["block"]] == [
        ("shuffle", 1, 0.8),
        ("ds", 2, pytest.approx(0.55)),
    ]
    add = found.effects["skip"][0]
    assert (add.value, add.count, add.delta1, add.params) == ("add", 2, pytest.approx(0.65), 200)
    assert add.abs_rel == pytest.approx(0.35)
    assert [(r.number, v) for r, v in found.variants] == [
        (3, ["shuffle", "add"]), (2, ["ds", "none"]), (1, ["ds", "add"]),
    ]  # fmt: skip


def test_a_search_over_many_parameters_is_no_ablation():
    rows = [row(i, 0.5, **{f"p{k}": (i + k) % 2 for k in range(9)}) for i in range(4)]
    assert ablation(rows) is None
    assert ablation([]) is None
    assert ablation(ROWS[:1]) is None
    assert ablation([row(i, 0.5, width=i) for i in range(5)]) is None  # no value twice


@pytest.mark.parametrize("genotype", ["", "[]", "null", '{"spec": 3}', '{"spec": {"a": [1]}}'])
def test_genotypes_that_cannot_be_read_are_left_out(genotype):
    broken = Record(9, "complete", "9", 1, 1, 1, genotype=genotype)
    found = ablation([*ROWS, broken])
    assert found is not None and 9 not in [r.number for r, _ in found.variants]
