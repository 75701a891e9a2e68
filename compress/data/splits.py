"""Lists of frames, and cutting an ordered list in two without neighbours on both sides."""

from __future__ import annotations

import random
import shlex
import warnings
from pathlib import Path

from compress.data.types import Frames, Subset
from compress.errors import CompressError

HELDOUT = 0.2


def read_lines(path: Path) -> list[tuple[int, str]]:
    """Return the numbered lines of a list, blank lines and ``#`` comments left out.

    Raises ``CompressError`` when the file cannot be read or lists nothing.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as broken:
        raise CompressError(f"{path}: cannot be read as a text list ({broken})") from broken
    lines = [(n, line.strip()) for n, line in enumerate(text.splitlines(), 1)]
    lines = [(n, line) for n, line in lines if line and not line.startswith("#")]
    if not lines:
        raise CompressError(f"{path}: the list is empty; write one frame per line")
    return lines


def split_fields(line: str, where: str, expected: str, more: str = "") -> list[str]:
    """Split a line at tabs if it has any, else at blanks outside quotes.

    Raises ``CompressError`` at ``where`` unless there are as many fields as ``expected`` names,
    or as many as ``expected`` and ``more``.
    """
    if "\t" in line:
        fields = [field.strip() for field in line.split("\t") if field.strip()]
    elif '"' in line or "'" in line:
        reader = shlex.shlex(line, posix=True)
        reader.whitespace_split, reader.escape, reader.commenters = True, "", ""
        try:
            fields = list(reader)
        except ValueError as broken:
            raise CompressError(
                f"{where}: {line!r}: {broken}; separate names with quotes in them by a tab"
            ) from broken
    else:
        fields = line.split()
    if len(fields) not in {len(expected.split()), len(f"{expected} {more}".split())}:
        form = f"{expected} [{more}]" if more else expected
        raise CompressError(
            f"{where}: {line!r} has {len(fields)} fields where a line is '{form}'; separate "
            "names with blanks in them by a tab, or quote them"
        )
    return fields


def cut_blocks(
    count: int, fraction: float, blocks: int, seed: int, gap: int | None = None
) -> tuple[list[int], list[int]]:
    """Cut ``count`` ordered frames into (kept, cut) indices, ``cut`` in evenly spread blocks.

    ``gap`` frames (2 % of them by default) beside each block go to neither side; blocks, then
    the gap, give way where they would take over half of what remains. Raises ``CompressError``
    for fewer than 2 frames or values out of range.
    """
    if count < 2:
        raise CompressError(f"a split needs at least 2 frames, got {count}; add frames")
    if not 0 < fraction < 1:
        raise CompressError(f"the fraction to cut is {fraction}; give a number between 0 and 1")
    if blocks < 1 or (gap is not None and gap < 0):
        raise CompressError(f"got {blocks} blocks, gap {gap}; give at least 1 block, gap 0 or more")
    size = min(max(round(count * fraction), 1), count - 1)
    blocks = min(blocks, size)
    space = max(1, round(0.02 * count)) if gap is None else min(gap, count)
    offset = random.Random(seed).random()
    while True:
        cut: list[int] = []
        taken: set[int] = set()
        for i in range(blocks):
            low, room = i * (count // blocks) + min(i, count % blocks), count // blocks
            room += i < count % blocks
            length = size // blocks + (i < size % blocks)
            start = low + int(offset * (room - length + 1))
            cut.extend(range(start, start + length))
            taken.update(range(start - space, start + length + space))
        kept = [i for i in range(count) if i not in taken]
        if space == 0 or 2 * len(kept) >= count - size:
            return kept, cut
        blocks, space = (blocks - 1, space) if blocks > 1 else (blocks, space // 2)


def cut_validation(
    frames: Frames,
    fraction: float = 0.15,
    blocks: int = 3,
    seed: int = 0,
    *,
    gap: int | None = None,
) -> tuple[Frames, Frames]:
    """Cut an ordered list of frames into (train, validation), validation in evenly spread blocks.

    Same arguments, same cut. ``gap`` frames beside each block (2 % of the list by default) go
    to neither side, so that neighbouring frames do not straddle the cut. Raises
    ``CompressError`` for fewer than 2 frames or values out of range.
    """
    kept, cut = cut_blocks(len(frames), fraction, blocks, seed, gap)
    return Subset(frames, kept), Subset(frames, cut)


def cut_heldout(frames: Frames, seed: int) -> tuple[Frames, Frames]:
    """Cut frames without a split of their own into (train, held-out), 20 % in 5 blocks."""
    return cut_validation(frames, HELDOUT, 5, seed)


def warn_of_overlap(source: object, train: Frames | None, heldout: Frames) -> None:
    """Warn when frames are both trained on and held out."""
    both = sorted(set(train.names if train else ()) & set(heldout.names))
    if both:
        warnings.warn(
            f"{source}: {len(both)} frames are in both splits, the first is {both[0]}; "
            "the held-out figures will flatter",
            stacklevel=2,
        )
