"""Where a pruning keeps what it has done, so that a killed one goes on."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn

from compress._files import whole
from compress.errors import CompressError
from compress.models import DepthNet, load, save
from compress.pruning.factory import load_pruned, save_pruned


class Keeper:
    """Where a pruning keeps what it has done, so that a killed one goes on.

    A folder of two files: the network after the last iteration, and what led to it. The state is
    written after the network and names it by content, so that a kill between the two is told.
    """

    def __init__(self, folder: Path, asked: Mapping[str, Any], factory: str | None) -> None:
        self.folder, self.factory = folder, factory
        text = json.dumps(asked, sort_keys=True, default=str)
        self.key = hashlib.sha256(text.encode()).hexdigest()[:16]
        folder.mkdir(parents=True, exist_ok=True)

    def store(self, model: nn.Module, state: Mapping[str, Any]) -> None:
        """Write both files, each whole or not at all."""
        name = f"net-{len(state['history'])}-{len(state['predictions'])}.safetensors"
        save_network(model, self.folder / name, self.factory)
        with whole(self.folder / "state.json") as path:
            path.write_text(json.dumps({"key": self.key, "network": name, **state}), "utf-8")
        for old in self.folder.glob("net-*.safetensors"):
            if old.name != name:
                old.unlink(missing_ok=True)

    def open(self) -> tuple[nn.Module, dict[str, Any]] | None:
        """What an earlier run of the same command left; None where there is none."""
        try:
            state = json.loads((self.folder / "state.json").read_text("utf-8"))
            if state["key"] != self.key:
                return None
            return open_network(self.folder / state["network"], self.factory), state
        except (OSError, ValueError, KeyError, CompressError):
            return None


def clear(folder: Path) -> None:
    """Remove what a pruning kept in its folder, and the folder."""
    for file in folder.glob("*"):
        file.unlink(missing_ok=True)
    if folder.is_dir():
        folder.rmdir()


def save_network(model: nn.Module, path: Path, factory: str | None) -> Path:
    """Write a network of a family, or of a user's factory."""
    if isinstance(model, DepthNet):
        return save(model, path)
    assert factory is not None
    return save_pruned(model, path, factory)


def open_network(path: Path, factory: str | None) -> nn.Module:
    """Open what ``save_network`` wrote."""
    return load_pruned(path, factory) if factory else load(path)
