"""By how many channels latency rises, on made-up staircases and on a real backend."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from compress.cost.steps import STEPS, WIDTHS, measure_step, step_of


@given(
    step=st.sampled_from((8, 16, 32)),
    base=st.floats(0.1, 5),
    rise=st.floats(0.02, 0.5),
    seed=st.integers(0, 100),
)
def test_finds_the_staircase_under_noise(step, base, rise, seed):
    noise = np.random.default_rng(seed).normal(0, 0.1 * rise * step / 16, len(WIDTHS))
    taken = {
        w: base + rise * step / 16 * -(-w // step) + e for w, e in zip(WIDTHS, noise, strict=True)
    }
    assert step_of(WIDTHS, taken) == step


@given(rise=st.floats(0.001, 0.5), seed=st.integers(0, 100))
def test_a_smooth_rise_has_no_steps(rise, seed):
    noise = np.random.default_rng(seed).normal(0, rise, len(WIDTHS))
    assert step_of(WIDTHS, {w: rise * w + e for w, e in zip(WIDTHS, noise, strict=True)}) == 4


@pytest.mark.parametrize("backend", ["onnxruntime", "torch"])
def test_measures_on_a_backend(backend):
    assert measure_step(backend, seconds=0.01) in STEPS
