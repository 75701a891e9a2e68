"""Statistics worked by hand, on made-up clocks and made-up noise."""

from __future__ import annotations

import gc

import numpy as np
import pytest

from compress.cost.timing import (
    Ratio,
    Samples,
    interval_ms,
    speedup,
    time_callables,
    verdict,
    warm_up,
)

MS = 1_000_000


class Machine:
    """A clock that only running moves; ``log`` is the order in which things ran."""

    def __init__(self) -> None:
        self.now = self.cpu = 0
        self.log: list[str] = []

    def takes(self, name: str, ms, share: float = 1.0):
        """A callable of so many milliseconds: a number, or a function of how often it ran."""
        count = 0

        def run() -> None:
            nonlocal count
            ns = round((ms(count) if callable(ms) else ms) * MS)
            count += 1
            self.now += ns
            self.cpu += round(ns * share)
            self.log.append(name)

        return run

    def time(self, callables, **options) -> dict[str, Samples]:
        return time_callables(
            callables, clock=lambda: self.now, cpu_clock=lambda: self.cpu, **options
        )


class TestRounds:
    """What is run, in which order, and what counts."""

    def test_interleaved_and_turned_around(self):
        machine = Machine()
        taken = machine.time(
            {"a": machine.takes("a", 40), "b": machine.takes("b", 40)}, runs=40, seconds=1e9
        )
        warm = sum(one.warm_up_runs for one in taken.values())
        # Two counted runs a round, and one after each change that refills the caches.
        rounds = ["aaabbb" if number % 2 == 0 else "bbbaaa" for number in range(20)]
        assert "".join(machine.log[warm:]) == "".join(rounds)
        assert all(len(one.runs_ms) == 40 for one in taken.values())

    def test_alone_every_run_counts(self):
        machine = Machine()
        taken = machine.time({"a": machine.takes("a", 40)}, runs=45, seconds=1e9)["a"]
        assert len(machine.log) == taken.warm_up_runs + 45
        assert [len(one) for one in taken.rounds_ms] == [3] * 5 + [2] * 15

    def test_seconds_bound_the_runs_but_ten_are_made(self):
        machine = Machine()
        fast = machine.time({"a": machine.takes("a", 10)}, runs=1000, seconds=2)["a"]
        assert len(fast.runs_ms) == 200
        slow = machine.time({"a": machine.takes("a", 5000)}, runs=1000, seconds=2)["a"]
        assert len(slow.runs_ms) == len(slow.rounds_ms) == 10

    def test_networks_of_different_speed_share_the_rounds(self):
        machine = Machine()
        taken = machine.time(
            {"a": machine.takes("a", 1), "b": machine.takes("b", 100)}, runs=1000, seconds=3
        )
        assert {k: (len(v.rounds_ms), len(v.runs_ms)) for k, v in taken.items()} == {
            "a": (20, 1000),
            "b": (20, 30),
        }

    def test_the_first_run_after_a_change_does_not_count(self):
        machine = Machine()
        cold = {"last": ""}

        def takes(name: str):
            def run() -> None:
                machine.now += (50 if cold["last"] != name else 10) * MS
                cold["last"] = name

            return run

        taken = machine.time({"a": takes("a"), "b": takes("b")}, runs=100, seconds=1e9)
        assert set(taken["a"].runs_ms) == set(taken["b"].runs_ms) == {10.0}

    def test_the_garbage_collector_is_put_back(self):
        def fails() -> None:
            raise KeyboardInterrupt

        seen = []
        time_callables({"a": lambda: seen.append(gc.isenabled())}, runs=10, seconds=0.01)
        assert not seen[-1] and gc.isenabled()
        with pytest.raises(KeyboardInterrupt):
            time_callables({"a": fails})
        assert gc.isenabled()


class TestWarmUp:
    """Runs until it is stable, and not for ever."""

    def test_ends_once_three_blocks_agree(self):
        machine = Machine()
        # 90 | 80 70 60 | 50 40 30 | 20 10 10 | 10 10 10 | 10 10 10: the last three agree.
        run = machine.takes("a", lambda count: max(10, 90 - 10 * count))
        typical_ns, count = warm_up(run, 1.0, lambda: machine.now)
        assert typical_ns == 10 * MS
        assert count == 16 == len(machine.log)

    def test_is_a_tenth_of_its_longest_time_at_least(self):
        machine = Machine()
        warm_up(machine.takes("a", 1), 3.0, lambda: machine.now)
        assert 300 * MS <= machine.now <= 320 * MS

    def test_ends_when_it_never_settles(self):
        machine = Machine()
        warm_up(machine.takes("a", lambda count: 10 + count), 2.0, lambda: machine.now)
        assert 2000 * MS <= machine.now <= 2300 * MS

    def test_a_slow_network_is_run_a_few_times(self):
        machine = Machine()
        typical_ns, count = warm_up(machine.takes("a", 9000), 3.0, lambda: machine.now)
        assert (typical_ns, count) == (9000 * MS, 4)


