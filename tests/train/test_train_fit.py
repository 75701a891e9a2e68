"""Training: it learns, stops, goes on where it stopped, and says when it cannot."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from compress.data import Arrays, open_data, resized
from compress.data.augment import Augment
from compress.errors import CompressError
from compress.models import build
from compress.space import load_space
from compress.train import DivergedError, Recipe, StoppedError, Trainer
from compress.train.fit import centre

CAP_M = 10.0


@pytest.fixture(scope="module")
def arrays(tiny_folder) -> Arrays:
    return resized(open_data(f"folder:{tiny_folder}").train, (32, 48))


def make(tiny_space, arrays, **recipe) -> Trainer:
    model = build(load_space(tiny_space).sample(1), seed=0)
    centre(model, arrays, CAP_M)
    return Trainer(model, arrays, Recipe(**{"epochs": 4, "batch": 8} | recipe), CAP_M)


def weights(trainer: Trainer) -> list[torch.Tensor]:
    return [v.clone() for v in trainer.averaged.state_dict().values()]


def test_training_lowers_the_loss_and_reports_each_epoch(tiny_space, arrays):
    seen = []
    trainer = make(tiny_space, arrays, epochs=8)
    trainer.run(on_epoch=seen.append)
    assert [e.number for e in seen] == list(range(1, 9))
    assert seen[-1].loss < 0.6 * seen[0].loss
    assert all(e.images_per_s > 0 and e.of == 8 for e in seen)


def test_same_seed_same_weights_other_seed_others(tiny_space, arrays):
    runs = []
    for seed in (0, 0, 1):
        trainer = make(tiny_space, arrays, epochs=2, seed=seed)
        trainer.run()
        runs.append(weights(trainer))
    assert all(torch.equal(a, b) for a, b in zip(runs[0], runs[1], strict=True))
    assert any(not torch.equal(a, b) for a, b in zip(runs[0], runs[2], strict=True))


def test_a_share_of_the_rate_is_one_parameters_own(tiny_space, arrays):
    def moved(share: float | None) -> list[float]:
        model = build(load_space(tiny_space).sample(1), seed=0)
        centre(model, arrays, CAP_M)
        first, *others = model.parameters()
        before = [first.detach().clone(), others[0].detach().clone()]
        shares = {} if share is None else {first: share}
        recipe = Recipe(epochs=1, batch=8, weight_decay=0.0)
        Trainer(model, arrays, recipe, CAP_M, shares=shares).run()
        return [
            float((now.detach() - was).abs().mean())
            for now, was in zip((first, others[0]), before, strict=True)
        ]

    whole, tenth, none = moved(None), moved(0.1), moved(0.0)
    assert none[0] == 0 < tenth[0] < 0.3 * whole[0]
    assert min(whole[1], tenth[1], none[1]) > 0


@pytest.mark.parametrize("after", [1, 3])
def test_a_run_that_was_stopped_ends_with_the_weights_of_one_that_was_not(
    tiny_space, arrays, tmp_path, after
):
    whole = make(tiny_space, arrays)
    whole.run()
    first = make(tiny_space, arrays)
    first.run(after)
    first.save_state(tmp_path / "state.pt")
    second = make(tiny_space, arrays)
    assert second.load_state(tmp_path / "state.pt")
    assert second.epoch == after
    second.run()
    assert all(torch.equal(a, b) for a, b in zip(weights(whole), weights(second), strict=True))


def test_stopping_within_an_epoch_leaves_the_state_of_the_last_one(tiny_space, arrays, tmp_path):
    path = tmp_path / "state.pt"
    trainer = make(tiny_space, arrays)
    steps = iter(range(100))
    with pytest.raises(StoppedError):
        trainer.run(
            on_epoch=lambda _: trainer.save_state(path), should_stop=lambda: next(steps) >= 7
        )
    again = make(tiny_space, arrays)
    assert again.load_state(path)
    assert again.epoch == 1  # five steps make an epoch of 40 images in batches of 8
    again.run()
    whole = make(tiny_space, arrays)
    whole.run()
    assert all(torch.equal(a, b) for a, b in zip(weights(whole), weights(again), strict=True))


@pytest.mark.parametrize("content", [b"", b"not a checkpoint", b"PK\x03\x04torn"])
def test_a_torn_state_is_not_loaded(tiny_space, arrays, tmp_path, content):
    path = tmp_path / "state.pt"
    path.write_bytes(content)
    assert not make(tiny_space, arrays).load_state(path)
    assert not make(tiny_space, arrays).load_state(tmp_path / "missing.pt")


def test_the_state_of_another_recipe_is_not_loaded(tiny_space, arrays, tmp_path):
    trainer = make(tiny_space, arrays)
    trainer.run(1)
    trainer.save_state(tmp_path / "state.pt")
    assert not make(tiny_space, arrays, lr=1e-4).load_state(tmp_path / "state.pt")


def test_divergence_is_said(tiny_space, arrays):
    trainer = make(tiny_space, arrays)
    with torch.no_grad():
        trainer.model.head.bias.fill_(math.nan)
    with pytest.raises(DivergedError, match=r"diverged in epoch 1"):
        trainer.run()


def test_frames_without_depth_in_range_are_said_before_training(tiny_space, arrays):
    empty = Arrays(arrays.rgb, np.zeros_like(arrays.depth_m), arrays.names)
    with pytest.raises(CompressError, match="depth-scale"):
        centre(build(load_space(tiny_space).sample(0)), empty, CAP_M)


def test_images_without_any_depth_do_no_harm(tiny_space, arrays):
    depth_m = np.array(arrays.depth_m)
    depth_m[::2] = 0
    trainer = make(tiny_space, Arrays(arrays.rgb, depth_m, arrays.names), batch=1, epochs=1)
    trainer.run()
    assert all(torch.isfinite(v).all() for v in weights(trainer))


@pytest.mark.parametrize(
    ("field", "value"),
    [("epochs", 0), ("epochs", 2.5), ("lr", 0), ("lr", math.nan), ("batch", -1), ("ema", 1.0)],
)
def test_a_wrong_recipe_gives_value_and_range(field, value):
    with pytest.raises(CompressError, match=rf"{field} = .*: give a"):
        Recipe(**{field: value})


def test_wrong_names_in_a_recipe_offer_the_nearest():
    with pytest.raises(CompressError, match="did you mean berhu"):
        Recipe(loss="berhoo")
    with pytest.raises(CompressError, match="did you mean epochs"):
        Recipe.from_dict({"epoch": 3})
    with pytest.raises(CompressError, match="zoom = 2"):
        Recipe.from_dict({"augment": {"zoom": 2}})


def test_recipe_round_trip():
    recipe = Recipe(epochs=3, augment=Augment(zoom=0.8))
    assert Recipe.from_dict(recipe.to_dict()) == recipe


class TestAugment:
    """Views keep depth metric."""

    def test_zoom_on_a_fronto_parallel_wall_scales_its_depth(self):
        # A wall at 4 m seen through a window of share s looks like one at s * 4 m.
        image = torch.zeros(64, 3, 16, 24)
        depth_m = torch.full((64, 1, 16, 24), 4.0)
        view = Augment(flip=0, zoom=0.5, brightness=0, colour=0)
        _, zoomed = view(image, depth_m, torch.Generator().manual_seed(0))
        shares = zoomed[:, 0, 0, 0] / 4
        assert (zoomed == zoomed[:, :, :1, :1]).all()
        assert shares.min() > 0.5
        assert shares.max() < 1
        assert shares.std() > 0.1

    def test_zoom_magnifies_by_the_inverse_of_the_depth_factor(self):
        # Size over depth is what the camera sees: pixels of a square grow as its depth shrinks.
        image = torch.zeros(32, 3, 96, 96)
        depth_m = torch.full((32, 1, 96, 96), 2.0)
        image[:, :, 40:56, 40:56] = 1.0
        depth_m[:, :, 40:56, 40:56] = 1.0
        view = Augment(flip=0, zoom=0.7, brightness=0, colour=0)
        _, out = view(image, depth_m, torch.Generator().manual_seed(1))
        for one in out[:, 0]:
            share = float(one.max()) / 2
            width = float((one < 1.5 * share).sum()) ** 0.5
            assert width == pytest.approx(16 / share, abs=1.5)

    def test_flip_mirrors_image_and_depth_together(self):
        image = torch.rand(1, 3, 8, 12)
        depth_m = torch.rand(1, 1, 8, 12) + 1
        view = Augment(flip=1.0, zoom=1.0, brightness=0, colour=0)
        flipped, mirrored = view(image, depth_m, torch.Generator().manual_seed(0))
        torch.testing.assert_close(flipped, image.flip(-1), atol=1e-5, rtol=0)
        torch.testing.assert_close(mirrored, depth_m.flip(-1))

    @settings(max_examples=25)
    @given(
        seed=st.integers(0, 2**31),
        zoom=st.floats(0.2, 1),
        rotation=st.floats(0, 45),
        height=st.integers(8, 40),
        width=st.integers(8, 40),
    )
    def test_no_depth_is_invented(self, seed, zoom, rotation, height, width):
        generator = torch.Generator().manual_seed(seed)
        depth_m = torch.randint(1, 5, (2, 1, height, width), generator=generator).float()
        depth_m[torch.rand(depth_m.shape, generator=generator) < 0.3] = 0
        view = Augment(zoom=zoom, rotation_deg=rotation)
        image, out = view(torch.zeros(2, 3, height, width), depth_m, generator)
        assert image.shape == (2, 3, height, width)
        for before, after in zip(depth_m, out, strict=True):
            shares = after[after > 0] / zoom
            assert (after >= 0).all()
            if len(shares):
                # Each value is one of the image's own times one common share.
                best = min(
                    float(
                        (after[after > 0][:, None] / share - before.unique()[None])
                        .abs()
                        .amin(1)
                        .max()
                    )
                    for share in (after.max() / v for v in before.unique() if v > 0)
                )
                assert best < 1e-4

    @pytest.mark.parametrize("wrong", [{"zoom": 0.0}, {"zoom": 1.5}, {"flip": -1}, {"colour": 2}])
    def test_wrong_settings_are_named(self, wrong):
        with pytest.raises(CompressError, match=next(iter(wrong))):
            Augment(**wrong)


def test_threads_follow_the_size_of_the_network_and_are_given_back():
    from compress.train.device import MACS_PER_THREAD, threads_for

    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        for macs, wanted in ((1, 1), (MACS_PER_THREAD, 1), (2 * MACS_PER_THREAD, 2), (10**12, 2)):
            with threads_for(macs) as chosen:
                assert chosen == torch.get_num_threads() == wanted
            assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
