"""The flags that commands share, each group in one place."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any


def typed(read: str) -> Callable[[str], Any]:
    """A type that reads with a function of the project, imported when first needed."""

    def convert(text: str) -> Any:
        from compress.errors import CompressError

        try:
            if read == "count":
                from compress.search.config import count

                return count(text, "value")
            if read == "milliseconds":
                from compress.search.config import milliseconds

                return milliseconds(text, "value")
            from compress.space.genotype import input_size

            return input_size(text)
        except CompressError as error:
            raise argparse.ArgumentTypeError(str(error)) from None

    return convert


def calibrate_flags(sub: argparse.ArgumentParser) -> None:
    """Flags of ``calibrate``."""
    sub.add_argument("--backend", default="onnxruntime", help="as of bench; default: onnxruntime")
    sub.add_argument("--threads", type=int, default=1, help="of the backend (default: 1)")
    sub.add_argument(
        "--minutes", type=float, default=5.0, help="of measuring, the proof apart (default: 5)"
    )
    sub.add_argument(
        "--space", action="append", help="whose shapes to measure; may be repeated (default: three)"
    )
    sub.add_argument(
        "--size", type=typed("size"), metavar="HxW", help="network input (default: the spaces')"
    )
    sub.add_argument("-o", "--out", help="the table's file (default: where searches look)")
    sub.add_argument("--json", action="store_true", help="print one JSON object")


def search_flags(sub: argparse.ArgumentParser) -> None:
    """Flags of ``search``."""
    sub.add_argument("--budget", type=typed("count"), help="most parameters, as in 5M")
    sub.add_argument("--max-macs", type=typed("count"), help="most multiply-adds, as in 0.4G")
    sub.add_argument(
        "--max-latency", type=typed("milliseconds"), metavar="20ms", help="by the device table"
    )
    sub.add_argument("--backend", help="whose table that is (default: onnxruntime)")
    sub.add_argument("--threads", type=int, help="and of how many threads (default: 1)")
    sub.add_argument("--table", help="its file (default: compress calibrate's)")
    sub.add_argument("--delta1", type=float, help="least validation d1 (default: 0.81; kitti 0.89)")
    sub.add_argument("--space", help="name, TOML file or file.py:SPACE (default: depthnet-nano)")
    sub.add_argument(
        "--fix",
        action="append",
        metavar="KEY=VALUE",
        help="one choice, or several (skip=add,none), for a parameter; may be repeated",
    )
    data_flags(sub, default=None)
    sub.add_argument("--study", help="its name; the same name resumes it")
    sub.add_argument("--minutes", type=float, help="wall-clock of the whole study (default: 10)")
    sub.add_argument("--trials", type=int, help="trained candidates in all")
    sub.add_argument("--epochs", type=int, help="epochs of a candidate (default: 12)")
    sub.add_argument("--final-epochs", type=int, help="most epochs of the winner (default: 60)")
    sub.add_argument("--sampler", help="gensynth (default), tpe, nsga2, nsga3, gp, cmaes or random")
    sub.add_argument(
        "--inherit",
        action="store_true",
        default=None,
        help="candidates begin with the weights of their nearest trained relative",
    )
    sub.add_argument(
        "--strategy",
        help="trials (default) or one-shot: score candidates as slices of one network",
    )
    sub.add_argument(
        "--pruner", help="what is stopped early: expected (default), asha, hyperband or none"
    )
    sub.add_argument(
        "--fidelity",
        help="what candidates are spared at first: epochs alone (default), resolution or data too",
    )
    sub.add_argument(
        "--warm-start",
        metavar="STUDY",
        help="first try the best of an earlier study: its name, folder or study.db",
    )
    sub.add_argument("--exponents", help="NetScore's: depthnet-nano (default) or standard")
    sub.add_argument("--seed", type=int, help="default: 0")
    sub.add_argument("--workers", type=int, help="candidates trained at once (default: one a core)")
    sub.add_argument("--recipe", help="a study recipe: a shipped name or a TOML of these settings")
    sub.add_argument("--out", default="reports", help="folder of studies (default: reports)")
    sub.add_argument("--storage", help="any Optuna storage URL (default: SQLite in the study)")
    live_flags(sub)
    protocol_flags(sub)
    sub.add_argument("--json", action="store_true", help="print one JSON object")


def prune_flags(sub: argparse.ArgumentParser) -> None:
    """Flags of ``prune``."""
    sub.add_argument("model", help="a model file, or module:function that builds a network")
    sub.add_argument(
        "--target-latency", type=typed("milliseconds"), metavar="20ms", help="measured, one image"
    )
    sub.add_argument("--target-macs", type=typed("count"), metavar="0.4G", help="multiply-adds")
    sub.add_argument("--target-params", type=typed("count"), metavar="1M", help="parameters")
    sub.add_argument("--backend", default="onnxruntime", help="as of bench; default: onnxruntime")
    sub.add_argument("--threads", type=int, default=1, help="of the backend (default: 1)")
    sub.add_argument("--table", help="device table (default: compress calibrate's)")
    sub.add_argument("--seconds", type=float, default=5.0, help="of each measurement (default: 5)")
    sub.add_argument(
        "--method",
        default="netadapt",
        help="netadapt (default), netadapt-published (the literal algorithm) or depgraph (at once)",
    )
    sub.add_argument(
        "--ratio", type=float, help="depgraph: share of all channels to drop, in place of a target"
    )
    sub.add_argument(
        "--importance",
        default="magnitude",
        help="depgraph: magnitude (default), l1, taylor, bn-scale, joint or random",
    )
    sub.add_argument("--step", type=float, help="share given up in the first iteration (0.04)")
    sub.add_argument("--short-steps", type=int, default=20, help="of fine-tuning a cut (20)")
    sub.add_argument("--epochs", type=int, default=5, help="of fine-tuning at the end (default: 5)")
    sub.add_argument("--batch", type=int, help="images a step (default: 16)")
    sub.add_argument("--lr", type=float, help="peak learning rate (default: 0.001)")
    sub.add_argument("--weights", help="of your own network: .safetensors or .pth")
    sub.add_argument("--evaluate", help="module:function that scores your own network")
    sub.add_argument("--finetune", help="module:function(network, steps) that trains it in place")
    sub.add_argument("--seed", type=int, default=0, help="default: 0")
    data_flags(sub)
    sub.add_argument("-o", "--out", help="where to save (default: MODEL-pruned.safetensors)")
    live_flags(sub)
    sub.add_argument("--json", action="store_true", help="print one JSON object")


def gate_flags(sub: argparse.ArgumentParser) -> None:
    """Flags of ``gate``."""
    sub.add_argument("model", help="a trained model file without gates")
    sub.add_argument("--density", type=float, help="share of each gate's channels that stay")
    sub.add_argument(
        "--target-latency",
        type=typed("milliseconds"),
        metavar="40ms",
        help="or the latency to meet, measured; layers where gathering does not pay stay dense",
    )
    sub.add_argument("--variant", default="fbs", help="fbs (default), or dp: norms without a shift")
    sub.add_argument("--block", type=int, default=1, help="channels win in runs of so many (1)")
    sub.add_argument("--where", default="all", help="all (default) or encoder")
    sub.add_argument("--gate-epochs", type=int, default=1, help="of the gates alone (1)")
    sub.add_argument("--joint-epochs", type=int, default=1, help="of everything, ungated yet (1)")
    sub.add_argument("--step-epochs", type=int, default=1, help="at each density on the way (1)")
    sub.add_argument("--epochs", type=int, default=5, help="at the density asked for (5)")
    sub.add_argument("--lam", type=float, default=1e-8, help="weight of the gates' sum (1e-8)")
    sub.add_argument(
        "--reach",
        type=int,
        default=0,
        help="channels that a gate may read to learn at the whole rate; on few images 8 (0: all)",
    )
    sub.add_argument("--batch", type=int, help="images a step (default: 16)")
    sub.add_argument("--lr", type=float, help="peak learning rate (default: 0.001)")
    sub.add_argument("--threads", type=int, default=1, help="of torch, measured (default: 1)")
    sub.add_argument("--seconds", type=float, default=5.0, help="of each measurement (default: 5)")
    sub.add_argument(
        "--per-stage",
        type=int,
        default=0,
        metavar="TRIALS",
        help="search a density for each stage, at the multiply-adds of --density, in so many "
        "trials (default: the same density everywhere)",
    )
    sub.add_argument(
        "--no-static",
        dest="static",
        action="store_false",
        help="leave out the uniformly pruned network that is as fast, and its training",
    )
    sub.add_argument("--seed", type=int, default=0, help="default: 0")
    data_flags(sub)
    sub.add_argument("-o", "--out", help="where to save (default: MODEL-gated.safetensors)")
    live_flags(sub)
    sub.add_argument("--json", action="store_true", help="print one JSON object")


def live_flags(sub: argparse.ArgumentParser, until: str = "while it runs") -> None:
    """Whether the page is written before the end, and how often."""
    sub.add_argument("--live", action="store_true", help=f"write the page again and again {until}")
    sub.add_argument("--every", type=float, metavar="SECONDS", help="of --live (default: 10)")


def training_flags(sub: argparse.ArgumentParser, out: str) -> None:
    """Flags of ``train`` and ``distill``."""
    data_flags(sub, default=None)
    sub.add_argument("--recipe", help="a study recipe whose training it is: a shipped name or TOML")
    sub.add_argument("--epochs", type=int, help="default: 30")
    sub.add_argument("--batch", type=int, help="images a step (default: 16)")
    sub.add_argument("--lr", type=float, help="peak learning rate (default: 0.006)")
    sub.add_argument("--loss", help="a name of compress.losses.LOSSES (default: log-l1)")
    sub.add_argument("--rebalance", help="none (default), hard-to-easy or easy-to-hard")
    sub.add_argument(
        "--init", metavar="MODEL", help="start from this model's weights, where they fit"
    )
    sub.add_argument(
        "--encoder-weights",
        metavar="FILE",
        help="encoder weights in timm's layout (.safetensors, .pth), or pretrained to fetch them",
    )
    sub.add_argument(
        "--encoder-norm",
        default="half",
        help="images those weights expect: half (x/127.5-1, default) or imagenet (most of timm's)",
    )
    sub.add_argument("--seed", type=int, help="default: 0")
    sub.add_argument("-o", "--out", help=f"where to save (default: {out})")
    sub.add_argument("--json", action="store_true", help="print one JSON object")


def data_flags(sub: argparse.ArgumentParser, default: str | None = "scenes") -> None:
    """Which data, at which size."""
    sub.add_argument("--data", default=default, help="data set (default: scenes); see below")
    sub.add_argument("--size", type=typed("size"), metavar="HxW", help="network input")
    reading_flags(sub)


def reading_flags(sub: argparse.ArgumentParser) -> None:
    """How data is read."""
    sub.add_argument(
        "--depth-scale", type=float, help="units a metre in folder: depth files (default: 1000)"
    )
    sub.add_argument("--cap", type=float, help="metres beyond which depth is not used")
    sub.add_argument("--split", help="kitti: file, folder or prefix of the split's lists")


def protocol_flags(sub: argparse.ArgumentParser) -> None:
    """How depth is scored."""
    sub.add_argument("--crop", help="none, nyu, eigen-nyu, garg or eigen-kitti")
    sub.add_argument(
        "--flip", action="store_const", const=True, help="average with mirrored images"
    )
    sub.add_argument("--averaging", help="per-image (default) or pooled")


def report_flags(sub: argparse.ArgumentParser) -> None:
    """Flags of ``report``."""
    sub.add_argument(
        "study", metavar="STUDY", help="a study's name or folder, or the .json of a prune or gate"
    )
    sub.add_argument(
        "--compare", metavar="STUDY", action="append", help="lay another study over it; repeatable"
    )
    sub.add_argument(
        "--figures", action="store_true", help="also write figures for a paper: SVG, PNG and PDF"
    )
    live_flags(sub, "until the study ends")
    sub.add_argument("--out", default="reports", help="folder of studies (default: reports)")
    sub.add_argument("--storage", help="Optuna storage URL, where the study is not in --out")
    sub.add_argument("--json", action="store_true", help="print one JSON object")
