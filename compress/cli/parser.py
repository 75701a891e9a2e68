"""The words of the command line; nothing here is slow to import."""

from __future__ import annotations

import argparse
import difflib
import sys
from collections.abc import Callable
from typing import Any, NoReturn

from compress import __version__

DATA_HELP = """data sets (--data):
  scenes            rendered rooms and streets, drawn on first use (also scenes:indoor, :outdoor)
  nyu:PATH          NYU Depth v2: labelled .mat, DenseDepth's CSV folder or FastDepth's HDF5 folders
  kitti:DIR         KITTI raw and annotated depth; lists in DIR or given by --split
  folder:DIR        pairs of RGB and 16-bit PNG or .npy depth; DIR/train.txt and DIR/heldout.txt
  tum:DIR           a TUM RGB-D sequence
  diw:DIR           Depth in the Wild: ordered pairs of points
  redweb:DIR        images and relative depth maps (ReDWeb's layout)
"""

BENCH_HELP = """backends (--backend):
  onnxruntime       the network as an ONNX file, on the CPU
  openvino          the same file; pip install depth-compress[openvino]
  torch             as it is, on the CPU
  torch-compile     compiled by torch.compile, on the CPU; needs a C++ compiler
  cuda              as it is, on an NVIDIA GPU

Several models are measured in turns. The verdict says when the machine is too noisy to tell.
"""


class _Parser(argparse.ArgumentParser):
    """Answers a mistake with one line and the nearest right word."""

    def error(self, message: str) -> NoReturn:
        if "invalid choice: " in message and "(choose from" in message:
            got = message.split("invalid choice: ")[1].split(" (")[0].strip("'\"")
            names = [n.strip(" '\")") for n in message.split("(choose from")[1].split(",")]
            near = difflib.get_close_matches(got, names, n=2, cutoff=0.5)
            if near:
                message += f"; did you mean {' or '.join(near)}?"
        print(f"{self.prog}: error: {message}; see {self.prog} --help", file=sys.stderr)
        raise SystemExit(2)


def _typed(read: str) -> Callable[[str], Any]:
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


