"""The measurements of a calibration, kept as they come."""

from __future__ import annotations

import json
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from compress.cost.fit import Observation
from compress.cost.plan import KINDS, Measured, units
from compress.cost.table import identity
from compress.cost.units import Unit
from compress.errors import CompressError
from compress.space import Genotype, SearchSpace


class Log:
    """The measurements so far, a line of JSON each, in a file that every batch is added to."""

    def __init__(
        self, path: Path, backend: str, threads: int, spaces: Sequence[SearchSpace]
    ) -> None:
        self.path = path
        self.lines: list[dict[str, Any]] = []
        header = {
            "log": 1,
            "device": identity(backend),
            "backend": backend,
            "threads": threads,
            "spaces": [
                [space.name, list(space.size), [[k, list(v)] for k, v in space.choices.items()]]
                for space in spaces
            ],
        }
        if not self._read(header):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(header) + "\n", encoding="utf-8")

    def _read(self, header: dict[str, Any]) -> bool:
        """Read an earlier session's; False where there is none, or of other things."""
        try:
            first, *rest = self.path.read_text(encoding="utf-8").split("\n")
            if json.loads(first) != header:
                return False
        except (OSError, ValueError, RecursionError):
            return False
        end = len(first.encode()) + 1
        for line in rest[:-1]:
            try:
                self.lines.append(checked(json.loads(line)))
            except (ValueError, KeyError, TypeError, RecursionError, CompressError):
                break
            end += len(line.encode()) + 1
        # A line that a kill cut short, and what may follow it, is measured again.
        with self.path.open("r+b") as file:
            file.truncate(end)
        return True

    def add(self, lines: Sequence[dict[str, Any]]) -> None:
        """Keep further measurements."""
        with self.path.open("a", encoding="utf-8") as file:
            file.write("".join(json.dumps(line) + "\n" for line in lines))
        self.lines += lines

    def of(self, kind: str) -> list[dict[str, Any]]:
        """Lines of a kind, those of items that could not be run too."""
        return [line for line in self.lines if line["kind"] == kind]

    @property
    def seconds(self) -> float:
        """What measuring the lines that are fitted took."""
        return float(sum(x["seconds"] for x in self.lines if x["kind"] != "heldout"))

    def observations(self, kind: str) -> list[Observation]:
        """Measurements of a kind, as if the machine had always been as fast as at the median.

        A batch in which the reference network took longer than usual was slowed down as a whole,
        by heat or other programs.
        """
        usual_ms = self._usual_ms()
        made = []
        for line in self.of(kind):
            if line["measured"] is None:
                continue
            found = Measured(*line["measured"])
            steady_ms = found.latency_ms
            if found.reference_ms > 0:
                steady_ms *= usual_ms / found.reference_ms
            if line["genotype"] is not None:
                of = units(Genotype.from_dict(line["genotype"]))
            else:
                of = tuple(Unit(*unit) for unit in line["units"])
            made.append(
                # What a network's image takes to be read is part of what its first unit takes.
                Observation(of, steady_ms, line["copies"], *found[1:4])
                if kind == "passage"
                else Observation(of, steady_ms, network=True)
            )
        return made

    def _usual_ms(self) -> float:
        """What the reference network takes: the median over all batches."""
        taken = [Measured(*line["measured"]) for line in self.lines if line["measured"]]
        return statistics.median([one.reference_ms for one in taken] or [0.0])


def checked(line: Any) -> dict[str, Any]:
    """A line of a log, or ``ValueError`` and such where it is none."""
    if line["measured"] is not None:
        found = Measured(*line["measured"])
        if not all(isinstance(x, int | float) for x in found) or not found.latency_ms > 0:
            raise ValueError(f"measured {found}")
    if line["genotype"] is not None:
        Genotype.from_dict(line["genotype"])
    for unit in line["units"]:
        if not all(type(x) is int and x > 0 for x in Unit(*unit)[1:10]):
            raise ValueError(f"unit {unit}")
    if not (line["kind"] in KINDS and line["seconds"] >= 0 and line["copies"] > 0):
        raise ValueError(f"kind {line['kind']}")
    return {**line, "number": int(line["number"])}
