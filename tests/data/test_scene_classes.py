"""Class maps of rendered scenes: true to the geometry, and drawn only where asked for."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from compress.data import open_data, resized
from compress.data._bodies import Camera, Material
from compress.data._classes import NUMBER, SKY
from compress.data._render import Scene, class_image, visible
from compress.data._rooms import INDOOR
from compress.data._stage import Stage
from compress.data._streets import OUTDOOR
from compress.data.scenes import SCENE_CLASSES, open_scenes, render_scene, scene_classes
from compress.data.types import NO_CLASS
from compress.errors import CompressError

SMALL = (48, 64)
kinds = st.sampled_from(["indoor", "outdoor"])
seeds = st.integers(0, 2**40)
# Heights (m) above the floor or road at which a class may be seen, where it is level ground.
GROUND = {
    "floor": (0.0, 0.01), "ceiling": (2.58, 2.6), "road": (0.0, 0.01), "pavement": (0.0, 0.15),
    "grass": (-0.02, -0.02),
}  # fmt: skip


@settings(max_examples=30)
@given(seed=seeds, kind=kinds)
def test_classes_agree_with_the_geometry(seed: int, kind: str) -> None:
    frame = render_scene(seed, kind, SMALL, labels=True)
    labels, depth_m = frame.labels, frame.depth_m
    assert labels is not None and labels.shape == SMALL and labels.dtype == np.uint8
    assert labels.max() < len(SCENE_CLASSES)  # every pixel has a class
    assert not depth_m[labels == SKY].any()
    assert (labels != SKY).all() or kind == "outdoor"
    camera = INDOOR if kind == "indoor" else OUTDOOR
    height = depth_m * camera.grid(SMALL).y + camera.height_m
    for name, (low, high) in GROUND.items():
        seen = height[(labels == NUMBER[name]) & (depth_m > 0)]
        slack = 1e-3 + 1e-5 * depth_m.max()
        assert ((seen > low - slack) & (seen < high + slack)).all(), name
    person = height[(labels == NUMBER["person"]) & (depth_m > 0)]
    assert ((person > 0.1) & (person < 1.9)).all()


@settings(max_examples=10)
@given(seed=seeds, kind=kinds)
def test_the_picture_is_the_same_and_the_map_alone_too(seed: int, kind: str) -> None:
    plain, with_map = render_scene(seed, kind, SMALL), render_scene(seed, kind, SMALL, labels=True)
    assert plain.labels is None and with_map.labels is not None
    np.testing.assert_array_equal(plain.rgb, with_map.rgb)
    np.testing.assert_array_equal(plain.depth_m, with_map.depth_m)
    np.testing.assert_array_equal(scene_classes(seed, kind, SMALL), with_map.labels)


@settings(max_examples=10)
@given(seed=seeds, kind=kinds)
def test_other_sizes_show_the_same_classes(seed: int, kind: str) -> None:
    triple = scene_classes(seed, kind, (SMALL[0] * 3, SMALL[1] * 3))
    middles = triple[1::3, 1::3]  # these pixels have the same centres
    assert (scene_classes(seed, kind, SMALL) == middles).mean() > 0.995


def test_every_class_is_somewhere() -> None:
    seen: set[int] = set()
    for kind in ("indoor", "outdoor"):
        for seed in range(60):
            seen |= set(np.unique(scene_classes(seed, kind, (24, 32))).tolist())
    assert seen == set(range(len(SCENE_CLASSES)))
    assert len(SCENE_CLASSES) <= 19 < NO_CLASS


def test_a_seat_before_a_wall_by_hand() -> None:
    scene = Scene(Camera(height_m=1.5, pitch_rad=0.0, focal=0.8))
    stage = Stage(scene, np.random.default_rng(0), 0.0, (0.0, 1.0, 0.0))
    grey = Material((0.5, 0.5, 0.5))
    stage.of("seat").ball(0.5, (0.0, 1.5, 2.5), grey)
    stage.of("wall").face((-9, 1.5, 5), (1, 0, 0), (0, 1, 0), (0, 0, -1), (18.0, 9.0), grey)
    labels = class_image(scene, visible(scene), (97, 129), SKY)
    assert labels[48, 64] == NUMBER["seat"]
    assert labels[5, 64] == NUMBER["wall"] and labels[90, 64] == SKY


def names_of(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def open_small(folder: Path, labels: bool, seen: list[int] | None = None):
    def note(done: int, of: int) -> None:
        if seen is not None:
            seen.append(done)

    return open_scenes(
        "mixed", train=4, heldout=3, size=SMALL, labels=labels, cache_dir=folder, progress=note
    )


def test_maps_are_drawn_when_first_asked_for_and_the_scenes_are_not_drawn_again(
    tmp_path: Path,
) -> None:
    plain = open_small(tmp_path, False)
    assert plain.classes == () and plain.heldout[0].labels is None
    (folder,) = tmp_path.iterdir()
    assert names_of(folder) == {"rgb.npy", "depth_m.npy"}
    before = (folder / "rgb.npy").stat().st_mtime_ns
    seen: list[int] = []
    data = open_small(tmp_path, True, seen)
    assert seen == list(range(1, 8)) and names_of(folder) == {
        "rgb.npy", "depth_m.npy", "classes.npy",
    }  # fmt: skip
    assert (folder / "rgb.npy").stat().st_mtime_ns == before
    assert data.train is not None and data.classes == data.train.classes == SCENE_CLASSES
    for frames in (data.train, data.heldout):
        for frame in frames:
            _, of, number = frame.name.split("@")[0].split("/")
            np.testing.assert_array_equal(frame.labels, scene_classes(int(number), of, SMALL))
    seen.clear()
    assert open_small(tmp_path, True, seen).heldout[0].labels is not None and not seen
    assert open_small(tmp_path, False).heldout[0].labels is None
    assert plain.heldout.split_hash == data.heldout.split_hash


@pytest.mark.parametrize("harm", ["cut", "garbage", "other"])
def test_a_broken_map_is_drawn_again(tmp_path: Path, harm: str) -> None:
    first = open_small(tmp_path, True).heldout[2].labels
    (folder,) = tmp_path.iterdir()
    path = folder / "classes.npy"
    if harm == "cut":
        path.write_bytes(path.read_bytes()[:-100])
    elif harm == "garbage":
        path.write_bytes(b"not an array")
    else:
        np.save(path, (np.load(path) + 1).astype(np.uint8))
    seen: list[int] = []
    np.testing.assert_array_equal(open_small(tmp_path, True, seen).heldout[2].labels, first)
    assert seen[-1] == 7
    assert names_of(folder) == {"rgb.npy", "depth_m.npy", "classes.npy"}


def test_maps_that_cannot_be_kept(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with (
        pytest.warns(UserWarning, match="cannot keep the scenes"),
        pytest.warns(UserWarning, match=r"class maps .* COMPRESS_CACHE"),
    ):
        data = open_small(tmp_path / "file" / "cache", True)
    np.testing.assert_array_equal(
        data.heldout[0].labels, open_small(tmp_path, True).heldout[0].labels
    )


def test_by_spec_and_resized(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COMPRESS_CACHE", str(tmp_path))
    options = {"train": 4, "heldout": 2, "size": SMALL}
    plain = resized(open_data("scenes:outdoor", scenes_options=options).heldout, (24, 32))
    before = {p.name: p.stat().st_mtime_ns for p in tmp_path.glob("frames-*/*")}
    data = open_data("scenes:outdoor", labels=True, scenes_options=options)
    arrays = resized(data.heldout, (24, 32))
    assert plain.labels is None and arrays.labels is not None
    assert arrays.labels.shape == (2, 24, 32) and arrays.labels.dtype == np.uint8
    np.testing.assert_array_equal(plain.depth_m, arrays.depth_m)
    for name, time in before.items():  # what was cached without class maps is untouched
        assert any(p.stat().st_mtime_ns == time for p in tmp_path.glob(f"frames-*/{name}"))
    # Each value is the nearest pixel's, the upper left of four equally near ones.
    sample = data.heldout[0]
    assert sample.labels is not None
    np.testing.assert_array_equal(arrays.labels[0], sample.labels[::2, ::2])


@pytest.mark.parametrize("kind", ["tum", "nyu", "kitti", "diw", "redweb"])
def test_data_without_class_maps_say_so(tmp_path: Path, kind: str) -> None:
    with pytest.raises(CompressError, match=f"asked for with {kind}:; only scenes and folder"):
        open_data(f"{kind}:{tmp_path}", labels=True)
