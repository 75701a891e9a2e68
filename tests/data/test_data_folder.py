"""Folders of pairs and TUM sequences, on small files and on the real frames beside the project."""

from __future__ import annotations

import pickle
import warnings
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from compress.data.files import natural, read_depth, read_rgb
from compress.data.folder import associate, open_folder, open_tum
from compress.errors import CompressError

SHARED = Path(__file__).resolve().parents[2].parent / "shared" / "data"


def save_rgb(path: Path, value: int = 7, size: tuple[int, int] = (4, 6)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.full((*size, 3), value, np.uint8)
    pixels[0, 1] = (1, 2, 3)
    Image.fromarray(pixels).save(path)


def save_depth(path: Path, value: int = 1500, size: tuple[int, int] = (4, 6)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    depth = np.full(size, value, np.uint16)
    depth[0, 0] = 0
    Image.fromarray(depth).save(path)


def make_pairs(root: Path, count: int) -> None:
    for i in range(count):
        save_rgb(root / f"rgb/{i}.png", i)
        save_depth(root / f"depth/{i}.png", 1000 + i)


def write_lists(root: Path, train: list[str], heldout: list[str]) -> None:
    (root / "train.txt").write_text("\n".join(train))
    (root / "heldout.txt").write_text("\n".join(heldout))


def test_lists_are_followed_to_the_value(tmp_path: Path) -> None:
    make_pairs(tmp_path, 3)
    write_lists(
        tmp_path,
        ["# colour depth", "", "rgb/0.png depth/0.png", "rgb/1.png\tdepth/1.png"],
        ["rgb/2.png depth/2.png"],
    )
    data = open_folder(tmp_path)
    assert data.train is not None
    assert list(data.train.names) == ["rgb/0.png", "rgb/1.png"]
    assert (len(data.heldout), data.cap_m, data.crop, data.size) == (1, 10.0, "none", (32, 32))
    sample = data.heldout[0]
    assert sample.rgb.dtype == np.uint8 and sample.rgb.shape == (4, 6, 3)
    assert sample.rgb[0, 1].tolist() == [1, 2, 3] and sample.rgb[3, 5].tolist() == [2, 2, 2]
    assert sample.depth_m.dtype == np.float32
    assert sample.depth_m[0, 0] == 0 and sample.depth_m[1, 1] == np.float32(1.002)
    assert open_folder(tmp_path, depth_scale=5000).heldout[0].depth_m[1, 1] == np.float32(0.2004)


def test_names_with_blanks_by_tab_and_by_quotes(tmp_path: Path) -> None:
    save_rgb(tmp_path / "my rgb/it's one.png")
    save_depth(tmp_path / "my depth/1.png")
    write_lists(
        tmp_path,
        ["my rgb/it's one.png\tmy depth/1.png"],
        ['"my rgb/it\'s one.png" "my depth/1.png"'],
    )
    with pytest.warns(UserWarning, match="1 frames are in both splits"):
        data = open_folder(tmp_path)
    assert data.train is not None and data.train.names == data.heldout.names


def test_heldout_alone_has_no_train(tmp_path: Path) -> None:
    make_pairs(tmp_path, 1)
    (tmp_path / "heldout.txt").write_text("rgb/0.png depth/0.png\n")
    assert open_folder(tmp_path).train is None


def test_found_by_name_and_split_in_blocks(tmp_path: Path) -> None:
    make_pairs(tmp_path, 30)
    save_rgb(tmp_path / "rgb/lone.png")
    with pytest.warns(UserWarning, match=r"1 files have no partner.*'lone'"):
        data = open_folder(tmp_path, seed=3)
    assert data.train is not None and len(data.heldout) == 6
    order = {f"rgb/{i}.png": i for i in range(30)}
    train, held = ([order[n] for n in part.names] for part in (data.train, data.heldout))
    assert train == sorted(train) and held == sorted(held)
    assert min(abs(a - b) for a in train for b in held) > 1
    with pytest.warns(UserWarning):
        assert open_folder(tmp_path, seed=3).heldout.names == data.heldout.names


def test_suffix_pairs(tmp_path: Path) -> None:
    for i in range(2):
        save_rgb(tmp_path / f"a{i}_rgb.jpg")
        np.save(tmp_path / f"a{i}_depth.npy", np.full((4, 6), 1.5 + i))
    data = open_folder(tmp_path)
    assert data.train is not None
    found = {data.train.names[0], data.heldout.names[0]}
    assert found == {"a0_rgb.jpg", "a1_rgb.jpg"}


def test_depth_formats(tmp_path: Path) -> None:
    bad = [[np.nan, np.inf, -1.0, 0.0, 2.5]]
    np.save(tmp_path / "f.npy", np.array(bad, np.float64))
    assert read_depth(tmp_path / "f.npy", 1000).tolist() == [[0, 0, 0, 0, 2.5]]
    np.save(tmp_path / "i.npy", np.asfortranarray(np.array([[-5, 0, 65535, 500]], np.int32)))
    got = read_depth(tmp_path / "i.npy", 1000, invalid=65535)
    assert got.tolist() == [[0, 0, 0, 0.5]] and got.flags.c_contiguous
    Image.fromarray(np.array([[0, 255, 51]], np.uint8)).save(tmp_path / "8.png")
    assert read_depth(tmp_path / "8.png", 25.5).tolist() == [[0, 10, 2]]
    with pytest.raises(CompressError, match="8-bit depth where this format has 16-bit"):
        read_depth(tmp_path / "8.png", 1000, bits=16)


def test_a_frame_with_no_depth_loads(tmp_path: Path) -> None:
    save_rgb(tmp_path / "a.png")
    save_depth(tmp_path / "b.png", 0)
    (tmp_path / "heldout.txt").write_text("a.png b.png")
    assert not open_folder(tmp_path).heldout[0].depth_m.any()


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros((2, 2, 1)), r"shape \(2, 2, 1\)"),
        (np.array([[True]]), "bool"),
        (np.array([[{}]], dtype=object), "plain .npy"),
    ],
)
def test_npy_that_is_no_depth(tmp_path: Path, array: np.ndarray, message: str) -> None:
    np.save(tmp_path / "x.npy", array, allow_pickle=True)
    with pytest.raises(CompressError, match=message):
        read_depth(tmp_path / "x.npy", 1000)


