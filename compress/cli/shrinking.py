"""What ``prune`` and ``gate`` share: data to fine-tune on, and a page while they run."""

from __future__ import annotations

import sys
from argparse import Namespace
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from typing import Any

Add = Callable[[Mapping[str, Any]], None]


class Adding:
    """Events whose parts of the result go to the live page."""

    def __init__(self, add: Add) -> None:
        self.add = add

    def so_far(self, values: Mapping[str, Any]) -> None:
        """Parts of what the result's JSON will hold."""
        self.add(values)


def depth_task(args: Namespace, size: tuple[int, int]) -> Any:
    """The data set of ``--data`` at a size, and how to fine-tune on it."""
    from compress.cli.display import reading_progress
    from compress.cli.training import data_options
    from compress.data import open_data
    from compress.pruning.task import DepthTask

    recipe = {k: getattr(args, k) for k in ("lr", "batch") if getattr(args, k) is not None}
    with reading_progress() as reading:
        dataset = open_data(args.data, **data_options(args))
        return DepthTask(dataset, size, recipe, seed=args.seed, reading=reading)


def run_of(args: Namespace) -> dict[str, Any]:
    """The command that was given and where it runs, as the result's JSON holds them."""
    from compress.search.run import environment

    return {"command": ["compress", *args.words], "environment": environment()}


def page_of(
    out: Path, told: Mapping[str, Any], every_s: float | None
) -> AbstractContextManager[Add]:
    """The page beside a model that is being made, while the block lasts."""
    from compress.report.live import live_outcome

    begun = {"model": str(out), **told}
    return live_outcome(out.with_suffix(".html"), begun, every_s, partial(print, file=sys.stderr))
