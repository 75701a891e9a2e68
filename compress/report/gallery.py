"""Depth maps of the networks on a study's fronts, for who compares them on its page."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from compress.data import Dataset
from compress.errors import CompressError
from compress.models import load
from compress.report.findings import Findings
from compress.report.pictures import PICTURES
from compress.report.samples import write_samples
from compress.report.words import plural
from compress.search.records import Record

MOST = 12  # networks that have pictures of their own
MOST_BYTES = 240_000  # of each, so that all fit into a page


def draw_front(
    found: Findings,
    folder: Path,
    opened: Callable[[], Dataset],
    note: Callable[[str], object],
) -> list[Path]:
    """Write ``samples-N.png`` of the networks on the fronts whose weights the study kept.

    The frames and colours are those of ``samples.png``. Pictures that are there already stay, and
    of more than ``MOST`` networks some are left out, evenly over the front.

    Args:
        found: the study.
        folder: its folder, with ``networks/``.
        opened: opens its data; only asked where there is something to draw.
        note: is told what could not be drawn, in a line.

    Returns:
        The files that were written.
    """
    rows = [row for row in _chosen(found, folder) if not _picture(folder, row).is_file()]
    kept = [row for row in rows if _network(folder, row).is_file()]
    if len(kept) < len(rows):
        which = plural(len(rows) - len(kept), "network")
        note(f"no depth maps of {which} on the front: {folder / 'networks'} holds no weights")
    if not kept:
        return []
    written = []
    try:
        dataset = opened()
        for row in kept:
            written.append(
                write_samples(
                    load(_network(folder, row)), dataset.heldout, folder, cap_m=dataset.cap_m,
                    name=_picture(folder, row).name, most_bytes=MOST_BYTES,
                )
            )  # fmt: skip
    except (CompressError, OSError) as error:
        left = plural(len(kept) - len(written), "network")
        note(f"no depth maps of {left} on the front: {' '.join(str(error).split())}")
    return written


def _chosen(found: Findings, folder: Path) -> list[Record]:
    """The networks on either front but the one that ``samples.png`` shows, cheapest first."""
    shown = found.shown.number if found.shown and (folder / PICTURES).is_file() else None
    fronts = {row.number: row for cost in ("macs", "params") for row in found.front(cost)}
    rows = sorted((r for r in fronts.values() if r.number != shown), key=lambda r: r.macs)
    if len(rows) <= MOST:
        return rows
    return [rows[round(i * (len(rows) - 1) / (MOST - 1))] for i in range(MOST)]


def _network(folder: Path, row: Record) -> Path:
    return folder / "networks" / f"{row.number}.safetensors"


def _picture(folder: Path, row: Record) -> Path:
    return folder / f"samples-{row.number}.png"
