from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from toys import shipped

from compress.errors import CompressError
from compress.models import DepthNet, build, files, load, save
from compress.models.shapes import identity, pruned_shapes
from compress.pruning import copy_cut, find_groups
from compress.space import load_space


@pytest.fixture(scope="module")
def pruned() -> DepthNet:
    model = shipped("depthnet-nano")
    groups = find_groups(model, (32, 48), verify=False)
    keeps = {g.name: range(0, g.channels, 2) for g in groups if g.prunable}
    cut = copy_cut(model, keeps, groups)
    assert isinstance(cut, DepthNet)
    return cut


def header(path: Path) -> dict[str, str]:
    with safe_open(path, framework="pt") as file:
        return dict(file.metadata())


def rewritten(path: Path, **changes: str) -> Path:
    """The file with another header, and a checksum that is right."""
    told, tensors = files.read(path)
    told = {key: value for key, value in (told | changes).items() if key != "sha256"}
    return files.write(path, told, tensors)


def test_unpruned_files_are_as_before(tmp_path: Path) -> None:
    model = build(load_space("depthnet-nano").smallest, 0)
    told = header(save(model, tmp_path / "m.safetensors"))
    assert set(told) == {
        "format", "version", "genotype", "size", "normalisation", "info", "sha256"
    }  # fmt: skip
    assert identity(model) == model.genotype.hash
    assert "pruned" not in load(tmp_path / "m.safetensors").info


def test_shapes_name_what_differs(pruned: DepthNet, tmp_path: Path) -> None:
    told = header(save(pruned, tmp_path / "p.safetensors"))
    shapes = json.loads(told["shapes"])
    assert shapes == pruned_shapes(pruned)
    assert shapes["stem.0"] == {"in_channels": 3, "out_channels": 4, "groups": 1}
    assert load(tmp_path / "p.safetensors").info["pruned"]["layers"] == len(shapes)


HOSTILE: list[tuple[Any, str]] = [
    ([], "no table of modules"),
    ({}, "no table of modules"),
    ("x", "no table of modules"),
    ({"nowhere": {"in_channels": 1}}, "no such module"),
    ({"stem.0": 3}, "write a table of widths"),
    ({"stem.0": {"out_channels": 3}}, "has .*out_channels"),
    ({"stem.0": {"in_channels": 3, "out_channels": 0, "groups": 1}}, "whole number of 1 to"),
    ({"stem.0": {"in_channels": 3, "out_channels": 2**40, "groups": 1}}, "whole number of 1 to"),
    ({"stem.0": {"in_channels": 3, "out_channels": True, "groups": 1}}, "whole number of 1 to"),
    ({"stem.0": {"in_channels": 3, "out_channels": 2.0, "groups": 1}}, "whole number of 1 to"),
    ({"stem.0": {"in_channels": 3, "out_channels": "2", "groups": 1}}, "whole number of 1 to"),
    ({"stem.0": {"in_channels": 3, "out_channels": 3, "groups": -1}}, "whole number of 1 to"),
    ({"stem.0": {"in_channels": 3, "out_channels": 1, "groups": 1}}, "do not fit together"),
    ({"": {"tensors": {"forward": [1]}}}, "unknown tensor"),
    ({"": {"__class__": 3}}, "no widths but tensors"),
    ({"stem": {"tensors": 4}}, "no widths but tensors"),
]


@pytest.mark.parametrize(("shapes", "said"), HOSTILE)
def test_hostile_shapes(pruned: DepthNet, tmp_path: Path, shapes: Any, said: str) -> None:
    path = save(pruned, tmp_path / "p.safetensors")
    rewritten(path, shapes=json.dumps(shapes))
    with pytest.raises(CompressError, match=said) as caught:
        load(path)
    assert "\n" not in str(caught.value) and str(caught.value).startswith(str(path))


@pytest.mark.parametrize("text", ["", "{", "[" * 100_000])
def test_shapes_that_are_no_json(pruned: DepthNet, tmp_path: Path, text: str) -> None:
    path = rewritten(save(pruned, tmp_path / "p.safetensors"), shapes=text)
    with pytest.raises(CompressError, match="not JSON"):
        load(path)


def test_groups_that_divide_nothing(tmp_path: Path) -> None:
    model = shipped("depthnet-nano")
    path = save(model, tmp_path / "m.safetensors")
    name = next(n for n, m in model.named_modules() if getattr(m, "groups", 1) > 5)
    widths = {"in_channels": 5, "out_channels": 5, "groups": 3}
    rewritten(path, shapes=json.dumps({name: widths}))
    with pytest.raises(CompressError, match="cannot be in 3 groups"):
        load(path)


def test_shapes_of_another_network(pruned: DepthNet, tmp_path: Path) -> None:
    path = save(pruned, tmp_path / "p.safetensors")
    told, tensors = files.read(path)
    del told["shapes"], told["sha256"]
    files.write(path, told, tensors)
    with pytest.raises(CompressError, match="weights do not fit the genotype"):
        load(path)


def test_a_changed_header_is_seen(pruned: DepthNet, tmp_path: Path) -> None:
    path = save(pruned, tmp_path / "p.safetensors")
    data = path.read_bytes()
    at = data.index(b'\\"out_channels\\": 4')
    path.write_bytes(data[:at] + data[at:].replace(b"4", b"2", 1))
    with pytest.raises(CompressError, match="changed since it was written"):
        load(path)


def test_a_pruned_network_trains_and_saves_again(pruned: DepthNet, tmp_path: Path) -> None:
    model = load(save(pruned, tmp_path / "p.safetensors")).train()
    model(torch.rand(2, 3, 32, 48)).log().mean().backward()
    assert all(p.grad is not None for p in model.parameters())
    again = load(save(model, tmp_path / "q.safetensors"))
    assert identity(again) == identity(pruned)
