"""What a study is asked to do: plain values, from flags or from a recipe's TOML."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from compress.errors import CompressError, unknown
from compress.space import shipped

# The gates that DepthNet Nano's authors set: section 4 of arXiv 2004.08008.
DELTA1 = {"kitti": 0.89}
DEFAULT_DELTA1 = 0.81
DEFAULT_MINUTES = 10.0
# Every candidate trained alone, or one network that holds them all, and only the best alone.
STRATEGIES = ("trials", "one-shot")
_SUFFIX = {"": 1, "K": 1e3, "M": 1e6, "G": 1e9}


# What a field's annotation, as text, allows in a TOML; the first that matches counts.
_TYPES: dict[str, tuple[type, ...]] = {
    "tuple": (list, tuple, str),
    "Mapping": (Mapping,),
    "str": (str,),
    "bool": (bool,),
    "int": (int,),
    "float": (int, float),
}


@dataclass(frozen=True)
class SearchConfig:
    """One study, reproducibly.

    ``budget`` (parameters), ``max_macs``, ``max_latency`` (milliseconds, as the device table of
    ``backend`` and ``threads`` predicts them) and ``delta1`` are the gates. ``epochs`` is what a
    candidate is trained for, ``final_epochs`` the most that the winner is. ``minutes`` bounds the
    whole study, winner's training included, and ``trials`` the number of trained candidates, both
    counted over all its sessions. ``fix`` gives parameters of the space one value or a shorter
    list; ``pruner`` decides what is stopped early, and ``early_stop = False`` trains every
    candidate to the end, as an ablation needs. ``fidelity`` is what candidates are spared before
    their last rung, ``warm_start`` an earlier study whose best candidates are tried first.
    ``inherit`` lets each candidate begin with what it has in common with its nearest kept relative.
    ``strategy`` "one-shot" scores candidates as slices of one trained network and trains the best.
    ``training`` changes a ``Recipe``'s defaults.
    """

    space: str = "depthnet-nano"
    data: str = "scenes"
    budget: float | None = None
    max_macs: float | None = None
    max_latency: float | None = None
    backend: str = "onnxruntime"
    threads: int = 1
    table: str | None = None
    delta1: float | None = None
    trials: int | None = None
    minutes: float | None = None
    size: tuple[int, int] | None = None
    epochs: int = 12
    final_epochs: int = 60
    sampler: str = "gensynth"
    strategy: str = "trials"
    exponents: str = "depthnet-nano"
    seed: int = 0
    depth_scale: float = 1000.0
    cap_m: float | None = None
    split: str | None = None
    crop: str | None = None
    averaging: str = "per-image"
    flip_average: bool = False
    fix: Mapping[str, Any] = field(default_factory=dict)
    early_stop: bool = True
    pruner: str = "expected"
    fidelity: str = "epochs"
    warm_start: str | None = None
    inherit: bool = False
    training: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, low, high in (
            ("budget", 1, 1e12), ("max_macs", 1, 1e15), ("trials", 1, 10**6),
            ("max_latency", 0, 1e7), ("threads", 1, 4096), ("minutes", 0, 1e6),
            ("epochs", 1, 10**5), ("final_epochs", 1, 10**5),
        ):  # fmt: skip
            value = getattr(self, name)
            if value is not None and not (low <= value <= high and (value > 0)):
                raise CompressError(f"{name} = {value:g}: give a number from {low:g} to {high:g}")
        if self.strategy not in STRATEGIES:
            raise unknown("strategy", self.strategy, STRATEGIES)
        if self.delta1 is not None and not 0 < self.delta1 < 1:
            raise CompressError(
                f"delta1 = {self.delta1:g}: the gate is a share of pixels, above 0 and below 1, "
                "as in 0.81"
            )

    @property
    def gate_delta1(self) -> float:
        """The d1 gate: the one asked for, or that of the paper for this kind of data."""
        kind = self.data.partition(":")[0]
        return DELTA1.get(kind, DEFAULT_DELTA1) if self.delta1 is None else self.delta1

    @property
    def stopping(self) -> str:
        """The pruner; none where nothing is to be stopped.

        A one-shot search compares what it trains to the end with what it expected.
        """
        return self.pruner if self.early_stop and self.strategy == "trials" else "none"

    @property
    def default_name(self) -> str:
        """A study name that the same command finds again."""
        kind, _, place = self.data.partition(":")
        parts = [Path(self.space.partition(":")[0]).stem, kind]
        if place:
            parts.append(re.sub(r"[^\w.-]+", "-", Path(place).name))
        if self.budget:
            parts.append(human(self.budget))
        if self.max_latency:
            parts.append(f"{self.max_latency:g}ms")
        if self.delta1:
            parts.append(f"d{self.delta1:g}")
        return "-".join(part[:40].strip("-.") or "x" for part in parts)

    def to_dict(self) -> dict[str, Any]:
        """The study's configuration as JSON-ready values."""
        data = asdict(self)
        return data | {"size": list(self.size) if self.size else None}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any], source: str) -> SearchConfig:
        """Read ``to_dict``'s form or a recipe; a wrong key or value raises ``CompressError``."""
        kinds = {f.name: str(f.type) for f in fields(cls)}
        values = dict(data)
        for key, value in values.items():
            if key not in kinds:
                raise CompressError(f"{source}: {unknown('key', key, kinds)}")
            kind = kinds[key]
            if value is None and "None" in kind:
                continue
            if key in ("budget", "max_macs") and isinstance(value, str):
                values[key] = count(value, f"{source}: {key}")
                continue
            if key == "max_latency" and isinstance(value, str):
                values[key] = milliseconds(value, f"{source}: {key}")
                continue
            wanted = next(types for word, types in _TYPES.items() if word in kind)
            if not isinstance(value, wanted) or (isinstance(value, bool) and kind != "bool"):
                raise CompressError(f"{source}: {key} = {value!r}: allowed: {kind}")
        if values.get("size"):
            from compress.space import input_size

            values["size"] = input_size(values["size"], f"{source}: size")
        try:
            return cls(**values)
        except CompressError as error:
            raise CompressError(f"{source}: {error}") from None