def test_pickles_are_never_opened(tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return pytest.fail, ("unpickled",)

    (tmp_path / "x.npy").write_bytes(pickle.dumps(Trap()))
    with pytest.raises(CompressError, match=r"x\.npy"):
        read_depth(tmp_path / "x.npy", 1000)


@pytest.mark.parametrize("cut", [0, 20, 60])
def test_truncated_and_garbled_files_are_named(tmp_path: Path, cut: int) -> None:
    noise = np.random.default_rng(0).integers(0, 9000, (20, 20)).astype(np.uint16)
    Image.fromarray(noise).save(tmp_path / "d.png")
    np.save(tmp_path / "d.npy", noise)
    Image.fromarray(noise.astype(np.uint8)).save(tmp_path / "c.jpg")
    for name in ("d.png", "d.npy", "c.jpg"):
        path = tmp_path / name
        path.write_bytes(path.read_bytes()[:cut])
        with pytest.raises(CompressError, match=name):
            read_rgb(path) if name == "c.jpg" else read_depth(path, 1000)


def test_colour_and_depth_swapped(tmp_path: Path) -> None:
    make_pairs(tmp_path, 1)
    with pytest.raises(CompressError, match="colour comes first"):
        read_rgb(tmp_path / "depth/0.png")
    with pytest.raises(CompressError, match="'RGB' pixels are not depth"):
        read_depth(tmp_path / "rgb/0.png", 1000)


def test_sizes_that_differ(tmp_path: Path) -> None:
    save_rgb(tmp_path / "a.png", size=(4, 6))
    save_depth(tmp_path / "b.png", size=(2, 3))
    (tmp_path / "heldout.txt").write_text("a.png b.png")
    with pytest.raises(CompressError, match=r"a\.png is 6x4 but .*b\.png is 3x2"):
        open_folder(tmp_path).heldout[0]


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ("", "the list is empty"),
        ("# nothing\n\n", "the list is empty"),
        ("rgb/0.png depth/0.png\nrgb/0.png", r"heldout\.txt:2: .*1 fields"),
        ("rgb/0.png depth/0.png 518.8", r"heldout\.txt:1: .*3 fields"),
        ("'rgb/0.png depth/0.png", r"heldout\.txt:1: .*No closing quotation"),
        ("rgb/0.png depth/9.png\nrgb/8.png depth/0.png", r"2 of 4 files.*depth/9\.png"),
    ],
)
def test_bad_lists(tmp_path: Path, lines: str, message: str) -> None:
    make_pairs(tmp_path, 1)
    (tmp_path / "heldout.txt").write_text(lines)
    with pytest.raises(CompressError, match=message):
        open_folder(tmp_path)


def test_other_bad_folders(tmp_path: Path) -> None:
    with pytest.raises(CompressError, match="found no pairs"):
        open_folder(tmp_path)
    make_pairs(tmp_path, 1)
    with pytest.raises(CompressError, match="at least 2 frames"):
        open_folder(tmp_path)
    save_rgb(tmp_path / "rgb/0.jpg")
    with pytest.raises(CompressError, match="both claim"):
        open_folder(tmp_path)
    (tmp_path / "train.txt").write_text("rgb/0.png depth/0.png")
    with pytest.raises(CompressError, match=r"no heldout\.txt"):
        open_folder(tmp_path)
    (tmp_path / "heldout.txt").write_bytes(b"\xff\xfe\xff")
    with pytest.raises(CompressError, match="cannot be read as a text list"):
        open_folder(tmp_path)


