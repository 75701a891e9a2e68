from __future__ import annotations

import pytest
import torch
from torch import nn
from toys import EACH_FAMILY, Toy, shipped, stirred

from compress.cost import cost
from compress.errors import CompressError
from compress.pruning import find_groups, prune_ratio, prune_to, widths
from compress.space import load_space

SIZE = (32, 48)


@EACH_FAMILY
def test_a_budget_is_met_and_not_by_much(family: str) -> None:
    model = shipped(family)
    before = cost(model, SIZE)
    done = prune_to(model, max_macs=before.macs // 2, size=SIZE, floor=2)
    assert done.before == before and done.after == cost(done.model, SIZE)
    assert 0.4 * before.macs < done.after.macs <= before.macs // 2
    assert done.difference < 1e-9
    assert cost(model, SIZE) == before


@pytest.mark.parametrize("scope", ["global", "uniform"])
@pytest.mark.parametrize(("floor", "step"), [(1, 1), (4, 4), (8, 1), (6, 2)])
def test_floors_and_steps(scope: str, floor: int, step: int) -> None:
    model = shipped("light-shuffle")
    done = prune_ratio(model, 0.6, size=SIZE, scope=scope, floor=floor, step=step)
    groups = {group.name: group for group in find_groups(model, SIZE, verify=False)}
    for name, keep in done.keeps.items():
        group, kept = groups[name], len(keep) * groups[name].block
        assert kept >= min(floor, group.width)
        assert kept % step == 0
    left = widths(done.model)
    assert all(left[g.name] >= min(floor, g.width) for g in groups.values())
    assert done.after.params < 0.75 * done.before.params


def test_uniform_shares() -> None:
    model = stirred(Toy(16))
    done = prune_ratio(model, 0.5, "joint", size=SIZE, scope="uniform", floor=1)
    groups = {group.name: group for group in find_groups(model, SIZE)}
    assert all(len(keep) == -(-groups[n].channels // 2) for n, keep in done.keeps.items())


def test_global_takes_what_is_worth_least() -> None:
    model = stirred(Toy(16))
    with torch.no_grad():
        model.stem.weight[4:] *= 1e-4
    done = prune_ratio(model, 0.2, "joint", size=SIZE, floor=1)
    assert done.keeps["stem"] == [0, 1, 2, 3]


def test_ratio_zero_and_almost_one() -> None:
    model = stirred(Toy())
    none = prune_ratio(model, 0.0, size=SIZE)
    assert none.keeps == {} and none.after == none.before
    all_but = prune_ratio(model, 0.9999, size=SIZE, floor=1)
    assert all(len(keep) == 1 for keep in all_but.keeps.values())
    assert prune_to(model, max_params=10**9, size=SIZE).keeps == {}


def test_larger_ratios_drop_all_that_smaller_ones_drop() -> None:
    model = shipped("mobiledepth")
    small = prune_ratio(model, 0.2, size=SIZE, floor=1)
    large = prune_ratio(model, 0.5, size=SIZE, floor=1)
    for name, keep in small.keeps.items():
        assert set(large.keeps[name]) <= set(keep)


def test_groups_left_out_and_other_importances() -> None:
    model = stirred(Toy())
    done = prune_ratio(model, 0.5, "random", size=SIZE, floor=1, ignore=["stem"], seed=1)
    assert "stem" not in done.keeps and done.keeps
    loss = lambda m: [m(torch.rand(1, 3, *SIZE)).mean()]  # noqa: E731
    assert prune_ratio(model, 0.3, "taylor", size=SIZE, floor=1, losses=loss).keeps


def test_refusals() -> None:
    model = stirred(Toy())
    for ratio in (-0.1, 1.0, 2, float("nan"), True, "half"):
        with pytest.raises(CompressError, match=r"ratio = .*: give a number 0 to below 1"):
            prune_ratio(model, ratio, size=SIZE)  # type: ignore[arg-type]
    with pytest.raises(CompressError, match="unknown scope 'local'"):
        prune_ratio(model, 0.5, size=SIZE, scope="local")
    with pytest.raises(CompressError, match="floor = 0: give a whole number from 1"):
        prune_ratio(model, 0.5, size=SIZE, floor=0)
    with pytest.raises(CompressError, match="unknown group 'stam'"):
        prune_ratio(model, 0.5, size=SIZE, ignore=["stam"])
    with pytest.raises(CompressError, match="no budget"):
        prune_to(model, size=SIZE)
    with pytest.raises(
        CompressError, match=r"max_macs 10 cannot be met: .* parameters and .* MACs"
    ):
        prune_to(model, max_macs=10, size=SIZE)
    with pytest.raises(CompressError, match=r"nothing to cut in Conv2d .*output"):
        prune_ratio(nn.Conv2d(3, 4, 1), 0.5, size=SIZE)


def test_a_space_whose_reference_is_pruned_twice() -> None:
    model = shipped("depthnet-nano")
    assert model.genotype == load_space("depthnet-nano").reference("tiny")
    once = prune_ratio(model, 0.2, size=SIZE, floor=1)
    twice = prune_ratio(once.model, 0.2, size=SIZE, floor=1)
    assert twice.after.params < once.after.params < once.before.params