def make_parser() -> argparse.ArgumentParser:
    """Build the parser of ``compress`` and its subcommands."""
    parser = _Parser(
        prog="compress",
        description="Search and compress depth networks: small, fast, and as accurate as reported.",
        epilog="example:\n  compress search --budget 5M --minutes 5\n\n" + DATA_HELP,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"compress {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)

    def command(name: str, help_: str, example: str, run: str = "", epilog: str = "") -> _Parser:
        sub: _Parser = commands.add_parser(
            name,
            help=help_,
            description=help_[0].upper() + help_[1:] + ".",
            epilog=f"example:\n  {example}\n" + (f"\n{epilog}" if epilog else ""),
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        sub.set_defaults(run=run or name)
        sub.add_argument("--debug", action="store_true", help="show a traceback on errors")
        return sub

    _search(
        command(
            "search",
            "find the gated network of highest NetScore, train it and save it",
            "compress search --budget 5M --delta1 0.81 --data folder:my_pairs --minutes 10",
            epilog=DATA_HELP,
        )
    )
    sub = command("report", "write a study's HTML page and CSV", "compress report kitti-2m")
    sub.add_argument("study", help="name of the study")
    sub.add_argument("--out", default="reports", help="folder of studies (default: reports)")
    sub.add_argument("--storage", help="Optuna storage URL, where the study is not in --out")
    sub.add_argument("--json", action="store_true", help="print one JSON object")

    sub = command(
        "train",
        "train a network on a data set",
        "compress train mobiledepth@small --data kitti:/data/kitti --epochs 30",
        epilog=DATA_HELP,
    )
    sub.add_argument("model", help="SPACE@REFERENCE, a model file or GENOTYPE.json")
    _training(sub, "MODEL-trained.safetensors")

    sub = command(
        "distill",
        "train a network beside a teacher",
        "compress distill sparse-mobile@small --teacher big.safetensors --data folder:my_pairs",
        epilog=DATA_HELP,
    )
    sub.add_argument("model", metavar="STUDENT", help="SPACE@REFERENCE, a model file or .json")
    sub.add_argument("--teacher", required=True, help="a model file of any space")
    weight: dict[str, Any] = {"type": float, "metavar": "WEIGHT"}
    sub.add_argument("--pixel", **weight, help="of the teacher's depth (default: 1)")
    sub.add_argument("--pairwise", **weight, help="of its features' resemblances (default: 1)")
    sub.add_argument("--adversarial", **weight, help="of a critic of depth maps (default: 0)")
    sub.add_argument("--truth", **weight, help="of the truth (default: 1; 0: the teacher alone)")
    sub.add_argument(
        "--compensate",
        action="store_true",
        help="first measure the teacher's mean error by distance, and take it out",
    )
    _training(sub, "STUDENT-distilled.safetensors")

    sub = command(
        "label",
        "have trained networks label images, as a data set to train on",
        "compress label photos --teacher big.safetensors --calibrate kitti:/data/kitti --to pairs",
        epilog=DATA_HELP,
    )
    sub.add_argument("images", help="a folder of RGB images")
    sub.add_argument("--teacher", required=True, help="a model file; its depth becomes the truth")
    sub.add_argument("--segmenter", help="a joint model file; its classes become the class maps")
    sub.add_argument("--to", default="labelled", help="folder to write (default: labelled)")
    sub.add_argument(
        "--calibrate",
        metavar="DATA",
        help="data with truth, on which the teacher's mean error by distance is measured, and "
        "taken out",
    )
    sub.add_argument("--heldout", type=float, default=0.1, help="share held out (default: 0.1)")
    _reading(sub)
    sub.add_argument("--json", action="store_true", help="print one JSON object")

    _prune(
        command(
            "prune",
            "make a trained network narrower until it meets a target, and measure that it does",
            "compress prune reports/demo/best.safetensors --target-latency 5ms --data scenes",
            epilog="a network of your own:\n  compress prune my_package.nets:make_net --weights "
            "w.safetensors --size 96x128 \\\n      --target-latency 20ms --evaluate "
            "my_package.eval:score\n\n" + DATA_HELP,
        )
    )
    sub = command(
        "evaluate",
        "score a network under a data set's protocol",
        "compress evaluate reports/demo/best.safetensors --data nyu:/data/nyu --json",
        epilog=DATA_HELP,
    )
    sub.add_argument("model", help="a model file")
    _data(sub)
    _protocol(sub)
    sub.add_argument(
        "--part", default="heldout", help="heldout (default) or validation, cut from training"
    )
    sub.add_argument("--alignment", default="none", help="none (default) or median")
    sub.add_argument("--json", action="store_true", help="print one JSON object")

    sub = command(
        "predict",
        "predict the depth of an image",
        "compress predict reports/demo/best.safetensors photo.jpg -o depth.png",
    )
    sub.add_argument("model", help="a model file")
    sub.add_argument("image", help="an RGB image")
    sub.add_argument(
        "-o",
        "--out",
        help=".png: 16 bit, 0 = none; .npy: float32 metres (default: IMAGE-depth.png)",
    )
    sub.add_argument(
        "--depth-scale", type=float, default=1000.0, help="PNG units a metre (default: 1000)"
    )
    sub.add_argument("--preview", help="also write a coloured picture to this file")
    sub.add_argument("--classes", help="also write a joint network's class map to this .png")
    sub.add_argument("--flip", action="store_true", help="average with the mirrored image")
    sub.add_argument("--json", action="store_true", help="print one JSON object")

    sub = command(
        "cost",
        "count parameters and multiply-adds",
        "compress cost depthnet-nano@nyu --size 480x640 --json",
    )
    sub.add_argument("model", help="SPACE@REFERENCE, a model file or GENOTYPE.json")
    sub.add_argument("--size", type=_typed("size"), metavar="HxW", help="network input")
    sub.add_argument("--json", action="store_true", help="print one JSON object")

    sub = command(
        "bench",
        "measure latency, memory and energy of networks on this machine",
        "compress bench depthnet-nano@tiny --backend onnxruntime --threads 1 --size 224x224",
        epilog=BENCH_HELP,
    )
    sub.add_argument("model", nargs="+", help="SPACE@REFERENCE, a model file or GENOTYPE.json")
    sub.add_argument("--backend", default="onnxruntime", help="default: onnxruntime; see below")
    sub.add_argument("--threads", type=int, default=1, help="of the backend (default: 1)")
    sub.add_argument("--size", type=_typed("size"), metavar="HxW", help="network input")
    sub.add_argument(
        "--against", metavar="MODEL", help="how many times as fast as this one (default: the first)"
    )
    sub.add_argument(
        "--preset", default="default", help="default, or mobiledepth: 300 runs on zeros"
    )
    sub.add_argument("--runs", type=int, help="most runs of each (default: 1000)")
    sub.add_argument("--seconds", type=float, help="about how long at most each (default: 10)")
    sub.add_argument("--seed", type=int, default=0, help="of the random image (default: 0)")
    sub.add_argument("--json", action="store_true", help="print one JSON object")

    _calibrate(
        command(
            "calibrate",
            "measure this device's table, from which searches predict latency",
            "compress calibrate --backend onnxruntime --threads 1 --minutes 5",
        )
    )
    sub = command("spaces", "list search spaces and their reference networks", "compress spaces")
    sub.add_argument("--json", action="store_true", help="print one JSON object")

    sub = command(
        "data", "fetch a data set", "compress data download nyu --to /data/nyu", run="data"
    )
    actions = sub.add_subparsers(dest="action", metavar="ACTION", required=True)
    action = actions.add_parser("download", help="fetch and verify; goes on where it stopped")
    action.add_argument("name", choices=["nyu"], help="the data set")
    action.add_argument("--to", default="data", help="folder (default: data)")
    return parser


def _calibrate(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("--backend", default="onnxruntime", help="as of bench; default: onnxruntime")
    sub.add_argument("--threads", type=int, default=1, help="of the backend (default: 1)")
    sub.add_argument(
        "--minutes", type=float, default=5.0, help="of measuring, the proof apart (default: 5)"
    )
    sub.add_argument(
        "--space", action="append", help="whose shapes to measure; may be repeated (default: three)"
    )
    sub.add_argument(
        "--size", type=_typed("size"), metavar="HxW", help="network input (default: the spaces')"
    )
    sub.add_argument("-o", "--out", help="the table's file (default: where searches look)")
    sub.add_argument("--json", action="store_true", help="print one JSON object")


def _search(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("--budget", type=_typed("count"), help="most parameters, as in 5M")
    sub.add_argument("--max-macs", type=_typed("count"), help="most multiply-adds, as in 0.4G")
    sub.add_argument(
        "--max-latency", type=_typed("milliseconds"), metavar="20ms", help="by the device table"
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
    _data(sub, default=None)
    sub.add_argument("--study", help="its name; the same name resumes it")
    sub.add_argument("--minutes", type=float, help="wall-clock of the whole study (default: 10)")
    sub.add_argument("--trials", type=int, help="trained candidates in all")
    sub.add_argument("--epochs", type=int, help="epochs of a candidate (default: 12)")
    sub.add_argument("--final-epochs", type=int, help="most epochs of the winner (default: 60)")
    sub.add_argument("--sampler", help="tpe (default), nsga2 or random")
    sub.add_argument("--exponents", help="NetScore's: depthnet-nano (default) or standard")
    sub.add_argument("--seed", type=int, help="default: 0")
    sub.add_argument("--workers", type=int, help="candidates trained at once (default: one a core)")
    sub.add_argument("--recipe", help="a study recipe: a shipped name or a TOML of these settings")
    sub.add_argument("--out", default="reports", help="folder of studies (default: reports)")
    sub.add_argument("--storage", help="any Optuna storage URL (default: SQLite in the study)")
    _protocol(sub)
    sub.add_argument("--json", action="store_true", help="print one JSON object")


def _prune(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("model", help="a model file, or module:function that builds a network")
    sub.add_argument(
        "--target-latency", type=_typed("milliseconds"), metavar="20ms", help="measured, one image"
    )
    sub.add_argument("--target-macs", type=_typed("count"), metavar="0.4G", help="multiply-adds")
    sub.add_argument("--target-params", type=_typed("count"), metavar="1M", help="parameters")
    sub.add_argument("--backend", default="onnxruntime", help="as of bench; default: onnxruntime")
    sub.add_argument("--threads", type=int, default=1, help="of the backend (default: 1)")
    sub.add_argument("--table", help="device table (default: compress calibrate's)")
    sub.add_argument("--seconds", type=float, default=5.0, help="of each measurement (default: 5)")
    sub.add_argument(
        "--method",
        default="netadapt",
        help="netadapt (default), netadapt-published (the literal algorithm) or depgraph (at once)",
    )
    sub.add_argument("--short-steps", type=int, default=20, help="of fine-tuning a cut (20)")
    sub.add_argument("--epochs", type=int, default=5, help="of fine-tuning at the end (default: 5)")
    sub.add_argument("--batch", type=int, help="images a step (default: 16)")
    sub.add_argument("--lr", type=float, help="peak learning rate (default: 0.001)")
    sub.add_argument("--weights", help="of your own network: .safetensors or .pth")
    sub.add_argument("--evaluate", help="module:function that scores your own network")
    sub.add_argument("--finetune", help="module:function(network, steps) that trains it in place")
    sub.add_argument("--seed", type=int, default=0, help="default: 0")
    _data(sub)
    sub.add_argument("-o", "--out", help="where to save (default: MODEL-pruned.safetensors)")
    sub.add_argument("--json", action="store_true", help="print one JSON object")


def _training(sub: argparse.ArgumentParser, out: str) -> None:
    _data(sub, default=None)
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


def _data(sub: argparse.ArgumentParser, default: str | None = "scenes") -> None:
    sub.add_argument("--data", default=default, help="data set (default: scenes); see below")
    sub.add_argument("--size", type=_typed("size"), metavar="HxW", help="network input")
    _reading(sub)


def _reading(sub: argparse.ArgumentParser) -> None:
    sub.add_argument(
        "--depth-scale", type=float, help="units a metre in folder: depth files (default: 1000)"
    )
    sub.add_argument("--cap", type=float, help="metres beyond which depth is not used")
    sub.add_argument("--split", help="kitti: file, folder or prefix of the split's lists")


def _protocol(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("--crop", help="none, nyu, eigen-nyu, garg or eigen-kitti")
    sub.add_argument(
        "--flip", action="store_const", const=True, help="average with mirrored images"
    )
    sub.add_argument("--averaging", help="per-image (default) or pooled")
