"""The losses on depth that a recipe names."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from functools import partial
from typing import Any, cast

from compress.errors import CompressError, unknown
from compress.losses._pixels import Loss
from compress.losses.dense import (
    am,
    berhu,
    bmix,
    densedepth,
    l1,
    log_l1,
    log_l1_gradient,
    mix,
    rmse,
    silog,
    xl_log_berhu,
)
from compress.losses.relative import relative_loss, scale_invariant_mse

# On metres; those with a `cap_m` argument stand here with its default, `make_loss` binds another.
LOSSES: dict[str, Loss] = {
    "l1": l1,
    "rmse": rmse,
    "berhu": berhu,
    "mix": mix,
    "bmix": bmix,
    "am": am,
    "xl-log-berhu": xl_log_berhu,
    "densedepth": densedepth,
    "silog": silog,
    "log-l1": log_l1,
    "log-l1-grad": log_l1_gradient,
    # Blind to an image's scale, for depth without a unit.
    "si-mse": scale_invariant_mse,
    "si-mse-grad": relative_loss,
}


def make_loss(name: str, cap_m: float) -> Loss:
    """Return the loss on metres of that name, bound to the data set's cap where it has a use.

    >>> import torch
    >>> loss = make_loss("mix", cap_m=80.0)
    >>> depth_m = torch.full((1, 1, 16, 16), 5.0)
    >>> float(loss(depth_m, depth_m, depth_m > 0))
    0.0

    Raises:
        CompressError: no such loss, or a cap that is not a finite number above 0.
    """
    if name not in LOSSES:
        raise unknown("loss", name, LOSSES)
    if not (cap_m > 0 and math.isfinite(cap_m)):
        raise CompressError(f"cap_m must be a finite depth in metres above 0, got {cap_m!r}")
    loss = LOSSES[name]
    if "cap_m" not in inspect.signature(loss).parameters:
        return loss
    return partial(cast(Callable[..., Any], loss), cap_m=cap_m)