def test_fingerprint_follows_files_and_decoding(tmp_path: Path) -> None:
    make_pairs(tmp_path, 1)
    (tmp_path / "heldout.txt").write_text("rgb/0.png depth/0.png")
    first = open_folder(tmp_path).heldout.fingerprint
    assert open_folder(tmp_path).heldout.fingerprint == first
    assert open_folder(tmp_path, depth_scale=5000).heldout.fingerprint != first
    save_depth(tmp_path / "depth/0.png", 77)
    assert open_folder(tmp_path).heldout.fingerprint != first


def test_natural_order() -> None:
    assert sorted(["f10", "f2", "a", "f1b"], key=natural) == ["a", "f1b", "f2", "f10"]


def make_tum(root: Path, count: int = 10) -> None:
    rgb, depth = ["# timestamp filename"], ["# timestamp filename"]
    for i in range(count):
        save_rgb(root / f"rgb/{i}.png", i)
        save_depth(root / f"depth/{i}.png", 5000 + i)
        rgb.append(f"{i / 10:.3f} rgb/{i}.png")
        depth.append(f"{i / 10 + (0.005 if i != 4 else 0.045):.3f} depth/{i}.png")
    (root / "rgb.txt").write_text("\n".join(rgb))
    (root / "depth.txt").write_text("\n".join(depth))


def test_tum_matches_by_time(tmp_path: Path) -> None:
    make_tum(tmp_path)
    data = open_tum(tmp_path)
    assert data.train is not None and (data.cap_m, len(data.heldout)) == (10.0, 2)
    assert "rgb/4.png" not in {*data.train.names, *data.heldout.names}
    sample = data.heldout[0]
    assert sample.depth_m[1, 1] == np.float32((5000 + int(sample.rgb[1, 1, 0])) / 5000)


def test_tum_follows_associations_in_either_order(tmp_path: Path) -> None:
    make_tum(tmp_path, 3)
    (tmp_path / "associations.txt").write_text(
        "0.0 rgb/0.png 0.0 depth/2.png\n0.1 depth/1.png 0.1 rgb/1.png"
    )
    data = open_tum(tmp_path)
    assert data.train is not None
    frames = {s.name: s for part in (data.train, data.heldout) for s in part}
    assert frames["rgb/0.png"].depth_m[1, 1] == np.float32(5002 / 5000)
    assert frames["rgb/1.png"].depth_m[1, 1] == np.float32(5001 / 5000)


def test_tum_errors(tmp_path: Path) -> None:
    with pytest.raises(CompressError, match=r"rgb\.txt"):
        open_tum(tmp_path)
    make_tum(tmp_path, 2)
    (tmp_path / "depth.txt").write_text("9 depth/0.png")
    with pytest.raises(CompressError, match=r"no image of rgb\.txt is within 0\.02 s"):
        open_tum(tmp_path)
    (tmp_path / "depth.txt").write_text("9 depth/0.png\nsoon depth/1.png")
    with pytest.raises(CompressError, match=r"depth\.txt:2: 'soon'"):
        open_tum(tmp_path)


@given(
    st.lists(st.integers(0, 200), max_size=20, unique=True),
    st.lists(st.integers(0, 200), max_size=20, unique=True),
)
def test_association_is_one_to_one_and_close(a: list[int], b: list[int]) -> None:
    first, second = (sorted(t / 100 for t in times) for times in (a, b))
    matches = associate(first, second, 0.02)
    assert len({i for i, _ in matches}) == len({j for _, j in matches}) == len(matches)
    assert all(abs(first[i] - second[j]) <= 0.02 + 1e-9 for i, j in matches)
    for i, time in enumerate(first):
        if time in second:
            assert (i, second.index(time)) in matches


@pytest.mark.parametrize(("name", "train", "heldout"), [("kitchen", 600, 150), ("nyu_style", 0, 3)])
def test_real_frames(name: str, train: int, heldout: int) -> None:
    root = SHARED / name
    if not root.is_dir():
        pytest.skip(f"real frames of {name} are not beside the project")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        data = open_folder(root)
    assert (len(data.train) if data.train else 0, len(data.heldout)) == (train, heldout)
    sample = data.heldout[0]
    valid = sample.depth_m[sample.depth_m > 0]
    assert valid.size > 0.5 * sample.depth_m.size
    assert valid.min() > 0.3 and valid.max() < 10
