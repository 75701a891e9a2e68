"""What a pruning or a gating came to, read from its JSON in a form that no page trips over."""

from __future__ import annotations

import json
import math
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from compress.errors import CompressError
from compress.report.parts import (
    Choice,
    Density,
    Network,
    Round,
    Step,
    Training,
    above,
    all_of,
    choice_of,
    density_of,
    network_of,
    numbers,
    round_of,
    step_of,
    table,
    training_of,
)
from compress.report.words import number

# Any of these makes a JSON object the result of a pruning, or of a gating.
PRUNED = ("target", "reached", "nothing_to_do", "iterations", "predictions")
GATED = ("density", "densities", "macs", "sweep", "static", "plan")
TARGETS = ("latency_ms", "macs", "params")
MOST_BYTES = 64 << 20


@dataclass(frozen=True)
class Outcome:
    """A result of ``compress prune`` (``kind`` "prune") or ``compress gate`` ("gate").

    ``running`` says that it is what there was on the way to one.
    """

    kind: str
    model: str = ""
    target: tuple[str, float] | None = None
    reached: bool | None = None
    nothing_to_do: bool = False
    running: bool = False
    before: Network = field(default_factory=Network)
    after: Network = field(default_factory=Network)
    static: Network = field(default_factory=Network)
    steps: tuple[Step, ...] = ()
    rounds: tuple[Round, ...] = ()
    density: float | None = None
    macs: Mapping[str, float] = field(default_factory=dict)
    sweep: tuple[Density, ...] = ()
    plan: tuple[Choice, ...] = ()
    epochs: tuple[Training, ...] = ()
    better: str = ""
    command: str = ""
    environment: Mapping[str, Any] = field(default_factory=dict)
    unreadable: int = 0


def open_outcome(path: Path) -> Outcome:
    """Read the JSON that ``compress prune`` or ``compress gate`` wrote.

    Raises ``CompressError`` for a file that cannot be read, is no JSON, or holds something else.
    """
    hint = "give the .json that compress prune or compress gate wrote beside its model"
    try:
        if path.stat().st_size > MOST_BYTES:
            raise CompressError(f"{path}: {path.stat().st_size >> 20} MiB is no result; {hint}")
        values = json.loads(path.read_text("utf-8"))
    except OSError as error:
        raise CompressError(f"{path}: cannot be read ({error.strerror or error}); {hint}") from None
    except (ValueError, RecursionError):
        raise CompressError(f"{path}: is no JSON that can be read; {hint}") from None
    if not isinstance(values, dict) or not set(values) & {*PRUNED, *GATED}:
        raise CompressError(f"{path}: holds no result of a pruning or a gating; {hint}")
    return read_outcome(values)


def read_outcome(values: Mapping[str, Any]) -> Outcome:
    """Read a result; parts that are missing or not as expected come out empty."""
    gated = any(key in values for key in GATED)
    steps, bad_steps = all_of(values.get("iterations"), step_of)
    steps.sort(key=lambda step: step.number)
    rounds, bad_rounds = all_of(values.get("predictions"), round_of)
    sweep, bad_sweep = all_of(values.get("sweep"), density_of)
    plan, bad_plan = all_of(values.get("plan"), choice_of)
    epochs, bad_epochs = all_of(values.get("epochs"), training_of)
    wanted = table(values.get("target"))
    target = next(
        ((name, value) for name in TARGETS if (value := above(wanted.get(name))) is not None), None
    )
    command = values.get("command")
    if isinstance(command, list):
        command = shlex.join(map(str, command))
    reached, better = values.get("reached"), values.get("better")
    return Outcome(
        kind="gate" if gated else "prune",
        model=str(values.get("model") or ""),
        target=target,
        reached=reached if isinstance(reached, bool) else None,
        nothing_to_do=values.get("nothing_to_do") is True,
        running=values.get("running") is True,
        before=network_of(values.get("before")),
        after=network_of(values.get("after")),
        static=network_of(values.get("static")),
        steps=tuple(steps),
        rounds=_placed(rounds, steps),
        density=number(values.get("density")),
        macs={k: v for k, v in numbers(values.get("macs")).items() if above(v)},
        sweep=tuple(sorted(sweep, key=lambda item: item.density)),
        plan=tuple(plan),
        epochs=tuple(epochs),
        better=better if isinstance(better, str) else "",
        command=command if isinstance(command, str) else "",
        environment=table(values.get("environment")),
        unreadable=bad_steps + bad_rounds + bad_sweep + bad_plan + bad_epochs,
    )


def _placed(rounds: list[Round], steps: list[Step]) -> tuple[Round, ...]:
    """Say after which step each round was measured, where its JSON does not.

    The last layer cut before a measurement left the very latency that is predicted for it.
    """
    placed, begin = [], 0
    for one in rounds:
        at = one.step
        if at is None:
            at = next(
                (
                    index + 1
                    for index in range(begin, len(steps))
                    if math.isclose(steps[index].resource or 0.0, one.predicted_ms, rel_tol=1e-6)
                ),
                None,
            )
        begin = at or begin
        placed.append(one._replace(step=at))
    return tuple(placed)
