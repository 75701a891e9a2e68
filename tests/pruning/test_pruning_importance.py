from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn
from toys import EACH_FAMILY, Toy, shipped, stirred

from compress.errors import CompressError
from compress.pruning import IMPORTANCES, find_groups, scores

SIZE = (16, 20)


def losses(model: nn.Module) -> Iterator[Tensor]:
    drawn = torch.Generator().manual_seed(0)
    for _ in range(2):
        yield model(torch.rand(2, 3, 32, 48, generator=drawn)).mean()


@pytest.mark.parametrize("importance", sorted(IMPORTANCES))
def test_every_importance_scores_every_group(importance: str) -> None:
    model = stirred(Toy())
    groups = find_groups(model, SIZE, verify=False)
    found = scores(model, groups, importance, losses=losses, seed=3)
    assert set(found) == {group.name for group in groups}
    for group in groups:
        score = found[group.name]
        assert score.shape == (group.channels,) and score.dtype == torch.float32
        assert bool((score >= 0).all()) and bool(score.isfinite().all())
    again = scores(model, groups, importance, losses=losses, seed=3)
    assert all(torch.equal(again[name], score) for name, score in found.items())
    assert all(parameter.grad is None for parameter in model.parameters())


@EACH_FAMILY
def test_taylor_on_shipped_networks(family: str) -> None:
    model = shipped(family)
    groups = find_groups(model, (32, 48), verify=False)
    found = scores(model, groups, "taylor", losses=losses)
    assert all(bool(score.isfinite().all()) for score in found.values())
    assert not model.training


def test_joint_norm_is_over_all_tied_layers() -> None:
    model = stirred(Toy())
    groups = find_groups(model, SIZE, verify=False)
    rows = model.left.weight.flatten(1), model.right.weight.flatten(1)
    wanted = torch.cat(rows, 1).detach().norm(dim=1)
    torch.testing.assert_close(scores(model, groups, "joint")["left"], wanted)
    # Blocks of four: of the grouped layer's input and of the gate that is multiplied to its output.
    parts = model.mix.weight.reshape(3, -1), model.excite.weight.reshape(3, -1)
    wanted = torch.cat(parts, 1).detach().norm(dim=1)
    torch.testing.assert_close(scores(model, groups, "joint")["mix"], wanted)


def test_bn_scale_and_magnitude_find_the_dead_channel() -> None:
    model = stirred(Toy())
    with torch.no_grad():
        model.norm.weight[5] = 1e-6
        model.left.weight[2] = model.right.weight[2] = 0
        model.mix.weight[:, [2, 10]] = 0
    groups = find_groups(model, SIZE, verify=False)
    assert int(scores(model, groups, "bn-scale")["stem"].argmin()) == 5
    for importance in ("l1", "l2", "magnitude", "joint", "taylor"):
        found = scores(model, groups, importance, losses=losses)
        assert int(found["left"][2].argmin()) == 0
        if importance != "taylor":
            assert int(found["left"].argmin()) == 2


def test_taylor_against_leaving_a_channel_out() -> None:
    """To first order the score is the change of the loss: exact where the loss is linear."""
    model = nn.Sequential(nn.Conv2d(3, 6, 1), nn.Conv2d(6, 1, 1))
    groups = find_groups(model, SIZE)
    image = torch.rand(1, 3, 8, 8)
    found = scores(model, groups, "taylor", losses=lambda m: [m(image).mean()])["0"]
    with torch.no_grad():
        whole = model(image).mean()
        for unit in range(6):
            spare = nn.Sequential(nn.Conv2d(3, 6, 1), nn.Conv2d(6, 1, 1))
            spare.load_state_dict(model.state_dict())
            spare[0].weight[unit] = 0
            spare[0].bias[unit] = 0
            change = float((whole - spare(image).mean()).abs())
            assert abs(change - float(found[unit])) < 1e-6


def test_random_differs_by_seed() -> None:
    model = stirred(Toy())
    groups = find_groups(model, SIZE, verify=False)
    one, two = (scores(model, groups, "random", seed=seed)["stem"] for seed in (0, 1))
    assert not torch.equal(one, two)


def test_wrong_uses() -> None:
    model = stirred(Toy())
    groups = find_groups(model, SIZE, verify=False)
    with pytest.raises(CompressError, match="unknown importance 'magnitud'; did you mean magni"):
        scores(model, groups, "magnitud")
    with pytest.raises(CompressError, match="needs losses="):
        scores(model, groups, "taylor")
    with pytest.raises(CompressError, match="yielded nothing"):
        scores(model, groups, "taylor", losses=lambda m: [])
    with pytest.raises(CompressError, match="scalar tensors with a gradient"):
        scores(model, groups, "taylor", losses=lambda m: [torch.zeros(())])
