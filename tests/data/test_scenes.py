"""Rendered scenes: reproducible frames, sane statistics, and a cache that mends itself."""

from __future__ import annotations

import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from compress.data import scenes
from compress.data.scenes import CAPS_M, open_scenes, render_scene
from compress.errors import CompressError

SMALL = (48, 64)
kinds = st.sampled_from(["indoor", "outdoor"])
seeds = st.integers(0, 2**40)
# Depths (m) on a coarse grid and mean colour of scene 1.
KNOWN_INDOOR = (
    [2.39, 5.37, 5.217, 2.417, 5.842, 5.38, 2.446, 5.383, 3.767, 2.474, 2.79, 1.719],
    [162.4, 164.2, 160.0],
)
KNOWN_OUTDOOR = (
    [0.0, 0.0, 6.493, 39.052, 38.951, 6.584, 8.354, 8.354, 6.633, 3.678, 3.678, 3.678],
    [142.1, 137.9, 138.3],
)


@settings(max_examples=25)
@given(seed=seeds, kind=kinds)
def test_every_frame_is_usable(seed: int, kind: str) -> None:
    frame = render_scene(seed, kind, SMALL)
    assert frame.rgb.shape == (*SMALL, 3) and frame.rgb.dtype == np.uint8
    assert frame.depth_m.shape == SMALL and frame.depth_m.dtype == np.float32
    assert np.isfinite(frame.depth_m).all() and frame.depth_m.min() >= 0
    assert frame.depth_m.max() <= CAPS_M[kind]
    assert (frame.depth_m > 0).mean() > (0.6 if kind == "indoor" else 0.4)
    measured = frame.depth_m[frame.depth_m > 0]
    assert measured.min() > 0.3
    assert 25 < frame.rgb.mean() < 235 and frame.rgb.std() > 8


@settings(max_examples=10)
@given(seed=seeds, kind=kinds)
def test_same_seed_same_frame_and_same_scene_at_other_sizes(seed: int, kind: str) -> None:
    first, again = render_scene(seed, kind, SMALL), render_scene(seed, kind, SMALL)
    np.testing.assert_array_equal(first.rgb, again.rgb)
    np.testing.assert_array_equal(first.depth_m, again.depth_m)
    triple = render_scene(seed, kind, (SMALL[0] * 3, SMALL[1] * 3))
    middles = triple.depth_m[1::3, 1::3]  # these pixels have the same centres
    same = np.isclose(first.depth_m, middles, rtol=1e-4).mean()
    assert same > 0.995
    blocks = triple.rgb.astype(float).reshape(SMALL[0], 3, SMALL[1], 3, 3).mean((1, 3))
    assert np.abs(blocks - first.rgb).mean() < 8


def test_frame_does_not_depend_on_the_process() -> None:
    code = (
        "from compress.data.scenes import render_scene; import zlib;"
        "f = render_scene(5, 'outdoor', (48, 64)); print(zlib.crc32(f.depth_m.tobytes()),"
        "zlib.crc32(f.rgb.tobytes()))"
    )
    frame = render_scene(5, "outdoor", SMALL)
    here = f"{zlib.crc32(frame.depth_m.tobytes())} {zlib.crc32(frame.rgb.tobytes())}"
    there = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(scenes.__file__).parents[2],
    )
    assert there.stdout.strip() == here


def test_scenes_of_this_version_are_the_known_ones() -> None:
    """If this fails, scenes have changed: raise ``VERSION`` and renew the figures."""
    known = {"indoor": KNOWN_INDOOR, "outdoor": KNOWN_OUTDOOR}
    for kind, (depths, colour) in known.items():
        frame = render_scene(1, kind)
        np.testing.assert_allclose(frame.depth_m[10::25, 20::40].ravel(), depths, rtol=1e-3)
        np.testing.assert_allclose(frame.rgb.mean((0, 1)), colour, atol=1.0)


def test_depth_varies_more_than_a_mean_map_can_follow() -> None:
    for kind in ("indoor", "outdoor"):
        frames = np.stack([render_scene(i, kind, (24, 32)).depth_m for i in range(60)])
        usual = np.median(frames[:40], 0)
        truth = frames[40:]
        ok = truth > 0
        ratio = np.maximum(truth, usual) / np.maximum(np.minimum(truth, usual), 1e-3)
        assert ((ratio < 1.25) & ok).sum() / ok.sum() < 0.7


