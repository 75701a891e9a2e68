"""Networks that are not the project's own: built by a user's function, kept in one file.

A file names the function that builds its network. Building means running that code, so the name
in a file is followed only when the caller says that it is trusted.
"""

from __future__ import annotations

import importlib
import json
import pickle
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from compress.errors import CompressError, unknown
from compress.models.files import read, verify, write
from compress.models.shapes import reshape, shapes_of

FORMAT, VERSION = "compress-module", "1"
Factory = str | Callable[[], nn.Module]


def open_factory(name: str) -> nn.Module:
    """Import ``module:attribute`` and build the network; the module's code is run.

    Args:
        name: as in ``my_package.nets:make_net``. The attribute is a function or class that needs
            no arguments. Modules of the working folder are found too.

    Raises:
        CompressError: the name, the import, the call or its result is wrong.
    """
    module_name, colon, attribute = str(name).partition(":")
    parts = [*module_name.split("."), *attribute.split(".")]
    if not colon or not all(part.isidentifier() for part in parts):
        raise CompressError(
            f"factory {name!r}: write module:attribute, as my_package.nets:make_net"
        )
    found: Any = imported(module_name, f"factory {name}")
    for part in attribute.split("."):
        if not hasattr(found, part):
            public = [own for own in dir(found) if not own.startswith("_")]
            raise CompressError(f"factory {name}: {unknown('name', part, public)}")
        found = getattr(found, part)
    if not callable(found) or isinstance(found, nn.Module):
        raise CompressError(
            f"factory {name}: is {type(found).__name__}; give a function or class that builds a "
            "new network each time"
        )
    return _built(found, str(name))


def imported(module: str, said: str) -> Any:
    """Import a user's module, of the working folder too; its code is run.

    Args:
        module: dotted name.
        said: what asked for it, as messages begin.
    """
    here = str(Path.cwd())
    added = here not in sys.path and "" not in sys.path
    if added:  # a console script, unlike python -m, does not look in the working folder
        sys.path.insert(0, here)
    try:
        return importlib.import_module(module)
    except Exception as error:  # the user's code decides what this raises
        raise CompressError(
            f"{said}: importing {module} raised {type(error).__name__}: {error}"
        ) from error
    finally:
        if added:
            sys.path.remove(here)


def _built(factory: Callable[[], object], name: str) -> nn.Module:
    try:
        made = factory()
    except Exception as error:
        raise CompressError(
            f"factory {name}: calling it without arguments raised {type(error).__name__}: {error}"
        ) from error
    if not isinstance(made, nn.Module):
        raise CompressError(f"factory {name}: returned {type(made).__name__}, not an nn.Module")
    return made


def load_weights(module: nn.Module, path: str | Path) -> nn.Module:
    """Read weights into a network: safetensors, or a torch file, of which no code is run.

    Accepts a state dict or a table with one under "state_dict" or "model"; names that all begin
    with "module." (a parallel training's) are read without it.
    """
    path = Path(path)
    if not path.is_file():
        raise CompressError(f"{path}: there is no such file of weights")
    try:
        if path.suffix == ".safetensors":
            held: Any = load_file(path)
        else:
            held = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        reason = str(error).splitlines()[0][:150]
        raise CompressError(
            f"{path}: holds more than weights, and is not run ({reason}); save the network's "
            "state_dict() instead"
        ) from None
    except Exception as error:  # of bytes that are no file of torch's its reader raises anything
        reason = (str(error).splitlines() or [type(error).__name__])[0][:150]
        raise CompressError(f"{path}: not a readable file of weights ({reason})") from None
    for key in ("state_dict", "model"):
        if isinstance(held, Mapping) and isinstance(held.get(key), Mapping):
            held = held[key]
    if not isinstance(held, Mapping) or not all(isinstance(v, Tensor) for v in held.values()):
        raise CompressError(f"{path}: holds no table of tensors; save the network's state_dict()")
    state = {str(key): value for key, value in held.items()}
    if state and all(key.startswith("module.") for key in state):
        state = {key.removeprefix("module."): value for key, value in state.items()}
    _fill(module, state, path)
    return module


def save_pruned(
    module: nn.Module, path: str | Path, factory: str, info: Mapping[str, Any] | None = None
) -> Path:
    """Write a network that was cut from what a factory builds, as one safetensors file.

    Args:
        module: the cut network.
        path: of the file.
        factory: ``module:attribute`` that builds the network as it was before.
        info: what else the file's header should say; anything JSON knows.
    """
    built = open_factory(factory)
    tensors = {
        name: tensor.detach().cpu().clone().contiguous()  # two names may share one tensor
        for name, tensor in module.state_dict().items()
    }
    shapes = shapes_of(module, built)
    header = {
        "format": FORMAT,
        "version": VERSION,
        "factory": factory,
        "info": json.dumps(dict(info or {}), sort_keys=True),
    }
    if shapes:
        header["shapes"] = json.dumps(shapes)
        reshape(built, shapes, str(path))  # what cannot be opened again is not written
    expected = {name: tensor.shape for name, tensor in built.state_dict().items()}
    if expected != {name: tensor.shape for name, tensor in tensors.items()}:
        raise CompressError(f"{path}: the network is not one that {factory} builds, cut or whole")
    return write(Path(path), header, tensors)


def load_pruned(
    path: str | Path, factory: Factory | None = None, *, trust_factory: bool = False
) -> nn.Module:
    """Open what ``save_pruned`` wrote.

    Args:
        path: of the file.
        factory: what builds the uncut network: ``module:attribute`` or a function. Its code is run.
        trust_factory: run the factory that the file itself names.
    """
    header, tensors = read(Path(path))
    if header.get("format") != FORMAT or header.get("version") != VERSION:
        raise CompressError(
            f"{path}: not a pruned module of format {FORMAT} {VERSION}; a network of the project's "
            "own families is opened with compress.load"
        )
    verify(header, tensors, path)
    named = header.get("factory", "")
    if factory is None and not trust_factory:
        raise CompressError(
            f"{path}: names the factory {named!r}, which would be imported and run; pass "
            "trust_factory=True if you trust it, or factory="
        )
    chosen = named if factory is None else factory
    built = open_factory(chosen) if isinstance(chosen, str) else _built(chosen, "given")
    if "shapes" in header:
        try:
            shapes = json.loads(header["shapes"])
        except (ValueError, RecursionError) as error:
            raise CompressError(f"{path}: shapes in its header is not JSON ({error})") from None
        reshape(built, shapes, str(path))
    _fill(built, tensors, path)
    return built.eval()


def _fill(module: nn.Module, state: Mapping[str, Tensor], path: str | Path) -> None:
    try:
        module.load_state_dict(dict(state), strict=True)
    except RuntimeError as error:
        first = (str(error).split("\n\t")[1:2] or [str(error)])[0].strip()
        shown = first if len(first) < 200 else f"{first[:200]}..."
        raise CompressError(
            f"{path}: its weights do not fit {type(module).__name__} ({shown})"
        ) from None
