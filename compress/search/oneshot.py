"""``--strategy one-shot``: one training for all candidates, thousands of them scored as slices.

The supernet is trained once; slices of it are scored, first drawn uniformly, then evolved towards
the front of d1 against the part of NetScore that size decides. ``scores`` says which of them are
trained.
"""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import asdict
from typing import Any

import optuna
import torch
from optuna.samplers import BaseSampler, NSGAIISampler
from optuna.study import Study
from optuna.trial import Trial, TrialState, create_trial

from compress.cost import Cost, cost
from compress.models.elastic import Supernet
from compress.netscore import netscore
from compress.search.events import Events
from compress.search.gates import Refusals
from compress.search.records import ONE_SHOT, records
from compress.search.sampler import GatedSampler, distributions
from compress.search.scores import FILE, Score, correlation, read_scores
from compress.search.session import Session
from compress.search.supernet import open_supernet, train_supernet
from compress.search.workers import run_candidates
from compress.space import Genotype
from compress.train.fit import StoppedError
from compress.train.norms import recalibrate
from compress.train.recipe import Recipe

CANDIDATES = 1000  # scored, where time allows
UNIFORM = 60  # of them are drawn, before the others are evolved
POPULATION = 50
IMAGES = 64  # from which a slice's norms take their statistics
# Shares of a study's minutes; what the winner's training does not need is for candidates.
SUPERNET_SHARE, SCORING_SHARE = 0.3, 0.1


class Slices:
    """Scores candidates as slices of a trained supernet."""

    def __init__(self, session: Session, supernet: Supernet) -> None:
        self.session, self.supernet = session, supernet
        recipe = Recipe.for_data(session.dataset, dict(session.config.training))
        self.augment = recipe.augment

    def delta1(self, genotype: Genotype) -> float:
        """Validation d1 of a slice whose norms have taken their statistics anew."""
        network = self.supernet.cut(genotype)
        recalibrate(network, self.session.arrays, self.augment, most=IMAGES)
        found = self.session.scorer(network, should_stop=self.session.should_stop)
        return float(found.metrics["delta1"])


def one_shot(session: Session, workers: int, remake: Callable[[Events], Session]) -> None:
    """Train a supernet, score candidates with it, train the telling and the promising ones.

    What was reached before an interruption is taken up: the supernet's last epoch, every score,
    every candidate.
    """
    minutes = session.config.minutes
    seconds = None if minutes is None else minutes * 60
    try:
        supernet = train_supernet(session, seconds and SUPERNET_SHARE * seconds)
        if seconds is not None and records(session.study):
            scores = read_scores(session.folder / FILE)  # their share of the minutes is used up
        else:
            scores = score_candidates(
                session, supernet, workers, remake, CANDIDATES, seconds and SCORING_SHARE * seconds
            )
    except StoppedError:
        return
    run_candidates(session, workers, remake)
    session.study.set_user_attr(ONE_SHOT, correlation(scores, records(session.study)))


def score_candidates(
    session: Session,
    supernet: Supernet,
    workers: int,
    remake: Callable[[Events], Session],
    count: int,
    seconds: float | None = None,
) -> list[Score]:
    """Score up to ``count`` candidates, those of an earlier session among them.

    Every score is on disk before the next is asked for. Ends early when the time is up or the
    space exhausted.

    Raises:
        StoppedError: the study is to end.
    """
    path = session.folder / FILE
    found = read_scores(path)
    proposals = _Proposals(session, count, found)
    progress = session.events.reading("candidates as slices")
    deadline = time.monotonic() + (float("inf") if seconds is None else seconds)
    with path.open("a", encoding="utf-8") as file, _pool(session, supernet, workers, remake) as run:
        waiting: dict[Future[float], tuple[Trial, Genotype, Cost]] = {}
        left = count - len(found)
        ahead = 1 if workers <= 1 else 2 * workers  # none of them waits for the next proposal
        while left > 0 or waiting:
            if session.should_stop():
                raise StoppedError
            if time.monotonic() > deadline:
                left = 0
            while left > 0 and len(waiting) < ahead:
                proposal = proposals.ask()
                if proposal is None:
                    left = 0
                    break
                waiting[run(proposal[1])] = proposal
                left -= 1
            done, _ = wait(waiting, timeout=0.5, return_when=FIRST_COMPLETED)
            for future in done:
                trial, genotype, size = waiting.pop(future)
                score = Score(
                    dict(genotype.values), genotype.hash, size.params, size.macs, future.result()
                )
                file.write(json.dumps(asdict(score)) + "\n")
                file.flush()
                found.append(score)
                proposals.tell(trial, score)
            if progress and done:
                progress(len(found), count)
    return found


