"""Errors that answer the user: what came, what is allowed, what to do."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class CompressError(ValueError):
    """A mistake in what the user gave; the command prints its one line and exits 2."""


class NoNetworkError(CompressError):
    """A search that ended with no network through its gates."""


def unknown(what: str, got: object, allowed: Iterable[str], hint: str = "") -> CompressError:
    """Say that a name is unknown and offer the nearest allowed ones.

    >>> print(unknown("space", "depthnet-nani", ["depthnet-nano", "fastdepth"]))
    unknown space 'depthnet-nani'; did you mean depthnet-nano? (allowed: depthnet-nano, fastdepth)
    """
    names = sorted(allowed)
    near = difflib.get_close_matches(str(got), names, n=3, cutoff=0.5)
    meant = f"did you mean {' or '.join(near)}? " if near else ""
    listed = ", ".join(names) or "none"
    tail = f"; {hint}" if hint else ""
    return CompressError(f"unknown {what} {str(got)!r}; {meant}(allowed: {listed}){tail}")
