from __future__ import annotations

import copy
import io
import json
import os
import pickle
import resource
import stat
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from members import EACH_MEMBER, EACH_SPACE
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from compress.cost import cost
from compress.errors import CompressError
from compress.models import DepthNet, build, files, load, save
from compress.space import Genotype, load_space

SPACE = load_space("depthnet-nano")


def trained(genotype: Genotype, seed: int = 0) -> DepthNet:
    """A model whose every tensor, running statistics too, is its own."""
    model = build(genotype, seed=seed)
    generator = torch.Generator().manual_seed(seed)
    for value in model.state_dict().values():
        if value.is_floating_point():
            value.mul_(1.1).add_(0.01 * torch.rand(value.shape, generator=generator))
        else:
            value.fill_(7)
    return model


@pytest.fixture(scope="module")
def model() -> DepthNet:
    model = trained(SPACE.smallest)
    model.info = {"data": "scenes", "metrics": {"delta1": 0.5}, "note": "naïve \u2713"}
    model.size = (48, 64)
    return model


@pytest.fixture
def path(model: DepthNet, tmp_path: Path) -> Path:
    return save(model, tmp_path / "model.safetensors")


def parts(path: Path) -> tuple[dict[str, str], dict[str, torch.Tensor]]:
    with safe_open(path, framework="pt") as file:
        return file.metadata(), {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118


def forged(path: Path, change: Callable[[dict[str, Any], dict[str, torch.Tensor]], None]) -> Path:
    """Write a changed copy, with a checksum that fits it."""
    header, tensors = parts(path)
    del header["sha256"]
    change(header, tensors)
    header["sha256"] = files._checksum(header, tensors)
    out = path.with_name("forged.safetensors")
    save_file(tensors, out, metadata=header)
    return out


def same(one: DepthNet, two: DepthNet) -> bool:
    first, second = one.state_dict(), two.state_dict()
    return first.keys() == second.keys() and all(
        first[name].dtype == second[name].dtype and torch.equal(first[name], second[name])
        for name in first
    )


@EACH_MEMBER
def test_bit_exact(tmp_path: Path, genotype: Genotype) -> None:
    model = trained(genotype).eval()
    model.info = {"epochs": 3, "protocol": {"cap": 10.0}}
    again = load(save(model, tmp_path / "m.safetensors"))
    assert same(again, model)
    assert again.genotype.to_dict() == model.genotype.to_dict()
    assert (again.size, again.info) == (model.size, model.info)
    assert not again.training
    x = torch.rand(1, 3, 33, 47)
    with torch.no_grad():
        wanted = model(x)
        assert wanted.std() > 0
        torch.testing.assert_close(again(x), wanted)
    assert all(p.requires_grad and p.device.type == "cpu" for p in again.parameters())


@EACH_SPACE
def test_heads_of_training_stay_out(tmp_path: Path, genotype: Genotype) -> None:
    model = trained(genotype)
    model.add_auxiliary()
    again = load(save(model, tmp_path / "m.safetensors"))
    assert not again.auxiliary
    model.drop_auxiliary()
    assert same(again, model)


def test_a_loaded_model_can_be_trained_and_saved_again(path: Path, model: DepthNet) -> None:
    again = load(path)
    again.train()
    again(torch.rand(2, 3, 32, 32)).mean().backward()
    torch.optim.SGD(again.parameters(), 1.0).step()
    assert not same(again, model)
    save(again, path)
    assert same(load(path), again)


def test_what_a_file_says(path: Path, model: DepthNet) -> None:
    header, _ = parts(path)
    assert header["format"] == "compress-model"
    assert Genotype.from_json(header["genotype"]) == model.genotype
    assert json.loads(header["size"]) == [48, 64]
    assert json.loads(header["info"]) == model.info
    assert json.loads(header["normalisation"]) == {"mean": [127.5] * 3, "std": [127.5] * 3}
    again = load(path)
    assert (again.size, again.info) == ((48, 64), model.info)
    assert cost(again).size == (48, 64)


def test_save_makes_folders_and_leaves_no_other_file(tmp_path: Path, model: DepthNet) -> None:
    before = os.umask(0o027)
    try:
        path = save(model, str(tmp_path / "a" / "b" / "m.safetensors"))
    finally:
        os.umask(before)
    assert path == tmp_path / "a" / "b" / "m.safetensors"
    assert [p.name for p in path.parent.iterdir()] == ["m.safetensors"]
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert model.training  # build's own mode, not changed by saving


def test_loading_leaves_torch_alone(path: Path) -> None:
    torch.manual_seed(1)
    state = torch.get_rng_state()
    load(path)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.empty(1).device.type == "cpu"


def test_a_loaded_model_outlives_its_file(path: Path, model: DepthNet) -> None:
    again = load(path)
    with path.open("r+b") as file:  # the same file, not a new one in its place
        file.seek(-64, os.SEEK_END)
        file.write(b"\xff" * 64)
    assert same(again, model)
    os.truncate(path, 10)
    assert same(again, model)


def refuses(path: str | Path, said: str) -> str:
    with pytest.raises(CompressError, match=said) as caught:
        load(path)
    message = str(caught.value)
    assert message.startswith(str(path))
    assert "\n" not in message
    assert len(message) < len(str(path)) + 600
    return message


@pytest.mark.parametrize("share", [0.0, 1e-4, 0.05, 0.3, 0.9, 0.999])
def test_truncated(path: Path, share: float) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    refuses(path, "not a readable safetensors file, perhaps truncated")


def test_one_byte_short_or_long(path: Path) -> None:
    content = path.read_bytes()
    for changed in (content[:-1], content + b"\0"):
        path.write_bytes(changed)
        refuses(path, "not a readable safetensors file")


def test_a_flipped_bit_in_the_weights(path: Path) -> None:
    content = bytearray(path.read_bytes())
    start = 8 + struct.unpack("<Q", content[:8])[0]
    for place in (start, (start + len(content)) // 2, len(content) - 1):
        content[place] ^= 1
        path.write_bytes(content)
        refuses(path, "changed since it was written")
        content[place] ^= 1
    path.write_bytes(content)
    load(path)


@pytest.mark.parametrize("key", ["genotype", "size", "normalisation", "info"])
def test_a_header_changed_afterwards(path: Path, key: str) -> None:
    header, tensors = parts(path)
    wrong = {"genotype": SPACE.sample(1).to_json(), "size": "[64, 64]", "info": "{}"}
    for changed in (
        header | {key: wrong.get(key, "{}")},
        {k: v for k, v in header.items() if k != key},
        {k: v for k, v in header.items() if k != "sha256"},
        header | {"more": "1"},
    ):
        save_file(tensors, path, metadata=changed)
        refuses(path, "changed since it was written")


def test_swapped_weights(path: Path) -> None:
    """Tensors of one shape that trade places are a change as well."""
    header, tensors = parts(path)
    names = [name for name in tensors if name.endswith("norm.weight")][:1]
    other = names[0].replace("weight", "bias")
    tensors[names[0]], tensors[other] = tensors[other], tensors[names[0]]
    save_file(tensors, path, metadata=header)
    refuses(path, "changed since it was written")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("whole") / "model.safetensors"
    return save(trained(SPACE.smallest), path).read_bytes()


@settings(max_examples=150)
@given(data=st.data())
def test_any_changed_bytes(
    tmp_path_factory: pytest.TempPathFactory, whole: bytes, data: st.DataObject
) -> None:
    path = tmp_path_factory.getbasetemp() / "fuzzed.safetensors"
    content = bytearray(whole)
    header = 8 + struct.unpack("<Q", content[:8])[0]
    places = st.integers(0, header + 64) | st.integers(0, len(content) - 1)
    changes = data.draw(st.lists(st.tuples(places, st.integers(1, 255)), min_size=1, max_size=3))
    for place, mask in changes:
        content[place] ^= mask
    path.write_bytes(content)
    if bytes(content) == whole:
        load(path)
        return
    with pytest.raises(CompressError):
        load(path)


def test_other_safetensors(tmp_path: Path) -> None:
    path = tmp_path / "foreign.safetensors"
    for metadata in (None, {}, {"format": "pt"}, {"genotype": SPACE.smallest.to_json()}):
        save_file({"weight": torch.ones(3)}, path, metadata=metadata)
        refuses(path, "not a compress model.*compress search or compress train")


def test_a_newer_version(path: Path) -> None:
    refuses(
        forged(path, lambda header, _: header.update(version="2")),
        "model format '2', this version reads '1'; install a newer",
    )


def test_no_file(tmp_path: Path) -> None:
    refuses(tmp_path / "absent.safetensors", "there is no such model file")
    refuses(tmp_path, "there is no such model file")
    refuses(str(tmp_path / "a" / "b"), "there is no such model file")


@pytest.mark.parametrize(
    "content",
    [
        b"",
        bytes(8),
        b"just some text\n" * 50,
        b"\xff" * 8,
        b"\xff" * 5000,
        b"\2" + bytes(7) + b"{}",
    ],
    ids=["empty", "eight zeros", "text", "huge header", "noise", "no tensors"],
)
def test_other_content(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "m.safetensors"
    path.write_bytes(content)
    refuses(path, "safetensors")


class Touch:
    """Makes a file when it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.marker,)


@pytest.mark.parametrize("how", ["pickle", "torch", "old torch"])
def test_nothing_is_unpickled(tmp_path: Path, how: str) -> None:
    marker, path = tmp_path / "marker", tmp_path / "m.safetensors"
    hostile = {"genotype": Touch(marker)}
    if how == "pickle":
        path.write_bytes(pickle.dumps(hostile))
        pickle.loads(path.read_bytes())
    else:
        torch.save(hostile, path, _use_new_zipfile_serialization=how == "torch")
        torch.load(io.BytesIO(path.read_bytes()), weights_only=False)
    assert marker.exists()  # unpickling it does run it
    marker.unlink()
    refuses(path, "not a readable safetensors file")
    assert not marker.exists()


def rename(tensors: dict[str, torch.Tensor]) -> None:
    tensors["another"] = tensors.pop("head.weight")


MISFITS: dict[str, tuple[Callable[[dict[str, Any], dict[str, torch.Tensor]], Any], str]] = {
    "another genotype": (
        lambda h, t: h.update(genotype=SPACE.sample(1).to_json()),
        "weights do not fit the genotype",
    ),
    "a missing tensor": (lambda h, t: t.pop("head.bias"), "do not fit.*head.bias"),
    "one too many": (lambda h, t: t.update(more=torch.ones(2)), "do not fit.*more"),
    "another name": (lambda h, t: rename(t), "do not fit"),
    "another shape": (
        lambda h, t: t.update({"head.bias": torch.ones(2)}),
        "do not fit.*head.bias",
    ),
    "whole numbers": (
        lambda h, t: t.update({"head.bias": torch.ones(1, dtype=torch.int32)}),
        "do not fit.*head.bias",
    ),
    "no tensors": (lambda h, t: t.clear(), "do not fit"),
    "no genotype": (lambda h, t: h.pop("genotype"), "not JSON"),
    "broken genotype": (lambda h, t: h.update(genotype="{"), "not JSON"),
    "deep genotype": (lambda h, t: h.update(genotype="[" * 10**5), "not JSON"),
    "long genotype": (lambda h, t: h.update(genotype='{"size": ' + "9" * 5000 + "}"), "not JSON"),
    "no size": (lambda h, t: h.pop("size"), "size in its header is not JSON"),
    "broken size": (lambda h, t: h.update(size="[48"), "size in its header is not JSON"),
    "wrong size": (lambda h, t: h.update(size="[48, 1e999]"), "size.*HEIGHTxWIDTH"),
    "no info": (lambda h, t: h.pop("info"), "info in its header is not JSON"),
    "broken info": (lambda h, t: h.update(info="{'a': 1}"), "info in its header is not JSON"),
    "deep info": (lambda h, t: h.update(info="[" * 10**5), "info in its header is not JSON"),
    "info of another kind": (lambda h, t: h.update(info="[1]"), "info in its header"),
}


@pytest.mark.parametrize("name", MISFITS)
def test_a_forged_file_is_answered(path: Path, name: str) -> None:
    """With a checksum that fits, as anyone can compute one."""
    change, said = MISFITS[name]
    assert same(load(forged(path, lambda h, t: None)), load(path))
    refuses(forged(path, change), said)


def test_giant_genotypes_use_no_memory(path: Path) -> None:
    data = copy.deepcopy(SPACE.sample(8).to_dict())
    data["spec"]["stem"] = 10**9
    refuses(
        forged(path, lambda h, t: h.update(genotype=json.dumps(data))), "stem: 1000000000 is not"
    )
    data["spec"] = {
        "stem": 512,
        "stages": [
            {"widths": [512] * 64, "projection": 16.0, "expansion": 16.0, "transition": 4096}
        ] * 4,
        "decoder": [[1024, 1024]] * 4,
        "decoder_expansion": 8.0,
        "norm": "all",
    }  # fmt: skip
    giant = Genotype.from_dict(data)  # within every limit, and yet
    assert 4 * cost(giant).params > 100 * 2**30
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    refuses(forged(path, lambda h, t: h.update(genotype=giant.to_json())), "do not fit")
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before  # KiB
    assert grown < 200 * 1024


@pytest.mark.parametrize("error", [OSError("disk"), KeyboardInterrupt(), SafetensorError("full")])
def test_a_failed_save_leaves_the_old_file(
    path: Path, model: DepthNet, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    before = path.read_bytes()

    def fail(tensors: object, file: str, metadata: object) -> None:
        Path(file).write_bytes(b"half")
        raise error

    monkeypatch.setattr(files, "save_file", fail)
    wanted = OSError if isinstance(error, SafetensorError) else type(error)
    with pytest.raises(wanted) as caught:
        save(trained(SPACE.sample(1)), path)
    if isinstance(error, SafetensorError):
        assert str(path) in str(caught.value) and "full" in str(caught.value)
    assert path.read_bytes() == before
    assert list(path.parent.iterdir()) == [path]


def test_a_file_too_large_for_the_disk(path: Path, tmp_path: Path) -> None:
    signal = pytest.importorskip("signal")
    before, limit = path.read_bytes(), resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limit[1]))
    try:
        with pytest.raises(OSError, match="cannot write the model") as caught:
            save(trained(SPACE.sample(1)), path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
        signal.signal(signal.SIGXFSZ, handler)
    assert str(path) in str(caught.value)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_info_that_is_no_json_leaves_the_old_file(path: Path, model: DepthNet) -> None:
    before = path.read_bytes()
    other = build(SPACE.smallest, seed=1)
    other.info = {"tensor": torch.ones(1)}
    with pytest.raises(TypeError):
        save(other, path)
    assert path.read_bytes() == before
    assert list(path.parent.iterdir()) == [path]


def test_where_nothing_can_be_written(tmp_path: Path, model: DepthNet) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "folder").mkdir()
    for path in (tmp_path / "file" / "m.safetensors", tmp_path / "folder"):
        with pytest.raises((OSError, CompressError)) as caught:
            save(model, path)
        assert str(tmp_path / "f") in str(caught.value)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file", "folder"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_without_permission(tmp_path: Path, model: DepthNet) -> None:
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(OSError, match=tmp_path.name):
            save(model, tmp_path / "m.safetensors")
    finally:
        tmp_path.chmod(0o700)
