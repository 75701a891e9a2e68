"""The answer that a report begins with: gates, figures and what is still to do."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from compress.metrics import METRICS
from compress.netscore import EXPONENTS
from compress.report import words
from compress.report.findings import Findings, heldout_protocol, protocol_line


def gates(found: Findings) -> list[dict[str, Any]]:
    """Each gate with what the shown network has, whether that passes and by how much it misses."""
    row, listed = found.shown, []
    for name, key, value, say, more in (
        ("Parameters", "max_params", row.params if row else None, words.si, "too many"),
        ("MACs", "max_macs", row.macs if row else None, words.si, "too many"),
        ("Latency, predicted", "max_latency_ms", row.latency_ms if row else None, _ms, "too long"),
    ):
        limit = words.number(found.gates.get(key))
        if limit is None:
            continue
        passes = None if value is None else value <= limit
        miss = "" if passes is not False or value is None else f"{say(value - limit)} {more}"
        listed.append(
            {
                "name": name,
                "limit": f"at most {say(limit)}",
                "value": say(value),
                "passes": passes,
                "miss": miss,
            }
        )
    if found.gate:
        d1 = _reached(found)
        passes = None if d1 is None else d1 >= found.gate
        listed.append(
            {
                "name": "d1, validation",
                "limit": f"at least {found.gate:g}",
                "value": words.fixed(d1, 4),
                "passes": passes,
                "miss": "" if d1 is None or passes else f"{words.fixed(found.gate - d1, 4)} short",
            }
        )
    return listed


def figures(found: Findings, folder: Path) -> list[dict[str, Any]]:
    """The shown network's metrics by what they were measured on, each with its protocol."""
    row = found.shown
    if row is None:
        return []
    validation = protocol_line(found.protocol)
    short = {"delta1": row.delta1} if row.delta1 is not None else {}
    epochs = row.rungs[-1].epoch if row.rungs else 0
    listed: list[tuple[str, str, Mapping[str, Any], str]] = [
        ("Candidate", f"validation, {words.plural(epochs, 'epoch')}",
         short | dict(row.metrics), validation),
    ]  # fmt: skip
    epochs = int(words.number(found.full.get("epochs")) or 0)
    trained = f", {words.plural(epochs, 'epoch')}" if epochs else ""
    for key, name, about in (
        ("validation", "Full budget", f"validation{trained}"),
        ("heldout", "Held-out", "scored once, at the end"),
    ):
        values = found.full.get(key)
        if not isinstance(values, Mapping):
            continue
        line = validation
        if key == "heldout":
            line = protocol_line(heldout_protocol(folder, row))
        listed.append((name, about, values, line))
    return [
        {
            "name": name,
            "about": about,
            "values": {key: words.number(values.get(key)) for key in METRICS},
            "protocol": line,
        }
        for name, about, values, line in listed
    ]


def formula(found: Findings) -> str:
    """NetScore under the study's exponents, in words."""
    name = str(found.config.get("exponents", ""))
    known = EXPONENTS.get(name)
    if known is None:
        return name and f"exponents {name}"
    return (
        f"exponents {name}: 20\u00a0log10(a^{known.kappa:g}\u00a0/\u00a0(p^{known.beta:g}\u00a0"
        f"m^{known.gamma:g})), "
        "a = validation d1 in percent, p = parameters in millions, m = MACs in billions"
    )


def unfinished(found: Findings) -> list[str]:
    """What is still to do, in words; empty for a study that came to its end."""
    states, left = found.states, []
    done = states["complete"] + states["stopped"] + states["failed"]
    wanted = words.number(found.config.get("trials"))
    if states["running"]:
        left.append(f"{words.plural(states['running'], 'candidate')} in training")
    # A study whose time is over trains its winner out and leaves the queue as it is.
    if states["running"] or not found.full:
        if found.waiting:
            left.append(f"{words.plural(found.waiting, 'candidate')} waiting")
        if wanted is not None and done < wanted:
            left.append(f"{done:,} of {wanted:,.0f} candidates tried")
    if found.later is not None:
        left.append(f"trial {found.later.number}, which scores higher, not yet at full budget")
    return left


def stopped_after(found: Findings) -> list[tuple[int, int]]:
    """How many candidates were stopped early after which epoch."""
    epochs = [row.rungs[-1].epoch for row in found.rows if row.state == "stopped" and row.rungs]
    return [(epoch, epochs.count(epoch)) for epoch in sorted(set(epochs))]


def measured(found: Findings) -> list[dict[str, Any]]:
    """Networks at full budget whose latency was predicted and then measured."""
    numbers = {row.hash: row.number for row in found.rows}
    listed = []
    for key, full in found.finals.items():
        latency = full.get("latency")
        if key not in numbers or not isinstance(latency, Mapping):
            continue
        values = {
            name: words.number(latency.get(f"{name}_ms"))
            for name in ("predicted", "measured", "low", "high")
        }
        predicted, real = values["predicted"], values["measured"]
        if not predicted or not real or min(predicted, real) <= 0:
            continue
        backend, threads = latency.get("backend"), words.number(latency.get("threads"))
        how = str(backend or "")
        if how and threads:
            how += f" with {words.plural(int(threads), 'thread')}"
        listed.append({"number": numbers[key], "off": predicted / real - 1, "how": how} | values)
    return sorted(listed, key=lambda entry: entry["number"])


def _ms(value: float | None) -> str:
    return words.DASH if value is None else f"{value:.3g} ms"


def _reached(found: Findings) -> float | None:
    """The shown network's validation d1: at full budget where it had that."""
    full = words.number(found.full.get("delta1"))
    return full if full is not None or found.shown is None else found.shown.delta1
