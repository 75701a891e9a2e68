"""KITTI trees in the layouts they are published in, and the real frames beside the project."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from compress.data import open_data
from compress.data.kitti import open_kitti
from compress.errors import CompressError

SHARED = Path(__file__).resolve().parents[2].parent / "shared" / "data" / "kitti"
DATE, DRIVE = "2011_09_26", "2011_09_26_drive_0002_sync"


def add_frame(
    root: Path,
    number: int,
    *,
    camera: str = "image_02",
    depth: str | None = f"{DATE}/{DRIVE}",
    ending: str = "png",
) -> None:
    rgb = root / DATE / DRIVE / camera / "data" / f"{number:010d}.{ending}"
    rgb.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((4, 8, 3), number, np.uint8)).save(rgb)
    if depth is not None:
        path = root / depth / "proj_depth" / "groundtruth" / camera / f"{number:010d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        metres = np.zeros((4, 8), np.uint16)
        metres[1, 2] = 256 * number + 128
        Image.fromarray(metres).save(path)


def line(number: int | str, side: str = "l") -> str:
    frame = f"{number:010d}" if isinstance(number, int) else number
    return f"{DATE}/{DRIVE} {frame} {side}\n"


def test_values_and_customs(tmp_path: Path) -> None:
    add_frame(tmp_path, 5)
    add_frame(tmp_path, 6, camera="image_03", ending="jpg")
    (tmp_path / "train_files.txt").write_text(line("6", "r"))
    (tmp_path / "test_files.txt").write_text(line(5))
    data = open_kitti(tmp_path)
    assert (data.name, data.size, data.cap_m, data.crop) == ("kitti", (384, 1280), 80.0, "garg")
    assert data.train is not None
    assert list(data.train.names) == [f"{DATE}/{DRIVE} 0000000006 r"]
    sample = data.heldout[0]
    assert sample.depth_m[1, 2] == 5.5 and (sample.depth_m > 0).sum() == 1
    assert (sample.rgb == 5).all()
    assert data.train[0].depth_m[1, 2] == 6.5


@pytest.mark.parametrize(
    "depth",
    [f"{p}{part}/{DRIVE}" for p in ("", "data_depth_annotated/") for part in ("train", "val")],
)
def test_the_annotated_depths_own_layout(tmp_path: Path, depth: str) -> None:
    add_frame(tmp_path, 5, depth=depth)
    (tmp_path / "test_files.txt").write_text(line(5))
    data = open_kitti(tmp_path)
    assert data.train is None and data.heldout[0].depth_m[1, 2] == 5.5


def test_frames_without_depth_are_counted(tmp_path: Path) -> None:
    add_frame(tmp_path, 1, depth=None)
    add_frame(tmp_path, 2)
    (tmp_path / "test_files.txt").write_text(line(1) + line(2))
    with pytest.warns(UserWarning, match="1 of 2 frames have no annotated depth"):
        data = open_kitti(tmp_path)
    assert data.name == "kitti (1 of 2 held-out frames have depth)" and len(data.heldout) == 1
    (tmp_path / "test_files.txt").write_text(line(1))
    with pytest.raises(CompressError, match="none of its 1 frames has annotated depth"):
        open_kitti(tmp_path)


def test_missing_image(tmp_path: Path) -> None:
    add_frame(tmp_path, 2)
    (tmp_path / "test_files.txt").write_text(line(2) + line(3))
    with pytest.raises(CompressError, match=r"test_files\.txt:2: there is no .*0000000003\.png"):
        open_kitti(tmp_path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "empty"),
        (f"{DATE}/{DRIVE} 5\n", "test_files.txt:1: .*2 fields"),
        (line(5, "x"), "a line is 'DATE/DRIVE FRAME l|r'"),
        (line("five"), "a line is"),
        (f"{DRIVE} 5 l", "a line is"),
    ],
)
def test_bad_lists(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "test_files.txt").write_text(text)
    with pytest.raises(CompressError, match=message.replace("|", r"\|")):
        open_kitti(tmp_path)


def test_split_by_folder_prefix_and_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for i in range(4):
        add_frame(tmp_path, i)
    lists = tmp_path / "splits"
    lists.mkdir()
    for stem, (a, b) in {"": (0, 1), "mine_": (2, 3)}.items():
        (lists / f"{stem}train_files.txt").write_text(line(a))
        (lists / f"{stem}test_files.txt").write_text(line(b))
    (lists / "other.txt").write_text(line(2))

    def opened(split: str) -> tuple[int, int]:
        data = open_data(f"kitti:{tmp_path}", split=split)
        train = int(data.train.names[0].split()[1]) if data.train else -1
        return train, int(data.heldout.names[0].split()[1])

    assert opened(str(lists)) == (0, 1)
    assert opened("splits") == (0, 1)  # counted from the data's folder
    assert opened(f"{lists}/mine") == opened(f"{lists}/mine_") == (2, 3)
    assert opened(f"{lists}/mine_train_files.txt") == (2, 3)
    assert opened(f"{lists}/mine_test_files.txt") == (2, 3)
    assert opened("splits/other.txt") == (-1, 2)
    monkeypatch.chdir(lists)
    assert opened("other.txt") == (-1, 2)  # counted from the current folder
    with pytest.raises(CompressError, match="--split"):
        opened("nothing")
    with pytest.raises(CompressError, match="no list of held-out frames"):
        open_kitti(tmp_path)
    (lists / "lone_train_files.txt").write_text(line(2))
    with pytest.raises(CompressError, match=r"no lone_test_files\.txt beside it"):
        opened("splits/lone_train_files.txt")


def test_frames_in_both_lists_warn(tmp_path: Path) -> None:
    add_frame(tmp_path, 2)
    for name in ("train_files.txt", "test_files.txt"):
        (tmp_path / name).write_text(line(2))
    with pytest.warns(UserWarning, match="in both splits"):
        open_kitti(tmp_path)


def test_eight_bit_depth_is_refused(tmp_path: Path) -> None:
    add_frame(tmp_path, 2)
    depth = tmp_path / DATE / DRIVE / "proj_depth/groundtruth/image_02/0000000002.png"
    Image.fromarray(np.ones((4, 8), np.uint8)).save(depth)
    (tmp_path / "test_files.txt").write_text(line(2))
    with pytest.raises(CompressError, match="8-bit depth where"):
        open_kitti(tmp_path).heldout[0]


def test_real_street() -> None:
    if not SHARED.is_dir():
        pytest.skip("real frames of kitti are not beside the project")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        data = open_data(f"kitti:{SHARED}")
    assert data.train is not None and (len(data.train), len(data.heldout)) == (30, 10)
    sample = data.heldout[0]
    assert sample.rgb.shape == (375, 1242, 3)
    valid = sample.depth_m[sample.depth_m > 0]
    assert 0.02 < valid.size / sample.depth_m.size < 0.06
    assert valid.min() > 1 and valid.max() < 90
