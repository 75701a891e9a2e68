"""The inquisitor: what finished trials and probes of trained networks say of the next one."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from compress.search.axes import Axes, Vector

# Ratios of noise to prior variance among which the evidence decides.
RATIOS = tuple(10.0 ** (step / 2) for step in range(-4, 5))
# What probes are believed before any trial has confirmed them: mean and standard deviation of the
# weight of their column, in standard deviations of the response.
BELIEF = (0.3, 0.3)
# Bound on one module's pull, in natural logarithms of response to cost.
MOST_PULL = 1.5

# Standard deviations below the mean from which the normal distribution's tail is taken as a series.
TAIL = -8.0

Probe = Mapping[str, Sequence[float]]


class Model:
    """A Bayesian linear model of one response over points.

    Weights of the features have a normal prior; its variance and the noise's are those of highest
    evidence. All is done with the (N, N) kernel matrix, however many features there are.

    Source: MacKay, "Bayesian interpolation", 1992.

    Args:
        features: (N, F).
        values: (N,) responses.
        prior: (F,) prior means of the weights, in standard deviations of the response.
    """

    def __init__(self, features: Vector, values: Vector, prior: Vector) -> None:
        self.features = features
        self.mean, self.scale = float(values.mean()), float(values.std()) or 1.0
        self.prior = prior
        # Scaled so that a draw from the prior varies about as much as the responses do.
        self.unit = 1.0 / math.sqrt(max(1, features.shape[1]))
        residual = (values - self.mean) / self.scale - features @ prior
        eigen, self.basis = np.linalg.eigh(features @ features.T * self.unit**2)
        self.eigen = np.maximum(eigen, 0.0)
        self.residual = self.basis.T @ residual

        def evidence(ratio: float) -> float:
            spread = self.eigen + ratio
            variance = float(np.mean(self.residual**2 / spread)) + 1e-9
            return -len(values) * math.log(variance) - float(np.log(spread).sum())

        self.ratio = max(RATIOS, key=evidence)
        self.variance = float(np.mean(self.residual**2 / (self.eigen + self.ratio))) + 1e-9

    def predict(self, features: Vector) -> tuple[Vector, Vector]:
        """Mean and standard deviation (M,) of the response itself, without noise, at (M, F)."""
        spread = self.eigen + self.ratio
        weights = self.prior + self.unit**2 * (
            self.features.T @ (self.basis @ (self.residual / spread))
        )
        alike = self.basis.T @ (self.features @ features.T) * self.unit**2  # (N, M)
        left = (features**2).sum(1) * self.unit**2 - (alike**2 / spread[:, None]).sum(0)
        sigma = self.scale * np.sqrt(self.variance * np.maximum(left, 1e-12))
        return self.mean + self.scale * (features @ weights), sigma


class Inquisitor:
    """Answers how a point would do, from all that is known of the trained ones.

    Args:
        axes: the space.
        points: (N, P) of the trained.
        values: (N,) the response: the objective, less what is known of it before training.
        probes: (response share, cost share) of modules, read off trained networks.
        absolute: whether cost is known apart, so that a module's pull is its response alone.
    """

    def __init__(
        self, axes: Axes, points: Vector, values: Vector, probes: Sequence[Probe], absolute: bool
    ) -> None:
        self.axes = axes
        self.pulls = pulls(axes, probes, absolute)
        features = self._features(points)
        prior = np.zeros(features.shape[1])
        if np.any(self.pulls):
            prior[-1] = BELIEF[0] / self._spread(features.shape[1])
        self.model = Model(features, values, prior)

    def _features(self, points: Vector) -> Vector:
        """Features of points, the probes' column last: how far a point follows their advice."""
        features = self.axes.features(points)
        if not np.any(self.pulls):
            return features
        advice = ((points - 0.5) * math.sqrt(12)) @ self.pulls / np.linalg.norm(self.pulls)
        spread = self._spread(features.shape[1] + 1)
        return np.concatenate([features, spread * advice[:, None]], axis=1)

    @staticmethod
    def _spread(width: int) -> float:
        """How much wider the probes' column is than others, whose weights are small a priori."""
        return BELIEF[1] * math.sqrt(width)

    def predict(self, points: Vector) -> tuple[Vector, Vector]:
        """What is expected of points (M, P), and how far off that may be: both (M,)."""
        return self.model.predict(self._features(points))


def log_cdf(z: Vector) -> Vector:
    """Logarithm of the normal distribution's share below each of ``z``, exact far below too.

    >>> log_cdf(np.array([0.0, -40.0])).round(3).tolist()
    [-0.693, -804.608]
    """
    low = np.minimum(z, TAIL)
    tail = -(low**2) / 2 - np.log(-low * math.sqrt(2 * math.pi)) + np.log1p(-1 / low**2)
    found: Vector = np.where(z > TAIL, np.log(_cdf(np.maximum(z, TAIL))), tail)
    return found


def log_improvement(z: Vector) -> Vector:
    """Logarithm of the mean of max(0, z + e), where e is normal with variance 1.

    >>> log_improvement(np.array([0.0, -40.0])).round(3).tolist()
    [-0.919, -808.299]
    """
    near, low = np.maximum(z, TAIL), np.minimum(z, TAIL)
    density = np.exp(-(near**2) / 2) / math.sqrt(2 * math.pi)
    tail = -(low**2) / 2 - np.log(low**2 * math.sqrt(2 * math.pi)) + np.log1p(-3 / low**2)
    found: Vector = np.where(z > TAIL, np.log(density + near * _cdf(near)), tail)
    return found


def _cdf(z: Vector) -> Vector:
    return np.array([0.5 * math.erfc(-value / math.sqrt(2)) for value in z])


def pulls(axes: Axes, probes: Sequence[Probe], absolute: bool) -> Vector:
    """How strongly probes ask for each parameter to grow (above 0) or to shrink, (P,).

    A module's pull is the logarithm of its share of the response over its share of the cost
    (over an even share, where ``absolute``), averaged over the trained networks that had it, less
    the mean over modules.
    """
    found: dict[str, list[float]] = {}
    for probe in probes:
        for module, (response, cost) in probe.items():
            share = 1 / len(probe) if absolute else cost
            if response > 0 and share > 0:
                found.setdefault(module, []).append(math.log(response / share))
    means = {m: float(np.mean(v)) for m, v in found.items() if m in axes.modules}
    pull = np.zeros(len(axes.names))
    if len(means) < 2:
        return pull
    middle = float(np.mean(list(means.values())))
    for module, value in means.items():
        members = axes.modules[module]
        ordered = members[axes.ordered[members]]
        bounded = min(MOST_PULL, max(-MOST_PULL, value - middle))
        pull[ordered] = bounded / math.sqrt(max(1, len(ordered)))
    return pull
