"""Generative synthesis: Optuna's conformance suite, determinism, and what it learns from."""

from __future__ import annotations

import optuna
import pytest
from optuna.testing.pytest_samplers import (
    BasicSamplerTestCase,
    RelativeSamplerTestCase,
    SingleOnlySamplerTestCase,
)

from compress.search.gensynth import GenerativeSynthesisSampler

optuna.logging.set_verbosity(optuna.logging.ERROR)

VARIANTS = {
    "whole": {},
    "without inquisitor": {"inquisitor": False},
    "without seeds": {"seeds": False},
}


class TestConformance(BasicSamplerTestCase, RelativeSamplerTestCase, SingleOnlySamplerTestCase):
    """Optuna's own suite."""

    @pytest.fixture(params=VARIANTS)
    def sampler(self, request):
        return lambda: GenerativeSynthesisSampler(seed=0, startup=0, **VARIANTS[request.param])
