"""Depth maps of the networks on a front: which are drawn, and what is said of the others."""

from __future__ import annotations

from dataclasses import replace

import pytest
from PIL import Image
from report_studies import add, finish, four, make_study

from compress.data import open_data
from compress.errors import CompressError
from compress.models import build, save
from compress.report import gallery
from compress.report.findings import read
from compress.report.gallery import draw_front
from compress.report.page import write_report
from compress.report.pictures import pictures
from compress.space import load_space


@pytest.fixture(scope="module")
def data(tiny_folder):
    return open_data(f"folder:{tiny_folder}")


@pytest.fixture(scope="module")
def network(tiny_space):
    return build(replace(load_space(str(tiny_space)).smallest, size=(32, 48)), seed=0)


def keep(folder, network, *numbers: int) -> None:
    for number in numbers:
        save(network, folder / "networks" / f"{number}.safetensors")


def test_the_front_is_drawn_and_shown(tmp_path, data, network):
    study, said = four(), []  # fronts, by hand: 0, 1, 2 of MACs and 3, 1, 2 of parameters
    finish(study, 2, 0.87, heldout=0.83)
    keep(tmp_path, network, 0, 1, 2, 3, 4)
    (tmp_path / "samples.png").write_bytes(b"of trial 2, which won")
    written = draw_front(read(study), tmp_path, lambda: data, said.append)
    assert sorted(path.name for path in written) == [f"samples-{n}.png" for n in (0, 1, 3)]
    assert said == [] and all(path.stat().st_size < gallery.MOST_BYTES for path in written)
    with Image.open(written[0]) as image:
        assert image.width == 1000
    text = write_report(study, tmp_path).read_text("utf-8")
    assert [f'data-trial="{n}"' in text for n in range(5)] == [True, True, False, True, False]

    def fail():
        raise AssertionError("the data need not be opened: all are drawn")

    assert draw_front(read(study), tmp_path, fail, said.append) == []


def test_the_nearest_miss_is_shown_by_a_picture_of_its_own(tmp_path, data, network):
    study = make_study()
    number = add(study, (0.5, 0.6, 0.7))
    keep(tmp_path, network, number)
    draw_front(read(study), tmp_path, lambda: data, print)
    assert pictures(tmp_path, read(study).shown).keys() == {number}


def test_what_is_gone_is_said(tmp_path, network):
    said = []

    def gone():
        raise CompressError("folder:pairs: there is no such folder")

    assert draw_front(read(four()), tmp_path, gone, said.append) == []
    assert len(said) == 1 and "4 networks on the front" in said[0] and "no weights" in said[0]
    keep(tmp_path, network, 0)
    said.clear()
    assert draw_front(read(four()), tmp_path, gone, said.append) == []
    assert "3 networks" in said[0] and "1 network on the front: folder:pairs" in said[1]
    (tmp_path / "networks" / "0.safetensors").write_bytes(b"no weights")
    assert draw_front(read(four()), tmp_path, lambda: None, said.append) == []
    assert "0.safetensors" in said[-1] and said[-1].count("\n") == 0


def test_of_a_long_front_some_are_drawn(tmp_path, monkeypatch):
    study = make_study()
    for number in range(40):
        add(study, (0.2 + 0.01 * number,), params=1000 + number, macs=10**6 + number)
    chosen = gallery._chosen(read(study), tmp_path)
    assert len(chosen) == gallery.MOST
    assert [row.number for row in chosen][:: gallery.MOST - 1] == [0, 39]
