from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from toys import Toy, stirred

from compress.errors import CompressError
from compress.models import files, load
from compress.pruning import (
    check_cut,
    copy_cut,
    find_groups,
    load_pruned,
    load_weights,
    open_factory,
    save_pruned,
    widths,
)

SIZE = (16, 20)
NETS = """
from pathlib import Path
from torch import nn
import toys

Path(__file__).with_name("ran").touch()
number = 3
ready = nn.Conv2d(3, 4, 1)

class Nets:
    make = toys.Toy

def net():
    return toys.Toy()

def other():
    return nn.Sequential(nn.Conv2d(3, 4, 1), nn.Conv2d(4, 2, 1))

def nothing():
    return None

def fails():
    return 1 / 0

def needs(width):
    return nn.Conv2d(3, width, 1)
"""


@pytest.fixture(scope="module", autouse=True)
def package(tmp_path_factory: pytest.TempPathFactory):
    folder = tmp_path_factory.mktemp("user")
    (folder / "users_nets.py").write_text(NETS)
    (folder / "users_broken.py").write_text("import nowhere_at_all")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder)
        yield folder


@pytest.fixture
def saved(tmp_path: Path) -> tuple[nn.Module, Path]:
    model = stirred(Toy())
    groups = find_groups(model, SIZE)
    keeps = {g.name: range(0, g.channels, 2) for g in groups if g.prunable}
    pruned = copy_cut(model, keeps, groups)
    path = save_pruned(pruned, tmp_path / "p.safetensors", "users_nets:net", {"note": "half"})
    return pruned, path


def test_a_users_network_there_and_back(saved: tuple[nn.Module, Path]) -> None:
    pruned, path = saved
    image = torch.rand(2, 3, 18, 22)
    for opened in (
        load_pruned(path, trust_factory=True),
        load_pruned(path, "users_nets:Nets.make"),
        load_pruned(path, Toy),
    ):
        with torch.no_grad():
            assert torch.equal(opened(image), pruned.eval()(image))
        assert widths(opened) == widths(pruned) and not opened.training
        assert str(opened) == str(pruned)
    groups = find_groups(opened, SIZE)
    keeps = {"stem": [0, 2]}
    again = copy_cut(opened, keeps, groups)
    assert check_cut(opened, again, keeps, SIZE, groups) < 1e-9


def test_an_uncut_network_there_and_back(tmp_path: Path) -> None:
    model = open_factory("users_nets:other")
    path = save_pruned(model, tmp_path / "m.safetensors", "users_nets:other")
    assert "shapes" not in files.read(path)[0]
    opened = load_pruned(path, trust_factory=True)
    assert torch.equal(opened[0].weight, model[0].weight)


def test_code_named_by_a_file_is_not_run_unasked(
    saved: tuple[nn.Module, Path], package: Path
) -> None:
    _, path = saved
    (package / "ran").unlink()
    told, tensors = files.read(path)
    del told["sha256"]
    files.write(path, told | {"factory": "users_again:net"}, tensors)
    (package / "users_again.py").write_text(NETS)
    with pytest.raises(CompressError, match="'users_again:net', which would be imported and run"):
        load_pruned(path)
    assert load_pruned(path, Toy) and not (package / "ran").exists()
    assert load_pruned(path, trust_factory=True) and (package / "ran").exists()


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("users_nets", "write module:attribute"),
        ("users_nets:", "write module:attribute"),
        (":net", "write module:attribute"),
        ("users nets:net", "write module:attribute"),
        ("users_nowhere:net", "importing users_nowhere raised ModuleNotFoundError"),
        ("users_broken:net", "importing users_broken raised ModuleNotFoundError"),
        ("users_nets:nett", "unknown name 'nett'; did you mean net"),
        ("users_nets:number", "is int; give a function"),
        ("users_nets:ready", "is Conv2d; give a function"),
        ("users_nets:nothing", "returned NoneType, not an nn.Module"),
        ("users_nets:fails", "raised ZeroDivisionError"),
        ("users_nets:needs", "without arguments raised TypeError"),
    ],
)
def test_wrong_factories(name: str, said: str) -> None:
    with pytest.raises(CompressError, match=said):
        open_factory(name)


def test_the_working_folder_is_looked_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "users_here.py").write_text("from torch import nn\nnet = lambda: nn.ReLU()")
    monkeypatch.chdir(tmp_path)
    assert isinstance(open_factory("users_here:net"), nn.ReLU)


def test_files_and_factories_that_do_not_match(
    saved: tuple[nn.Module, Path], tmp_path: Path
) -> None:
    pruned, path = saved
    with pytest.raises(CompressError, match=r"no such module|do not fit|unknown tensor"):
        load_pruned(path, "users_nets:other")
    with pytest.raises(CompressError, match="not one that users_nets:other builds"):
        save_pruned(pruned, tmp_path / "x.safetensors", "users_nets:other")
    with pytest.raises(CompressError, match="not a compress model"):
        load(path)
    save_file({"a": torch.zeros(1)}, tmp_path / "plain.safetensors")
    with pytest.raises(CompressError, match="not a pruned module"):
        load_pruned(tmp_path / "plain.safetensors", Toy)
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(CompressError, match="changed since it was written"):
        load_pruned(path, Toy)


@pytest.mark.parametrize("wrap", ["plain", "state_dict", "model", "module.", "safetensors"])
def test_weights_in_every_form(wrap: str, tmp_path: Path) -> None:
    model, state = Toy(), stirred(Toy(), 5).state_dict()
    path = tmp_path / ("w.safetensors" if wrap == "safetensors" else "w.pt")
    if wrap == "safetensors":
        save_file(state, path)
    elif wrap == "plain":
        torch.save(state, path)
    elif wrap == "module.":
        torch.save({f"module.{key}": value for key, value in state.items()}, path)
    else:
        torch.save({wrap: state, "epoch": 3}, path)
    assert load_weights(model, path) is model
    assert all(torch.equal(value, state[key]) for key, value in model.state_dict().items())


def test_weights_that_are_none(tmp_path: Path) -> None:
    model = Toy()
    torch.save(model, tmp_path / "whole.pt")
    with pytest.raises(CompressError, match="holds more than weights, and is not run"):
        load_weights(model, tmp_path / "whole.pt")
    torch.save({"epoch": 3}, tmp_path / "no.pt")
    with pytest.raises(CompressError, match="no table of tensors"):
        load_weights(model, tmp_path / "no.pt")
    (tmp_path / "junk.pt").write_bytes(b"junk")
    (tmp_path / "junk.safetensors").write_bytes(b"junk")
    for name in ("junk.pt", "junk.safetensors"):
        with pytest.raises(CompressError, match=r"not a readable file|more than weights"):
            load_weights(model, tmp_path / name)
    with pytest.raises(CompressError, match="no such file"):
        load_weights(model, tmp_path / "gone.pt")
    torch.save(nn.Conv2d(3, 4, 1).state_dict(), tmp_path / "other.pt")
    with pytest.raises(CompressError, match="do not fit Toy"):
        load_weights(model, tmp_path / "other.pt")
