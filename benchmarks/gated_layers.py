"""A gated network that computes only what its gates let through, against the same without gates."""

from __future__ import annotations

import argparse
from collections import Counter

import torch
from _timing import interleaved, interval, ratio, table
from torch import Tensor, nn

from compress.gating.executor import GatedExecutor, dense_executor
from compress.gating.sites import find_sites, sites
from compress.models import build
from compress.models.gates import attach, gates_of
from compress.space import parse_reference


def settled(model: nn.Module, size: tuple[int, int], density: float) -> nn.Module:
    """With gates everywhere, whose predictors are random but stay near 1."""
    attach(model, sites(find_sites(model, size)), density=density)
    for gate in gates_of(model).values():
        gate.predictor.weight.data.normal_(std=0.05 / gate.predictor.in_features**0.5)
        gate.predictor.bias.data.normal_(1.0, 0.1)
    return model.eval()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="resnet-depth@paper")
    parser.add_argument("--sizes", nargs="+", default=["192x640", "96x128"])
    parser.add_argument("--densities", nargs="+", type=float, default=[0.7, 0.5, 0.3])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--layers", action="store_true", help="print every layer's modes too")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    genotype = parse_reference(args.model)
    for text in args.sizes:
        height, width = (int(side) for side in text.split("x"))
        measure(genotype, (height, width), args)


def measure(genotype: object, size: tuple[int, int], args: argparse.Namespace) -> None:
    plain = build(genotype, seed=0).eval()  # type: ignore[arg-type]
    generator = torch.Generator().manual_seed(0)
    image = torch.rand(1, 3, *size, generator=generator) * 2 - 1
    last = plain.to(memory_format=torch.channels_last)
    networks = {"dense, eager": last, "dense, folded": dense_executor(plain, size)}
    for density in args.densities:
        gated = settled(build(genotype, seed=0), size, density)  # type: ignore[arg-type]
        networks[f"gated, {density:g}"] = GatedExecutor(gated, size)

    def run(network: nn.Module | GatedExecutor) -> Tensor:
        with torch.inference_mode():
            return network(image)

    taken = interleaved(
        {name: lambda n=network: run(n) for name, network in networks.items()},
        args.rounds,
        args.seconds,
    )
    eager, folded = taken["dense, eager"], taken["dense, folded"]
    rows = [["network", "ms", "x dense, eager", "x dense, folded", "MACs", "as run", "modes"]]
    for name, times in taken.items():
        network = networks[name]
        counts = modes = ("", "")
        if isinstance(network, GatedExecutor):
            whole = network.dense_macs
            counts = (f"{network.macs[0] / whole:.0%}", f"{network.macs_run[0] / whole:.0%}")
            chosen = Counter(layer.mode.split("/")[0] for layer in network.plan.layers)
            modes = (", ".join(f"{count} {mode}" for mode, count in chosen.most_common()), "")
        rows.append(
            [name, f"{interval([1e3 * t for t in times]):.1f}", f"{ratio(eager, times):.2f}",
             f"{ratio(folded, times):.2f}", *counts, modes[0]]
        )  # fmt: skip
    print(f"{size[0]}x{size[1]}, {args.threads} threads, batch 1, wall-clock")
    table(rows)
    if args.layers:
        for layer in networks[f"gated, {args.densities[-1]:g}"].plan.layers:  # type: ignore[union-attr]
            print(layer.path, layer.channels, layer.kernel, layer.size, layer.mode, dict(layer.ms))


if __name__ == "__main__":
    main()
