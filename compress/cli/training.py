"""The commands that train: ``train``, ``distill`` and ``label``."""

from __future__ import annotations

import signal
import sys
import threading
from argparse import Namespace
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def train(args: Namespace) -> int:
    """Train one network; the same command goes on after an interruption."""
    return _fit(args)


def distill(args: Namespace) -> int:
    """Train a student beside a teacher."""
    terms = {
        name: getattr(args, name)
        for name in ("pixel", "pairwise", "adversarial")
        if getattr(args, name) is not None
    }
    if args.truth is not None:
        terms["depth"] = args.truth
    return _fit(args, terms, teacher=args.teacher, compensate=args.compensate)


def data_options(args: Namespace) -> dict[str, Any]:
    """The flags that say how data is read."""
    given = {"depth_scale": args.depth_scale, "cap_m": args.cap, "split": args.split}
    return {key: value for key, value in given.items() if value is not None}


def _fit(args: Namespace, terms: Mapping[str, float] | None = None, **teaching: Any) -> int:
    from compress.cli.display import reading_progress
    from compress.search.config import read_recipe
    from compress.search.store import prepare_folder
    from compress.train.fit import StoppedError
    from compress.train.run import train as fit

    stem = args.model.replace("@", "-") if "@" in args.model else Path(args.model).stem
    out = Path(args.out or f"{stem}-{'distilled' if teaching else 'trained'}.safetensors")
    prepare_folder(out.absolute().parent)
    study = read_recipe(args.recipe) if args.recipe else {}
    flags = {
        key: getattr(args, key)
        for key in ("epochs", "seed", "batch", "lr", "loss", "rebalance")
        if getattr(args, key) is not None
    }
    said = {k: study[name] for k, name in (("epochs", "final_epochs"),) if name in study}
    chosen = {"epochs": 30, **said, **study.get("training", {}), **flags}
    if terms:
        chosen["terms"] = {**chosen.get("terms", {}), **terms}
    options = {k: study[k] for k in ("depth_scale", "cap_m", "split") if k in study}
    stop = threading.Event()
    before = signal.signal(signal.SIGINT, lambda *_: stop.set())
    state = out.with_name(f".{out.name}.state")
    try:
        with reading_progress() as reading:
            result = fit(
                args.model,
                args.data or study.get("data", "scenes"),
                out=out,
                size=args.size or (tuple(study["size"]) if "size" in study else None),
                recipe=chosen,
                init=args.init,
                encoder_weights=args.encoder_weights,
                encoder_norm=args.encoder_norm,
                checkpoint=state,
                on_epoch=lambda epoch, _: reading.epoch(epoch),
                should_stop=stop.is_set,
                reading=reading,
                **teaching,
                **options | data_options(args),
            )
    except StoppedError:
        print(
            f"compress {args.command}: interrupted; the same command goes on from {state}",
            file=sys.stderr,
        )
        return 130
    finally:
        signal.signal(signal.SIGINT, before)
    _tell(result, chosen["epochs"], args.json)
    return 0


def _tell(result: Any, epochs: int, as_json: bool) -> None:
    from compress.cli.commands import print_json

    def described(done: Any) -> dict[str, Any]:
        return {
            "model": str(done.path),
            "epochs": epochs,
            "params": done.model.info["params"],
            "macs": done.model.info["macs"],
            "validation": done.validation.to_dict(),
            "heldout": done.heldout.to_dict(),
        }

    if as_json:
        answer = described(result)
        if result.detached:
            answer["detached"] = {k: described(v) for k, v in result.detached.items()}
        print_json(answer)
        return
    shown = ("delta1", "abs_rel", "rmse", "whdr", "si_rmse", "mean_iou")
    for done in (result, *result.detached.values()):
        for part, scores in (("validation", done.validation), ("held-out", done.heldout)):
            line = "  ".join(f"{k} {scores[k]:.4f}" for k in shown if k in scores.metrics)
            print(f"{part:<11} {line}   ({scores.protocol.describe()})")
        print(f"saved to {done.path}")


def label(args: Namespace) -> int:
    """Have trained networks label images."""
    from compress.cli.commands import print_json
    from compress.cli.display import reading_progress
    from compress.train.label import make_labels

    with reading_progress() as reading:
        made = make_labels(
            args.images,
            args.to,
            teacher=args.teacher,
            segmenter=args.segmenter,
            calibrate=args.calibrate,
            heldout=args.heldout,
            reading=reading,
            **data_options(args),
        )
    if args.json:
        print_json(made)
    else:
        print(f"{made['train']} training and {made['heldout']} held-out images labelled")
        for depth_m, error_m in made["compensated"]:
            print(f"  at {depth_m:7.2f} m the teacher was off by {error_m:+.3f} m on average")
        print(f"use them as --data folder:{args.to}")
    return 0
