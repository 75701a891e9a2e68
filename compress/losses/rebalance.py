"""Weights of several losses that move with how fast each of them falls."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

from compress.errors import CompressError, unknown

DIRECTIONS = ("easy-to-hard", "hard-to-easy")


def lam(epoch: float, direction: str = "easy-to-hard") -> float:
    """How strongly, and towards which losses, weights move at an epoch (fractions count).

    It runs from 3 through 0 at epoch 2 to -3 at epoch 4: weight goes to losses that fall fast
    first, to the others later. "hard-to-easy" is the opposite sign.

    >>> [lam(epoch) for epoch in (0, 1, 2, 3, 4, 9)]
    [3.0, 1.5, 0.0, -1.5, -3.0, -3.0]

    Source: Lee and Kim, "Multi-Loss Rebalancing Algorithm for Monocular Depth Estimation", ECCV
    2020.
    """
    if direction not in DIRECTIONS:
        raise unknown("direction of rebalancing", direction, DIRECTIONS)
    value = max(3 - 1.5 * epoch, -3.0)
    return value if direction == "easy-to-hard" else -value


def rebalanced(
    weights: Mapping[str, float],
    now: Mapping[str, float],
    before: Mapping[str, float],
    lam: float,
) -> dict[str, float]:
    """Return w_i clip(1 + lam ((L / L') (l'_i / l_i) - 1), 0.5, 2); the sum of weights may change.

    L and L' are the sums of w_i l_i and of w_i l'_i. Only losses that are finite and above 0 in
    both periods have such a ratio: any other keeps its weight and is in neither sum.

    >>> third = dict.fromkeys("abc", 1 / 3)
    >>> moved = rebalanced(third, {"a": 0.5, "b": 1, "c": 1}, dict.fromkeys("abc", 1), lam=1.5)
    >>> [round(weight, 4) for weight in moved.values()]
    [0.6667, 0.25, 0.25]

    Args:
        weights: the weights so far, by name.
        now: mean losses of the period that ends, l.
        before: those of the period before, l'.
        lam: above 0 favours losses that fell more than the others, below 0 those that fell less.

    Source: Lee and Kim, "Multi-Loss Rebalancing Algorithm for Monocular Depth Estimation", ECCV
    2020.
    """

    def usable(name: str) -> bool:
        return all(0 < losses.get(name, 0.0) < math.inf for losses in (now, before))

    moving = [name for name in weights if usable(name)]
    total = math.fsum(weights[name] * now[name] for name in moving)
    total_before = math.fsum(weights[name] * before[name] for name in moving)
    result = dict(weights)
    if not (total > 0 and total_before > 0):
        return result
    for name in moving:
        ratio = (total / total_before) * (before[name] / now[name])
        result[name] *= min(max(1 + lam * (ratio - 1), 0.5), 2.0)
    return result


class Rebalancer:
    """Weights by name, moved once per period by the mean losses of it and of the one before.

    >>> rebalancer = Rebalancer({"depth": 0.5, "ranking": 0.5}, "easy-to-hard")
    >>> rebalancer.record({"depth": 1.0, "ranking": 1.0})
    >>> rebalancer.update(epoch=0.0)  # the first period is only remembered
    >>> rebalancer.record({"depth": 0.5, "ranking": 1.0})
    >>> rebalancer.update(epoch=0.2)
    >>> rebalancer.weights
    {'depth': 1.0, 'ranking': 0.25}

    Args:
        weights: the weights to start from; from names alone, equal ones with sum 1.
        direction: "easy-to-hard" or "hard-to-easy", as in `lam`.

    Raises:
        CompressError: no name, a weight that is not a finite number above 0, or no such direction.

    Source: Lee and Kim, ECCV 2020; "hard-to-easy" from equal weights, five updates an epoch, is
    how Yucel et al. use it.
    """

    def __init__(
        self, weights: Mapping[str, float] | Iterable[str], direction: str = "hard-to-easy"
    ) -> None:
        if direction not in DIRECTIONS:
            raise unknown("direction of rebalancing", direction, DIRECTIONS)
        if not isinstance(weights, Mapping):
            names = list(weights)
            weights = {name: 1 / len(names) for name in names}
        if not weights:
            raise CompressError("there is no loss to rebalance; name at least one")
        for name, weight in weights.items():
            if not (weight > 0 and math.isfinite(weight)):
                raise CompressError(
                    f"the weight of loss {name!r} must be a finite number above 0, got {weight!r}"
                )
        self.direction = direction
        self._weights = {name: float(weight) for name, weight in weights.items()}
        self._before: dict[str, float] = {}
        self._sums: dict[str, float] = {}
        self._counts: dict[str, int] = {}

    @property
    def weights(self) -> dict[str, float]:
        """The present weights by name, a copy."""
        return dict(self._weights)

    def record(self, losses: Mapping[str, float]) -> None:
        """Add one step's unweighted losses; a step may lack some.

        Raises:
            CompressError: a name without a weight.
        """
        for name in losses:
            if name not in self._weights:
                raise unknown("loss to rebalance", name, self._weights)
        for name, loss in losses.items():
            self._sums[name] = self._sums.get(name, 0.0) + float(loss)
            self._counts[name] = self._counts.get(name, 0) + 1

    def update(self, epoch: float) -> None:
        """End a period at `epoch` (fractions count) and move the weights.

        The first period is only remembered. A loss of which nothing was recorded keeps its weight,
        and its last mean.
        """
        now = {name: self._sums[name] / count for name, count in self._counts.items()}
        self._weights = rebalanced(self._weights, now, self._before, lam(epoch, self.direction))
        self._before |= now
        self._sums, self._counts = {}, {}

    def state_dict(self) -> dict[str, Any]:
        """Everything needed to go on, as plain numbers by name."""
        return {
            "weights": dict(self._weights),
            "before": dict(self._before),
            "sums": dict(self._sums),
            "counts": dict(self._counts),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from `state_dict`'s answer.

        Raises:
            CompressError: it is of other losses than these.
        """
        if set(state["weights"]) != set(self._weights):
            raise CompressError(
                f"the saved weights are of {', '.join(sorted(state['weights']))}, but this "
                f"training minimises {', '.join(sorted(self._weights))}; start it anew"
            )
        self._weights = {name: float(state["weights"][name]) for name in self._weights}
        self._before, self._sums = dict(state["before"]), dict(state["sums"])
        self._counts = dict(state["counts"])
