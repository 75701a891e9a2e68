"""Writing TOML, which Python only reads."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping
from typing import Any


def toml_lines(values: Mapping[str, Any], path: str = "") -> Iterator[str]:
    """Values as lines of TOML; None and what is no finite number are left out.

    Args:
        values: of text, numbers, truth values, lists and tables.
        path: of the table that they are in.

    >>> print("\\n".join(toml_lines({"a b": 1, "t": {"x": [True, "y"]}})))
    "a b" = 1
    <BLANKLINE>
    [t]
    x = [true, "y"]
    <BLANKLINE>
    """
    tables = {k: v for k, v in values.items() if isinstance(v, Mapping)}
    plain = {k: _value(v) for k, v in values.items() if k not in tables}
    lines = [f"{_key(k)} = {v}" for k, v in plain.items() if v]
    if path and (lines or not tables):
        yield f"[{path}]"
    yield from lines
    if lines:
        yield ""
    for key, inner in tables.items():
        if inner:
            yield from toml_lines(inner, f"{path}.{_key(key)}" if path else _key(key))


def _value(value: Any) -> str:
    if isinstance(value, list | tuple):
        return f"[{', '.join(filter(None, map(_value, value)))}]"
    if isinstance(value, Mapping):
        inside = ((_key(k), _value(v)) for k, v in value.items())
        return "{" + ", ".join(f"{k} = {v}" for k, v in inside if v) + "}"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    try:
        return repr(value) if isinstance(value, int | float) and math.isfinite(value) else ""
    except OverflowError:  # a whole number that no float holds
        return ""


def _key(key: object) -> str:
    return str(key) if re.fullmatch(r"[A-Za-z0-9_-]+", str(key)) else _value(str(key))
