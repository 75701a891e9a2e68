"""Milliseconds of networks on real images, beside one another."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import cycle
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from compress.cost import cost
from compress.cost.backends import torch_threads
from compress.cost.timing import Ratio, Samples, interval_ms, speedup, time_callables, verdict
from compress.data import Frames, resized
from compress.errors import CompressError
from compress.models import DepthNet
from compress.models.base import normalised
from compress.pruning.depgraph import prune_to

Network = Callable[[Tensor], Tensor]
HALVINGS = 6  # of the multiply-adds of a static network that is to be as fast


@dataclass(frozen=True)
class Timed:
    """Milliseconds an image: the median with its 95 % interval, and the 95th percentile of runs.

    ``verdict`` is "quiet", or why the machine was too noisy to tell.
    """

    median_ms: float
    low_ms: float
    high_ms: float
    p95_ms: float
    verdict: str

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready values."""
        return asdict(self)


class Timings(NamedTuple):
    """``speedups`` has every network but the first: how many times as fast as that it is."""

    latencies: dict[str, Timed]
    speedups: dict[str, Ratio]


def time_networks(
    networks: Mapping[str, Network], images: Sequence[Tensor], *, threads: int, seconds: float
) -> Timings:
    """Run networks on images in turn, in interleaved rounds.

    Args:
        networks: take an image (1, 3, H, W); the first is what the others are compared with.
        images: (1, 3, H, W) each; every network gets them in the same order.
        threads: of torch.
        seconds: about how long each is run.
    """

    def runner(network: Network) -> Callable[[], object]:
        turn: Iterator[Tensor] = cycle(images)
        return lambda: network(next(turn))

    with torch_threads(threads), torch.inference_mode():
        taken = time_callables(
            {name: runner(network) for name, network in networks.items()},
            seconds=seconds,
            warm_up_s=min(3.0, seconds),
            # Several threads take more processor time than time passes.
            cpu_clock=time.process_time_ns if threads == 1 else None,
        )
    first = next(iter(taken))
    return Timings(
        {name: _timed(samples) for name, samples in taken.items()},
        {name: speedup(taken[first], taken[name]) for name in taken if name != first},
    )


def _timed(samples: Samples) -> Timed:
    low_ms, high_ms = interval_ms(samples)
    p95_ms = float(torch.tensor(samples.runs_ms).quantile(0.95))
    return Timed(samples.median_ms, low_ms, high_ms, p95_ms, verdict(samples, low_ms, high_ms))


def images_at(frames: Frames, size: tuple[int, int], most: int | None = None) -> list[Tensor]:
    """Images of a split, each (1, 3, H, W) normalised; evenly spread where ``most`` is fewer."""
    arrays = resized(frames, size)
    count = len(arrays)
    every = max(1, count // most) if most else 1
    chosen = range(0, count, every)[:most]
    return [
        normalised(torch.from_numpy(arrays.rgb[i : i + 1].copy()).permute(0, 3, 1, 2)).contiguous(
            memory_format=torch.channels_last
        )
        for i in chosen
    ]


def eager(model: nn.Module) -> Network:
    """The network as torch runs it, channels last."""
    return model.eval().to(memory_format=torch.channels_last)  # type: ignore[call-overload,no-any-return]


def static_twin(
    model: DepthNet, share: float, images: Sequence[Tensor], *, threads: int, floor: int = 8
) -> DepthNet:
    """The widest uniformly pruned network that takes no more than a share of the whole one's time.

    The same share of every group's channels goes, by magnitude. The two are timed as torch runs
    them, which is quicker than compiling every network tried.

    Raises:
        CompressError: even the narrowest takes longer.
    """
    size = (images[0].shape[-2], images[0].shape[-1])
    whole = cost(model, size).macs
    before = eager(copy.deepcopy(model))
    low, high, found = 0.0, 1.0, None
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        try:
            cut = prune_to(
                model, max_macs=int(middle * whole), size=size, scope="uniform", floor=floor
            ).model
        except CompressError:  # narrower than it can be
            low = middle
            continue
        pair = {"whole": before, "cut": eager(copy.deepcopy(cut))}
        taken = time_networks(pair, images, threads=threads, seconds=0.5)
        if taken.speedups["cut"].ratio * share >= 1:
            low, found = middle, cut
        else:
            high = middle
    if found is None:
        raise CompressError(f"no uniformly pruned network takes {share:.2f} of its time")
    return found
