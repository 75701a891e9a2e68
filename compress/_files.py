"""Files that are there whole or not at all."""

from __future__ import annotations

import os
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

# The mask of a process can only be read by setting it: one thread at a time.
_MASK = threading.Lock()


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """Yield a temporary path in the same folder; at the end of the block it takes ``path``'s place.

    Whoever reads ``path`` meanwhile sees the old file or the new one, never a part. When the block
    raises, the old file stands and nothing is left behind.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        with _MASK:
            mask = os.umask(0)
            os.umask(mask)
        temporary.chmod(0o666 & ~mask)  # mkstemp makes files for their owner alone
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)  # gone already where it took its place
