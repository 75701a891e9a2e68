"""Optimisers and learning-rate schedules by a recipe's names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer
from torch.optim import lr_scheduler as schedules

from compress.models import DepthNet
from compress.train.recipe import Recipe

POWER = 0.9  # of the polynomial schedule


def make_optimiser(
    model: DepthNet, recipe: Recipe, shares: Mapping[nn.Parameter, float] | None = None
) -> Optimizer:
    """The recipe's optimiser; parameters of one rate are a group, the encoder's where it differs.

    ``shares`` of the rate are for parameters that are to learn more slowly than the others.
    """
    encoder = model.pretrained
    own = {} if encoder is None else dict.fromkeys(encoder.parameters(), recipe.encoder_lr)
    groups: dict[float, list[nn.Parameter]] = {1.0: []}
    for parameter in model.parameters():
        share = own.get(parameter, 1.0) * (shares or {}).get(parameter, 1.0)
        groups.setdefault(share, []).append(parameter)
    given = [{"params": held, "lr": recipe.lr * share} for share, held in groups.items() if held]
    kind: Any = {
        "adamw": torch.optim.AdamW,
        "adam": torch.optim.Adam,
        "sgd": torch.optim.SGD,
    }[recipe.optimiser]
    extra = {"momentum": 0.9} if recipe.optimiser == "sgd" else {}
    made: Optimizer = kind(
        given, lr=recipe.lr, weight_decay=recipe.weight_decay, fused=True, **extra
    )
    return made


def make_schedule(
    optimiser: Optimizer, recipe: Recipe, ends: Sequence[int]
) -> schedules.LRScheduler:
    """The recipe's schedule; every group keeps its share.

    Args:
        optimiser: whose learning rates it sets.
        recipe: how to train.
        ends: steps done by the end of each epoch.
    """
    total = ends[-1]
    if recipe.schedule == "onecycle":
        peaks = [group["lr"] for group in optimiser.param_groups]
        # SGD's momentum stays: cycling it is for rates far above those used here.
        return schedules.OneCycleLR(
            optimiser,
            peaks if len(peaks) > 1 else peaks[0],
            total,
            pct_start=recipe.warmup,
            cycle_momentum=recipe.optimiser != "sgd",
        )
    if recipe.schedule == "step":
        drops = [
            ends[epoch - 1]
            for epoch in range(recipe.step_epochs, recipe.epochs + 1, recipe.step_epochs)
        ]
        return schedules.MultiStepLR(optimiser, drops, recipe.step_factor)
    if recipe.schedule == "poly":
        return schedules.PolynomialLR(optimiser, total, POWER)
    return schedules.ConstantLR(optimiser, 1.0, total_iters=0)
