"""NYU Depth v2 in its three forms, on small files made here."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import struct
import zlib
from pathlib import Path

import h5py
import numpy as np
import pytest
from PIL import Image

from compress.data.nyu import MAT, LabelledMat, open_nyu, read_mat
from compress.errors import CompressError

N, H, W = 9, 4, 6
RGB = np.arange(N * H * W * 3).reshape(N, H, W, 3).astype(np.uint8)
DEPTH = (np.arange(N * H * W).reshape(N, H, W) / 100).astype(np.float32)


def make_mat(root: Path) -> Path:
    root.mkdir(parents=True, exist_ok=True)
    with h5py.File(root / MAT, "w") as file:
        file["images"] = RGB.transpose(0, 3, 2, 1)  # (N, 3, W, H)
        file["depths"] = DEPTH.transpose(0, 2, 1)  # (N, W, H)
    return root / MAT


def element(kind: int, body: bytes, order: str) -> bytes:
    if 0 < len(body) <= 4:
        return struct.pack(f"{order}I", len(body) << 16 | kind) + body.ljust(4, b"\0")
    return struct.pack(f"{order}II", kind, len(body)) + body + b"\0" * (-len(body) % 8)


def mat5(arrays: dict[str, np.ndarray], order: str = "<", packed: bool = False) -> bytes:
    """A MATLAB 5 file, written from the format's description."""
    header = b"MATLAB 5.0 MAT-file".ljust(124) + struct.pack(f"{order}HH", 0x0100, 0x4D49)
    for name, array in arrays.items():
        kind = {"uint16": 4, "float64": 9, "uint8": 2}[array.dtype.name]
        body = element(6, struct.pack(f"{order}II", 6, 0), order)
        body += element(5, struct.pack(f"{order}{array.ndim}i", *array.shape), order)
        body += element(1, name.encode(), order)
        body += element(kind, array.astype(array.dtype.newbyteorder(order)).tobytes("F"), order)
        whole = element(14, body, order)
        if packed:
            squeezed = zlib.compress(whole)
            whole = struct.pack(f"{order}II", 15, len(squeezed)) + squeezed
        header += whole
    return header


def column(*values: int) -> np.ndarray:
    return np.array(values, np.uint16)[:, None]


def test_mat_with_the_official_split(tmp_path: Path) -> None:
    path = make_mat(tmp_path)
    split = {"trainNdxs": column(1, 3, 5, 6, 8), "testNdxs": column(2, 9)}
    (tmp_path / "splits.mat").write_bytes(mat5(split, packed=True))
    for spec in (path, tmp_path):
        data = open_nyu(spec)
        assert (data.name, data.size, data.cap_m, data.crop) == (
            "nyu:labelled",
            (480, 640),
            10.0,
            "nyu",
        )
        assert data.train is not None and len(data.train) == 5
        assert list(data.heldout.names) == ["labelled/0002", "labelled/0009"]
        sample = data.heldout[1]
        np.testing.assert_array_equal(sample.rgb, RGB[8])
        np.testing.assert_array_equal(sample.depth_m, DEPTH[8])
        assert sample.rgb.dtype == np.uint8 and sample.depth_m.dtype == np.float32


def test_mat_with_index_lists(tmp_path: Path) -> None:
    path = make_mat(tmp_path)
    (tmp_path / "train.txt").write_text("1\n2 3\n")
    (tmp_path / "test.txt").write_text("4\n")
    data = open_nyu(path)
    assert data.train is not None and len(data.train) == 3
    assert list(data.heldout.names) == ["labelled/0004"]
    for wrong, message in (("0", "names frame 0; the .mat has 1 to 9"), ("x", "no frame number")):
        (tmp_path / "test.txt").write_text(wrong)
        with pytest.raises(CompressError, match=message):
            open_nyu(path)
    (tmp_path / "test.txt").write_text("3")
    with pytest.warns(UserWarning, match="in both splits"):
        open_nyu(path)


