"""A study from the command's words to its saved winner and report."""

from __future__ import annotations

import json
import signal
import threading
import time
import types
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from functools import partial
from pathlib import Path
from typing import Any

import optuna
from optuna.study import Study
from optuna.trial import TrialState

from compress.cost.count import operators
from compress.cost.table import find_table
from compress.data import Dataset, open_data
from compress.errors import CompressError, unknown
from compress.models import load
from compress.models.elastic import FAMILY, shareable
from compress.netscore import EXPONENTS
from compress.search.candidate import give_back
from compress.search.config import DEFAULT_MINUTES, SearchConfig
from compress.search.earlier import fill_queue, has_trials, warm_start
from compress.search.early import PRUNERS
from compress.search.events import Events
from compress.search.fidelity import RungFidelity, rank_fidelity
from compress.search.gates import Gates, Refusals
from compress.search.oneshot import one_shot
from compress.search.records import (
    CONFIG,
    ENVIRONMENT,
    GATES,
    ONE_SHOT,
    PROTOCOL,
    REFUSED,
    nearest_miss,
    records,
    study_config,
)
from compress.search.rungs import FIDELITIES, parts
from compress.search.sampler import SAMPLERS, GatedSampler, hush_optuna
from compress.search.session import SECONDS, Session
from compress.search.store import (
    check_name,
    discard_if_new,
    find_study,
    open_storage,
    owner_is_gone,
    prepare_folder,
    study_names,
)
from compress.search.winner import provisional, summary, train_winner
from compress.search.workers import default_workers, run_candidates
from compress.space import SearchSpace, load_space
from compress.train.size import fitted_size

# What may differ between sessions of one study.
BOUNDS = ("trials", "minutes")


@dataclass(frozen=True)
class SearchResult:
    """How a study ended.

    ``best`` has model, params, macs, delta1 (validation part, full budget) and netscore, and
    heldout where it was trained out; None when no network passed the gates, and ``nearest`` then
    names the nearest miss. ``complete`` is False when the study was interrupted.
    ``rank_fidelity`` says of each early rung how well it ranks candidates; see ``RungFidelity``.
    ``one_shot``: how many candidates were scored as slices of one network, and the rank correlation
    of these scores with training alone.
    """

    study: str
    trials: int
    refused: int
    refused_by: dict[str, int]
    best: dict[str, Any] | None
    nearest: dict[str, Any] | None
    report: str
    complete: bool
    rank_fidelity: tuple[RungFidelity, ...] = ()
    one_shot: dict[str, Any] | None = None

    def to_dict(self) -> dict[str, Any]:
        """The object that ``compress search --json`` prints."""
        return vars(self) | {"rank_fidelity": [rung.to_dict() for rung in self.rank_fidelity]}


