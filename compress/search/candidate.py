"""One candidate: proposed, trained through its rungs, scored and recorded."""

from __future__ import annotations

import time
from collections import Counter
from contextlib import AbstractContextManager
from typing import Any

from optuna.study import Study
from optuna.trial import FrozenTrial, Trial, TrialState

from compress.cost import Cost, cost
from compress.models import DepthNet, save
from compress.netscore import netscore
from compress.search.early import PRUNERS, Aim, Reached
from compress.search.gensynth import PROBE
from compress.search.probe import probe
from compress.search.records import CUT, REFUSED, best, front, nearest_miss, records
from compress.search.relatives import relative
from compress.search.sampler import distributions
from compress.search.scores import queue_next
from compress.search.session import Session
from compress.search.store import owner
from compress.search.supernet import open_supernet
from compress.space import Genotype
from compress.train.device import threads_for
from compress.train.fit import DivergedError, Epoch, StoppedError


def run_candidate(session: Session, lock: AbstractContextManager[Any]) -> bool:
    """Train one candidate; False when no further one is wanted or left, or the session must end.

    ``lock`` is held while it is proposed, so that two workers never propose the same one, nor one
    more than the study's trials.
    """
    study = session.study
    with lock:
        rows = records(study)
        wanted = session.config.trials
        if wanted is not None and len(rows) >= wanted:
            return False
        # Other workers refuse candidates too, and count in the same place.
        session.refusals.by_gate = Counter(study.user_attrs.get(REFUSED, {}))
        if session.config.strategy == "one-shot":
            queue_next(session)
        trial = study.ask()
        values = {
            key: trial.suggest_categorical(key, kind.choices)
            for key, kind in distributions(session.space).items()
        }
        if session.sampler.exhausted:
            study.tell(trial, state=TrialState.FAIL)
            session.events.note("no candidate is left that is new and passes the size gates")
            return False
        genotype = session.space.genotype(values)
        size = cost(genotype, session.gates.size)
        for key, value in (
            ("genotype", genotype.to_json()), ("params", size.params), ("macs", size.macs),
            ("macs_all", size.macs_all), ("owner", owner()), ("hash", genotype.hash),
        ):  # fmt: skip
            trial.set_user_attr(key, value)
        predicted_ms = session.gates.latency_ms(genotype)
        if predicted_ms is not None:
            trial.set_user_attr("latency_ms", predicted_ms)
        study.set_user_attr(REFUSED, dict(session.refusals.by_gate))
    session.events.began(trial.number, size)
    try:
        with threads_for(size.macs):
            _train(session, trial, genotype, size)
    except DivergedError as error:
        trial.set_user_attr("reason", str(error))
        study.tell(trial, state=TrialState.FAIL)
    except StoppedError:
        give_back(study, study.trials[trial.number])
        return False
    except BaseException:
        give_back(study, study.trials[trial.number])
        raise
    rows = records(study)
    finished = next(row for row in rows if row.number == trial.number)
    session.events.finished(finished, rows)
    return True


def _train(session: Session, trial: Trial, genotype: Genotype, size: Cost) -> None:
    config, gates, study = session.config, session.gates, session.study
    parent = _parent(session, trial, genotype)
    trainer = session.trainer(genotype, config.epochs, session.stages(), parent)
    path = session.checkpoint(genotype.hash)
    rungs: list[dict[str, Any]] = []
    before = 0.0
    if trainer.load_state(path):
        # Only what the saved state has seen counts; rungs past it are scored again.
        before = float(trial.user_attrs.get("seconds", 0.0))
        rungs = [r for r in trial.user_attrs.get("rungs", []) if r["epoch"] <= trainer.epoch]
        for rung in rungs:
            trial.report(rung["netscore"], rung["epoch"])
    start = time.monotonic() - before

    def on_epoch(epoch: Epoch) -> None:
        trainer.save_state(path)
        trial.set_user_attr("seconds", time.monotonic() - start)
        session.tick()
        session.events.epoch(trial.number, epoch)

    metrics: dict[str, float] = {}
    for place, part in enumerate(session.parts):
        until, last = part.until, part.until == config.epochs
        if not last and any(rung["epoch"] == until for rung in rungs):
            continue
        trainer.run(until, on_epoch, session.should_stop)
        # Rungs are scored quickly, the last one as figures are quoted.
        precision = "float32" if last else "auto"
        metrics = session.scorer_at(part.size)(
            trainer.averaged, precision=precision, should_stop=session.should_stop
        ).metrics
        delta1 = metrics["delta1"]
        score = netscore(100 * delta1, size.params, size.macs, config.exponents)
        spent = time.monotonic() - start
        rungs = [r for r in rungs if r["epoch"] != until]
        rungs.append(
            {"epoch": until, "delta1": delta1, "netscore": score, "seconds": spent}
            | part.spared(gates.size)
        )
        trial.set_user_attr("rungs", rungs)
        trial.set_user_attr("seconds", spent)
        trial.report(score, until)
        if last:
            break
        others = [row for row in records(study) if row.number != trial.number]
        at = Reached(
            genotype.hash, size.params, size.macs, until, delta1, score, place,
            len(session.parts) - 1,
        )  # fmt: skip
        reason = PRUNERS[config.stopping](others, at, Aim(gates.delta1, config.exponents))
        if reason:
            trial.set_user_attr("reason", reason)
            trial.set_constraint("delta1", gates.delta1 - delta1)
            study.tell(trial, state=TrialState.PRUNED)
            path.unlink(missing_ok=True)
            return
    trial.set_user_attr("metrics", metrics)
    trial.set_constraint("delta1", gates.delta1 - metrics["delta1"])
    trainer.averaged.info = {"study": study.study_name, "trial": trial.number, "epochs": until}
    save(trainer.averaged, session.folder / "networks" / f"{trial.number}.safetensors")
    if config.sampler == "gensynth":
        trial.set_user_attr(PROBE, probe(trainer.averaged, session.scorer.arrays))
    study.tell(trial, score)
    path.unlink(missing_ok=True)
    _drop_dominated(session)


def _parent(session: Session, trial: Trial, genotype: Genotype) -> DepthNet | None:
    """The network that a candidate takes its first weights from; None for fresh ones."""
    if session.config.strategy == "one-shot":
        supernet = open_supernet(session) if trial.user_attrs.get(CUT) else None
        return supernet.cut(genotype) if supernet is not None else None
    if session.config.inherit:
        return relative(
            session.space, session.folder / "networks", genotype, records(session.study)
        )
    return None


def _drop_dominated(session: Session) -> None:
    """Delete the networks that are neither on a front, nor the best, nor the nearest miss."""
    rows = records(session.study)
    wanted = {row.number for key in ("macs", "params") for row in front(rows, key)}
    wanted |= {row.number for row in (best(rows, session.gates.delta1), nearest_miss(rows)) if row}
    for file in (session.folder / "networks").glob("*.safetensors"):
        if file.stem.isdigit() and int(file.stem) not in wanted:
            file.unlink(missing_ok=True)


def give_back(study: Study, trial: FrozenTrial) -> None:
    """Close an interrupted trial and put its candidate first in the queue, with what it knows.

    The new trial is stored before the old one is closed, so that a kill between the two loses
    nothing; ``records`` shows only the later of two trials of one candidate.
    """
    taken = any(
        other.number > trial.number and other.user_attrs.get("hash") == trial.user_attrs.get("hash")
        for other in study.get_trials(deepcopy=False)
    )
    if "hash" in trial.user_attrs and not taken:
        study.enqueue_trial(trial.params, user_attrs=trial.user_attrs)
    study.tell(trial.number, state=TrialState.FAIL)
