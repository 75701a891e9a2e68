"""Depth pictures that lie in a study's folder, ready to be put into its page."""

from __future__ import annotations

import base64
import re
from pathlib import Path
from typing import NamedTuple

from compress.report.files import png_size
from compress.search.records import Record

PICTURES = "samples.png"  # of the network that the study saved
PICTURE_BYTES = 4 << 20  # of all that a page holds together
OTHERS = re.compile(r"samples-(\d{1,9})\.png")


class Picture(NamedTuple):
    """A picture as the page holds it, width and height in pixels."""

    uri: str
    width: int
    height: int


def pictures(folder: Path, shown: Record | None) -> dict[int, Picture]:
    """Pictures by trial number: ``samples.png`` of the shown network, ``samples-N.png`` of trial N.

    What cannot be read, is no PNG or would make the page too large is left out; a picture of no
    known trial has the number -1.
    """
    number = -1 if shown is None else shown.number
    names = {number: PICTURES} if (folder / PICTURES).is_file() else {}
    try:
        others = sorted(path.name for path in folder.iterdir() if OTHERS.fullmatch(path.name))
    except OSError:
        others = []
    for name in others:
        names.setdefault(int(name[len("samples-") : -len(".png")]), name)
    found: dict[int, Picture] = {}
    left = PICTURE_BYTES
    for key, name in names.items():
        data = _read(folder / name, left)
        size = png_size(data)
        if size is not None:
            left -= len(data)
            text = base64.b64encode(data).decode("ascii")
            found[key] = Picture(f"data:image/png;base64,{text}", *size)
    return found


def _read(path: Path, most: int) -> bytes:
    try:
        return path.read_bytes() if path.stat().st_size <= most else b""
    except OSError:
        return b""
