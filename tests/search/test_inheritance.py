"""Candidates that begin with their nearest relative's weights."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from compress.errors import CompressError
from compress.models import build, save
from compress.search import search
from compress.search.records import Record, records
from compress.search.relatives import distance, nearest, relative
from compress.search.store import find_study
from compress.space import load_space

SPACE = load_space("depthnet-nano-bench")
SEEDS = st.integers(0, 10**6)


def test_distance_counts_steps_as_shares_of_a_list():
    values = dict(SPACE.smallest.values)
    far = SPACE.genotype(values | {"stage3.modules": 4, "decoder.expansion": 1.0})
    assert distance(SPACE, SPACE.smallest, far) == pytest.approx(0.5 + 1.0)


@given(SEEDS, SEEDS)
def test_distance_is_symmetric_and_zero_for_one_network_alone(one, other):
    a, b = SPACE.sample(one), SPACE.sample(other)
    assert distance(SPACE, a, b) == pytest.approx(distance(SPACE, b, a))
    assert (distance(SPACE, a, b) == 0) == (a == b)


def test_the_nearest_of_what_is_kept_is_opened(tmp_path):
    assert relative(SPACE, tmp_path, SPACE.smallest, []) is None
    others = [SPACE.sample(seed) for seed in range(6)]
    for number, genotype in enumerate(others):
        save(build(genotype, seed=0), tmp_path / f"{number}.safetensors")
    # Torn, or dropped meanwhile.
    (tmp_path / "9.safetensors").write_bytes(b"torn")
    networks = [*others, SPACE.sample(15), SPACE.sample(12)]
    rows = [
        Record(number, "complete", "", 1, 1, 1, genotype=genotype.to_json())
        for number, genotype in zip([*range(6), 9, 10], networks, strict=True)
    ]
    for seed in range(10, 20):
        wanted = SPACE.sample(seed)
        found = relative(SPACE, tmp_path, wanted, rows).genotype
        least = min(distance(SPACE, wanted, other) for other in others)
        assert distance(SPACE, wanted, found) == least
        assert found == nearest(SPACE, wanted, [found, *others])


@pytest.fixture
def options(tiny_space, tiny_folder, tmp_path):
    return {
        "space": str(tiny_space), "data": f"folder:{tiny_folder}", "out": tmp_path,
        "size": (32, 48), "delta1": 0.05, "epochs": 2, "final_epochs": 3, "workers": 1,
        "early_stop": False, "sampler": "random", "trials": 3,
    }  # fmt: skip


def test_a_study_in_which_candidates_inherit(options, tmp_path):
    """The first begins afresh, the others do not; the winner goes on from its own weights."""
    results = {
        name: search(study=name, inherit=inherits, **options)
        for name, inherits in (("fresh", False), ("heirs", True))
    }
    fresh, heirs = (
        {row.hash: row.delta1 for row in records(find_study(name, tmp_path))} for name in results
    )
    assert list(fresh) == list(heirs)
    alike = [fresh[key] == heirs[key] for key in fresh]
    assert alike == [True, False, False]
    assert results["heirs"].best["delta1"] != results["fresh"].best["delta1"]


def test_other_families_are_refused(options, tmp_path):
    with pytest.raises(CompressError, match=r"fastdepth.*--inherit"):
        search(study="s", inherit=True, **options | {"space": "fastdepth"})
    assert not (tmp_path / "s").exists()
