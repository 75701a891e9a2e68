"""Depth in the Wild: its lists, its pairs of points, and what is said about broken ones."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from compress.data import open_data, resized
from compress.data.diw import open_diw
from compress.errors import CompressError


def picture(path: Path, size: tuple[int, int] = (40, 60)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((*size, 3), 90, np.uint8)).save(path, "JPEG")


@pytest.fixture
def diw(tmp_path: Path) -> Path:
    """As published: .thumb files in two folders, lists with paths that start with a dot."""
    for name in ("a", "b"):
        picture(tmp_path / f"DIW_train_val/{name}.thumb")
    picture(tmp_path / "DIW_test/c.thumb")
    (tmp_path / "DIW_train.csv").write_text(
        "./DIW_train_val/a.thumb\n1,1,40,60,>,60,40\n./DIW_train_val/b.thumb\n10,20,30,6,<,60,40\n"
    )
    (tmp_path / "DIW_test.csv").write_text("./DIW_test/c.thumb\r\n20,30,21,31,=,60,40\r\n")
    return tmp_path


def test_published_layout(diw: Path) -> None:
    data = open_data(f"diw:{diw}")
    assert (data.relative, data.cap_m, data.crop) == (True, 80.0, "none")
    assert all(side % 32 == 0 for side in data.size) and data.train is not None
    assert list(data.train.names) == ["./DIW_train_val/a.thumb", "./DIW_train_val/b.thumb"]
    a, b, c = *data.train, data.heldout[-1]
    assert a.rgb.shape == (40, 60, 3) and a.depth_m.shape == (40, 60) and not a.depth_m.any()
    assert a.pairs is not None and b.pairs is not None and c.pairs is not None
    # Pixel i of n, counted from 1, has its centre at (i - 0.5) / n.
    expected = [[0.5 / 40, 0.5 / 60, 39.5 / 40, 59.5 / 60]]
    np.testing.assert_allclose(a.pairs.coordinates, expected, rtol=1e-6)
    assert [p.order.tolist() for p in (a.pairs, b.pairs, c.pairs)] == [[1], [-1], [0]]
    assert a.pairs.order.dtype == np.int8 and a.pairs.coordinates.dtype == np.float32
    assert a.pairs.valid.tolist() == [True] and data.train.most_pairs == 1


def test_arrays_have_pairs(diw: Path, tmp_path: Path) -> None:
    frames = open_diw(diw).train
    assert frames is not None
    arrays = resized(frames, (32, 32), tmp_path / "cache")
    assert arrays.pairs is not None and arrays.pairs.order.tolist() == [[1], [-1]]
    assert arrays.pairs.valid.all() and not arrays.depth_m.any()
    np.testing.assert_allclose(arrays.pairs.coordinates[1, 0, :2], [9.5 / 40, 19.5 / 60])


@pytest.mark.parametrize("place", ["DIW_Annotations", "DIW_Annotations_splitted"])
def test_lists_in_their_own_folder_and_images_beside(tmp_path: Path, place: str) -> None:
    picture(tmp_path / "c.jpg")
    picture(tmp_path / "other" / "d.jpg")
    (tmp_path / place).mkdir()
    rows = "/home/someone/DIW/c.jpg\n1,1,2,2,>,60,40\nother/d.jpg\n1,1,2,2,<,60,40\n"
    (tmp_path / place / "test.csv").write_text(rows)
    data = open_diw(tmp_path)
    assert data.train is None and len(data.heldout) == 2
    assert data.heldout[1].rgb.shape == (40, 60, 3)


def test_several_pairs_of_one_image(diw: Path) -> None:
    text = "c.thumb\n1,1,2,2,>,60,40\n3,3,4,4,<,60,40\nDIW_train_val/a.thumb\n5,5,6,6,>,60,40\n"
    (diw / "DIW_test.csv").write_text(text)
    with pytest.warns(UserWarning, match="1 frames are in both splits"):
        (diw / "DIW_train.csv").write_text("c.thumb\n1,1,2,2,>,60,40\n")
        heldout = open_diw(diw).heldout
    assert heldout.most_pairs == 2
    first, second = (sample.pairs for sample in heldout)
    assert first is not None and first.order.tolist() == [1, -1]
    assert second is not None and second.order.tolist() == [1]
    np.testing.assert_allclose(second.coordinates[0, 0], 4.5 / 40)


def test_the_fingerprint_holds_the_pairs(diw: Path) -> None:
    before = open_diw(diw).heldout.fingerprint
    assert open_diw(diw).heldout.fingerprint == before
    (diw / "DIW_test.csv").write_text("./DIW_test/c.thumb\n20,30,21,31,>,60,40\n")
    assert open_diw(diw).heldout.fingerprint != before


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ("c.thumb\n1,1,2,2,~,60,40", r"test\.csv:2: the order is '~'; write >"),
        ("c.thumb\n0,1,2,2,>,60,40", r"test\.csv:2: a point of .* outside its image; y is 1 to 40"),
        ("c.thumb\n1,1,2,61,>,60,40", "x is 1 to 60"),
        ("c.thumb\n1,nan,2,2,>,60,40", "outside its image"),
        ("c.thumb\n1,1,2,2,>,0,0", "outside its image"),
        ("c.thumb\n1,1,2,two,>,60,40", "is 'y_A,x_A,y_B,x_B,ORDER,width,height' in pixels"),
        ("c.thumb\n1,1,2,2,>,60", "has 6 fields where a pair is"),
        ("1,1,2,2,>,60,40\nc.thumb", "a list starts with the path of an image"),
        ("c.thumb\n1,1,2,2,>,60,40\nc.thumb", "c.thumb has no pair of points.*cut off"),
        ("c.thumb\nc.thumb\n1,1,2,2,>,60,40", "c.thumb has no pair of points"),
        ("x.thumb\n1,1,2,2,>,60,40", "1 of 1 images are missing, the first is x.thumb; put"),
        ("", "the list is empty"),
    ],
)
def test_broken_lists(diw: Path, rows: str, message: str) -> None:
    (diw / "DIW_test.csv").write_text(rows)
    with pytest.raises(CompressError, match=message) as caught:
        open_diw(diw)
    assert "\n" not in str(caught.value)


def test_no_list_and_no_image(diw: Path) -> None:
    (diw / "DIW_test/c.thumb").write_bytes(b"no image")
    with pytest.raises(CompressError, match=r"c\.thumb: cannot be read as an image"):
        _ = open_diw(diw).heldout[0]
    (diw / "DIW_test.csv").unlink()
    with pytest.raises(CompressError, match=r"there is no DIW_test\.csv or test\.csv"):
        open_diw(diw)
    with pytest.raises(CompressError, match="diw: names no place; write diw:DIR"):
        open_data("diw")