def test_mat_without_a_split_says_so(tmp_path: Path) -> None:
    path = make_mat(tmp_path)
    with pytest.warns(UserWarning, match="do not compare"):
        data = open_nyu(path)
    assert "not the official split" in data.name
    assert data.train is not None and not set(data.train.names) & set(data.heldout.names)


def read_first(frames: LabelledMat, queue: multiprocessing.Queue) -> None:  # type: ignore[type-arg]
    queue.put(float(frames[3].depth_m[2, 2]))


def test_mat_is_reopened_after_a_fork_and_pickles_closed(tmp_path: Path) -> None:
    frames = LabelledMat(make_mat(tmp_path))
    assert frames[3].depth_m[2, 2] == DEPTH[3, 2, 2]
    copy = pickle.loads(pickle.dumps(frames))
    assert copy[-1].depth_m[2, 2] == DEPTH[-1, 2, 2] and copy.fingerprint == frames.fingerprint
    if not hasattr(os, "fork"):
        pytest.skip("this system does not fork")
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    child = context.Process(target=read_first, args=(frames, queue))
    child.start()
    assert queue.get(timeout=20) == DEPTH[3, 2, 2]
    child.join()
    with pytest.raises(IndexError):
        frames[N]


def test_mats_that_are_not_it(tmp_path: Path) -> None:
    path = tmp_path / MAT
    path.write_bytes(b"not HDF5")
    with pytest.raises(CompressError, match="cannot be read as HDF5"):
        open_nyu(tmp_path)
    with h5py.File(path, "w") as file:
        file["images"] = np.zeros((2, 3, W, H), np.uint8)
    with pytest.raises(CompressError, match="depths missing"):
        open_nyu(path)
    with h5py.File(path, "a") as file:
        file["depths"] = np.zeros((2, H, W), np.float32)
    with pytest.raises(CompressError, match=r"depths \(2, 4, 6\)"):
        open_nyu(path)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("packed", [False, True])
def test_matlab_5_arrays(tmp_path: Path, order: str, packed: bool) -> None:
    arrays = {"a": np.arange(6.0).reshape(2, 3), "long_name": column(1, 2), "b": column(7)}
    (tmp_path / "s.mat").write_bytes(mat5(arrays, order, packed))
    found = read_mat(tmp_path / "s.mat")
    assert set(found) == set(arrays)
    for name, array in arrays.items():
        np.testing.assert_array_equal(found[name], array)


def test_matlab_73_arrays(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "s.mat", "w") as file:
        file["trainNdxs"] = [[1, 2]]
    assert read_mat(tmp_path / "s.mat")["trainNdxs"].tolist() == [[1, 2]]


@pytest.mark.parametrize("content", [b"", b"<html>not found</html>" * 9, None])
def test_split_files_that_are_broken(tmp_path: Path, content: bytes | None) -> None:
    path = make_mat(tmp_path)
    whole = mat5({"trainNdxs": column(*range(1, 9))})
    (tmp_path / "splits.mat").write_bytes(whole[:-9] if content is None else content)
    with pytest.raises(CompressError, match=r"splits\.mat: is no MATLAB"):
        open_nyu(path)
    (tmp_path / "splits.mat").write_bytes(whole)
    with pytest.raises(CompressError, match="holds trainNdxs; the official"):
        open_nyu(path)


def make_csv(root: Path, base: str = "data/") -> None:
    for part, count in (("train", 2), ("test", 1)):
        folder = root / base / f"nyu2_{part}" / "room"
        folder.mkdir(parents=True)
        rows = []
        for i in range(count):
            Image.fromarray(RGB[i]).save(folder / f"{i}_colors.png")
            depth = np.array([[0, 51, 255]], np.uint8).repeat(2, 1).repeat(H, 0)
            if part == "test":
                depth = depth.astype(np.uint16) * 100
            Image.fromarray(depth).save(folder / f"{i}.png")
            stem = f"{base}nyu2_{part}/room/{i}"
            rows.append(f"{stem}_colors.png,{stem}.png")
        (root / base / f"nyu2_{part}.csv").write_bytes("\r\n".join(rows).encode())


