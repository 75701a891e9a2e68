"""Resizing without mixing depths, and the cache of resized frames."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from compress.data import Arrays, Frames, Sample, Subset, open_data, resized
from compress.data.arrays import default_cache_dir, resize_depth, resize_rgb
from compress.errors import CompressError

SHARED = Path(__file__).resolve().parents[2].parent / "shared" / "data"


class Noise(Frames):
    """Random frames that count how often they are read."""

    def __init__(self, count: int, size: tuple[int, int] = (8, 12), broken: int = -1) -> None:
        self._names = [f"noise/{i}" for i in range(count)]
        self._size, self._broken = size, broken
        self.reads = 0

    @property
    def names(self) -> Sequence[str]:
        return self._names

    def __getitem__(self, index: int) -> Sample:
        if index == self._broken:
            raise CompressError(f"frame {index} is broken")
        self.reads += 1
        random = np.random.default_rng(index)
        rgb = random.integers(0, 256, (*self._size, 3)).astype(np.uint8)
        depth = random.random(self._size, np.float32) * (random.random(self._size) < 0.3)
        return Sample(rgb, depth.astype(np.float32), self._names[index])


def slow_resize(depth: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """The rule, said cell by cell."""
    (height, width), (rows, columns) = depth.shape, size

    def members(length: int, cells: int, cell: int) -> list[int]:
        own = [i for i in range(length) if (2 * i + 1) * cells // (2 * length) == cell]
        return own or [(2 * cell + 1) * length // (2 * cells)]

    out, half = np.zeros(size, np.float32), Fraction(1, 2)
    for r in range(rows):
        for c in range(columns):
            y0, x0 = (
                Fraction((2 * r + 1) * height, 2 * rows),
                Fraction((2 * c + 1) * width, 2 * columns),
            )
            best = min(
                (
                    ((y + half - y0) ** 2 + (x + half - x0) ** 2, y, x)
                    for y in members(height, rows, r)
                    for x in members(width, columns, c)
                    if depth[y, x] > 0
                ),
                default=None,
            )
            if best is not None:
                out[r, c] = depth[best[1], best[2]]
    return out


SIDES = st.integers(1, 13)


@given(SIDES, SIDES, SIDES, SIDES, st.floats(0, 1), st.integers(0, 999))
def test_depth_follows_the_rule(
    height: int, width: int, rows: int, columns: int, density: float, seed: int
) -> None:
    random = np.random.default_rng(seed)
    depth = (random.random((height, width)) + 0.1).astype(np.float32)
    depth[random.random((height, width)) >= density] = 0
    out = resize_depth(depth, (rows, columns))
    assert out.dtype == np.float32 and out.shape == (rows, columns)
    assert set(out.ravel()) <= {*depth.ravel(), np.float32(0)}  # never a mixture
    np.testing.assert_array_equal(out, slow_resize(depth, (rows, columns)))
    if depth.any() and rows <= height and columns <= width:
        assert out.any()  # sparse measurements survive shrinking


def test_depth_by_hand() -> None:
    depth = np.array([[0, 2, 0, 0], [0, 0, 0, 0], [5, 6, 0, 8], [0, 0, 9, 0]], np.float32)
    assert resize_depth(depth, (2, 2)).tolist() == [[2, 0], [5, 8]]  # ties go to the upper left
    sparse = np.zeros((9, 9), np.float32)
    sparse[0, 8], sparse[4, 4], sparse[3, 3] = 1, 2, 3
    assert resize_depth(sparse, (3, 3)).tolist() == [[0, 0, 1], [0, 2, 0], [0, 0, 0]]
    assert resize_depth(np.array([[1, 2]], np.float32), (2, 4)).tolist() == [[1, 1, 2, 2]] * 2
    assert not resize_depth(np.zeros((9, 7), np.float32), (2, 3)).any()


def test_rgb_is_antialiased() -> None:
    stripes = np.zeros((8, 64, 3), np.uint8)
    stripes[:, ::2] = 255
    small = resize_rgb(stripes, (2, 8))
    assert small.shape == (2, 8, 3) and abs(small[:, 1:-1].astype(int) - 127).max() < 20
    assert resize_rgb(stripes, (8, 64)) is stripes


def test_written_once_and_read_back(tmp_path: Path) -> None:
    frames, seen = Noise(5), list[tuple[int, int]]()
    arrays = resized(frames, (4, 6), tmp_path, lambda done, total: seen.append((done, total)))
    assert seen == [(i + 1, 5) for i in range(5)] and frames.reads == 5
    assert arrays.rgb.shape == (5, 4, 6, 3) and arrays.rgb.dtype == np.uint8
    assert arrays.depth_m.shape == (5, 4, 6) and arrays.depth_m.dtype == np.float32
    assert isinstance(arrays.rgb, np.memmap) and isinstance(arrays.depth_m, np.memmap)
    assert len(arrays) == 5 and arrays.names == tuple(frames.names)
    for i, sample in enumerate(Noise(5)):
        np.testing.assert_array_equal(arrays.rgb[i], resize_rgb(sample.rgb, (4, 6)))
        np.testing.assert_array_equal(arrays.depth_m[i], resize_depth(sample.depth_m, (4, 6)))
    again = resized(frames, (4, 6), tmp_path)
    assert frames.reads == 5
    np.testing.assert_array_equal(again.depth_m, arrays.depth_m)
    assert len(list(tmp_path.iterdir())) == 1  # no draft stays behind
    with pytest.raises(ValueError, match="read-only"):
        arrays.rgb[0] = 0


def test_the_key_holds_frames_and_size(tmp_path: Path) -> None:
    frames = Noise(4)
    resized(frames, (4, 6), tmp_path)
    resized(frames, (4, 5), tmp_path)
    part = resized(Subset(frames, [2, 0]), (4, 6), tmp_path)
    assert part.names == ("noise/2", "noise/0")
    assert len(list(tmp_path.iterdir())) == 3


def spoil_truncate(folder: Path) -> None:
    path = folder / "depth_m.npy"
    path.write_bytes(path.read_bytes()[:-4])


def spoil_garble(folder: Path) -> None:
    (folder / "rgb.npy").write_bytes(b"rubbish" * 200)


def spoil_empty(folder: Path) -> None:
    (folder / "rgb.npy").write_bytes(b"")


def spoil_index(folder: Path) -> None:
    (folder / "frames.json").write_text('{"format": 1, "names": ["other"]}')


def spoil_partial(folder: Path) -> None:
    (folder / "frames.json").unlink()


def spoil_type(folder: Path) -> None:
    np.save(folder / "depth_m.npy", np.zeros((3, 4, 6)))


def spoil_folder(folder: Path) -> None:
    shutil.rmtree(folder)
    folder.mkdir()


@pytest.mark.parametrize(
    "spoil",
    [
        spoil_truncate,
        spoil_garble,
        spoil_empty,
        spoil_index,
        spoil_partial,
        spoil_type,
        spoil_folder,
    ],
)
def test_a_damaged_cache_is_made_again(tmp_path: Path, spoil: object) -> None:
    frames = Noise(3)
    expected = np.array(resized(frames, (4, 6), tmp_path).depth_m)
    (folder,) = tmp_path.iterdir()
    assert callable(spoil)
    spoil(folder)
    np.testing.assert_array_equal(resized(frames, (4, 6), tmp_path).depth_m, expected)
    assert frames.reads == 6
    resized(frames, (4, 6), tmp_path)
    assert frames.reads == 6


def check_in_memory(arrays: Arrays) -> None:
    assert not isinstance(arrays.rgb, np.memmap)
    expected = [resize_depth(s.depth_m, (4, 6)) for s in Noise(3)]
    np.testing.assert_array_equal(arrays.depth_m, expected)
    assert not arrays.rgb.flags.writeable


def test_memory_where_the_cache_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.warns(UserWarning, match="COMPRESS_CACHE"):
        check_in_memory(resized(Noise(3), (4, 6), tmp_path / "file" / "cache"))


def test_memory_where_the_disk_is_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.warns(UserWarning, match="No space left"):
        check_in_memory(resized(Noise(3), (4, 6), tmp_path))
    assert list(tmp_path.iterdir()) == []


def test_a_broken_frame_is_named_and_nothing_stays(tmp_path: Path) -> None:
    with pytest.raises(CompressError, match="frame 2 is broken"):
        resized(Noise(4, broken=2), (4, 6), tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("count", "size"), [(0, (4, 6)), (2, (0, 6)), (2, (4, -1))])
def test_nothing_to_resize(tmp_path: Path, count: int, size: tuple[int, int]) -> None:
    with pytest.raises(CompressError, match="give"):
        resized(Noise(count), size, tmp_path)


def test_default_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COMPRESS_CACHE", str(tmp_path / "here"))
    assert default_cache_dir() == tmp_path / "here"
    resized(Noise(1), (2, 2))
    assert len(list((tmp_path / "here").iterdir())) == 1
    monkeypatch.delenv("COMPRESS_CACHE")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    assert default_cache_dir() == tmp_path / ".cache" / "depth-compress"


def test_real_street_keeps_its_sparse_depth(tmp_path: Path) -> None:
    if not (SHARED / "kitti").is_dir():
        pytest.skip("real frames of kitti are not beside the project")
    heldout = open_data(f"kitti:{SHARED / 'kitti'}").heldout
    start = time.perf_counter()
    arrays = resized(Subset(heldout, [0, 1]), (96, 320), tmp_path)
    assert time.perf_counter() - start < 10
    native = heldout[0].depth_m
    assert set(np.unique(arrays.depth_m[0])) <= {*np.unique(native)}
    dense = (arrays.depth_m[0] > 0).mean()
    assert dense > 4 * (native > 0).mean()  # a cell of 15 pixels holds one more often than a pixel
