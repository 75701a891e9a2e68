"""Real sensor frames, where they lie beside the project: loaders, training and scoring on them."""

from __future__ import annotations

from pathlib import Path

import pytest

from compress.data import open_data
from compress.space import load_space
from compress.train import evaluate, train

DATA = Path(__file__).parents[3] / "shared" / "data"


def real(name: str) -> str:
    folder = DATA / name.partition(":")[2]
    if not folder.is_dir():
        pytest.skip(f"the real frames {name} are not beside the project")
    return f"{name.partition(':')[0]}:{folder}"


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    out = tmp_path_factory.mktemp("real") / "kitchen.safetensors"
    genotype = load_space("depthnet-nano").reference("tiny")
    return train(genotype, real("folder:kitchen"), epochs=2, out=out, size=(48, 64))


def test_two_epochs_on_the_kitchen_learn_its_depth(trained):
    # The mean depth everywhere reaches about .3; two epochs at a quarter of the pixels, .6.
    assert trained.validation["delta1"] > 0.5
    assert trained.heldout["delta1"] > 0.4
    assert trained.heldout.protocol.images == 150


def test_streets_and_other_rooms_are_scored_under_their_own_protocols(trained):
    street = evaluate(trained.path, real("kitti:kitti"))
    assert (street.protocol.crop, street.protocol.cap_m) == ("garg", 80.0)
    assert street.protocol.images == 10
    assert 0 <= street["delta1"] <= 1
    rooms = evaluate(trained.path, real("folder:nyu_style"))
    assert rooms.protocol.images == 3


def test_a_data_set_without_training_frames_says_so(trained):
    assert open_data(real("folder:nyu_style")).train is None
