"""Training step through long dense stages: keeping only their output, against keeping every input.

Time is the process's own on one thread (wall-clock on more), peak memory the growth of the resident
set over one step, each in a fresh process.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from contextlib import nullcontext
from pathlib import Path

import torch
from _timing import interleaved, interval, ratio, table

from compress.models import build
from compress.models.blocks import pbep
from compress.space import load_space

LONG = pbep.LONG
SPACE = load_space("depthnet-nano")
PLAIN, SHARED = "every input", "output alone"
CASES = [("nyu", (192, 256), 8), ("nyu", (480, 640), 1), ("3", (96, 128), 16), ("4", (96, 128), 16)]


class Step:
    """One training step of a network, keeping one thing or the other."""

    def __init__(self, name: str, size: tuple[int, int], batch: int, precision: str) -> None:
        genotype = SPACE.sample(int(name)) if name.isdigit() else SPACE.reference(name)
        self.model = build(genotype, seed=0).to(memory_format=torch.channels_last)
        self.image = torch.randn(batch, 3, *size).contiguous(memory_format=torch.channels_last)
        self.precision = precision

    def __call__(self, how: str) -> None:
        pbep.LONG = sys.maxsize if how == PLAIN else LONG
        self.model.zero_grad(set_to_none=True)
        mixed = self.precision == "bfloat16"
        with torch.autocast("cpu", torch.bfloat16) if mixed else nullcontext():
            depth_m = self.model(self.image)
        depth_m.log().abs().mean().backward()


def resident_mib(key: str) -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(key)) / 1024


def peak_mib(arguments: list[str]) -> float:
    done = subprocess.run(
        [sys.executable, __file__, "--peak", *arguments], capture_output=True, text=True, check=True
    )
    return float(done.stdout)


def print_peak(how: str, name: str, height: str, width: str, batch: str, precision: str) -> None:
    torch.set_num_threads(1)
    step = Step(name, (int(height), int(width)), int(batch), precision)
    image, step.image = step.image, step.image[..., :64, :64].contiguous()
    step(how)  # what a first step allocates for good
    step.image = image
    Path("/proc/self/clear_refs").write_text("5")  # forget the peak so far
    before = resident_mib("VmRSS")
    step(how)
    print(resident_mib("VmHWM") - before)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=14.0, help="for each row's timing")
    parser.add_argument("--rounds", type=int, default=40, help="at most, for each row")
    parser.add_argument("--peak", nargs=6, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.peak:
        print_peak(*args.peak)
        return
    torch.set_num_threads(args.threads)
    clock = time.process_time if args.threads == 1 else time.perf_counter
    print(f"{args.threads} thread(s); ratio = every input / output alone, above 1 is a gain")
    rows = [["network", "precision", "ms (every)", "ms (alone)", "ratio of time", "MiB", "ratio"]]
    memory = Path("/proc/self/clear_refs").exists()
    for name, size, batch in CASES:
        for precision in ("float32", "bfloat16"):
            step = Step(name, size, batch, precision)
            taken = interleaved(
                {PLAIN: lambda s=step: s(PLAIN), SHARED: lambda s=step: s(SHARED)},
                args.rounds,
                args.seconds,
                clock,
            )
            peaks = [
                peak_mib([how, name, *map(str, size), str(batch), precision])
                for how in (PLAIN, SHARED)
                if memory
            ]
            label = f"{name if name == 'nyu' else f'sample {name}'} {size[0]}x{size[1]} x{batch}"
            every, alone = (f"{interval(taken[how]).median * 1e3:.0f}" for how in (PLAIN, SHARED))
            row = [label, precision, every, alone, f"{ratio(taken[PLAIN], taken[SHARED]):.3f}"]
            if peaks:
                row += [f"{peaks[0]:.0f} to {peaks[1]:.0f}", f"{peaks[0] / peaks[1]:.2f}"]
            rows.append(row + ["?"] * (len(rows[0]) - len(row)))
    table(rows)


if __name__ == "__main__":
    main()
