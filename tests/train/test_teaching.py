"""Learning from a teacher, from other networks' weights, and by several terms at once."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from compress.data import Arrays, open_data, resized
from compress.errors import CompressError
from compress.models import DepthNet, build, load, normalised, save, take_weights
from compress.space import load_space
from compress.train import Recipe, Trainer, train
from compress.train.fit import centre
from compress.train.label import make_labels
from compress.train.teacher import Compensation, Teacher

CAP_M = 10.0


@pytest.fixture(scope="module")
def arrays(tiny_folder) -> Arrays:
    return resized(open_data(f"folder:{tiny_folder}").train, (32, 48))


@pytest.fixture(scope="module")
def teacher(tiny_space, tiny_folder, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("teacher") / "teacher.safetensors"
    genotype = load_space(tiny_space).sample(2)
    train(
        genotype, f"folder:{tiny_folder}", out=path, size=(32, 48), epochs=12, recipe={"batch": 8}
    )
    return path


def student(tiny_space, arrays) -> DepthNet:
    model = build(load_space(tiny_space).sample(1), seed=0)
    centre(model, arrays, CAP_M)
    return model


def taught(tiny_space, arrays, teacher, **recipe) -> Trainer:
    chosen = Recipe(**{"epochs": 4, "batch": 8} | recipe)
    model = student(tiny_space, arrays)
    return Trainer(model, arrays, chosen, CAP_M, teacher=Teacher(load(teacher)))


class TestCompensation:
    def test_a_known_bias_is_found_and_taken_out(self):
        rng = np.random.default_rng(0)
        true = rng.uniform(1, 40, 40_000).astype(np.float32)
        said = (true + 0.05 * true**1.3).astype(np.float32)  # too far, and more so far away
        table = Compensation.fit(said, true)
        fixed = table(said)
        for low, high in ((1, 5), (5, 15), (15, 40)):
            inside = (true > low) & (true < high)
            before = (said - true)[inside].mean()
            assert abs((fixed - true)[inside].mean()) < 0.1 * before

    def test_by_hand(self):
        true = np.repeat([1.0, 4.0], 60)
        table = Compensation.fit(true + np.repeat([0.5, -1.0], 60), true, bins=2)
        assert table.depth_m == pytest.approx((1.5, 3.0))
        assert table.error_m == pytest.approx((0.5, -1.0))
        assert table(np.array([1.5, 2.25, 3.0, 9.0], np.float32)).tolist() == pytest.approx(
            [1.0, 2.5, 4.0, 10.0]
        )

    def test_pixels_without_truth_are_left_out_and_too_few_are_said(self):
        true = np.concatenate([np.full(100, 2.0), np.zeros(50), np.full(50, np.nan)])
        table = Compensation.fit(np.full(200, 3.0), true)
        assert table.error_m == pytest.approx((1.0,))
        with pytest.raises(CompressError, match="3 pixels with truth are too few"):
            Compensation.fit(np.ones(3), np.ones(3))

    @given(st.floats(0.01, 80), st.floats(-200, 200))
    def test_depth_stays_above_0(self, depth_m, error_m):
        table = Compensation((1.0,), (error_m,))
        assert table(np.array([depth_m], np.float32))[0] > 0


def test_a_teacher_sees_images_at_its_own_size(teacher):
    model = load(teacher)
    rgb = torch.randint(0, 256, (2, 3, 64, 96), dtype=torch.uint8)
    out = Teacher(model)(normalised(rgb))
    assert out.depth_m.shape == (2, 1, 64, 96)
    assert not out.depth_m.requires_grad
    assert (
        out.features.shape[-2:]
        == Teacher(model)(normalised(rgb[..., :32, :48])).features.shape[-2:]
    )


def test_a_student_without_truth_comes_near_its_teacher(tiny_space, arrays, teacher):
    def distance(model: DepthNet) -> float:
        image = normalised(torch.from_numpy(arrays.rgb[:16].copy()).permute(0, 3, 1, 2))
        with torch.no_grad():
            return float(
                (model.eval()(image).log() - Teacher(load(teacher))(image).depth_m.log())
                .abs()
                .mean()
            )

    trainer = taught(tiny_space, arrays, teacher, epochs=10, terms={"depth": 0})
    before = distance(student(tiny_space, arrays))
    trainer.run()
    assert set(trainer.objective.weights) == {"pixel", "pairwise"}
    assert distance(trainer.averaged) < 0.5 * before


@pytest.mark.parametrize(
    "recipe",
    [
        {"terms": {"adversarial": 0.1}},
        {"rebalance": "hard-to-easy"},
        {"rebalance": "easy-to-hard", "rebalances": 1},
    ],
)
def test_stopping_and_going_on_changes_nothing(tiny_space, arrays, teacher, tmp_path, recipe):
    whole = taught(tiny_space, arrays, teacher, **recipe)
    whole.run()
    first = taught(tiny_space, arrays, teacher, **recipe)
    first.run(2)
    first.save_state(tmp_path / "state.pt")
    second = taught(tiny_space, arrays, teacher, **recipe)
    assert second.load_state(tmp_path / "state.pt")
    second.run()
    assert whole.objective.weights == second.objective.weights
    pairs = zip(
        whole.averaged.state_dict().values(), second.averaged.state_dict().values(), strict=True
    )
    assert all(torch.equal(a, b) for a, b in pairs)


def test_rebalancing_moves_the_weights_and_reports_the_terms(tiny_space, arrays, teacher):
    seen = []
    trainer = taught(tiny_space, arrays, teacher, rebalance="hard-to-easy")
    assert trainer.objective.weights == pytest.approx(
        {"depth": 1 / 3, "pixel": 1 / 3, "pairwise": 1 / 3}
    )
    trainer.run(on_epoch=seen.append)
    assert len(set(trainer.objective.weights.values())) == 3
    assert set(seen[-1].terms) == {"depth", "pixel", "pairwise"}


@pytest.mark.parametrize(
    ("terms", "said"),
    [
        ({"pixel": 1}, "'pixel' needs a teacher"),
        ({"segmentation": 1}, "'segmentation' needs a network with a segmentation head"),
        ({"depth": 0}, "every term of the loss weighs 0"),
    ],
)
def test_terms_that_nothing_can_give_are_said(tiny_space, arrays, terms, said):
    with pytest.raises(CompressError, match=said):
        Trainer(student(tiny_space, arrays), arrays, Recipe(terms=terms), CAP_M)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"terms": {"detph": 1}}, "did you mean depth"),
        ({"terms": {"depth": -1}}, "depth = -1: give a number"),
        ({"rebalance": "hard"}, "hard-to-easy"),
        ({"optimiser": "adamax"}, "adam"),
        ({"schedule": "cosine"}, "onecycle"),
        ({"encoder_frozen": 1.5}, "encoder_frozen = 1.5: give a whole number"),
    ],
)
def test_wrong_words_in_a_recipe(wrong, said):
    with pytest.raises(CompressError, match=said):
        Recipe.from_dict(wrong)


@pytest.mark.parametrize("schedule", ["onecycle", "constant", "step", "poly"])
@pytest.mark.parametrize("optimiser", ["adamw", "adam", "sgd"])
def test_every_optimiser_and_schedule_trains(tiny_space, arrays, optimiser, schedule):
    losses = []
    recipe = Recipe(
        epochs=4, batch=8, lr=3e-3, optimiser=optimiser, schedule=schedule, step_epochs=2
    )
    trainer = Trainer(student(tiny_space, arrays), arrays, recipe, CAP_M)
    trainer.run(on_epoch=lambda epoch: losses.append(epoch.loss))
    assert losses[-1] < losses[0]


class TestInit:
    def test_weights_that_fit_are_taken(self, tiny_space, teacher):
        source = load(teacher)
        same = build(source.genotype, seed=5)
        assert take_weights(same, source) == {"taken": len(source.state_dict()), "left": 0}
        assert all(
            torch.equal(a, b)
            for a, b in zip(same.state_dict().values(), source.state_dict().values(), strict=True)
        )

    def test_training_goes_on_over_another_data_set(
        self, tiny_space, tiny_folder, teacher, tmp_path
    ):
        genotype = load(teacher).genotype
        done = train(
            genotype, f"folder:{tiny_folder}", out=tmp_path / "b.safetensors", size=(32, 48),
            init=teacher, recipe={"batch": 8, "lr": 1e-6}, epochs=1,
        )  # fmt: skip
        assert done.model.info["init"]["left"] == 0
        before = load(teacher).info["heldout"]["delta1"]
        assert done.heldout["delta1"] == pytest.approx(before, abs=0.05)

    def test_a_trained_model_has_its_own(self, tiny_folder, teacher):
        with pytest.raises(CompressError, match="starts from its own weights"):
            train(teacher, f"folder:{tiny_folder}", init=teacher)

    def test_networks_with_nothing_in_common(self, tiny_space, teacher):
        genotype = load(teacher).genotype
        spec = {**genotype.spec, "stem": 31, "decoder": [[33, 35], [37, 39]]}
        spec["stages"] = [{**s, "widths": [w + 17 for w in s["widths"]], "projection": 3.0,
                           "transition": s["transition"] + 13} for s in spec["stages"]]  # fmt: skip
        other = build(type(genotype)(genotype.family, spec, genotype.size))
        with pytest.raises(CompressError, match="none of the weights of"):
            take_weights(other, load(teacher))


def test_labels_made_by_a_teacher_are_a_data_set(tiny_folder, teacher, tmp_path):
    images = tmp_path / "my images"
    images.mkdir()
    for file in sorted(tiny_folder.glob("00?.png")):
        (images / f"a {file.name}").write_bytes(file.read_bytes())
    kwargs = {"teacher": teacher, "calibrate": f"folder:{tiny_folder}", "heldout": 0.2}
    made = make_labels(images, tmp_path / "out", **kwargs)
    assert (made["train"], made["heldout"]) == (8, 2)
    assert made["compensated"]
    data = open_data(f"folder:{tmp_path / 'out'}")
    assert len(data.train) == 8 and len(data.heldout) == 2
    truth = open_data(f"folder:{tiny_folder}").train[0].depth_m
    labelled = data.train[0].depth_m
    valid = truth > 0
    assert np.abs(np.log(labelled[valid] / truth[valid])).mean() < 0.2
    # Again: nothing is made anew, and what a killed run left out is.
    stamps = {f: f.stat().st_mtime_ns for f in (tmp_path / "out" / "depth").iterdir()}
    gone = next(iter(stamps))
    gone.unlink()
    make_labels(images, tmp_path / "out", **kwargs)
    assert gone.exists()
    assert all(f.stat().st_mtime_ns == s for f, s in stamps.items() if f != gone)


def test_labels_need_images_and_a_segmentation_head(teacher, tmp_path, tiny_folder):
    with pytest.raises(CompressError, match="is no folder of images"):
        make_labels(tmp_path / "none", tmp_path / "out", teacher=teacher)
    (tmp_path / "empty").mkdir()
    with pytest.raises(CompressError, match="found 0 images"):
        make_labels(tmp_path / "empty", tmp_path / "out", teacher=teacher)
    with pytest.raises(CompressError, match="no segmentation head"):
        make_labels(tiny_folder, tmp_path / "out", teacher=teacher, segmenter=teacher)


def test_saved_networks_have_no_heads_of_training(tiny_space, arrays, tmp_path):
    model = student(tiny_space, arrays)
    model.auxiliary["1"] = torch.nn.Conv2d(4, 1, 1)
    assert not [k for k in load(save(model, tmp_path / "m.safetensors")).state_dict() if "aux" in k]
