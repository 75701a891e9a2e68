"""What many tests share: a private cache, a tiny data set, a tiny space."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import settings
from PIL import Image

from compress.models.timm_ import complete_torchvision

# torchmetrics imports torchvision, as timm does.
complete_torchvision()

# How long an example takes is the machine's business, which may have others to see to.
settings.register_profile("tests", deadline=None)
settings.load_profile("tests")

TINY_SPACE = """
name = "tiny"
family = "depthnet-nano"
size = [32, 48]

[choices]
stem = [4, 6, 8]
stages = [2]
neck = [8, 12]
norm = ["projection", "all"]
stage1 = { modules = [1, 2], width_first = [4, 6], width_last = [4], projection = [1.0], expansion = [2.0], transition = [8, 12] }
stage2 = { modules = [1, 2], width_first = [4, 6], width_last = [4], projection = [1.0], expansion = [2.0], transition = [8] }
stage3 = { modules = [1], width_first = [4], width_last = [4], projection = [1.0], expansion = [2.0], transition = [8] }
stage4 = { modules = [1], width_first = [4], width_last = [4], projection = [1.0], expansion = [2.0], transition = [8] }
decoder = { expansion = [1.0] }
up1 = { a = [8], b = [8] }
up2 = { a = [8], b = [8] }
up3 = { a = [8], b = [8, 12] }
up4 = { a = [6], b = [6, 8] }
"""  # noqa: E501

# Of one network alone, wide enough to lose channels.
WIDE_SPACE = """
name = "wide"
family = "depthnet-nano"
size = [32, 48]

[choices]
stem = [16]
stages = [2]
neck = [32]
norm = ["all"]
stage1 = { modules = [1], width_first = [16], width_last = [16], projection = [2.0], expansion = [4.0], transition = [24] }
stage2 = { modules = [1], width_first = [16], width_last = [16], projection = [2.0], expansion = [4.0], transition = [32] }
stage3 = { modules = [1], width_first = [4], width_last = [4], projection = [1.0], expansion = [2.0], transition = [8] }
stage4 = { modules = [1], width_first = [4], width_last = [4], projection = [1.0], expansion = [2.0], transition = [8] }
decoder = { expansion = [1.0] }
up1 = { a = [8], b = [8] }
up2 = { a = [8], b = [8] }
up3 = { a = [24], b = [24] }
up4 = { a = [16], b = [16] }
"""  # noqa: E501


# Tests run networks too small to be divided over threads, which would only wait for one another.
torch.set_num_threads(1)


@pytest.fixture(autouse=True, scope="session")
def _private_cache(tmp_path_factory: pytest.TempPathFactory):
    patch = pytest.MonkeyPatch()
    patch.setenv("COMPRESS_CACHE", str(tmp_path_factory.mktemp("cache")))
    yield
    patch.undo()


@pytest.fixture(scope="session")
def tiny_space(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("space") / "tiny.toml"
    path.write_text(TINY_SPACE)
    return path


@pytest.fixture(scope="session")
def wide_space(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("space") / "wide.toml"
    path.write_text(WIDE_SPACE)
    return path


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """40 training and 8 held-out pairs, 32x48: brightness tells depth, so that it is learnable."""
    root = tmp_path_factory.mktemp("pairs")
    rng = np.random.default_rng(0)
    lines = []
    for index in range(48):
        rows = np.linspace(0, 1, 32)[:, None] * np.ones((1, 48))
        depth_m = (1.0 + 3.0 * rows * rng.uniform(0.5, 1.0)).astype(np.float32)
        rgb = np.stack([255 * (1 - depth_m / 5)] * 3, -1) + rng.normal(0, 4, (32, 48, 3))
        Image.fromarray(rgb.clip(0, 255).astype(np.uint8)).save(root / f"{index:03}.png")
        units = (depth_m * 1000).astype(np.uint16)
        units[:2, :3] = 0  # a hole
        Image.fromarray(units).save(root / f"{index:03}-depth.png")
        lines.append(f"{index:03}.png {index:03}-depth.png")
    (root / "train.txt").write_text("\n".join(lines[:40]) + "\n")
    (root / "heldout.txt").write_text("\n".join(lines[40:]) + "\n")
    return root


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(0)