def recipe_names() -> list[str]:
    """Names of the study recipes that come with the package."""
    return sorted(path.stem for path in shipped("studies").glob("*.toml"))


def read_recipe(name_or_path: str) -> dict[str, Any]:
    """Read a study recipe, a shipped one by name or a user's TOML, as a dict of values."""
    path = Path(name_or_path).expanduser()
    if not name_or_path.endswith(".toml"):
        if name_or_path not in recipe_names():
            raise unknown("recipe", name_or_path, recipe_names(), "or give a path to a .toml")
        path = shipped("studies") / f"{name_or_path}.toml"
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise CompressError(f"{path}: cannot read a study recipe ({error})") from None
    SearchConfig.from_dict(data, str(path))
    return data


def read_fixed(texts: Sequence[str]) -> dict[str, Any]:
    """Read ``KEY=VALUE`` or ``KEY=VALUE,VALUE``, numbers as numbers.

    >>> read_fixed(["skip=add,none", "decoder.1=32", "width=0.5"])
    {'skip': ['add', 'none'], 'decoder.1': 32, 'width': 0.5}
    """
    fixed: dict[str, Any] = {}
    for text in texts:
        key, equals, values = text.partition("=")
        if not equals or not key.strip() or not values.strip():
            raise CompressError(f"fix {text!r}: write KEY=VALUE or KEY=VALUE,VALUE")
        read = [_value(value.strip()) for value in values.split(",")]
        fixed[key.strip()] = read if len(read) > 1 else read[0]
    return fixed


def _value(text: str) -> Any:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def count(text: str, source: str = "count") -> float:
    """Read a count with an optional K, M or G.

    >>> count("5M"), count("0.4G"), count("350000")
    (5000000.0, 400000000.0, 350000.0)
    """
    match = re.fullmatch(r"([0-9]+(?:\.[0-9]*)?|\.[0-9]+)([KMGkmg]?)", text.strip())
    value = float(match[1]) * _SUFFIX[match[2].upper()] if match else 0.0
    if value <= 0:
        raise CompressError(
            f"{source}: {text!r} is no count above 0; write a number with K, M or G behind it, "
            "as in 5M"
        )
    return value


def milliseconds(text: str, source: str = "latency") -> float:
    """Read a latency, in milliseconds with or without their sign.

    >>> milliseconds("20ms"), milliseconds("0.5 ms"), milliseconds("20")
    (20.0, 0.5, 20.0)
    """
    match = re.fullmatch(r"([0-9]+(?:\.[0-9]*)?|\.[0-9]+) ?(?:ms)?", text.strip())
    value = float(match[1]) if match else 0.0
    if value <= 0:
        raise CompressError(
            f"{source}: {text!r} is no latency above 0; write milliseconds, as in 20ms"
        )
    return value


def human(value: float) -> str:
    """Write a count with K, M or G.

    >>> human(5_000_000), human(27_300_000), human(812)
    ('5M', '27.3M', '812')
    """
    for suffix in ("G", "M", "K"):
        if value >= _SUFFIX[suffix] * 0.9995:
            scaled = value / _SUFFIX[suffix]
            return f"{scaled:.3g}{suffix}" if scaled < 999.5 else f"{scaled:.0f}{suffix}"
    return f"{value:g}"
