"""Studies as the search stores them, without the search."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import optuna
from optuna.study import Study
from optuna.trial import TrialState

from compress.netscore import netscore

METRICS = {
    "delta2": 0.97, "delta3": 0.99, "abs_rel": 0.12, "sq_rel": 0.06, "rmse": 0.41,
    "rmse_log": 0.15, "log10": 0.05,
}  # fmt: skip
PROTOCOL = {
    "dataset": "nyu", "split": "validation", "split_hash": "a8b2f11f04b6", "images": 90,
    "size": [96, 128], "crop": "nyu", "min_depth_m": 0.001, "cap_m": 10.0, "alignment": "none",
    "flip_average": False, "averaging": "per-image",
}  # fmt: skip


def make_study(name: str = "demo", config: dict[str, Any] | None = None, **gates: Any) -> Study:
    """A study without trials; gates are 500 K parameters and d1 0.81 unless given."""
    study = optuna.create_study(study_name=name, direction="maximize")
    values = {"space": "depthnet-nano", "data": "nyu:my data", "budget": 5e5, "delta1": 0.81}
    study.set_user_attr(
        "config", json.dumps(values | {"seed": 3, "exponents": "depthnet-nano"} | (config or {}))
    )
    limits = {"max_params": 5e5, "max_macs": None, "delta1": 0.81, "size": [96, 128]}
    study.set_user_attr("gates", limits | gates)
    study.set_user_attr("protocol", PROTOCOL)
    study.set_user_attr("environment", {"torch": "2.13", "processor": "some & any"})
    study.set_user_attr("refused", {"params": 1203, "duplicate": 3})
    study.set_user_attr("seconds", 5400.0)
    return study


def add(
    study: Study,
    delta1s: Sequence[float] = (),
    params: int = 100_000,
    macs: int = 10_000_000,
    state: TrialState = TrialState.COMPLETE,
    reason: str = "",
    raw: dict[str, Any] | None = None,
    **attrs: Any,
) -> int:
    """Add a candidate with one rung for each d1, at epochs 3, 6 and 12; return its number.

    ``raw`` replaces what is stored without being understood.
    """
    trial = study.ask()
    genotype = json.dumps({"family": "depthnet-nano", "spec": {"stem": trial.number}})
    rungs = [
        {"epoch": e, "delta1": d, "netscore": netscore(100 * d, params, macs), "seconds": 9.0 * e}
        for e, d in zip((3, 6, 12)[: len(delta1s)], delta1s, strict=True)
    ]
    stored = {
        "genotype": genotype, "hash": f"{trial.number:016x}", "params": params, "macs": macs,
        "macs_all": macs + 1000, "rungs": rungs, "seconds": 100.0, "reason": reason,
    }  # fmt: skip
    if state == TrialState.COMPLETE and delta1s:
        stored["metrics"] = METRICS | {"delta1": delta1s[-1]}
    for key, value in (stored | attrs | (raw or {})).items():
        trial.set_user_attr(key, value)
    if state == TrialState.COMPLETE:
        study.tell(trial, rungs[-1]["netscore"] if rungs else 0.0)
    elif state != TrialState.RUNNING:
        study.tell(trial, state=state)
    return trial.number


def finish(study: Study, number: int, delta1: float, heldout: float | None = None) -> None:
    """Store what full training made of a candidate; it wins where ``heldout`` is given."""
    attrs = study.trials[number].user_attrs
    result = {
        "trial": number, "params": attrs["params"], "macs": attrs["macs"], "delta1": delta1,
        "netscore": netscore(100 * delta1, attrs["params"], attrs["macs"]), "epochs": 40,
        "model": None, "validation": METRICS | {"delta1": delta1},
    }  # fmt: skip
    if heldout is not None:
        result |= {"model": "best.safetensors", "heldout": METRICS | {"delta1": heldout}}
    known = study.user_attrs.get("final", {})
    study.set_user_attr("final", {**known, attrs["hash"]: result})


def four(**gates: Any) -> Study:
    """Four complete candidates, one stopped, one failed.

    By hand: the front of MACs is 0, 1, 2 (3 costs more than 1 and is worse); that of parameters is
    3, 1, 2. Only 2 passes 0.81.
    """
    study = make_study(**gates)
    add(study, (0.55, 0.58, 0.60), params=80_000, macs=5_000_000)
    add(study, (0.65, 0.70, 0.75), params=90_000, macs=20_000_000)
    add(study, (0.70, 0.80, 0.85), params=200_000, macs=40_000_000)
    add(study, (0.60, 0.65, 0.70), params=50_000, macs=30_000_000)
    why = "d1 0.500 at epoch 3: at most 0.660 expected, gate 0.81"
    add(study, (0.50,), params=60_000, macs=9_000_000, state=TrialState.PRUNED, reason=why)
    add(study, state=TrialState.FAIL, reason="diverged: loss is NaN")
    return study
