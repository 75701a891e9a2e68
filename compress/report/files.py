"""Files of a report."""

from __future__ import annotations

from pathlib import Path

from compress._files import whole


def write_whole(path: Path, data: bytes) -> Path:
    """Write ``data`` under a temporary name in the same folder, then put it in place.

    Whoever reads ``path`` meanwhile sees the old file or the new one, never a part.
    """
    with whole(path) as temporary:
        temporary.write_bytes(data)
    return path


def png_size(data: bytes) -> tuple[int, int] | None:
    """Width and height of a PNG, from its first bytes; None when it is none."""
    if data[:8] != b"\x89PNG\r\n\x1a\n" or data[12:16] != b"IHDR" or len(data) < 24:
        return None
    return int.from_bytes(data[16:20], "big"), int.from_bytes(data[20:24], "big")
