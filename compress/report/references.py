"""Named networks to compare a study with: those of its own space, and of the papers."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

from compress.report.findings import Findings
from compress.report.words import number
from compress.space import SearchSpace, load_space, space_names

MOST_BYTES = 1 << 20


def tried(found: Findings) -> list[tuple[str, str, int]]:
    """Reference points of the study's space that it tried: name, description, trial number."""
    space = _space(found.config.get("space"))
    if space is None:
        return []
    numbers = {row.hash: row.number for row in found.rows if row.delta1 is not None}
    return [
        (name, reference.description, numbers[reference.genotype.hash])
        for name, reference in space.references.items()
        if reference.genotype.hash in numbers
    ]


def published(found: Findings) -> list[dict[str, Any]]:
    """Networks of the papers with their own figures of d1 and size.

    ``same`` is true for those scored on the kind of data that the study is about; the others' d1
    cannot be compared with the study's.
    """
    kind = str(found.config.get("data", "")).partition(":")[0]
    return [entry | {"same": entry["data"] == kind} for entry in _published()]


@cache
def _published() -> tuple[dict[str, Any], ...]:
    return tuple(_entries())


def _entries() -> Iterator[dict[str, Any]]:
    for space_name in space_names():
        for name, reference in load_space(space_name).references.items():
            figures = reference.published
            if "delta1" not in figures:
                continue
            kind = "kitti" if "kitti" in f"{name} {reference.description}".lower() else "nyu"
            known = {key: number(figures.get(key)) for key in ("params", "macs", "latency_ms")}
            yield {
                "name": f"{space_name}@{name}",
                "about": reference.description,
                "data": kind,
                "delta1": number(figures["delta1"]),
            } | {key: value for key, value in known.items() if value}


def _space(name: object) -> SearchSpace | None:
    """The study's space; never from a Python file, which reading would run."""
    if not isinstance(name, str) or ".py" in name:
        return None
    path = Path(name)
    try:
        if name not in space_names() and not (
            path.suffix == ".toml" and path.is_file() and path.stat().st_size <= MOST_BYTES
        ):
            return None
        return load_space(name)
    except (OSError, ValueError):
        return None