@pytest.mark.parametrize("kind", ["mixed", "indoor", "outdoor"])
def test_open_scenes(tmp_path: Path, kind: str) -> None:
    data = open_scenes(kind, train=6, heldout=4, size=SMALL, cache_dir=tmp_path)
    assert data.train is not None
    assert data.name == ("scenes" if kind == "mixed" else f"scenes:{kind}")
    assert (data.cap_m, data.size, data.crop) == (CAPS_M[kind], SMALL, "none")
    assert (len(data.train), len(data.heldout)) == (6, 4)
    assert not set(data.train.names) & set(data.heldout.names)
    assert data.train.split_hash != data.heldout.split_hash
    for frames in (data.train, data.heldout):
        for frame in frames:
            _, of, number = frame.name.split("@")[0].split("/")
            direct = render_scene(int(number), of, SMALL)
            assert direct.name == frame.name
            np.testing.assert_array_equal(direct.rgb, frame.rgb)
            np.testing.assert_array_equal(direct.depth_m, frame.depth_m)
    drawn = {name.split("/")[1] for name in data.train.names}
    assert drawn == ({"indoor", "outdoor"} if kind == "mixed" else {kind})


def test_heldout_of_one_seed_is_in_no_other_training_set() -> None:
    with pytest.raises(CompressError, match="900000"):
        open_scenes(train=900_001)
    with pytest.raises(CompressError, match="seed=-1"):
        open_scenes(seed=-1)


def test_train_may_be_empty(tmp_path: Path) -> None:
    data = open_scenes("indoor", train=0, heldout=2, size=SMALL, cache_dir=tmp_path)
    assert data.train is None and len(data.heldout) == 2


def draw(folder: Path, seen: list[tuple[int, int]]) -> np.ndarray:
    def note(done: int, of: int) -> None:
        seen.append((done, of))

    data = open_scenes("indoor", train=3, heldout=2, size=SMALL, cache_dir=folder, progress=note)
    return data.heldout[1].depth_m


def test_cache_is_used_again(tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    first = draw(tmp_path, seen)
    assert seen[-1] == (5, 5)
    seen.clear()
    np.testing.assert_array_equal(draw(tmp_path, seen), first)
    assert not seen
    assert [p.name for p in tmp_path.iterdir()] == ["scenes-v1-indoor-3+2-48x64-seed0"]


@pytest.mark.parametrize("harm", ["cut", "garbage", "missing", "other depth", "file"])
def test_broken_cache_is_drawn_again(tmp_path: Path, harm: str) -> None:
    seen: list[tuple[int, int]] = []
    first = draw(tmp_path, seen)
    (folder,) = tmp_path.iterdir()
    path = folder / "depth_m.npy"
    if harm == "cut":
        path.write_bytes(path.read_bytes()[:-100])
    elif harm == "garbage":
        path.write_bytes(b"not an array")
    elif harm == "missing":
        path.unlink()
    elif harm == "other depth":
        np.save(path, np.load(path) * np.float32(1.1))
    else:
        for inner in folder.iterdir():
            inner.unlink()
        folder.rmdir()
        folder.write_text("a file where the folder should be")
    seen.clear()
    np.testing.assert_array_equal(draw(tmp_path, seen), first)
    assert seen[-1] == (5, 5)
    assert len(list(tmp_path.iterdir())) == 1


def test_unwritable_cache_is_drawn_in_memory_with_a_warning(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("")
    seen: list[tuple[int, int]] = []
    with pytest.warns(UserWarning, match="COMPRESS_CACHE"):
        drawn = draw(blocked / "cache", seen)
    np.testing.assert_array_equal(drawn, draw(tmp_path / "good", []))
    assert seen[-1] == (5, 5)


def test_helpers_draw_the_same_and_may_fail(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    alone = open_scenes("mixed", train=10, heldout=2, size=SMALL, cache_dir=tmp_path / "a")
    monkeypatch.setattr(scenes, "_HELP_FROM", 1)
    monkeypatch.setattr(scenes, "_processes", lambda: 2)
    helped = open_scenes("mixed", train=10, heldout=2, size=SMALL, cache_dir=tmp_path / "b")
    monkeypatch.setattr(sys, "executable", sys.executable + "-missing")
    failed = open_scenes("mixed", train=10, heldout=2, size=SMALL, cache_dir=tmp_path / "c")
    for data in (helped, failed):
        for ours, theirs in zip(alone.heldout, data.heldout, strict=True):
            np.testing.assert_array_equal(ours.rgb, theirs.rgb)


def test_frames_are_copies(tmp_path: Path) -> None:
    frames = open_scenes("indoor", train=0, heldout=1, size=SMALL, cache_dir=tmp_path).heldout
    frames[0].rgb[:] = 0
    assert frames[0].rgb.any()


def test_unknown_kinds_offer_the_known_ones() -> None:
    with pytest.raises(CompressError, match=r"unknown scenes kind 'indor'; did you mean indoor"):
        open_scenes("indor")
    with pytest.raises(CompressError, match="outdoor"):
        render_scene(0, "mixed")
    with pytest.raises(CompressError, match="0 or more"):
        render_scene(-1, "indoor")
