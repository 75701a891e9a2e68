"""Warm start: an earlier study's best candidates, tried first in this one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
from optuna.storages import BaseStorage
from optuna.study import Study

from compress.cost import cost
from compress.errors import CompressError, unknown
from compress.search.gates import Gates
from compress.search.records import GATES, Record, best, front, records
from compress.search.store import DATABASE, find_study, open_storage, study_names
from compress.space import Genotype, SearchSpace

# Candidates taken at most: they are trained before the sampler proposes anything.
MOST = 10


@dataclass(frozen=True)
class WarmStart:
    """What an earlier study gives to this one, cheapest first, and why the rest was left out."""

    study: str
    taken: tuple[Genotype, ...]
    left: Counter[str]

    def describe(self) -> str:
        """As in ``warm start from s: 4 candidates taken, 2 left out (2 macs)``."""
        some = "1 candidate" if len(self.taken) == 1 else f"{len(self.taken)} candidates"
        text = f"warm start from {self.study}: {some} taken"
        if not self.left:
            return text
        why = ", ".join(f"{count} {reason}" for reason, count in self.left.most_common())
        return f"{text}, {self.left.total()} left out ({why})"


def warm_start(
    word: str,
    out: Path,
    storage: str | None,
    space: SearchSpace,
    gates: Gates,
    kept: Callable[[Path], Study | None],
    own: str = "",
) -> WarmStart:
    """Choose from an earlier study: its best gated candidate and its fronts, as far as they fit.

    Args:
        word: its name, or the path of its folder or database.
        out: the folder of studies.
        storage: an Optuna storage in which it may be too.
        space: what may be tried in this study.
        gates: what has to be passed before training in this study.
        kept: opens a folder without a database in which a study lies as text; None for another.
        own: the name of the study that begins, which is no answer to what there is.

    Raises:
        CompressError: there is no such study, it finished nothing, or nothing of it fits.
    """
    study = _opened(word, out, storage, kept, own)
    found = _best_of(study)
    if not found:
        raise CompressError(
            f"--warm-start {word}: no candidate of this study was trained to the end; give one "
            "that has some, or leave it out"
        )
    left: Counter[str] = Counter()
    fitting: dict[str, tuple[Record, Genotype]] = {}
    for row in found:
        genotype, why = _fitted(row, space, gates)
        if genotype is None:
            left[why] += 1
        elif genotype.hash not in fitting:
            fitting[genotype.hash] = row, genotype
    if not fitting:
        why = ", ".join(f"{count} {reason}" for reason, count in left.most_common())
        raise CompressError(
            f"--warm-start {word}: none of its {len(found)} best candidates fits space "
            f"{space.name} and the size gates of this study ({why}); give a study of the same "
            "space, or leave it out"
        )
    chosen = _few(list(fitting.values()), found[0])
    left["beyond the most that are taken"] += len(fitting) - len(chosen)
    ordered = sorted(chosen, key=lambda pair: (cost(pair[1], gates.size).macs, pair[0].number))
    return WarmStart(study.study_name, tuple(genotype for _, genotype in ordered), +left)


def has_trials(name: str, storage: BaseStorage) -> bool:
    """Whether a study of this name has begun: then its queue has been filled."""
    if name not in optuna.get_all_study_names(storage):
        return False
    return bool(optuna.load_study(study_name=name, storage=storage).get_trials(deepcopy=False))


def fill_queue(
    study: Study,
    space: SearchSpace,
    gates: Gates,
    start: WarmStart | None,
    note: Callable[[str], object],
) -> None:
    """Queue first, where no trial is there yet, what is known to be good.

    That is the space's own reference points, where they are choices of it and pass the size gates,
    and what an earlier study gives, but for what is among them.

    Args:
        study: that begins.
        space: what may be tried.
        gates: what has to be passed before training.
        start: chosen by ``warm_start``.
        note: is told what was taken from the earlier study and what not.
    """
    if study.get_trials(deepcopy=False):
        return
    queued = set()
    for reference in space.references.values():
        genotype = reference.genotype
        if not all(v in space.choices[k] for k, v in genotype.values.items()):
            continue  # outside the choices that the study was given
        size = cost(genotype, gates.size)
        if genotype.values and not gates.refusal(size, genotype):
            study.enqueue_trial(dict(genotype.values))
            queued.add(genotype.hash)
    if start is None:
        return
    new = tuple(genotype for genotype in start.taken if genotype.hash not in queued)
    for genotype in new:
        study.enqueue_trial(dict(genotype.values))
    twice = Counter({"among the space's reference points": len(start.taken) - len(new)})
    note(WarmStart(start.study, new, start.left + twice).describe())


def _opened(
    word: str, out: Path, storage: str | None, kept: Callable[[Path], Study | None], own: str
) -> Study:
    there = [name for name in study_names(out) if name != own]
    if word == own:
        raise unknown("study for --warm-start", word, there, f"looked in {out}/")
    path = Path(word).expanduser()
    if "/" not in word and word != "." and path.suffix != ".db":
        path = out / word
        if storage is not None and not (path / DATABASE).is_file() and not path.is_dir():
            return find_study(word, out, storage)
    file = path / DATABASE if path.is_dir() else path
    if not file.is_file():
        text = kept(path) if path.is_dir() else None
        if text is not None:
            return text
        if path.parent == out:
            raise unknown("study for --warm-start", word, there, f"looked in {out}/")
        raise CompressError(
            f"--warm-start {word}: there is no study; give the name of one under --out, or the "
            f"path of a study's folder or of its {DATABASE}"
        )
    database = open_storage(f"sqlite:///{file}", file.parent)
    names = [each.study_name for each in optuna.get_all_study_summaries(database)]
    name = names[0] if len(names) == 1 else file.absolute().parent.name
    if name not in names:
        raise CompressError(
            f"--warm-start {word}: {file} holds {len(names)} studies, none of them called {name}; "
            "give the folder of one study"
        )
    return optuna.load_study(study_name=name, storage=database)


def _best_of(study: Study) -> list[Record]:
    """The best gated candidate of a study, if there is one, then those on its fronts."""
    rows = records(study)
    limits: Any = study.user_attrs.get(GATES)
    gate = limits.get("delta1") if isinstance(limits, dict) else None
    leader = best(rows, gate) if isinstance(gate, int | float) else None
    ranked = [leader] if leader else []
    for key in ("macs", "params", "latency_ms"):
        ranked += [row for row in front(rows, key) if row not in ranked]
    return ranked


def _fitted(row: Record, space: SearchSpace, gates: Gates) -> tuple[Genotype | None, str]:
    """A candidate as one of this study's space, or why it is none."""
    try:
        there = row.open_genotype()
    except CompressError:
        return None, "cannot be read"
    if there.family != space.family:
        return None, f"of family {there.family}"
    try:
        genotype = space.genotype(there.values)
    except CompressError:
        return None, "outside the choices of this space"
    gate = gates.refusal(cost(genotype, gates.size), genotype)
    return (None, f"above the {gate} gate") if gate else (genotype, "")


def _few(
    fitting: Sequence[tuple[Record, Genotype]], leader: Record
) -> list[tuple[Record, Genotype]]:
    """At most ``MOST``: the leader, where it fits, and others spread evenly from cheap to dear."""
    if len(fitting) <= MOST:
        return list(fitting)
    first = [pair for pair in fitting if pair[0] == leader]
    rest = sorted((p for p in fitting if p[0] != leader), key=lambda p: (p[0].macs, p[0].number))
    count = MOST - len(first)
    return first + [rest[round(i * (len(rest) - 1) / (count - 1))] for i in range(count)]
