from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from compress.data import Frames, Sample
from compress.errors import CompressError
from compress.models import build
from compress.report.samples import MOST_BYTES, write_samples
from compress.space import load_space

CAP_M = 10.0


class Noise(Frames):
    """Frames that compress badly; the top has no truth, the bottom is too far."""

    def __init__(self, count: int, size: tuple[int, int] = (60, 80), valid: bool = True) -> None:
        self.count, self.size, self.valid = count, size, valid

    @property
    def names(self):
        return [f"noise-{i}" for i in range(self.count)]

    def __getitem__(self, index: int) -> Sample:
        rng = np.random.default_rng(index)
        rgb = rng.integers(0, 256, (*self.size, 3), dtype=np.uint8)
        depth_m = rng.uniform(1, 9, self.size).astype(np.float32) * self.valid
        depth_m[: self.size[0] // 3] = 0
        depth_m[-(self.size[0] // 10) :] = 50.0
        return Sample(rgb, depth_m, self.names[index])


@pytest.fixture(scope="module")
def model(tiny_space):
    space = load_space(str(tiny_space))
    return build(replace(space.smallest, size=(32, 48)), seed=0)


@pytest.mark.parametrize("size", [(60, 80), (375, 1242)])
def test_picture_is_readable_and_small(tmp_path, model, size):
    path = write_samples(model, Noise(9, size), tmp_path, cap_m=CAP_M)
    assert path == tmp_path / "samples.png" and path.stat().st_size < MOST_BYTES
    with Image.open(path) as image:
        image.load()
        assert image.format == "PNG" and image.width == 1000
        rows = round(240 * size[0] / size[1]) + 8
        assert image.height == pytest.approx(26 + 4 * rows + 58, abs=6)
        pixels = np.asarray(image.convert("RGB")).astype(int)
    # No truth: neutral grey in the truth and error columns, at the top and in the last rows.
    first = 26 + 4
    for x in (256 + 120, 752 + 120):
        assert np.abs(pixels[first, x] - 0x9A).max() <= 3
        assert np.abs(pixels[26 + rows - 8 - 2, x] - 0x9A).max() <= 3
    assert np.ptp(pixels[first, 504 + 120]) > 10  # predictions are everywhere
    assert [p.name for p in tmp_path.iterdir()] == ["samples.png"]


def test_fewer_frames_than_asked_for(tmp_path, model):
    one = write_samples(model, Noise(1), tmp_path, 4, cap_m=CAP_M)
    with Image.open(one) as image:
        height = image.height
    two = write_samples(model, Noise(2), tmp_path, 4, cap_m=CAP_M)
    with Image.open(two) as image:
        assert image.height == height + 188


def test_frames_without_any_truth(tmp_path, model):
    assert write_samples(model, Noise(2, valid=False), tmp_path, cap_m=CAP_M).is_file()


def test_nothing_to_draw(tmp_path, model):
    with pytest.raises(CompressError, match="nothing to draw"):
        write_samples(model, Noise(0), tmp_path, cap_m=CAP_M)


def test_pyplot_is_left_alone_and_the_model_as_it_was(tmp_path, model):
    import matplotlib.pyplot as plt

    before = plt.get_fignums()
    model.train()
    state = {k: v.clone() for k, v in model.state_dict().items()}
    write_samples(model, Noise(2), tmp_path, 2, cap_m=CAP_M)
    assert plt.get_fignums() == before and model.training
    assert all(torch.equal(state[k], v) for k, v in model.state_dict().items())
