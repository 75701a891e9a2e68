"""The page's script, style and data, and the policy that lets nothing else run."""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
from functools import cache
from importlib.resources import files
from typing import Any

# In the order they are put together.
PARTS = ("core", "plot", "explore", "history", "layers", "panel", "table", "main")


def packed(value: Any) -> str:
    """``value`` as JSON, gzipped, in base64: text that no markup can be hidden in."""
    text = json.dumps(value, separators=(",", ":"), allow_nan=False)
    return _packed(text.encode("utf-8", "replace"), 6)


@cache
def page_script() -> str:
    """The page's own script, one function that leaves nothing behind."""
    parts = "\n".join(_asset(f"{name}.js") for name in PARTS)
    return f'(() => {{\n"use strict";\n{parts}}})();\n'


@cache
def style() -> str:
    """The page's style sheet."""
    return _asset("page.css")


@cache
def plotly_text() -> str:
    """plotly.js as its Python package holds it."""
    return files("plotly").joinpath("package_data", "plotly.min.js").read_text(encoding="utf-8")


@cache
def plotly() -> str:
    """plotly.js, gzipped, in base64: 2 MB instead of 4.8."""
    return _packed(plotly_text().encode("utf-8"), 9)


def policy(*scripts: str) -> str:
    """A content-security policy under which these scripts run and nothing is fetched.

    A script is known by the hash of its text, so that one which slipped into the page would not
    run, nor anything from elsewhere.
    """
    hashes = " ".join(f"'sha256-{_hash(script)}'" for script in scripts)
    return (
        f"default-src 'none'; script-src {hashes}; style-src 'unsafe-inline'; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )


@cache
def _hash(script: str) -> str:
    return base64.b64encode(hashlib.sha256(script.encode("utf-8")).digest()).decode("ascii")


def _packed(data: bytes, level: int) -> str:
    # The same data gives the same page: no time of day in the header.
    return base64.b64encode(gzip.compress(data, level, mtime=0)).decode("ascii")


def _asset(name: str) -> str:
    return files("compress.report").joinpath("assets", name).read_text(encoding="utf-8")