def search(
    config: SearchConfig | None = None,
    *,
    study: str | None = None,
    out: str | Path = "reports",
    storage: str | None = None,
    workers: int | None = None,
    events: Events | None = None,
    live: float | None = None,
    **options: Any,
) -> SearchResult:
    """Search a space for the gated network of highest NetScore, train it and save it.

    Candidates are refused by size before training; the others train over rungs with early
    stopping. The same call again resumes the study, or returns its result when it is done.

    Args:
        config: what to do; or give its fields as keywords, as in ``search(budget=5e6)``.
        study: its name; by default one made of space, data and gates.
        out: the folder under which ``<study>/`` is written.
        storage: an Optuna storage URL; by default SQLite in the study's folder.
        workers: processes that train candidates; by default one a core, one on a GPU. With more
            than one, which candidate is proposed next depends on which finished first, so only
            ``workers=1`` repeats a study exactly.
        events: is told what happens.
        live: write the report while the study runs too, every so many seconds where it changed.
        options: fields of ``SearchConfig``; an existing study keeps its own.

    Raises:
        CompressError: anything wrong with what was asked, before any training begins.
    """
    # The one import against the order of packages: what a study leaves is its report.
    from compress.report.live import live_study

    began = time.monotonic()
    hush_optuna()
    events = events or Events()
    given = dict(options)
    if config is not None:
        given = {f.name: getattr(config, f.name) for f in fields(config)} | given
    config = SearchConfig.from_dict(given, "search")
    name = check_name(study or config.default_name)
    folder = Path(out) / name
    stored = _stored_config(name, Path(out), storage, given)
    if stored is None and study and not set(given) - set(BOUNDS):
        # A name alone asks to resume; a mistyped one must not begin a new study.
        raise unknown(
            "study", name, study_names(Path(out)), "to begin a new one, say its --budget or --data"
        )
    config = stored or config
    if config.trials is None and config.minutes is None:
        config = replace(config, minutes=DEFAULT_MINUTES)
    if config.exponents not in EXPONENTS:
        raise unknown("NetScore exponents", config.exponents, EXPONENTS)
    if config.sampler not in SAMPLERS:
        raise unknown("sampler", config.sampler, SAMPLERS)
    if config.pruner not in PRUNERS:
        raise unknown("pruner", config.pruner, PRUNERS)
    if config.fidelity not in FIDELITIES:
        raise unknown("fidelity", config.fidelity, FIDELITIES)
    SAMPLERS[config.sampler](0)  # a package that it lacks shows now
    # Anything that cannot be written shows now, not after hours of training.
    prepare_folder(folder)
    try:
        database = open_storage(storage, folder)
        space, dataset = _opened(config)
        gates = _gates(config, space, dataset)
        gates.check_feasible(space)
        parts(config.epochs, config.fidelity, gates.size)  # a size too small shows now
        earlier = None
        # A new study's database is not asked: a connection to it would outlive its being discarded.
        if config.warm_start is not None and not (stored and has_trials(name, database)):
            word = config.warm_start
            earlier = warm_start(word, Path(out), storage, space, gates, _kept, name)
    except CompressError:
        discard_if_new(folder)
        raise
    begun = optuna.create_study(
        study_name=name, storage=database, direction="maximize", load_if_exists=True
    )
    began -= float(begun.user_attrs.get(SECONDS, 0.0))
    remake = partial(_session, name, folder, config, storage, began)
    with _signals() as stop, live_study(name, Path(out), storage, live, events.note):
        session = remake(events, stop)
        handle = session.study
        handle.set_user_attr(CONFIG, json.dumps(config.to_dict()))
        handle.set_user_attr(PROTOCOL, session.scorer.protocol.to_dict())
        handle.set_user_attr(GATES, gates.to_dict())
        used = {"device_table": gates.table.describe()} if gates.table else {}
        handle.set_user_attr(ENVIRONMENT, environment() | used)
        _note_guesses(session)
        _take_up(handle)
        fill_queue(handle, space, gates, earlier, events.note)
        if config.strategy == "one-shot":
            one_shot(session, workers or default_workers(), remake)
        else:
            run_candidates(session, workers or default_workers(), remake)
        best = train_winner(session)
        complete = not stop.is_set()
        if best is None and not complete:
            best = provisional(session)
    return _result(session, best, complete, storage)


def _session(
    name: str,
    folder: Path,
    config: SearchConfig,
    storage: str | None,
    began: float,
    events: Events,
    stop: threading.Event | None = None,
) -> Session:
    """Open a study's session: in the main process, and anew in each worker."""
    hush_optuna()
    space, dataset = _opened(config)
    gates = _gates(config, space, dataset)
    study = optuna.load_study(study_name=name, storage=open_storage(storage, folder))
    refusals = Refusals.of(study.user_attrs.get(REFUSED, {}))
    sampler = GatedSampler(space, gates, config.sampler, config.seed, refusals, config.exponents)
    study.sampler = sampler
    return Session(
        study,
        folder,
        config,
        space,
        dataset,
        gates,
        events,
        refusals,
        sampler,
        began,
        stop or threading.Event(),
    )


def _gates(config: SearchConfig, space: SearchSpace, dataset: Dataset) -> Gates:
    assert dataset.train is not None
    size = config.size or fitted_size(dataset.train, space.size)
    table = None
    if config.max_latency is not None:
        table = find_table(config.backend, config.threads, config.table)
    return Gates(
        config.budget, config.max_macs, config.gate_delta1, size, config.max_latency, table
    )


def _result(
    session: Session, best: dict[str, Any] | None, complete: bool, storage: str | None
) -> SearchResult:
    from compress.report import write_report
    from compress.report.findings import read
    from compress.report.gallery import draw_front
    from compress.report.samples import write_samples

    session.tick()
    rows = records(session.study)
    session.status(rows)
    if best is not None:
        model, frames = load(best["model"]), session.dataset.heldout
        write_samples(model, frames, session.folder, cap_m=session.dataset.cap_m)
    if complete:  # who interrupts a study wants its end
        draw_front(
            read(session.study), session.folder, lambda: session.dataset, session.events.note
        )
    page = write_report(session.study, session.folder)
    miss = nearest_miss(rows)
    return SearchResult(
        study=session.study.study_name,
        trials=sum(row.state in ("complete", "stopped", "failed") for row in rows),
        refused=session.refusals.total,
        refused_by=dict(session.refusals.by_gate),
        best=best,
        nearest=summary(miss, None) if best is None and miss is not None else None,
        report=str(page),
        complete=complete,
        rank_fidelity=tuple(rank_fidelity(rows)),
        one_shot=session.study.user_attrs.get(ONE_SHOT),
    )