class _Proposals:
    """What to score next: uniform draws first, then children of the front."""

    def __init__(self, session: Session, count: int, found: Sequence[Score]) -> None:
        self.session = session
        self.kinds: dict[str, Any] = dict(distributions(session.space))
        self.uniform = min(UNIFORM, count)
        self.study: Study = optuna.create_study(directions=["maximize", "maximize"])
        for score in found:
            self.study.add_trial(
                create_trial(
                    params=score.values, distributions=self.kinds, values=self._worth(score),
                    user_attrs={"hash": score.hash},
                )
            )  # fmt: skip
        scored = {score.hash for score in found}
        for values in tried_first(session):
            if session.space.genotype(values).hash not in scored:
                self.study.enqueue_trial(values)
        self.random = self._sampler("random", None)
        self.evolution = self._sampler(
            "nsga2", lambda seed: NSGAIISampler(seed=seed, population_size=POPULATION)
        )

    def _sampler(self, name: str, make: Callable[[int], BaseSampler] | None) -> GatedSampler:
        session = self.session
        return GatedSampler(
            session.space, session.gates, name, session.config.seed, Refusals(),
            session.config.exponents, make,
        )  # fmt: skip

    def _worth(self, score: Score) -> tuple[float, float]:
        """d1, and the part of NetScore that size alone decides."""
        known = netscore(100.0, score.params, score.macs, self.session.config.exponents)
        return score.delta1, known

    def ask(self) -> tuple[Trial, Genotype, Cost] | None:
        """A candidate that passes the gates on size and was not scored yet; None: none is left."""
        asked = len(self.study.get_trials(deepcopy=False))
        sampler = self.random if asked < self.uniform else self.evolution
        self.study.sampler = sampler
        trial = self.study.ask(self.kinds)
        if sampler.exhausted:
            self.study.tell(trial, state=TrialState.FAIL)
            return None
        genotype = self.session.space.genotype(trial.params)
        trial.set_user_attr("hash", genotype.hash)
        return trial, genotype, cost(genotype, self.session.gates.size)

    def tell(self, trial: Trial, score: Score) -> None:
        """Remember a score."""
        self.study.tell(trial, self._worth(score))


def tried_first(session: Session) -> list[dict[str, Any]]:
    """Candidates that a study was given to try first."""
    trials = session.study.get_trials(deepcopy=False, states=(TrialState.WAITING,))
    return [dict(trial.system_attrs.get("fixed_params", {})) for trial in trials]


@contextlib.contextmanager
def _pool(
    session: Session, supernet: Supernet, workers: int, remake: Callable[[Events], Session]
) -> Iterator[Callable[[Genotype], Future[float]]]:
    """A function that scores in one of several processes, or here for one worker."""
    if workers <= 1:
        slices = Slices(session, supernet)

        def here(genotype: Genotype) -> Future[float]:
            future: Future[float] = Future()
            future.set_result(slices.delta1(genotype))
            return future

        yield here
        return
    context = multiprocessing.get_context("spawn")
    threads = max(1, torch.get_num_threads() // workers)
    pool = ProcessPoolExecutor(workers, context, _open, (remake, threads, os.getpid()))
    try:
        yield lambda genotype: pool.submit(_scored, genotype)
    finally:
        pool.shutdown(cancel_futures=True)


_SLICES: list[Slices] = []  # of a scoring process


def _open(remake: Callable[[Events], Session], threads: int, parent: int) -> None:
    """Make a scoring process ready; it ends with its parent."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    torch.set_num_threads(threads)

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
    session = remake(Events())
    supernet = open_supernet(session)
    assert supernet is not None
    _SLICES.append(Slices(session, supernet))


def _scored(genotype: Genotype) -> float:
    return _SLICES[0].delta1(genotype)
