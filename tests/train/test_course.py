"""Stages of a training: less or smaller data first, one schedule over all of it."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from compress.data import Arrays, open_data, resized
from compress.models import build
from compress.space import load_space
from compress.train import Recipe, Trainer
from compress.train.course import Course, Stage, spread

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def frames(tiny_folder):
    return open_data(f"folder:{tiny_folder}").train


def numbered(count: int) -> Arrays:
    """Frames whose depth is their number."""
    depth_m = np.arange(count, dtype=np.float32)[:, None, None] * np.ones((1, 2, 2), np.float32)
    return Arrays(np.zeros((count, 2, 2, 3), np.uint8), depth_m, tuple(map(str, range(count))))


@given(st.integers(1, 300), st.floats(0.01, 1), st.integers(1, 40), st.integers(0, 3))
def test_a_share_is_spread_evenly_and_always_the_same(frames, share, least, seed):
    found = spread(frames, share, least, seed)
    assert len(found) == min(frames, max(1, least, round(share * frames)))
    assert (np.diff(found) > 0).all() and found[0] >= 0 and found[-1] < frames
    # No stretch of the data is left out: each has its frame.
    assert (
        np.abs(found - np.linspace(0, frames, len(found) + 1)[:-1]).max() <= frames / len(found) + 1
    )
    assert (spread(frames, share, least, seed) == found).all()


@given(
    st.integers(1, 30), st.integers(1, 9), st.lists(st.integers(1, 3), min_size=1, max_size=4),
    st.randoms(use_true_random=False),
)  # fmt: skip
def test_each_epoch_sees_its_stages_frames_and_no_others(count, batch, lengths, chance):
    data, untils = numbered(count), list(itertools.accumulate(lengths))
    chosen = [sorted(chance.sample(range(count), chance.randint(1, count))) for _ in untils[:-1]]
    stages = [
        Stage(until, data, np.array(index, np.int64))
        for until, index in zip(untils, chosen, strict=False)
    ]
    course = Course(data, stages, untils[-1], batch, CPU)
    steps = 0
    for epoch in range(untils[-1]):
        at = next(i for i, until in enumerate(untils) if epoch < until)
        allowed = [*chosen, range(count)][at]
        feed = course.feed(epoch)
        seen = [
            int(d)
            for b in feed.epoch(torch.Generator().manual_seed(0))
            for d in b.depth_m[:, 0, 0, 0]
        ]
        assert len(seen) == len(set(seen)) and set(seen) <= set(allowed)
        assert len(seen) > len(allowed) - batch  # all but an incomplete batch
        for step in range(feed.steps):
            assert course.passed(steps + step + 1) == pytest.approx(epoch + (step + 1) / feed.steps)
        steps += feed.steps
        assert course.ends[epoch] == steps


def staged(tiny_space, frames, kind: str, **recipe) -> Trainer:
    full = resized(frames, (32, 48))
    stages = {
        "none": [],
        "size": [Stage(2, resized(frames, (16, 24)))],
        "share": [
            Stage(until, full, spread(len(full), share, 8))
            for until, share in ((1, 0.25), (2, 0.5))
        ],
    }[kind]
    model = build(load_space(tiny_space).sample(1), seed=0)
    chosen = Recipe(**{"epochs": 4, "batch": 8} | recipe)
    return Trainer(model, full, chosen, 10.0, CPU, stages=stages)


def weights(trainer: Trainer) -> list[torch.Tensor]:
    return [v.clone() for v in trainer.averaged.state_dict().values()]


@pytest.mark.parametrize("after", [1, 2, 3])
@pytest.mark.parametrize("kind", ["size", "share"])
@pytest.mark.parametrize("schedule", ["onecycle", "step"])
def test_stopped_within_any_stage_it_ends_with_the_same_weights(
    tiny_space, frames, tmp_path, kind, after, schedule
):
    more = {"schedule": schedule, "step_epochs": 2}
    whole = staged(tiny_space, frames, kind, **more)
    whole.run()
    first = staged(tiny_space, frames, kind, **more)
    first.run(after)
    first.save_state(tmp_path / "state.pt")
    second = staged(tiny_space, frames, kind, **more)
    assert second.load_state(tmp_path / "state.pt")
    second.run()
    assert all(torch.equal(a, b) for a, b in zip(weights(whole), weights(second), strict=True))


def test_a_state_of_other_stages_is_not_loaded(tiny_space, frames, tmp_path):
    trainer = staged(tiny_space, frames, "size")
    trainer.run(1)
    trainer.save_state(tmp_path / "state.pt")
    assert not staged(tiny_space, frames, "share").load_state(tmp_path / "state.pt")
    assert not staged(tiny_space, frames, "none").load_state(tmp_path / "state.pt")


@pytest.mark.parametrize(("kind", "steps"), [("none", 20), ("size", 20), ("share", 13)])
def test_the_schedule_ends_with_the_last_step(tiny_space, frames, kind, steps):
    # 40 images in batches of 8; a quarter of them is one batch, half are two.
    trainer = staged(tiny_space, frames, kind)
    seen = []
    trainer.run(on_epoch=lambda e: seen.append(round(e.images_per_s * e.seconds)))
    assert trainer.step == steps
    assert seen == {"share": [8, 16, 40, 40]}.get(kind, [40] * 4)
    rate = trainer._optimiser.param_groups[0]["lr"]
    assert rate < 1e-4 * trainer.recipe.lr  # where a cycle over so many steps ends


def test_rates_fall_at_the_ends_of_epochs_however_long_these_are(tiny_space, frames):
    trainer = staged(tiny_space, frames, "share", schedule="step", step_epochs=2, step_factor=0.5)
    rates = []
    trainer.run(on_epoch=lambda _: rates.append(trainer._optimiser.param_groups[0]["lr"]))
    lr = trainer.recipe.lr
    assert rates == pytest.approx([lr, lr / 2, lr / 2, lr / 2])  # the run's last step moves nothing