def _stored_config(
    name: str, out: Path, storage: str | None, given: dict[str, Any]
) -> SearchConfig | None:
    """The configuration of an existing study with new bounds; None for a new study.

    Raises ``CompressError`` when a gate, the space, the data or anything else that makes the
    study's figures comparable was asked for differently this time.
    """
    try:
        study = find_study(name, out, storage)
    except CompressError:
        return None
    stored = study_config(study)
    if not stored:
        if study.get_trials(deepcopy=False):
            raise CompressError(f"study {name!r} in this storage was not made by compress search")
        return None
    stored = SearchConfig.from_dict(stored, f"study {name}").to_dict()  # with what it is older than
    asked = SearchConfig.from_dict(given, "search").to_dict()
    for key in given:
        if key not in BOUNDS and asked[key] != stored.get(key):
            raise CompressError(
                f"study {name!r} was made with {key} = {stored.get(key)!r}, now {asked[key]!r} is "
                "asked for; leave it out to resume, or give another --study name"
            )
    bounds = {key: given[key] for key in BOUNDS if given.get(key) is not None}
    return SearchConfig.from_dict(stored | bounds, f"study {name}")


def _opened(config: SearchConfig) -> tuple[SearchSpace, Dataset]:
    """The study's space, with the choices it was given, and its data."""
    space = load_space(config.space).restricted(config.fix)
    if config.strategy == "one-shot":
        space = shareable(space)
    if config.inherit and space.family != FAMILY:
        raise CompressError(
            f"space {space.name} is of the family {space.family}; weights are inherited in the "
            f"family {FAMILY} so far; leave --inherit out"
        )
    options: dict[str, Any] = {
        "depth_scale": config.depth_scale, "cap_m": config.cap_m, "split": config.split
    }  # fmt: skip
    joint = any(space.choices.get("segmentation", ()))
    try:
        dataset = open_data(config.data, labels=joint, **options)
    except CompressError:
        if not joint or "segmentation" in config.fix:
            raise
        # Networks with a segmentation head cannot be trained here; the others can.
        dataset = open_data(config.data, **options)
        space = space.restricted({"segmentation": 0})
    if dataset.train is None:
        raise CompressError(
            f"{config.data}: has no training list, only held-out frames; a search needs both"
        )
    if dataset.relative:
        raise CompressError(
            f"{config.data}: its depth has no unit, so that no d1 gate can be set; compress train "
            "takes it"
        )
    return space, dataset


def _take_up(study: Study) -> None:
    """Queue again what a killed process left running."""
    for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        name = trial.user_attrs.get("owner")
        if name is None or owner_is_gone(name):
            give_back(study, trial)


def _note_guesses(session: Session) -> None:
    """Say where the device table predicts what it never measured."""
    table = session.gates.table
    if table is None:
        return
    drawn = (session.space.sample(seed) for seed in range(20))
    found = sorted({k for one in drawn for k in table.unmeasured(operators(one))})
    if found:
        session.events.note(
            f"the device table never measured {', '.join(found)} and guesses them; "
            f"compress calibrate --space {session.config.space} measures them"
        )


def _kept(folder: Path) -> Study | None:
    """A study that lies in a folder as text, for one that begins with what it found."""
    from compress.report.kept import is_kept, open_kept

    return open_kept(folder) if is_kept(folder) else None


def environment() -> dict[str, str]:
    """Versions and processor, for the report."""
    import platform

    import torch

    from compress import __version__

    features = torch.cpu.get_capabilities()
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"
    return {
        "compress": __version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "optuna": optuna.__version__,
        "processor": str(features.get("cpu_name") or platform.processor() or platform.machine()),
        "threads": str(torch.get_num_threads()),
        "device": device,
    }


@contextmanager
def _signals() -> Iterator[threading.Event]:
    """Turn the first Ctrl-C or SIGTERM into a clean end; a second Ctrl-C interrupts at once."""
    stop = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return

    def handle(number: int, frame: types.FrameType | None) -> None:
        if stop.is_set():
            raise KeyboardInterrupt
        stop.set()

    before = {kind: signal.signal(kind, handle) for kind in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for kind, old in before.items():
            signal.signal(kind, old)
