from __future__ import annotations

import itertools
import tomllib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny_toml import TINY

from compress.cost import cost
from compress.errors import CompressError
from compress.space import SearchSpace, load_space, space_from_dict, space_names

SPACES = {name: load_space(name) for name in space_names()} | {
    "tiny": space_from_dict(tomllib.loads(TINY), "tiny")
}


@pytest.mark.parametrize("space", SPACES.values(), ids=SPACES)
def test_samples_are_choices_and_varied(space: SearchSpace) -> None:
    genotypes = [space.sample(seed) for seed in range(300)]
    for genotype in genotypes:
        assert genotype.values.keys() == space.choices.keys()
        assert all(genotype.values[key] in space.choices[key] for key in space.choices)
        assert (genotype.family, genotype.size, genotype.space) == (
            space.family,
            space.size,
            space.name,
        )
        assert space.genotype(genotype.values) == genotype
    # 300 draws leave out one of at most ten choices about once in 10^12 times.
    for key, allowed in space.choices.items():
        assert {genotype.values[key] for genotype in genotypes} == set(allowed)


def test_sample_is_the_same_for_the_same_seed() -> None:
    one, two = load_space("depthnet-nano"), load_space("depthnet-nano")
    assert [one.sample(s).to_json() for s in range(50)] == [
        two.sample(s).to_json() for s in range(50)
    ]
    assert len({one.sample(seed).hash for seed in range(200)}) == 200


@given(seed=st.integers(0, 2**63))
def test_any_seed_draws_a_valid_network(seed: int) -> None:
    space = SPACES["depthnet-nano"]
    genotype = space.sample(seed)
    space.rules.check_spec(genotype.spec, "sample")
    assert genotype == type(genotype).from_json(genotype.to_json())


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("stem", 13),
        ("stem", "16"),
        ("stem", None),
        ("stem", [16]),
        ("stem", float("nan")),
        ("stages", True),
        ("stage1.modules", True),  # equals the choice 1
        ("norm", "none"),
        ("norm", 0),
        ("decoder.expansion", "1.0"),
    ],
)
def test_wrong_value_is_answered(key: str, value: object) -> None:
    space = SPACES["depthnet-nano"]
    values = dict(space.sample(0).values) | {key: value}
    with pytest.raises(CompressError) as caught:
        space.genotype(values)
    message = str(caught.value)
    assert f"space depthnet-nano: {key} = {value!r}" in message
    assert ", ".join(map(str, space.choices[key])) in message


def test_missing_and_unknown_values_are_answered() -> None:
    space = SPACES["depthnet-nano"]
    values = dict(space.sample(0).values)
    with pytest.raises(CompressError, match="'stam'; did you mean stem"):
        space.genotype(values | {"stam": 8})
    del values["neck"]
    with pytest.raises(CompressError, match="neck = None is not a choice"):
        space.genotype(values)


def test_equal_numbers_are_one_choice() -> None:
    space = SPACES["depthnet-nano"]
    known = space.sample(3)
    given = {k: float(v) if isinstance(v, int) else v for k, v in known.values.items()}
    genotype = space.genotype(given)
    assert genotype.hash == known.hash
    assert genotype.to_json() == known.to_json()
    assert all(type(genotype.values[key]) is type(known.values[key]) for key in known.values)


def test_choices_that_nothing_uses_make_no_difference() -> None:
    space = SPACES["depthnet-nano"]
    base = dict(space.sample(5).values)

    def hashes(fixed: dict[str, Any], keys: list[str]) -> set[str]:
        return {
            space.genotype(base | fixed | {key: value}).hash
            for key in keys
            for value in space.choices[key]
        }

    fourth = [key for key in space.choices if key.startswith("stage4.")]
    unused = [*fourth, "up1.a", "up1.b", "stage3.transition"]
    assert len(hashes({"stages": 3}, unused)) == 1
    for key in unused:  # with four stages they count, where there is more than one choice
        wanted = len(space.choices[key])
        assert len(hashes({"stages": 4, "stage4.modules": 4}, [key])) == wanted
    assert len(hashes({"stage1.modules": 1}, ["stage1.width_last"])) == 1


def test_smallest_is_below_500_samples() -> None:
    for space in SPACES.values():
        least = cost(space.smallest).params
        assert least <= min(cost(space.sample(seed)).params for seed in range(500))
        assert space.genotype(space.smallest.values) == space.smallest


# Choices listed large first, and sets in which one choice hides whether another pays.
DESCENDING = {
    "stem": [8, 4],
    "stages": [3, 4],
    "neck": [32, 16],
    "norm": ["all", "projection"],
    "decoder.expansion": [1.0, 0.5],
    "stage1.modules": [3, 1],
    "stage1.width_last": [9, 2],
    "stage3.transition": [64, 2],
}
# Four stages are smaller than three only where the fourth takes its least choices.
HIDING = {
    "stages": [3, 4],
    "neck": [320],
    "stage2.width_first": [60],
    "stage2.width_last": [60],
    "stage3.modules": [24],
    "stage3.width_first": [60],
    "stage3.width_last": [60],
    "stage3.transition": [300, 2],
    "stage4.modules": [24, 1],
    "stage4.width_first": [60, 1],
    "stage4.expansion": [8.0, 1.0],
    "up1.a": [200, 1],
    "up1.b": [200, 1],
    "up2.a": [1],
}


@pytest.mark.parametrize("choices", [{}, DESCENDING, HIDING], ids=["tiny", "descending", "hiding"])
def test_smallest_of_all(choices: dict[str, list[Any]]) -> None:
    space = SPACES["tiny"]
    space = SearchSpace(space.name, space.family, space.size, dict(space.choices) | choices)
    every = [
        space.genotype(dict(zip(space.choices, values, strict=True)))
        for values in itertools.product(*space.choices.values())
    ]
    assert len(every) == space.cardinality
    params = [cost(genotype).params for genotype in every]
    assert cost(space.smallest).params == min(params) < max(params)
