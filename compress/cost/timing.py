"""Timing callables beside one another, and what may be said of the samples.

Nothing here knows of networks: the protocol (docs/measuring.md) in a few plain functions.
"""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import NamedTuple, cast

import numpy as np

Run = Callable[[], object]
Clock = Callable[[], int]  # nanoseconds

ROUNDS = 20  # enough for an interval from rounds alone
LEAST_RUNS = 10
SETTLED = 0.03  # how far the last three blocks of the warm-up may lie apart
WIDEST = 0.05  # relative: interval, spread of rounds and drift beyond which a verdict is "noisy"
LEAST_SHARE = 0.9  # of a processor; below, other programs took it
DRAWS = 2000


@dataclass(frozen=True)
class Samples:
    """Times of one callable: ``rounds_ms`` holds its runs, round by round, in milliseconds.

    ``cpu_share`` is the processor time that the process got over the time that passed in its
    rounds: about 1 for one busy thread, less when other programs took the processor.
    """

    rounds_ms: tuple[tuple[float, ...], ...]
    warm_up_runs: int = 0
    cpu_share: float | None = None

    @property
    def runs_ms(self) -> tuple[float, ...]:
        """All runs, in the order in which they ran."""
        return tuple(run for one in self.rounds_ms for run in one)

    @property
    def median_ms(self) -> float:
        """Median of all runs."""
        return statistics.median(self.runs_ms)


class Ratio(NamedTuple):
    """A ratio and its 95 % bootstrap interval."""

    ratio: float
    low: float
    high: float

    @property
    def told_apart(self) -> bool:
        """Whether the interval leaves 1 out."""
        return not self.low <= 1.0 <= self.high


def time_callables(
    callables: Mapping[str, Run],
    *,
    runs: int = 1000,
    seconds: float = 10.0,
    rounds: int = ROUNDS,
    warm_up_s: float = 3.0,
    clock: Clock = time.perf_counter_ns,
    cpu_clock: Clock | None = time.process_time_ns,
) -> dict[str, Samples]:
    """Time callables in interleaved rounds, after warming each up until its time is stable.

    A round runs every callable a few times in a row; the order turns around from round to round,
    so that whatever else the machine does, heating up included, falls on all alike. With several
    callables the first run after each change refills the caches and is not counted.

    Args:
        callables: what to run, by name.
        runs: most counted runs of each.
        seconds: about how long each is run at most, its warm-up apart; at least 10 runs are made.
        rounds: into how many rounds the runs are divided.
        warm_up_s: longest warm-up of each.
        clock: nanoseconds that have passed.
        cpu_clock: nanoseconds of processor time of this process; None where another device works.
    """
    warmed = {name: warm_up(run, warm_up_s, clock) for name, run in callables.items()}
    wanted = {
        name: int(min(runs, max(LEAST_RUNS, seconds * 1e9 / max(typical_ns, 1.0))))
        for name, (typical_ns, _) in warmed.items()
    }
    rounds = min(rounds, *wanted.values()) if wanted else 0
    taken: dict[str, list[tuple[float, ...]]] = {name: [] for name in callables}
    passed, worked = dict.fromkeys(callables, 0), dict.fromkeys(callables, 0)
    several = len(callables) > 1
    with _no_collection():
        for number in range(rounds):
            for name in list(callables)[:: -1 if number % 2 else 1]:
                run = callables[name]
                if several:
                    run()
                # Round by round so many that all of them together are as many as wanted.
                whole, rest = divmod(wanted[name], rounds)
                began, cpu_began = clock(), cpu_clock() if cpu_clock else 0
                taken[name].append(_times_ms(run, whole + (number < rest), clock))
                worked[name] += (cpu_clock() if cpu_clock else 0) - cpu_began
                passed[name] += clock() - began
    return {
        name: Samples(
            tuple(taken[name]),
            warmed[name][1],
            worked[name] / max(passed[name], 1) if cpu_clock else None,
        )
        for name in callables
    }


