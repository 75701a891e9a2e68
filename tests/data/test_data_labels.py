"""Class maps in folders of pairs, and how they are resized and cached."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from compress.data import Frames, Sample, Subset, cut_validation, open_data, resized
from compress.data.arrays import resize_depth, resize_labels
from compress.data.files import read_labels
from compress.data.folder import open_folder
from compress.data.types import NO_CLASS, Pairs
from compress.errors import CompressError


def save(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


@pytest.fixture
def labelled(tmp_path: Path) -> Path:
    """Three frames of 4x6 whose class maps hold their number, and 255 in a corner."""
    lines = []
    for i in range(3):
        save(tmp_path / f"rgb/{i}.png", np.full((4, 6, 3), i, np.uint8))
        save(tmp_path / f"depth/{i}.png", np.full((4, 6), 2000, np.uint16))
        labels = np.full((4, 6), i, np.uint8)
        labels[0, 0] = NO_CLASS
        save(tmp_path / f"maps/{i}.png", labels)
        lines.append(f"rgb/{i}.png depth/{i}.png maps/{i}.png")
    (tmp_path / "train.txt").write_text("\n".join(lines[:2]))
    (tmp_path / "heldout.txt").write_text(lines[2])
    return tmp_path


def test_a_third_column(labelled: Path) -> None:
    (labelled / "classes.txt").write_text("# of the maps\nsofa\nfloor\nsky\n")
    data = open_data(f"folder:{labelled}", labels=True)
    assert data.classes == ("sofa", "floor", "sky") and data.train is not None
    assert data.train.classes == data.classes
    labels = data.heldout[0].labels
    assert labels is not None and labels.dtype == np.uint8
    assert labels[0, 0] == NO_CLASS and labels[1, 1] == 2
    plain = open_data(f"folder:{labelled}")
    assert plain.classes == () and plain.heldout[0].labels is None
    part, _ = cut_validation(data.train, 0.5, 1)
    assert part.classes == data.classes


def test_classes_without_names_are_numbered(labelled: Path) -> None:
    assert open_folder(labelled, labels=True).classes == ("0", "1", "2")


def test_two_columns_stay_valid_and_keep_their_cache_key(labelled: Path) -> None:
    before = open_folder(labelled).heldout
    (labelled / "heldout.txt").write_text("rgb/2.png depth/2.png")
    after = open_folder(labelled).heldout
    assert before.fingerprint == after.fingerprint
    with pytest.raises(CompressError, match=r"heldout\.txt:1: .* names no class map"):
        open_folder(labelled, labels=True)


def test_the_fingerprint_holds_the_maps(labelled: Path) -> None:
    before = open_folder(labelled, labels=True).heldout.fingerprint
    save(labelled / "maps/2.png", np.full((4, 6), 1, np.uint8))
    assert open_folder(labelled, labels=True).heldout.fingerprint != before


def test_maps_are_asked_for_without_lists(labelled: Path) -> None:
    (labelled / "train.txt").unlink()
    (labelled / "heldout.txt").unlink()
    with pytest.raises(CompressError, match="RGB DEPTH LABELS"):
        open_folder(labelled, labels=True)


def test_wrong_maps_are_named(labelled: Path) -> None:
    (labelled / "classes.txt").write_text("a\nb\n")
    with pytest.raises(CompressError, match=r"2\.png: has class 2 where there are 2"):
        _ = open_folder(labelled, labels=True).heldout[0]
    (labelled / "classes.txt").write_text("a\nb\nb\n")
    with pytest.raises(CompressError, match="3 classes, 2 of them different"):
        open_folder(labelled, labels=True)
    (labelled / "classes.txt").unlink()
    save(labelled / "maps/2.png", np.zeros((5, 6), np.uint8))
    with pytest.raises(CompressError, match=r"maps/2\.png is 6x5"):
        _ = open_folder(labelled, labels=True).heldout[0]
    save(labelled / "maps/2.png", np.zeros((4, 6), np.uint16))
    with pytest.raises(CompressError, match="are no class map"):
        open_folder(labelled, labels=True)
    (labelled / "maps/2.png").unlink()
    with pytest.raises(CompressError, match=r"maps/2\.png"):
        open_folder(labelled, labels=True)
    (labelled / "classes.txt").write_text("a\nb\nc\n")
    with pytest.raises(CompressError, match=r"1 of 3 files are missing.*maps/2\.png"):
        open_folder(labelled, labels=True)


def test_palette_images_hold_numbers(tmp_path: Path) -> None:
    image = Image.fromarray(np.array([[0, 3, 255]], np.uint8), "P")
    image.putpalette([7] * 768)
    image.save(tmp_path / "p.png")
    assert read_labels(tmp_path / "p.png").tolist() == [[0, 3, 255]]


SIDES = st.integers(1, 13)


@given(SIDES, SIDES, SIDES, SIDES, st.integers(0, 999))
def test_a_class_is_that_of_the_pixel_whose_depth_is_taken(
    height: int, width: int, rows: int, columns: int, seed: int
) -> None:
    labels = np.random.default_rng(seed).integers(0, 256, (height, width)).astype(np.uint8)
    dense = labels.astype(np.float32) + 1  # depth that tells the class
    out = resize_labels(labels, (rows, columns))
    assert out.dtype == np.uint8
    np.testing.assert_array_equal(out + 1.0, resize_depth(dense, (rows, columns)))


class Known(Frames):
    """Frames with class maps, and frame i with i pairs of points."""

    def __init__(self, count: int = 4) -> None:
        self._names = [f"known/{i}" for i in range(count)]
        self.reads = 0

    @property
    def names(self) -> Sequence[str]:
        return self._names

    @property
    def classes(self) -> tuple[str, ...]:
        return ("a", "b", "c")

    @property
    def most_pairs(self) -> int:
        return len(self._names) - 1

    def __getitem__(self, index: int) -> Sample:
        self.reads += 1
        random = np.random.default_rng(index)
        labels = random.integers(0, 3, (8, 12)).astype(np.uint8)
        order = random.integers(-1, 2, index).astype(np.int8)
        pairs = Pairs(random.random((index, 4), np.float32), order, np.ones(index, bool))
        rgb = np.zeros((8, 12, 3), np.uint8)
        none = pairs if index else None
        return Sample(rgb, np.ones((8, 12), np.float32), self._names[index], labels, none)


@pytest.mark.parametrize("cached", [True, False])
def test_labels_and_pairs_are_resized_with_the_frames(tmp_path: Path, cached: bool) -> None:
    frames, folder = Known(), tmp_path / "cache"
    if cached:
        arrays = resized(frames, (4, 6), folder)
        arrays = resized(frames, (4, 6), folder)
        assert frames.reads == 4 and isinstance(arrays.labels, np.memmap)
    else:
        folder.write_text("in the way")
        with pytest.warns(UserWarning, match="COMPRESS_CACHE"):
            arrays = resized(frames, (4, 6), folder)
    assert arrays.labels is not None and arrays.pairs is not None
    assert arrays.labels.shape == (4, 4, 6) and arrays.labels.dtype == np.uint8
    assert [part.shape for part in arrays.pairs] == [(4, 3, 4), (4, 3), (4, 3)]
    assert [str(part.dtype) for part in arrays.pairs] == ["float32", "int8", "bool"]
    for i, sample in enumerate(Known()):
        assert sample.labels is not None
        np.testing.assert_array_equal(arrays.labels[i], resize_labels(sample.labels, (4, 6)))
        assert arrays.pairs.valid[i].tolist() == [j < i for j in range(3)]
        if sample.pairs is not None:
            np.testing.assert_array_equal(arrays.pairs.coordinates[i, :i], sample.pairs.coordinates)
            np.testing.assert_array_equal(arrays.pairs.order[i, :i], sample.pairs.order)
    with pytest.raises(ValueError, match="read-only"):
        arrays.labels[0] = 0


@pytest.mark.parametrize("name", ["labels", "coordinates", "order", "valid"])
def test_damage_to_any_of_them_is_mended(tmp_path: Path, name: str) -> None:
    frames = Known()
    resized(frames, (4, 6), tmp_path)
    (folder,) = tmp_path.iterdir()
    path = folder / f"{name}.npy"
    path.write_bytes(path.read_bytes()[:-1])
    resized(frames, (4, 6), tmp_path)
    assert frames.reads == 8


def test_a_part_of_labelled_frames_is_labelled(tmp_path: Path) -> None:
    arrays = resized(Subset(Known(), [2, 1]), (4, 6), tmp_path)
    assert arrays.labels is not None and arrays.pairs is not None
    assert arrays.pairs.valid.sum(1).tolist() == [2, 1]
