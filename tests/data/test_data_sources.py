"""What ``--data`` accepts, and the cut of a validation part."""

from __future__ import annotations

import itertools
import subprocess
import sys
import types
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from compress.data import Dataset, Frames, Sample, cut_validation, open_data
from compress.errors import CompressError


class Numbered(Frames):
    """Frames that are nothing but their number."""

    def __init__(self, count: int) -> None:
        self._names = [str(i) for i in range(count)]

    @property
    def names(self) -> Sequence[str]:
        return self._names

    def __getitem__(self, index: int) -> Sample:
        pixels = np.full((1, 1, 3), index % 256, np.uint8)
        return Sample(pixels, np.ones((1, 1), np.float32), self._names[index])


def numbers(frames: Frames) -> list[int]:
    return [int(name) for name in frames.names]


@given(
    st.integers(2, 400),
    st.floats(0.01, 0.99),
    st.integers(1, 8),
    st.integers(0, 2**32),
    st.one_of(st.none(), st.integers(0, 500)),
)
def test_cut_is_disjoint_ordered_and_blocked(
    count: int, fraction: float, blocks: int, seed: int, gap: int | None
) -> None:
    frames = Numbered(count)
    train, held = (numbers(p) for p in cut_validation(frames, fraction, blocks, seed, gap=gap))
    assert train and held
    assert not set(train) & set(held)
    assert train == sorted(set(train)) and held == sorted(set(held))
    assert len(held) == min(max(round(count * fraction), 1), count - 1)
    runs = 1 + sum(b - a > 1 for a, b in itertools.pairwise(held))
    assert runs <= blocks
    again = cut_validation(frames, fraction, blocks, seed, gap=gap)
    assert [numbers(p) for p in again] == [train, held]


@given(st.integers(20, 600), st.integers(0, 99))
def test_neighbours_do_not_straddle_the_cut(count: int, seed: int) -> None:
    train, held = (numbers(p) for p in cut_validation(Numbered(count), seed=seed))
    gap = max(1, round(0.02 * count))
    taken = set(held)
    assert all(not taken & set(range(i - gap, i + gap + 1)) for i in train)
    assert len(train) + len(held) + 2 * 3 * gap >= count
    assert len(train) >= count / 2


def test_blocks_are_spread_and_move_with_the_seed() -> None:
    cuts = [numbers(cut_validation(Numbered(300), seed=seed)[1]) for seed in range(5)]
    assert len({tuple(cut) for cut in cuts}) > 1
    for cut in cuts:
        assert [sum(a <= i < a + 100 for i in cut) for a in (0, 100, 200)] == [15, 15, 15]


@pytest.mark.parametrize("count", [0, 1])
def test_too_few_frames_to_cut(count: int) -> None:
    with pytest.raises(CompressError, match=f"at least 2 frames, got {count}"):
        cut_validation(Numbered(count))


@pytest.mark.parametrize(
    ("fraction", "blocks", "gap"),
    [(0.0, 3, None), (1.0, 3, None), (float("nan"), 3, None), (0.2, 0, None), (0.2, 3, -1)],
)
def test_cut_values_out_of_range(fraction: float, blocks: int, gap: int | None) -> None:
    with pytest.raises(CompressError, match="give"):
        cut_validation(Numbered(9), fraction, blocks, gap=gap)


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    for kind in ("rgb", "depth"):
        (tmp_path / "set" / kind).mkdir(parents=True)
    for i in range(4):
        Image.fromarray(np.zeros((64, 96, 3), np.uint8)).save(tmp_path / f"set/rgb/{i}.png")
        Image.fromarray(np.full((64, 96), 2000, np.uint16)).save(tmp_path / f"set/depth/{i}.png")
    return tmp_path / "set"


def test_open_folder_by_spec(pairs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = open_data(f"folder:{pairs}", cap_m=5, depth_scale=500)
    assert (data.cap_m, data.size, data.name) == (5.0, (64, 96), "folder:set (split by name)")
    assert data.heldout[0].depth_m[0, 0] == 4
    monkeypatch.chdir(pairs.parent)
    assert open_data("folder:set").heldout.names == data.heldout.names
    monkeypatch.setenv("HOME", str(pairs.parent))
    monkeypatch.setenv("USERPROFILE", str(pairs.parent))
    assert open_data("folder:~/set").heldout.names == data.heldout.names


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("kiti:x", "unknown data set 'kiti'; did you mean kitti"),
        ("", "unknown data set ''"),
        ("nyu", "nyu: names no place; write nyu:PATH"),
        ("folder:", "write folder:DIR"),
        ("tum:/no/such", "tum:/no/such: there is no such folder"),
        ("kitti:/no/such", "there is no such folder"),
        ("nyu:/no/such", "there is no such file or folder"),
        ("folder:~nobody-of-that-name/x", "write the path in full|no such folder"),
    ],
)
def test_bad_specs(spec: str, message: str) -> None:
    with pytest.raises(CompressError, match=message) as caught:
        open_data(spec)
    assert "\n" not in str(caught.value)


def test_a_bare_folder_is_told_its_spec(pairs: Path) -> None:
    with pytest.raises(CompressError, match=f"written folder:{pairs}"):
        open_data(str(pairs))
    with pytest.raises(CompressError, match="is a file"):
        open_data(f"folder:{pairs}/rgb/0.png")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"depth_scale": 0}, "depth scale .* is 0"),
        ({"depth_scale": float("nan")}, "is nan"),
        ({"cap_m": -1.0}, "depth cap in metres is -1.0"),
        ({"cap_m": float("inf")}, "is inf"),
        ({"cap_m": 1e-4}, "more than the least depth scored"),
        ({"split": "eigen"}, "only kitti: reads one"),
        ({"scenes_options": {"train": 3}}, "leave them out"),
    ],
)
def test_options_out_of_range(pairs: Path, options: dict[str, object], message: str) -> None:
    with pytest.raises(CompressError, match=message):
        open_data(f"folder:{pairs}", **options)  # type: ignore[arg-type]


def test_fixed_scales_refuse_another(pairs: Path) -> None:
    with pytest.raises(CompressError, match="scale is fixed"):
        open_data(f"tum:{pairs}", depth_scale=5000)


def test_importing_is_cheap() -> None:
    code = (
        "import sys, compress.data; "
        "heavy = {'torch', 'h5py', 'PIL', 'scipy', 'pandas'} & set(sys.modules); "
        "sys.exit(', '.join(heavy) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("spec", "kind"), [("scenes", "mixed"), ("scenes:indoor", "indoor"), ("scenes:", "mixed")]
)
def test_scenes_are_asked_for_by_kind(
    monkeypatch: pytest.MonkeyPatch, spec: str, kind: str
) -> None:
    asked = []

    def open_scenes(kind: str = "mixed", **options: object) -> Dataset:
        asked.append((kind, options))
        return Dataset("scenes", None, Numbered(1), (96, 128), 10.0)

    scenes = types.ModuleType("compress.data.scenes")
    monkeypatch.setattr(scenes, "open_scenes", open_scenes, raising=False)
    monkeypatch.setitem(sys.modules, "compress.data.scenes", scenes)
    data = open_data(spec, scenes_options={"train": 5}, cap_m=8)
    assert asked == [(kind, {"train": 5})] and data.cap_m == 8
