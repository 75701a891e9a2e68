"""ReDWeb folders: relative depth from negative disparity, and the cut by name."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from compress.data import open_data
from compress.data.redweb import open_redweb, read_relative
from compress.errors import CompressError


def make(root: Path, count: int) -> Path:
    for i in range(count):
        for folder in ("Imgs", "RDs"):
            (root / folder).mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((6, 8, 3), i, np.uint8)).save(root / f"Imgs/p{i}.jpg")
        ramp = np.linspace(10, 255, 48).reshape(6, 8).astype(np.uint8)
        Image.fromarray(ramp).save(root / f"RDs/p{i}.png")
    return root


@pytest.mark.parametrize(("kind", "top"), [(np.uint8, 255), (np.uint16, 65535)])
def test_small_values_are_near_and_the_highest_is_background(
    tmp_path: Path, kind: type[np.unsignedinteger], top: int
) -> None:
    raw = np.array([[0, top - 200, top - 100, top - 50, top]])
    Image.fromarray(raw.astype(kind)).save(tmp_path / "m.png")
    depth = read_relative(tmp_path / "m.png")
    assert depth.dtype == np.float32
    # Disparities top, 200, 100, 50: their median is 150, depth is 150 over them.
    np.testing.assert_allclose(depth, [[150 / top, 0.75, 1.5, 3, 0]], rtol=1e-5)


def test_median_is_one_and_order_is_kept(tmp_path: Path) -> None:
    raw = np.random.default_rng(0).integers(0, 256, (21, 33)).astype(np.uint8)
    Image.fromarray(raw).save(tmp_path / "m.png")
    depth = read_relative(tmp_path / "m.png")
    measured = depth > 0
    np.testing.assert_array_equal(measured, raw < 255)
    assert np.median(depth[measured]) == pytest.approx(1, rel=0.01)
    ranks = np.argsort(raw[measured], kind="stable")
    assert (np.diff(depth[measured][ranks]) >= 0).all()


def test_background_alone_is_no_depth(tmp_path: Path) -> None:
    Image.fromarray(np.full((2, 2), 255, np.uint8)).save(tmp_path / "m.png")
    assert not read_relative(tmp_path / "m.png").any()


def test_cut_by_name(tmp_path: Path) -> None:
    data = open_data(f"redweb:{make(tmp_path, 30)}")
    assert data.relative and data.cap_m == 80.0 and data.train is not None
    assert data.name.startswith("redweb:") and data.name.endswith("(split by name)")
    assert (len(data.train), len(data.heldout)) == (27, 3)
    assert not set(data.train.names) & set(data.heldout.names)
    assert list(data.train.names) == sorted(data.train.names, key=lambda n: int(n[6:-4]))
    sample = data.heldout[0]
    assert sample.depth_m.shape == (6, 8) and sample.depth_m[-1, -1] == 0
    assert open_redweb(tmp_path).heldout.split_hash == data.heldout.split_hash
    assert open_redweb(tmp_path, seed=1).heldout.split_hash != data.heldout.split_hash
    (tmp_path / "Imgs/p31.jpg").write_bytes((tmp_path / "Imgs/p1.jpg").read_bytes())
    (tmp_path / "RDs/p31.png").write_bytes((tmp_path / "RDs/p1.png").read_bytes())
    grown = open_redweb(tmp_path).heldout  # one more image moves at most one across the cut
    assert len(set(grown.names) & set(data.heldout.names)) >= 2


def test_lists_are_followed(tmp_path: Path) -> None:
    make(tmp_path, 4)
    (tmp_path / "val.txt").write_text("p1\nImgs/p2.jpg\n")
    assert open_redweb(tmp_path).train is None
    (tmp_path / "train.txt").write_text("p3.jpg\n")
    data = open_redweb(tmp_path)
    assert data.train is not None and list(data.train.names) == ["Imgs/p3.jpg"]
    assert list(data.heldout.names) == ["Imgs/p1.jpg", "Imgs/p2.jpg"]
    (tmp_path / "train.txt").write_text("p9\n")
    with pytest.raises(CompressError, match=r"train\.txt:1: there is no image 'p9' in Imgs/"):
        open_redweb(tmp_path)
    (tmp_path / "val.txt").unlink()
    with pytest.raises(CompressError, match=r"has train\.txt but no val\.txt"):
        open_redweb(tmp_path)


def test_broken_folders(tmp_path: Path) -> None:
    with pytest.raises(CompressError, match="Imgs is missing; a ReDWeb folder holds"):
        open_redweb(tmp_path)
    make(tmp_path, 1)
    with pytest.raises(CompressError, match="has 1 images; a split needs at least 2"):
        open_redweb(tmp_path)
    make(tmp_path, 3)
    (tmp_path / "RDs/p1.png").unlink()
    with pytest.raises(CompressError, match=r"p1\.jpg has no .*p1\.png; add it"):
        open_redweb(tmp_path)
    for path in (tmp_path / "RDs").iterdir():
        path.unlink()
    with pytest.raises(CompressError, match=r"RDs holds no \.png"):
        open_redweb(tmp_path)


def test_broken_maps(tmp_path: Path) -> None:
    make(tmp_path, 2)
    for path in (tmp_path / "RDs").iterdir():
        Image.fromarray(np.zeros((6, 8, 3), np.uint8)).save(path)
    with pytest.raises(CompressError, match="'RGB' pixels are no relative depth"):
        _ = open_redweb(tmp_path).heldout[0]
    for path in (tmp_path / "RDs").iterdir():
        path.write_bytes(b"no image")
    with pytest.raises(CompressError, match="cannot be read as an image"):
        _ = open_redweb(tmp_path).heldout[0]
    for path in (tmp_path / "RDs").iterdir():
        Image.fromarray(np.zeros((6, 9), np.uint8)).save(path)
    with pytest.raises(CompressError, match=r"is 8x6 but .* is 9x6"):
        _ = open_redweb(tmp_path).heldout[0]
