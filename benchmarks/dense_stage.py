"""Ways through a dense stage in training: as it is, and two that avoid its quadratic copying.

- "plain": what the package does. Every module's input is concatenated, and kept for backward.
- "buffer": one buffer a stage, of which projections read the first channels as a strided matrix.
- "kept": concatenated, but only the stage's output is kept, of which backward takes the inputs.

Time is the process's own on one thread (wall-clock on more), peak memory the growth of the resident
set over one step, each in a fresh process. All three give the same gradients, which is checked.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from _timing import interleaved, interval, ratio, table
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.autograd.graph import saved_tensors_hooks

from compress.models import build
from compress.models.blocks.pbep import PBEP, DenseStage
from compress.space import load_space

SPACE = load_space("depthnet-nano")
CASES = [("nyu", (192, 256), 8), ("nyu", (480, 640), 1), ("3", (96, 128), 16), ("4", (96, 128), 16)]
LAST = torch.channels_last


def kept(stage: DenseStage, x: Tensor) -> Tensor:
    whole: list[Tensor] = []
    now: list[Tensor] = [x]  # emptied below: the hooks outlive this call

    def pack(tensor: Tensor) -> Tensor | int:
        return tensor.shape[1] if tensor is now[0] else tensor

    def unpack(saved: Tensor | int) -> Tensor:
        if isinstance(saved, int):
            return whole[0][:, :saved].contiguous(memory_format=LAST)
        return saved

    for module in stage.dense:
        with saved_tensors_hooks(pack, unpack):
            out = module(now[0])
        now[0] = torch.cat((now[0], out), 1)
    result = now.pop()
    whole.append(result.detach())
    return result


def rows_of(buffer: Tensor, channels: int) -> Tensor:
    """View of the first channels as a matrix, (N * H * W, channels)."""
    return buffer.permute(0, 2, 3, 1).reshape(-1, buffer.shape[1])[:, :channels]


class Open(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, total: int) -> Tensor:
        count, ctx.channels, height, width = x.shape
        buffer = x.new_empty((count, total, height, width)).contiguous(memory_format=LAST)
        buffer[:, : ctx.channels] = x
        return buffer

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return gradient[:, : ctx.channels], None


class Project(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, buffer: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
        count, _, height, width = buffer.shape
        ctx.channels, ctx.like = weight.shape[1], weight
        ctx.matrix = weight.detach().flatten(1).to(buffer.dtype)
        ctx.buffer = buffer.detach()  # later writes are to other channels
        ctx.mark_dirty(buffer)
        out = rows_of(ctx.buffer, ctx.channels) @ ctx.matrix.t()
        return buffer, out.view(count, height, width, -1).permute(0, 3, 1, 2)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor, of_out: Tensor) -> tuple[Tensor, Tensor]:
        of_out = of_out.permute(0, 2, 3, 1).reshape(-1, of_out.shape[1])
        of_weight = of_out.t() @ rows_of(ctx.buffer, ctx.channels)
        rows_of(gradient, ctx.channels).addmm_(of_out, ctx.matrix)
        return gradient, of_weight.view(ctx.like.shape).to(ctx.like.dtype)


class Write(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, buffer: Tensor, out: Tensor, start: int) -> Tensor:
        ctx.start, ctx.end = start, start + out.shape[1]
        buffer[:, start : ctx.end] = out
        ctx.mark_dirty(buffer)
        return buffer

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, None]:
        return gradient, gradient[:, ctx.start : ctx.end], None


class Close(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, buffer: Tensor) -> Tensor:
        ctx.mark_dirty(buffer)
        return buffer

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return gradient.clone(memory_format=LAST)  # the functions above write into it


def after_projection(module: PBEP, x: Tensor) -> Tensor:
    x = module.expand_act(module.expand(module.norm(x)))
    x = module.depthwise_act(module.depthwise(x))
    return module.reduce_act(module.reduce(x))


def buffered(stage: DenseStage, x: Tensor) -> Tensor:
    channels = x.shape[1]
    buffer = Open.apply(x, channels + sum(each.reduce.out_channels for each in stage.dense))
    for module in stage.dense:
        buffer, out = Project.apply(buffer, module.project.weight)
        out = after_projection(module, out)
        buffer = Write.apply(buffer, out, channels)
        channels += out.shape[1]
    return Close.apply(buffer)


WAYS = {"plain": DenseStage.forward, "buffer": buffered, "kept": kept}


class Step:
    """One training step of a network, its dense stages run one way or another."""

    def __init__(self, name: str, size: tuple[int, int], batch: int, precision: str) -> None:
        genotype = SPACE.sample(int(name)) if name.isdigit() else SPACE.reference(name)
        self.model = build(genotype, seed=0).to(memory_format=torch.channels_last)
        self.image = torch.randn(batch, 3, *size).contiguous(memory_format=torch.channels_last)
        self.precision = precision

    def __call__(self, how: str) -> None:
        DenseStage.forward = WAYS[how]  # type: ignore[method-assign]
        self.model.zero_grad(set_to_none=True)
        mixed = self.precision == "bfloat16"
        with torch.autocast("cpu", torch.bfloat16) if mixed else nullcontext():
            depth_m = self.model(self.image)
        depth_m.log().abs().mean().backward()


def check() -> None:
    """Every way gives the plain one's output and gradients."""
    stage = DenseStage([PBEP(8 + 4 * i, 4, 5, 11, "projection") for i in range(6)]).double()
    image = torch.randn(2, 8, 9, 7, dtype=torch.float64).contiguous(memory_format=LAST)
    found = []
    for way in WAYS.values():
        stage.zero_grad()
        x = image.clone().requires_grad_()
        y = way(stage, x)
        y.square().sum().backward()
        found.append([y.detach(), x.grad, *(p.grad for p in stage.parameters())])
    for others in found[1:]:
        for one, other in zip(found[0], others, strict=True):
            torch.testing.assert_close(one, other)


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
    image, step.image = step.image, step.image[..., :64, :64].contiguous(memory_format=LAST)
    step(how)  # what a first step allocates for good
    step.image = image
    Path("/proc/self/clear_refs").write_text("5")  # forget the peak so far
    before = resident_mib("VmRSS")
    step(how)
    print(resident_mib("VmHWM") - before)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=6.0, help="for each row's timing")
    parser.add_argument("--rounds", type=int, default=40, help="at most, for each row")
    parser.add_argument("--peak", nargs=6, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.peak:
        print_peak(*args.peak)
        return
    check()
    torch.set_num_threads(args.threads)
    clock = time.process_time if args.threads == 1 else time.perf_counter
    print(f"{args.threads} thread(s); ratios are plain / other: above 1 is a gain")
    rows = [["network", "precision", "way", "ms", "ratio of time", "peak MiB", "ratio"]]
    memory = Path("/proc/self/clear_refs").exists()
    for name, size, batch in CASES:
        for precision in ("float32", "bfloat16"):
            step = Step(name, size, batch, precision)
            taken = interleaved(
                {how: lambda s=step, h=how: s(h) for how in WAYS}, args.rounds, args.seconds, clock
            )
            label = f"{name if name == 'nyu' else f'sample {name}'} {size[0]}x{size[1]} x{batch}"
            plain_mib = 0.0
            for how in WAYS:
                row = [label, precision, how, f"{interval(taken[how]).median * 1e3:.0f}"]
                row.append(f"{ratio(taken['plain'], taken[how]):.3f}")
                if memory:
                    mib = peak_mib([how, name, *map(str, size), str(batch), precision])
                    plain_mib = plain_mib or mib
                    row += [f"{mib:.0f}", f"{plain_mib / mib:.2f}"]
                else:
                    row += ["?", "?"]
                rows.append(row)
                label = ""
    table(rows)


if __name__ == "__main__":
    main()
