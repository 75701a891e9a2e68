"""Numbers as people read them, and commands as shells do."""

from __future__ import annotations

import math
import shlex
from collections.abc import Mapping
from typing import Any

from compress.errors import CompressError
from compress.report.toml import toml_lines
from compress.search.config import SearchConfig, count, human

DASH = "–"
MINUS = "−"

# Flags of ``compress search`` by configuration key, in the order a person would write them.
FLAGS = {
    "space": "--space",
    "budget": "--budget",
    "max_macs": "--max-macs",
    "max_latency": "--max-latency",
    "backend": "--backend",
    "threads": "--threads",
    "table": "--table",
    "delta1": "--delta1",
    "data": "--data",
    "study": "--study",
    "seed": "--seed",
    "minutes": "--minutes",
    "trials": "--trials",
    "epochs": "--epochs",
    "final_epochs": "--final-epochs",
    "size": "--size",
    "sampler": "--sampler",
    "strategy": "--strategy",
    "pruner": "--pruner",
    "fidelity": "--fidelity",
    "warm_start": "--warm-start",
    "inherit": "--inherit",
    "exponents": "--exponents",
    "depth_scale": "--depth-scale",
    "cap_m": "--cap",
    "split": "--split",
    "crop": "--crop",
    "averaging": "--averaging",
    "flip_average": "--flip",
}
ALWAYS = ("space", "budget", "delta1", "data", "study", "seed")


def number(value: Any) -> float | None:
    """``value`` as a finite number, or None for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        return value if math.isfinite(value) else None
    except OverflowError:  # a whole number that no float holds
        return None


def si(value: float | None) -> str:
    """A count with its unit prefix.

    >>> si(117_234), si(27_300_000), si(812), si(None)
    ('117 K', '27.3 M', '812', '–')
    """
    if value is None:
        return DASH
    text = human(value)
    return f"{text[:-1]} {text[-1]}" if text[-1] in "KMG" else text


def fixed(value: float | None, digits: int = 3) -> str:
    """A number with a fixed count of decimals and a true minus sign.

    >>> fixed(0.81649), fixed(-1.5, 1), fixed(None), fixed(float("-inf"))
    ('0.816', '−1.5', '–', '−∞')
    """
    if value is None or math.isnan(value):
        return DASH
    if math.isinf(value):
        return "∞" if value > 0 else f"{MINUS}∞"
    return f"{value:.{digits}f}".replace("-", MINUS)


def duration(seconds: float | None) -> str:
    """Seconds as people say them.

    >>> duration(9.4), duration(98), duration(5400), duration(200_000), duration(None)
    ('9.4 s', '1 min 38 s', '1 h 30 min', '2 d 7 h', '–')
    """
    if seconds is None or not math.isfinite(seconds):
        return DASH
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    for size, unit, part, lesser in (
        (86400, "d", 3600, "h"),
        (3600, "h", 60, "min"),
        (60, "min", 1, "s"),
    ):
        if whole >= size:
            rest = whole % size // part
            return f"{whole // size} {unit}" + (f" {rest} {lesser}" if rest else "")
    return f"{whole} s"


def plural(amount: int, one: str, many: str = "") -> str:
    """A counted noun.

    >>> plural(1, "candidate"), plural(1200, "candidate"), plural(2, "is", "are")
    ('1 candidate', '1,200 candidates', '2 are')
    """
    return f"{amount:,} {one if amount == 1 else many or one + 's'}"


def search_command(config: Mapping[str, Any], study: str) -> str:
    """The command line that makes a study of this configuration.

    Args:
        config: what ``SearchConfig.to_dict`` wrote.
        study: its name.

    >>> search_command({"budget": 5e6, "data": "folder:/my data", "minutes": 3.0}, "demo")
    "compress search --space depthnet-nano --budget 5M --data 'folder:/my data' \
--study demo --seed 0 --minutes 3"
    """
    defaults = SearchConfig().to_dict()
    values = {**defaults, **config, "study": study}
    words = ["compress", "search"]
    if recipe_lines(config):
        words += ["--recipe", "recipe.toml"]
    for key, flag in FLAGS.items():
        value = values.get(key)
        if value is None or (key not in ALWAYS and value == defaults.get(key)):
            continue
        words += [flag] if value is True else [flag, _argument(key, value)]
    return shlex.join(words)


def recipe_lines(config: Mapping[str, Any]) -> str:
    """What has no flag in a study's configuration, as a recipe's TOML; "" where all has."""
    values = {"early_stop": False} if config.get("early_stop") is False else {}
    tables = {k: v for k in ("fix", "training") if (v := config.get(k)) and isinstance(v, Mapping)}
    return "\n".join(toml_lines(values | tables)).strip()


def _argument(key: str, value: Any) -> str:
    if key == "size" and isinstance(value, list | tuple):
        return "x".join(map(str, value))
    if key in ("budget", "max_macs") and number(value) is not None:
        try:
            short = human(value)
            return short if count(short) == value else str(round(value))
        except CompressError:
            return str(value)
    return f"{value:.12g}" if isinstance(value, float) else str(value)
