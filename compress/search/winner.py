"""The winner: the best gated candidate, trained at full budget, scored on held-out images once."""

from __future__ import annotations

import time
from typing import Any

from compress.cost import measure_latency
from compress.metrics import Protocol
from compress.models import DepthNet, load, save
from compress.netscore import netscore
from compress.search.records import FINAL, Record, best, nearest_miss, records
from compress.search.session import Session
from compress.train.device import threads_for
from compress.train.evaluate import Evaluation
from compress.train.fit import DivergedError, Epoch, StoppedError

# How many networks are trained out before the study says that none passes at full budget.
ATTEMPTS = 3
PLANNED = "final_epochs"
# Share of the time left that the winner's epochs are planned to fill: a pace taken from a candidate
# is not exact, and scoring and the report come after.
PRUDENCE = 0.85


def train_winner(session: Session) -> dict[str, Any] | None:
    """Train the best network out and save it; None when none passed or there was no time.

    Networks are tried in the order of their candidates' NetScore; where no candidate passed the
    d1 gate, the nearest miss is given the full budget, which may yet bring it through.
    """
    gate = session.gates.delta1
    rows = records(session.study)
    ranked = sorted((r for r in rows if r.passes(gate)), key=lambda r: -(r.netscore or 0.0))
    if not ranked:
        miss = nearest_miss(rows)
        ranked = [miss] if miss is not None and miss.state == "complete" else []
    for row in ranked[:ATTEMPTS]:
        stored = trained_out(session).get(row.hash)
        if stored is None:
            with threads_for(row.macs):
                stored = _train_out(session, row)
        if stored is None:
            return None
        if stored["delta1"] >= gate:
            return stored
    return None


def trained_out(session: Session) -> dict[str, dict[str, Any]]:
    """What full training made of each network it was given to, by genotype hash."""
    results: dict[str, dict[str, Any]] = session.study.user_attrs.get(FINAL, {})
    best_file = session.folder / "best.safetensors"
    return {k: v for k, v in results.items() if not v.get("model") or best_file.is_file()}


def summary(row: Record, model: str | None) -> dict[str, Any]:
    """A network as ``compress search --json`` names it."""
    data = {
        "model": model,
        "trial": row.number,
        "params": row.params,
        "macs": row.macs,
        "delta1": row.delta1,
        "netscore": row.netscore,
    }
    return data if row.latency_ms is None else data | {"latency_ms": row.latency_ms}


def measured(session: Session, row: Record, model: DepthNet) -> dict[str, Any]:
    """The winner's latency, predicted by the device table against measured; {} without a table."""
    table = session.gates.table
    if table is None:
        return {}
    found = measure_latency(
        model, table.backend, threads=table.threads, size=session.gates.size, memory=False,
        energy=False,
    )  # fmt: skip
    return {
        "latency": {
            "predicted_ms": row.latency_ms,
            "measured_ms": found.median_ms,
            "low_ms": found.low_ms,
            "high_ms": found.high_ms,
            "verdict": found.verdict,
            "backend": table.backend,
            "threads": table.threads,
            "size": list(session.gates.size),
            "table": table.describe(),
        }
    }


def provisional(session: Session) -> dict[str, Any] | None:
    """Save the best candidate as it stands, for a study that ends before full training."""
    row = best(records(session.study), session.gates.delta1)
    if row is None:
        return None
    target = session.folder / "best.safetensors"
    model = load(session.folder / "networks" / f"{row.number}.safetensors")
    protocol: Protocol = session.scorer.protocol
    model.info |= {
        "data": session.config.data,
        "validation": Evaluation(dict(row.metrics), protocol).to_dict(),
    }
    save(model, target)
    return summary(row, str(target))


def _train_out(session: Session, row: Record) -> dict[str, Any] | None:
    """Train one network at full budget; None when interrupted."""
    config = session.config
    epochs = _planned_epochs(session, row)
    own = session.folder / "networks" / f"{row.number}.safetensors"
    # Where a candidate inherited, it does so of itself: fresh weights may not come as far.
    parent = load(own) if (config.inherit or row.cut) and own.is_file() else None
    trainer = session.trainer(row.open_genotype(), epochs, parent=parent)
    path = session.checkpoint(f"final-{row.hash}")
    trainer.load_state(path)
    session.deadline = float("inf")
    session.events.final(row, epochs)

    def on_epoch(epoch: Epoch) -> None:
        trainer.save_state(path)
        session.tick()
        session.events.epoch(row.number, epoch)

    result = summary(row, None) | {"epochs": epochs}
    try:
        trainer.run(None, on_epoch, session.should_stop)
        validation = session.scorer(trainer.averaged, should_stop=session.should_stop)
    except StoppedError:
        return None
    except DivergedError as error:
        session.events.note(f"trial {row.number} at full budget: {error}")
        result["delta1"] = 0.0
        _remember(session, row, result)
        return result
    model = trainer.averaged
    delta1 = validation.metrics["delta1"]
    score = netscore(100 * delta1, row.params, row.macs, config.exponents)
    result |= {"delta1": delta1, "netscore": score, "validation": validation.metrics}
    if delta1 >= session.gates.delta1:
        # The held-out list is opened here, once, for the one network that won.
        heldout = session.scorer_of(session.dataset.heldout, "heldout")(model)
        result |= {"heldout": heldout.metrics, "model": str(session.folder / "best.safetensors")}
        latency = measured(session, row, model)
        result |= latency
        model.info = {
            "study": session.study.study_name,
            "trial": row.number,
            "epochs": epochs,
            "data": config.data,
            "params": row.params,
            "macs": row.macs,
            "netscore": score,
            "gates": {
                "params": session.gates.max_params,
                "macs": session.gates.max_macs,
                "delta1": session.gates.delta1,
            },
            "recipe": trainer.recipe.to_dict(),
            "validation": validation.to_dict(),
            "heldout": heldout.to_dict(),
        } | latency
        save(model, session.folder / "best.safetensors")
    _remember(session, row, result)
    path.unlink(missing_ok=True)
    return result


def _remember(session: Session, row: Record, result: dict[str, Any]) -> None:
    known = session.study.user_attrs.get(FINAL, {})
    session.study.set_user_attr(FINAL, {**known, row.hash: result})
    session.tick()


def _planned_epochs(session: Session, row: Record) -> int:
    """As many epochs as the study's time leaves, at least a candidate's; fixed once begun."""
    config = session.config
    known = session.study.user_attrs.get(PLANNED, {})
    if row.hash in known:  # an interrupted one goes on as it was planned
        return int(known[row.hash])
    epochs = max(config.final_epochs, config.epochs)
    if config.minutes is not None and row.seconds > 0:
        left = PRUDENCE * (session.end - time.monotonic())
        affordable = int(left / _epoch_seconds(row, config.epochs))
        epochs = max(config.epochs, min(epochs, affordable))
    session.study.set_user_attr(PLANNED, {**known, row.hash: epochs})
    return epochs


def _epoch_seconds(row: Record, epochs: int) -> float:
    """What an epoch of all images at full size took a candidate, its share of scoring included.

    Where it began with less or smaller data, the part after its last early rung alone tells.
    """
    spared = [rung for rung in row.rungs if rung.size is not None or rung.share < 1]
    if spared and row.rungs[-1].epoch > spared[-1].epoch:
        seconds = row.rungs[-1].seconds - spared[-1].seconds
        if seconds > 0:
            return seconds / (row.rungs[-1].epoch - spared[-1].epoch)
    return row.seconds / epochs
