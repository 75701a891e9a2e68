"""Finding and reading search spaces: shipped ones, a user's TOML, a user's Python file."""

from __future__ import annotations

import importlib.util
import sys
import tomllib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from compress.errors import CompressError, unknown
from compress.space.families import family
from compress.space.genotype import Genotype, input_size
from compress.space.schema import flat, shown
from compress.space.space import Reference, SearchSpace

_KEYS = {"name", "family", "size", "choices", "references", "description", "paper"}
_REFERENCE_KEYS = {"size", "spec", "values", "description", "published"}


def shipped(folder: str) -> Path:
    """Where a folder of TOML files lies: in the wheel, or beside the package in a checkout."""
    package = Path(__file__).parents[1]
    installed = package / "_shipped" / folder
    return installed if installed.is_dir() else package.parent / folder


def space_names() -> list[str]:
    """Names of the spaces that come with the package."""
    return sorted(path.stem for path in shipped("search_spaces").glob("*.toml"))


def load_space(name_or_path: str | Path) -> SearchSpace:
    """Load a search space by name, from a TOML file, or from ``file.py:NAME``.

    A Python file is run, as an import would; give only files you trust. A wrong file raises
    ``CompressError`` with the file, the key, the value and what is allowed.
    """
    text = str(name_or_path)
    if ".py:" in text:
        return _from_python(text)
    if text.endswith(".toml"):
        return _from_toml(Path(text).expanduser())
    names = space_names()
    if text not in names:
        raise unknown("space", text, names, "or give a path to a .toml or file.py:NAME")
    return _from_toml(shipped("search_spaces") / f"{text}.toml")


def parse_reference(text: str) -> Genotype:
    """Read ``SPACE@REFERENCE``, as in ``depthnet-nano@nyu``."""
    space, _, name = text.rpartition("@")
    return load_space(space).reference(name)


def _from_toml(path: Path) -> SearchSpace:
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise CompressError(f"{path}: cannot read a search space ({error})") from None
    except (ValueError, RecursionError) as error:  # also numbers of too many digits
        raise CompressError(f"{path}: not TOML ({error})") from None
    return space_from_dict(data, str(path))


def space_from_dict(data: Mapping[str, Any], source: str) -> SearchSpace:
    """Build a space from the content of a TOML file."""
    _only(data, _KEYS, source)
    for key in ("name", "family", "size", "choices"):
        if key not in data:
            raise CompressError(f"{source}: the key {key!r} is missing")
    for key in ("name", "description", "paper"):
        if not isinstance(data.get(key, ""), str):
            raise CompressError(f"{source}: {key} = {shown(data[key])}: write a text")
    try:
        rules = family(data["family"])
    except CompressError as error:
        raise CompressError(f"{source}: family: {error}") from None
    space = SearchSpace(
        data["name"],
        rules.name,
        data["size"],
        flat(_table(data["choices"], f"{source}: choices")),
        {},
        data.get("description", ""),
        data.get("paper", ""),
        source,
    )
    references = {}
    for name, entry in _table(data.get("references", {}), f"{source}: references").items():
        at = f"{source}: references.{name}"
        _only(_table(entry, at), _REFERENCE_KEYS, at)
        size = input_size(entry.get("size", data["size"]), f"{at}: size")
        if ("spec" in entry) == ("values" in entry):
            raise CompressError(
                f"{at}: write either spec, an architecture, or values, one choice a parameter"
            )
        if "values" in entry:
            try:
                genotype = space.genotype(flat(_table(entry["values"], f"{at}.values")))
            except CompressError as error:
                raise CompressError(f"{at}: {error}") from None
            genotype = replace(genotype, size=size, name=name)
        else:
            spec = rules.read_spec(entry["spec"], at)
            genotype = Genotype(rules.name, spec, size, data["name"], name)
        description = entry.get("description", "")
        if not isinstance(description, str):
            raise CompressError(f"{at}: description = {shown(description)}: write a text")
        published = _table(entry.get("published", {}), f"{at}: published")
        for key, value in published.items():
            if isinstance(value, bool) or not isinstance(value, int | float):
                raise CompressError(f"{at}: published.{key} = {shown(value)}: write a number")
        references[name] = Reference(genotype, description, dict(published))
    return replace(space, references=references)


def _from_python(text: str) -> SearchSpace:
    file, _, attribute = text.rpartition(":")
    path = Path(file).expanduser()
    if not path.is_file():
        raise CompressError(f"{text}: there is no file {path}")
    spec = importlib.util.spec_from_file_location(f"compress_user_space_{path.stem}", path)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # a dataclass looks its own module up there
    try:
        spec.loader.exec_module(module)
    except CompressError:
        raise
    except Exception as error:
        raise CompressError(f"{path}: running it raised {type(error).__name__}: {error}") from error
    if not hasattr(module, attribute):
        public = [name for name in vars(module) if not name.startswith("_")]
        raise CompressError(f"{path}: {unknown('name', attribute, public)}")
    space = getattr(module, attribute)
    if isinstance(space, Mapping):
        return space_from_dict(space, text)
    if not isinstance(space, SearchSpace):
        raise CompressError(
            f"{text}: {attribute} is {type(space).__name__}; it must be a compress SearchSpace or "
            "a dict of the form a space's TOML has"
        )
    return space


def _table(value: object, source: str) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise CompressError(f"{source} = {shown(value)}: write a table")
    return value


def _only(data: Mapping[str, Any], allowed: set[str], source: str) -> None:
    for key in data:
        if key not in allowed:
            raise CompressError(f"{source}: {unknown('key', key, allowed)}")
