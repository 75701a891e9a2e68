"""A model is one file: safetensors, with everything needed to open it in the header."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from compress._files import whole
from compress.errors import CompressError
from compress.models.base import NORMALISATION, DepthNet
from compress.models.build import build
from compress.models.gates import describe, restore, without_gates
from compress.models.shapes import pruned_shapes, reshape
from compress.space import Genotype, input_size

FORMAT, VERSION = "compress-model", "1"


def save(model: DepthNet, path: str | Path) -> Path:
    """Write a network to one safetensors file, complete or not at all.

    The header holds the genotype, input size, normalisation, ``model.info`` and a checksum of all
    of it and the weights; of a pruned network also the widths of the layers that were cut. An
    existing file is replaced only once the new one is on disk.
    """
    path = Path(path)
    tensors = {
        name: tensor.detach().cpu().contiguous()
        for name, tensor in model.state_dict().items()
        if not name.startswith("auxiliary.")  # heads of training alone
    }
    header = {
        "format": FORMAT,
        "version": VERSION,
        "genotype": model.genotype.to_json(),
        "size": json.dumps(list(model.size)),
        "normalisation": json.dumps(NORMALISATION),
        "info": json.dumps(model.info, sort_keys=True),
    }
    if gates := describe(model):
        header["gates"] = json.dumps(gates)
    if shapes := pruned_shapes(without_gates(model) if gates else model):
        header["shapes"] = json.dumps(shapes)
    return write(path, header, tensors)


def write(path: Path, header: dict[str, str], tensors: dict[str, Tensor]) -> Path:
    """Write tensors and header to one safetensors file, with a checksum of all of it."""
    header = header | {"sha256": _checksum(header, tensors)}
    try:
        with whole(path) as temporary:
            save_file(tensors, temporary, metadata=header)
            with temporary.open("rb") as written:
                os.fsync(written.fileno())
    except SafetensorError as error:  # a full disk, which safetensors reports in its own way
        raise OSError(f"{path}: cannot write the model ({error})") from error
    return path


def load(path: str | Path) -> DepthNet:
    """Open a network that ``save`` wrote; nothing in the file is ever run or unpickled.

    Raises ``CompressError`` when the file is missing, truncated, of another kind, of a newer
    version, or changed since it was written.
    """
    header, tensors = read(Path(path))
    if header.get("format") != FORMAT:
        raise CompressError(
            f"{path}: safetensors, but not a compress model (no genotype in its header); "
            "give a file that compress search or compress train wrote"
        )
    if header.get("version") != VERSION:
        raise CompressError(
            f"{path}: model format {header.get('version')!r}, this version reads {VERSION!r}; "
            "install a newer depth-compress"
        )
    verify(header, tensors, path)
    genotype = Genotype.from_json(header.get("genotype", ""), str(path))
    # On the meta device a hostile genotype costs no memory; the weights are then taken as read.
    with torch.device("meta"):
        model = build(genotype)
        if "shapes" in header:
            reshape(model, _json(header, "shapes", path), str(path))
        if "gates" in header:
            restore(model, _json(header, "gates", path), str(path))
    try:
        model.load_state_dict(tensors, strict=True, assign=True)
    except RuntimeError as error:
        first = (str(error).split("\n\t")[1:2] or [str(error)])[0].strip()
        shown = first if len(first) < 200 else f"{first[:200]}..."  # it may name every weight
        raise CompressError(f"{path}: weights do not fit the genotype ({shown})") from None
    model.size = input_size(_json(header, "size", path), f"{path}: size")
    model.info = _json(header, "info", path)
    if not isinstance(model.info, dict):
        raise CompressError(f"{path}: info in its header is no table")
    return model.eval()


def verify(header: dict[str, str], tensors: dict[str, Tensor], path: str | Path) -> None:
    """Raise ``CompressError`` unless header and tensors are as ``write`` wrote them."""
    if header.get("sha256") != _checksum(header, tensors):
        raise CompressError(f"{path}: changed since it was written (checksum differs)")


def _json(header: dict[str, str], key: str, path: str | Path) -> Any:
    try:
        return json.loads(header.get(key, ""))
    except (ValueError, RecursionError) as error:
        raise CompressError(f"{path}: {key} in its header is not JSON ({error})") from None


def read(path: Path) -> tuple[dict[str, str], dict[str, Tensor]]:
    """The header and all tensors of a safetensors file."""
    if not path.is_file():
        raise CompressError(f"{path}: there is no such model file")
    try:
        with safe_open(path, framework="pt") as file:
            header: dict[str, str] = file.metadata() or {}
            # get_tensor maps the file into memory: a copy stays as it was checked.
            return header, {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, ValueError) as error:
        raise CompressError(
            f"{path}: not a readable safetensors file, perhaps truncated ({error}); "
            "give a file that compress search or compress train wrote"
        ) from None


def _checksum(header: dict[str, str], tensors: dict[str, Tensor]) -> str:
    digest = hashlib.sha256()
    described: dict[str, Any] = {k: v for k, v in header.items() if k != "sha256"}
    described["tensors"] = [[k, str(v.dtype), list(v.shape)] for k, v in sorted(tensors.items())]
    digest.update(json.dumps(described, sort_keys=True).encode())
    for _, tensor in sorted(tensors.items()):
        digest.update(tensor.contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