def made(rng: np.random.Generator, spread: float, rounds: int = 20, runs: int = 15) -> Samples:
    """Runs about 10 ms with noise of their own, and what a whole round shares."""
    shared = rng.normal(0, spread, rounds)
    return Samples(
        tuple(tuple(10 + shift + rng.normal(0, 0.05, runs)) for shift in shared), cpu_share=1.0
    )


class TestInterval:
    """The bootstrap over rounds."""

    def test_covers_although_runs_of_a_round_are_alike(self):
        rng = np.random.default_rng(0)
        inside = width = 0
        for number in range(200):
            low, high = interval_ms(made(rng, 0.2), seed=number, draws=400)
            inside += low <= 10.0 <= high
            width += (high - low) / 200
        assert 0.88 <= inside / 200 <= 1.0  # 20 rounds: a little under 0.95
        # The median of 20 normal rounds has a standard error of 1.25 * 0.2 / sqrt(20).
        assert width == pytest.approx(2 * 1.96 * 1.25 * 0.2 / 20**0.5, rel=0.3)

    def test_equal_runs_leave_no_doubt(self):
        samples = Samples(((2.0,) * 3,) * 5)
        assert interval_ms(samples) == (2.0, 2.0)
        assert speedup(samples, Samples(((1.0,) * 3,) * 5)) == (2.0, 2.0, 2.0)

    def test_the_same_seed_gives_the_same_interval(self):
        samples = made(np.random.default_rng(1), 0.3)
        assert interval_ms(samples, 3) == interval_ms(samples, 3) != interval_ms(samples, 4)

    def test_drift_that_hits_both_leaves_the_ratio(self):
        drift = np.linspace(1, 2, 20)
        slow = Samples(tuple((10 * d,) * 3 for d in drift))
        fast = Samples(tuple((8 * d,) * 3 for d in drift))
        ratio = speedup(slow, fast)
        assert ratio == pytest.approx((1.25, 1.25, 1.25))
        low, high = interval_ms(slow)
        assert high / low > 1.1

    def test_told_apart(self):
        assert not Ratio(1.01, 0.99, 1.03).told_apart
        assert Ratio(1.03, 1.01, 1.05).told_apart and Ratio(0.9, 0.8, 0.99).told_apart


class TestVerdict:
    """When it says that it cannot tell."""

    def said(self, samples: Samples) -> str:
        return verdict(samples, *interval_ms(samples))

    def test_quiet(self):
        assert self.said(made(np.random.default_rng(0), 0.05)) == "quiet"

    def test_lone_interruptions_are_no_noise(self):
        one = [10.0] * 15
        one[7] = 80.0
        assert self.said(Samples((tuple(one),) * 20)) == "quiet"

    def test_rounds_that_differ(self):
        said = self.said(made(np.random.default_rng(0), 2.0))
        assert said.startswith("noisy: the median is only known to lie between")
        assert "rounds differ from one another by" in said

    def test_drift(self):
        said = self.said(Samples(((10.0,) * 5,) * 10 + ((12.0,) * 5,) * 10))
        assert "the second half of the runs took 20% longer than the first" in said
        said = self.said(Samples(((12.0,) * 5,) * 10 + ((9.0,) * 5,) * 10))
        assert "took 25% less than the first" in said

    def test_a_processor_taken_by_others(self):
        machine = Machine()
        shared = machine.time({"a": machine.takes("a", 10, share=0.6)}, runs=100)["a"]
        assert shared.cpu_share == pytest.approx(0.6)
        assert "the processor for only 60% of the time" in self.said(shared)
        alone = machine.time({"a": machine.takes("a", 10, share=1.9)}, runs=100)["a"]
        assert self.said(alone) == "quiet"

    def test_another_device_needs_no_processor(self):
        machine = Machine()
        taken = time_callables(
            {"a": machine.takes("a", 10)}, clock=lambda: machine.now, cpu_clock=None
        )
        assert taken["a"].cpu_share is None
        assert self.said(taken["a"]) == "quiet"
