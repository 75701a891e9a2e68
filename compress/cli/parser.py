"""The words of the command line; nothing here is slow to import."""

from __future__ import annotations

import argparse
import difflib
import sys
from typing import Any, NoReturn

from compress import __version__
from compress.cli.flags import (
    calibrate_flags,
    data_flags,
    gate_flags,
    protocol_flags,
    prune_flags,
    reading_flags,
    report_flags,
    search_flags,
    training_flags,
    typed,
)

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

    search_flags(
        command(
            "search",
            "find the gated network of highest NetScore, train it and save it",
            "compress search --budget 5M --delta1 0.81 --data folder:my_pairs --minutes 10\n"
            "  compress search --budget 5M --study second --warm-start first --fidelity resolution",
            epilog=DATA_HELP,
        )
    )
    report_flags(
        command(
            "report",
            "write the page, tables and figures of a study, a pruning or a gating",
            "compress report kitti-2m --compare kitti-5m --figures",
        )
    )
    sub = command(
        "train",
        "train a network on a data set",
        "compress train mobiledepth@small --data kitti:/data/kitti --epochs 30",
        epilog=DATA_HELP,
    )
    sub.add_argument("model", help="SPACE@REFERENCE, a model file or GENOTYPE.json")
    training_flags(sub, "MODEL-trained.safetensors")

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
    training_flags(sub, "STUDENT-distilled.safetensors")

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
    reading_flags(sub)
    sub.add_argument("--json", action="store_true", help="print one JSON object")

    prune_flags(
        command(
            "prune",
            "make a trained network narrower until it meets a target, and measure that it does",
            "compress prune reports/demo/best.safetensors --target-latency 5ms --data scenes",
            epilog="a network of your own:\n  compress prune my_package.nets:make_net --weights "
            "w.safetensors --size 96x128 \\\n      --target-latency 20ms --evaluate "
            "my_package.eval:score\n\n" + DATA_HELP,
        )
    )
    gate_flags(
        command(
            "gate",
            "let a network choose its channels image by image, and compute no others",
            "compress gate reports/demo/best.safetensors --density 0.7 --data scenes",
            epilog=DATA_HELP,
        )
    )
    sub = command(
        "evaluate",
        "score a network under a data set's protocol",
        "compress evaluate reports/demo/best.safetensors --data nyu:/data/nyu --json",
        epilog=DATA_HELP,
    )
    sub.add_argument("model", help="a model file")
    data_flags(sub)
    protocol_flags(sub)
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
    sub.add_argument("--size", type=typed("size"), metavar="HxW", help="network input")
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
    sub.add_argument("--size", type=typed("size"), metavar="HxW", help="network input")
    sub.add_argument(
        "--against", metavar="MODEL", help="how many times as fast as this one (default: the first)"
    )
    sub.add_argument(
        "--preset", default="default", help="default, or mobiledepth: 300 runs on zeros"
    )
    sub.add_argument("--runs", type=int, help="most runs of each (default: 1000)")
    sub.add_argument("--seconds", type=float, help="about how long at most each (default: 10)")
    sub.add_argument("--seed", type=int, default=0, help="of the random image (default: 0)")
    sub.add_argument(
        "--data", help="of one network with gates: real images, beside it dense and pruned"
    )
    reading_flags(sub)
    sub.add_argument("--json", action="store_true", help="print one JSON object")

    calibrate_flags(
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
