"""Depth and classes together, networks that detach, encoders that bring weights along."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from compress.data import open_data, resized
from compress.data.scenes import SCENE_CLASSES, open_scenes
from compress.errors import CompressError
from compress.models import build, load
from compress.space import Genotype, parse_reference
from compress.train import Recipe, Trainer, evaluate, train
from compress.train.fit import centre
from compress.train.label import make_labels

SIZE = (48, 64)
WEIGHTS = Path(__file__).parents[2].parent / "shared/weights/mobilenetv2_100_imagenet.safetensors"


@pytest.fixture(scope="module")
def scenes():
    return open_scenes("indoor", train=48, heldout=8, size=SIZE, labels=True)


def network(**spec) -> Genotype:
    genotype = parse_reference("light-shuffle@small")
    return replace(genotype, spec={**genotype.spec, **spec}, size=SIZE)


@pytest.fixture(scope="module")
def joint(scenes, tmp_path_factory):
    out = tmp_path_factory.mktemp("joint") / "joint.safetensors"
    genotype = network(segmentation=len(SCENE_CLASSES), decoders=3)
    return train(genotype, scenes, out=out, size=SIZE, recipe={"batch": 8, "lr": 6e-3}, epochs=8)


def test_both_are_learnt_and_scored(joint, scenes):
    assert joint.model.info["recipe"]["terms"] == {}
    held = joint.heldout.metrics
    sizes = np.bincount(np.concatenate([s.labels.ravel() for s in scenes.heldout]), minlength=19)
    assert held["pixel_accuracy"] > 1.1 * sizes.max() / sizes.sum()  # of the commonest class
    assert 0 < held["mean_iou"] < 1 and held["delta1"] > 0.2
    again = evaluate(joint.path, scenes)
    assert again.metrics == pytest.approx(held, rel=1e-6)


def test_smaller_networks_are_written_beside(joint, scenes):
    assert set(joint.detached) == {"s", "xs"}
    for name, part in joint.detached.items():
        assert part.path == joint.path.with_name(f"joint-{name}.safetensors")
        model = load(part.path)
        assert model.genotype.spec["decoders"] == {"s": 2, "xs": 1}[name]
        assert model.info["params"] == sum(p.numel() for p in model.parameters())
        assert model.info["heldout"]["delta1"] == part.heldout["delta1"]
    params = [
        sum(p.numel() for p in m.model.parameters()) for m in (joint, *joint.detached.values())
    ]
    assert params == sorted(params, reverse=True)


def test_segmentation_needs_class_maps(scenes, tiny_folder):
    arrays = resized(open_data(f"folder:{tiny_folder}").train, (32, 48))
    with pytest.raises(CompressError, match="needs class maps"):
        Trainer(build(network(segmentation=5)), arrays, Recipe(), 10.0)
    with pytest.raises(CompressError):
        train(network(segmentation=5), f"folder:{tiny_folder}", size=(32, 48))


def test_a_joint_network_makes_class_maps_for_others(joint, tiny_folder, tmp_path):
    images = tmp_path / "images"
    images.mkdir()
    for file in sorted(tiny_folder.glob("00?.png")):
        (images / file.name).write_bytes(file.read_bytes())
    made = make_labels(images, tmp_path / "out", teacher=joint.path, segmenter=joint.path)
    assert made["train"] == 9
    data = open_data(f"folder:{tmp_path / 'out'}", labels=True)
    labels = data.train[0].labels
    assert labels.shape == (32, 48) and labels.max() < len(SCENE_CLASSES)
    with Image.open(next((tmp_path / "out/labels").iterdir())) as image:
        assert image.mode == "L"


def test_intermediate_heads_change_what_is_learnt_and_are_gone_afterwards(scenes):
    genotype = parse_reference("sparse-mobile@small")
    assert genotype.spec["auxiliary"] != "none"
    arrays = resized(scenes.train, SIZE)
    trainers = []
    for share in (0.5, 0.0):
        model = build(replace(genotype, size=SIZE), seed=0)
        trainers.append(Trainer(model, arrays, Recipe(epochs=1, batch=8, auxiliary=share), 10.0))
        trainers[-1].run()
    with_heads, without = trainers
    assert len(with_heads.averaged.auxiliary) > 0 and len(without.averaged.auxiliary) == 0
    with_heads.averaged.drop_auxiliary()
    first, second = (t.averaged.state_dict() for t in trainers)
    assert first.keys() == second.keys()
    assert any(not torch.equal(first[k], second[k]) for k in first)


class TestEncoders:
    @pytest.fixture
    def model(self):
        genotype = parse_reference("sparse-mobile@small")
        return build(replace(genotype, size=SIZE), seed=0)

    def test_a_frozen_encoder_stays_as_it_is_and_then_moves(self, model, scenes):
        arrays = resized(scenes.train, SIZE)
        centre(model, arrays, 10.0)
        before = {k: v.clone() for k, v in model.pretrained.state_dict().items()}
        trainer = Trainer(model, arrays, Recipe(epochs=3, batch=8, encoder_frozen=2), 10.0)
        trainer.run(2)
        after = model.pretrained.state_dict()
        assert all(torch.equal(before[k], after[k]) for k in before)
        trainer.run(3)
        after = model.pretrained.state_dict()
        assert not all(torch.equal(before[k], after[k]) for k in before)

    def test_an_encoders_rate_is_its_own(self, model, scenes):
        arrays = resized(scenes.train, SIZE)
        recipe = Recipe(epochs=1, batch=8, encoder_lr=0.0, weight_decay=0.0)
        before = [p.clone() for p in model.pretrained.parameters()]
        head = model.head.conv.weight.clone()
        Trainer(model, arrays, recipe, 10.0).run()
        assert all(
            torch.equal(a, b) for a, b in zip(before, model.pretrained.parameters(), strict=True)
        )
        assert not torch.equal(head, model.head.conv.weight)

    @pytest.mark.skipif(
        not WEIGHTS.exists(), reason="the encoder weights are not beside the project"
    )
    def test_real_weights_are_read_before_training(self, scenes):
        genotype = replace(parse_reference("sparse-mobile@paper"), size=SIZE)
        done = train(
            genotype, scenes, size=SIZE, encoder_weights=WEIGHTS, recipe={"encoder_frozen": 1},
            epochs=1,
        )  # fmt: skip
        assert WEIGHTS.name in done.model.info["encoder_weights"]
        from safetensors.torch import load_file

        held = load_file(WEIGHTS)["conv_stem.weight"].float()
        assert torch.equal(done.model.pretrained.state_dict()["conv_stem.weight"], held)

    def test_weights_that_do_not_fit_are_listed(self, tmp_path, scenes):
        from safetensors.torch import save_file

        path = tmp_path / "other.safetensors"
        save_file({"conv_stem.weight": torch.zeros(7, 3, 3, 3)}, path)
        with pytest.raises(CompressError, match=r"conv_stem\.weight"):
            train(parse_reference("sparse-mobile@small"), scenes, size=SIZE, encoder_weights=path)
