"""The table of trained networks: whole, sound, and the same networks as the space has."""

from __future__ import annotations

import gzip
import itertools
import math

import numpy as np
import pytest

from compress.cost import cost
from compress.errors import CompressError
from compress.netscore import netscore
from compress.report.front import pareto
from compress.search import load_bench
from compress.search.bench import FOLDER, PROTOCOL, TABLE, Bench, read_bench
from compress.search.probe import cost_shares
from compress.space import load_space


@pytest.fixture(scope="module")
def bench() -> Bench:
    return load_bench()


def test_every_network_of_the_space_is_there(bench):
    choices = bench.space.choices
    values = [dict(zip(choices, row, strict=True)) for row in itertools.product(*choices.values())]
    hashes = {bench.space.genotype(row).hash for row in values}
    assert hashes == {g.hash for g in bench.genotypes} == set(bench.frame.hash)
    assert len(hashes) == 288 == bench.protocol["networks"]


def test_rungs_ways_and_figures(bench):
    frame, tenth = bench.frame, 29
    size = [(0, 48, 1.0, 288), (1, 48, 1.0, tenth), (0, 24, 1.0, tenth), (0, 48, 0.25, tenth)]
    for seed, height, share, networks in size:
        rows = frame[(frame.seed == seed) & (frame.height == height) & (frame.share == share)]
        for epoch in (2, 4, 8):
            assert rows[rows.epoch == epoch].hash.nunique() == networks
        assert len(rows) == 3 * networks
    assert len(frame) == 3 * bench.protocol["trainings"] == 3 * 375
    measured = frame[["params", "macs", "delta1", "abs_rel", "netscore", "seconds"]].to_numpy()
    assert np.isfinite(measured).all() and (measured > 0).all()
    assert ((frame.delta1 > 0.1) & (frame.delta1 < 1)).all()
    last = frame[frame.epoch == 8]
    assert last.heldout_delta1.between(0.1, 1).all()
    assert frame[frame.epoch < 8].heldout_delta1.isna().all()
    seconds = last.seconds.to_numpy() - frame[frame.epoch == 4].seconds.to_numpy()
    assert (seconds > 0).all()


def test_sizes_are_those_that_cost_counts(bench):
    for genotype in bench.genotypes[::24]:
        found, counted = bench.query(genotype), cost(genotype, bench.space.size)
        assert (found.params, found.macs) == (counted.params, counted.macs)
        assert found.netscore == netscore(100 * found.delta1, found.params, found.macs)


def test_query_by_genotype_choices_rung_and_way(bench):
    genotype = bench.genotypes[0]
    found = bench.query(genotype)
    assert (found.epoch, found.seed, found.size, found.share) == (8, 0, (48, 64), 1.0)
    assert found.heldout_delta1 is not None
    varying = {k: v for k, v in genotype.values.items() if len(bench.space.choices[k]) > 1}
    assert bench.query(varying) == bench.query(dict(genotype.values)) == found
    early = bench.query(genotype, epoch=2)
    assert early.seconds < found.seconds and early.heldout_delta1 is None
    assert bench.query(genotype, seed=1).delta1 != found.delta1
    assert bench.query(genotype, height=24).size == (24, 32)
    assert bench.query(genotype, share=0.25).share == 0.25


def test_what_is_not_in_the_table_is_said(bench):
    other = load_space("depthnet-nano").sample(0)
    with pytest.raises(CompressError, match=r"is not in the table depthnet-nano-bench.* 288"):
        bench.query(other)
    with pytest.raises(CompressError, match=r"was not trained .*\(0, 48, 1.0, 3\).*48, 1.0, 8"):
        bench.query(bench.genotypes[1], epoch=3)
    with pytest.raises(CompressError, match="seed"):
        bench.query(bench.genotypes[1], seed=7)
    with pytest.raises(CompressError, match="stem = 7 is not a choice"):
        bench.query({**bench.genotypes[0].values, "stem": 7})
    with pytest.raises(CompressError, match=r"no network passes; give at most 0\.\d"):
        bench.best(0.999)


def test_probes_are_shares_of_modules(bench):
    for genotype in bench.genotypes[::48]:
        read = bench.probe(genotype)
        assert set(read) == set(cost_shares(genotype, bench.space.size)) - {"head"}
        assert sum(response for response, _ in read.values()) == pytest.approx(1, abs=1e-3)
        assert all(response > 0 and 0 < share < 1 for response, share in read.values())


def test_best_front_and_noise(bench):
    gate = float(np.median([row.delta1 for row in bench.final]))
    best = bench.best(gate)
    assert best.delta1 >= gate
    assert not any(r.netscore > best.netscore for r in bench.final if r.delta1 >= gate)
    assert bench.best().netscore >= best.netscore
    front = [(row.macs, row.delta1) for row in bench.front()]
    assert front == pareto([(row.macs, row.delta1) for row in bench.final])
    gaps = [
        bench.query(g).delta1 - bench.query(g, seed=1).delta1 for g in bench.genotypes[::10]
    ]  # the tenth that was trained twice
    assert bench.noise == pytest.approx(math.sqrt(np.mean(np.square(gaps)) / 2))


@pytest.mark.parametrize(
    "broken",
    [b"", b"not gzip", gzip.compress(b"a,b\n1,2\n", mtime=0)],
    ids=["empty", "text", "other"],
)
def test_a_table_that_is_none(tmp_path, broken):
    with pytest.raises(CompressError, match="no table of trained networks"):
        read_bench(tmp_path)
    (tmp_path / PROTOCOL).write_bytes((FOLDER / PROTOCOL).read_bytes())
    (tmp_path / TABLE).write_bytes(broken)
    with pytest.raises(CompressError, match="no table of trained networks"):
        read_bench(tmp_path)