@pytest.mark.parametrize("base", ["data/", ""])
def test_csv_folder(tmp_path: Path, base: str) -> None:
    root = tmp_path / "nyu"
    make_csv(root, base)
    for spec in {root, root / base}:
        data = open_nyu(spec)
        assert data.name == "nyu:densedepth" and data.crop == "nyu"
        assert data.train is not None and len(data.train) == 2 and len(data.heldout) == 1
        assert data.train[1].depth_m[0, ::2].tolist() == [0, 2, 10]
        np.testing.assert_array_equal(data.train[1].rgb, RGB[1])
        np.testing.assert_allclose(data.heldout[0].depth_m[0, ::2], [0, 5.1, 25.5])


def test_csv_folder_errors(tmp_path: Path) -> None:
    make_csv(tmp_path)
    (tmp_path / "data/nyu2_train.csv").unlink()
    assert open_nyu(tmp_path).train is None
    test = tmp_path / "data/nyu2_test.csv"
    row = test.read_text()
    test.write_text(row.replace(",", ";"))
    with pytest.raises(CompressError, match=r"nyu2_test\.csv:1: .*a row is"):
        open_nyu(tmp_path)
    test.write_text(f"{row}\ndata/x.png,data/y.png")
    with pytest.raises(CompressError, match=r"2 of 4 files are missing, the first is .*x\.png"):
        open_nyu(tmp_path)
    test.write_text(row)
    Image.fromarray(np.zeros((H, W), np.uint8)).save(tmp_path / "data/nyu2_test/room/0.png")
    with pytest.raises(CompressError, match="8-bit depth where this format has 16-bit"):
        open_nyu(tmp_path).heldout[0]


def make_h5(root: Path) -> None:
    for name, i in (("train/room/00002", 2), ("train/room/00010", 3), ("val/official/1", 4)):
        path = root / f"{name}.h5"
        path.parent.mkdir(parents=True, exist_ok=True)
        with h5py.File(path, "w") as file:
            file["rgb"] = RGB[i].transpose(2, 0, 1)
            file["depth"] = DEPTH[i]


def test_h5_folders(tmp_path: Path) -> None:
    make_h5(tmp_path)
    data = open_nyu(tmp_path)
    assert data.train is not None
    assert list(data.train.names) == ["train/room/00002.h5", "train/room/00010.h5"]
    assert list(data.heldout.names) == ["val/official/1.h5"] and data.size == (480, 640)
    np.testing.assert_array_equal(data.train[1].rgb, RGB[3])
    np.testing.assert_array_equal(data.heldout[0].depth_m, DEPTH[4])


def test_h5_folder_errors(tmp_path: Path) -> None:
    make_h5(tmp_path)
    frame = tmp_path / "val/official/1.h5"
    with h5py.File(frame, "a") as file:
        del file["depth"]
    with pytest.raises(CompressError, match=r"1\.h5: cannot be read"):
        open_nyu(tmp_path).heldout[0]
    with h5py.File(frame, "a") as file:
        file["depth"] = np.zeros((H, W + 1))
    with pytest.raises(CompressError, match=r"depth \(4, 7\) are not"):
        open_nyu(tmp_path).heldout[0]
    frame.write_bytes(frame.read_bytes()[:100])
    with pytest.raises(CompressError, match="cannot be read as HDF5"):
        open_nyu(tmp_path).heldout[0]
    frame.unlink()
    with pytest.raises(CompressError, match=r"val: has no \.h5 files"):
        open_nyu(tmp_path)


def test_a_folder_of_nothing_known(tmp_path: Path) -> None:
    with pytest.raises(CompressError, match="none of the known forms"):
        open_nyu(tmp_path)
