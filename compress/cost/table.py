"""The device table: what each operator takes on one device and backend, and how far that is off.

``compress.cost.calibrate`` makes one; docs/measuring.md says how.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from compress._files import whole
from compress.cost.backends import backend_called, device_of
from compress.cost.fit import Floats, Predictor
from compress.cost.units import Unit, units_of
from compress.errors import CompressError
from compress.space import Operator

FORMAT = 1
REMEMBERED = 200_000  # units whose latency is kept; a search meets the same ones again and again
# What makes two devices the same: another kernel or governor does not make another table.
SAME = ("processor", "cores", "precision", "gpu")


@dataclass(frozen=True)
class Proof:
    """How well a table predicts networks that it never saw.

    ``mape`` is the mean of |predicted / measured - 1|, ``within_10`` the share of networks for
    which it is at most 0.1, ``worst`` the largest; ``spearman`` the correlation of ranks.
    """

    networks: int
    spaces: tuple[str, ...]
    mape: float
    spearman: float
    within_10: float
    worst: float
    predicted_ms: tuple[float, ...] = ()
    measured_ms: tuple[float, ...] = ()

    @classmethod
    def of(
        cls, predicted_ms: Sequence[float], measured_ms: Sequence[float], spaces: Sequence[str]
    ) -> Proof:
        """Compare predictions with measurements."""
        predicted, measured = np.array(predicted_ms), np.array(measured_ms)
        off = np.abs(predicted / measured - 1)
        return cls(
            len(off),
            tuple(spaces),
            float(off.mean()),
            spearman(predicted, measured),
            float((off <= 0.1).mean()),
            float(off.max()),
            tuple(map(float, predicted)),
            tuple(map(float, measured)),
        )

    def describe(self) -> str:
        """The error, in words."""
        return (
            f"MAPE {self.mape:.1%}, Spearman {self.spearman:.3f}, "
            f"{self.within_10:.0%} within 10 %, worst {self.worst:.0%}, over {self.networks} "
            f"networks of {', '.join(self.spaces)} that it never saw"
        )


@dataclass(frozen=True)
class DeviceTable:
    """Predicts latency on the backend, threads and device that it was measured on.

    ``device`` says what these were, ``date`` when, ``sizes`` at which inputs, ``clock`` what time
    was taken; ``proof`` is its error, ``step`` by how many channels a convolution must grow for its
    latency to rise. ``load`` and ``save`` read and write it as one JSON file.
    """

    backend: str
    threads: int
    device: Mapping[str, str]
    date: str
    clock: str
    spaces: tuple[str, ...]
    sizes: tuple[tuple[int, int], ...]
    measured: int
    predictor: Predictor
    proof: Proof | None = None
    step: int | None = None
    _known: dict[Unit, float] = field(default_factory=dict, compare=False, repr=False)

    def predict(self, operators: Sequence[Operator]) -> float:
        """Latency of a network of these operators, in milliseconds."""
        units, _ = units_of(operators)
        return sum(self._of(units)) + self.predictor.run_ms()

    def predict_per_operator(self, operators: Sequence[Operator]) -> Floats:
        """Milliseconds of each operator; 0 for one that runs together with the one before it.

        What a run of the backend takes besides (``predict`` holds it) is in none of them.
        """
        units, leads = units_of(operators)
        each = np.zeros(len(operators))
        np.add.at(each, leads, self._of(units))
        return each

    def unmeasured(self, operators: Sequence[Operator]) -> list[str]:
        """Kinds of operators of this network that were never measured, and are guessed."""
        return self.predictor.unmeasured(units_of(operators)[0])

    def stretched(self, size: tuple[int, int]) -> str:
        """A warning where no input of about this size (height, width) was measured, or ""."""
        pixels = size[0] * size[1]
        if any(0.5 <= pixels / (height * width) <= 2 for height, width in self.sizes):
            return ""
        sizes = ", ".join(f"{height}x{width}" for height, width in self.sizes)
        return (
            f"the device table was measured at {sizes}; at {size[0]}x{size[1]} its error is not "
            f"known (compress calibrate --size {size[0]}x{size[1]})"
        )

    def _of(self, units: Sequence[Unit]) -> list[float]:
        known = self._known
        new = [unit for unit in dict.fromkeys(units) if unit not in known]
        if new:
            if len(known) > REMEMBERED:
                known.clear()
                new = list(dict.fromkeys(units))
            known.update(zip(new, self.predictor.units_ms(new).tolist(), strict=True))
        return [known[unit] for unit in units]

    def describe(self) -> str:
        """What it is of, and its error."""
        threads = f"{self.threads} thread{'s'[: self.threads > 1]}"
        error = self.proof.describe() if self.proof else "its error is not known"
        return f"{self.backend}, {threads}, {self.device['processor']}, {self.date}: {error}"

    def to_dict(self) -> dict[str, Any]:
        """All but the numbers it predicts with, as JSON-ready values."""
        return {
            "format": FORMAT,
            "backend": self.backend,
            "threads": self.threads,
            "device": dict(self.device),
            "date": self.date,
            "clock": self.clock,
            "spaces": list(self.spaces),
            "sizes": [list(size) for size in self.sizes],
            "measured": self.measured,
            "proof": vars(self.proof) if self.proof else None,
            "step": self.step,
        }

    def save(self, path: str | Path) -> None:
        """Write the file, whole or not at all."""
        text = json.dumps(self.to_dict() | {"predictor": self.predictor.to_dict()})
        with whole(Path(path)) as temporary:
            temporary.write_text(text, encoding="utf-8")

    @classmethod
    def load(cls, path: str | Path) -> DeviceTable:
        """Read a file; anything but a table raises ``CompressError``."""
        try:
            data = json.loads(Path(path).read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError) as error:
            raise CompressError(f"{path}: cannot read a device table ({error})") from None
        if not isinstance(data, dict) or data.get("format") != FORMAT:
            found = data.get("format") if isinstance(data, dict) else type(data).__name__
            raise CompressError(
                f"{path}: a device table of format {FORMAT} was expected, got {found!r}; "
                "make it again: compress calibrate"
            )
        try:
            proof = data["proof"]
            lists = ("spaces", "predicted_ms", "measured_ms")
            return cls(
                str(data["backend"]),
                int(data["threads"]),
                {str(key): str(value) for key, value in data["device"].items()},
                str(data["date"]),
                str(data["clock"]),
                tuple(map(str, data["spaces"])),
                tuple((int(height), int(width)) for height, width in data["sizes"]),
                int(data["measured"]),
                Predictor.from_dict(data["predictor"]),
                proof and Proof(**proof | {key: tuple(proof[key]) for key in lists}),
                int(data["step"]) if data.get("step") else None,
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise CompressError(
                f"{path}: this device table is damaged ({type(error).__name__}: {error}); "
                "make it again: compress calibrate"
            ) from None

    def check(self, backend: str, threads: int, source: str = "this device table") -> None:
        """Raise ``CompressError`` unless it is of this backend, these threads and this device."""
        again = f"make one for it: compress calibrate --backend {backend} --threads {threads}"
        if (self.backend, self.threads) != (backend, threads):
            raise CompressError(
                f"{source} is of {self.backend} with {self.threads} threads, not of {backend} with "
                f"{threads}; {again}"
            )
        here = identity(backend)
        there = {key: self.device.get(key, "") for key in here}
        for key, value in here.items():
            if there[key] != value:
                raise CompressError(
                    f"{source} is of another device: its {key} is {there[key]!r}, here it is "
                    f"{value!r}; {again}"
                )


def identity(backend: str) -> dict[str, str]:
    """What of a device and of its libraries a table depends on."""
    said = device_of(backend)
    package = backend_called(backend).package
    return {key: said[key] for key in (*SAME, package) if key in said}


def default_table_path(backend: str, threads: int) -> Path:
    """Where the table of this device, backend and threads lies.

    Under ``$COMPRESS_CACHE``, or ``~/.cache/depth-compress`` where it is not set.
    """
    key = json.dumps([identity(backend), threads], sort_keys=True)
    digest = hashlib.sha256(key.encode()).hexdigest()[:12]
    name = f"{re.sub(r'[^a-z0-9-]', '-', backend)}-{threads}-{digest}.json"
    folder = os.environ.get("COMPRESS_CACHE")
    try:
        cache = Path(folder) if folder else Path.home() / ".cache" / "depth-compress"
    except RuntimeError:
        raise CompressError(
            "there is no home folder to keep a device table in; set COMPRESS_CACHE, or give a file"
        ) from None
    return cache.expanduser() / "tables" / name


def find_table(backend: str, threads: int = 1, path: str | Path | None = None) -> DeviceTable:
    """The table of this device, or the one in ``path``.

    Raises:
        CompressError: there is none, it cannot be read, or it is of something else.
    """
    backend_called(backend)
    at = Path(path).expanduser() if path else default_table_path(backend, threads)
    if not at.is_file():
        raise CompressError(
            f"there is no device table of {backend} with {threads} thread"
            f"{'s'[: threads > 1]} ({at}); measure it first, in some minutes: "
            f"compress calibrate --backend {backend} --threads {threads}"
        )
    table = DeviceTable.load(at)
    table.check(backend, threads, str(at))
    return table


def spearman(first: Floats, second: Floats) -> float:
    """Spearman's correlation of ranks; 0 where all of one side are equal.

    >>> spearman(np.array([1.0, 2.0, 4.0]), np.array([3.0, 5.0, 9.0]))
    1.0
    """
    ranks = []
    for values in (first, second):
        _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
        ranks.append((np.cumsum(counts) - (counts + 1) / 2)[place])
    if any(np.ptp(one) == 0 for one in ranks):
        return 0.0
    return round(float(np.corrcoef(ranks[0], ranks[1])[0, 1]), 12)