def warm_up(run: Run, seconds: float, clock: Clock = time.perf_counter_ns) -> tuple[float, int]:
    """Run until three blocks in a row have medians within 3 %, at most about ``seconds``.

    A tenth of the seconds is the least: a processor raises its frequency over many runs, and three
    short blocks on the way may look alike.

    Returns:
        the last block's median in nanoseconds, and how many runs it took.
    """
    began, medians, count = clock(), list[float](), 0
    first_ns = _times_ms(run, 1, clock)[0] * 1e6
    # A block is long enough for a median, and of a fast callable long enough to be seen.
    length = int(min(100, max(3, 10e6 / max(first_ns, 1.0))))
    count = 1
    while clock() - began < seconds * 1e9 or not medians:
        medians.append(statistics.median(_times_ms(run, length, clock)) * 1e6)
        count += length
        last = medians[-3:]
        alike = len(last) == 3 and max(last) <= (1 + SETTLED) * min(last)
        if alike and clock() - began >= seconds * 1e8:
            break
    return medians[-1], count


def _times_ms(run: Run, count: int, clock: Clock) -> tuple[float, ...]:
    stamps = []
    for _ in range(count):
        start = clock()
        run()
        stamps.append(clock() - start)
    return tuple(one / 1e6 for one in stamps)


@contextmanager
def _no_collection() -> Iterator[None]:
    """Keep Python's garbage collector out of the timed runs."""
    was = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()


def interval_ms(samples: Samples, seed: int = 0, draws: int = DRAWS) -> tuple[float, float]:
    """95 % bootstrap interval of the median, in milliseconds.

    Whole rounds are drawn, not runs: runs that follow one another share their disturbances, and
    drawing them one by one would call the median far surer than it is.

    Source: Davison and Hinkley, "Bootstrap Methods and their Application" (1997), section 3.8
    (hierarchical data), percentile interval.
    """
    medians = [np.median(_pooled(samples, drawn)) for drawn in _draws(samples, seed, draws)]
    low, high = np.quantile(medians, [0.025, 0.975])
    return float(low), float(high)


def speedup(slow: Samples, fast: Samples, seed: int = 0) -> Ratio:
    """How many times as fast ``fast`` is as ``slow``, its interval over rounds drawn in pairs.

    Both must come from one ``time_callables``: a disturbance then lies in the same round of both.
    """
    ratios = [
        np.median(_pooled(slow, drawn)) / np.median(_pooled(fast, drawn))
        for drawn in _draws(slow, seed, DRAWS)
    ]
    low, high = np.quantile(ratios, [0.025, 0.975])
    return Ratio(slow.median_ms / fast.median_ms, float(low), float(high))


def _draws(samples: Samples, seed: int, draws: int) -> list[list[int]]:
    rounds = len(samples.rounds_ms)
    drawn = np.random.default_rng(seed).integers(0, rounds, size=(draws, rounds))
    return cast(list[list[int]], drawn.tolist())


def _pooled(samples: Samples, drawn: Sequence[int]) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    return np.concatenate([samples.rounds_ms[i] for i in drawn])


def noise(samples: Samples, low_ms: float, high_ms: float) -> list[str]:
    """Why the machine was too noisy to tell, a clause each; nothing where it was quiet."""
    middle = samples.median_ms
    found = []
    width = (high_ms - low_ms) / middle
    if width > WIDEST:
        found.append(
            f"the median is only known to lie between {low_ms:.3g} and {high_ms:.3g} ms, "
            f"{width:.0%} apart"
        )
    medians = [statistics.median(one) for one in samples.rounds_ms]
    half = max(1, len(medians) // 2)
    before, after = statistics.median(medians[:half]), statistics.median(medians[-half:])
    drift = after / before - 1
    apart = max(_spread(medians[:half]), _spread(medians[-half:]))
    if abs(drift) > max(WIDEST, 1.5 * apart):  # and not by the chance of where rounds fell
        found.append(
            f"the second half of the runs took {abs(drift):.0%} "
            f"{'longer' if drift > 0 else 'less'} than the first"
        )
    elif _spread(medians) > WIDEST:
        found.append(f"rounds differ from one another by {_spread(medians):.0%}")
    if samples.cpu_share is not None and samples.cpu_share < LEAST_SHARE:
        found.append(f"the process had the processor for only {samples.cpu_share:.0%} of the time")
    return found


def _spread(values: Sequence[float]) -> float:
    """Relative standard deviation as the median absolute deviation gives it: blind to outliers."""
    middle = statistics.median(values)
    return 1.4826 * statistics.median(abs(one - middle) for one in values) / middle


def verdict(samples: Samples, low_ms: float, high_ms: float) -> str:
    """``quiet``, or ``noisy: ...`` with the reasons and what to do."""
    found = noise(samples, low_ms, high_ms)
    if not found:
        return "quiet"
    return f"noisy: {'; '.join(found)}. Close other programs and measure again"
