"""Files that are there whole or not at all."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path


def write_whole(path: Path, data: bytes) -> Path:
    """Write ``data`` under a temporary name in the same folder, then put it in place.

    Whoever reads ``path`` meanwhile sees the old file or the new one, never a part.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
        mask = os.umask(0)
        os.umask(mask)
        Path(temporary).chmod(0o666 & ~mask)  # mkstemp makes files for their owner alone
        Path(temporary).replace(path)
    finally:
        Path(temporary).unlink(missing_ok=True)  # gone already where it took its place
    return path


def png_size(data: bytes) -> tuple[int, int] | None:
    """Width and height of a PNG, from its first bytes; None when it is none."""
    if data[:8] != b"\x89PNG\r\n\x1a\n" or data[12:16] != b"IHDR" or len(data) < 24:
        return None
    return int.from_bytes(data[16:20], "big"), int.from_bytes(data[20:24], "big")
