"""Zero-cost proxies on the table: do they tell, before any training, which network will be good?

Each is asked of every network of the table at its initial weights; parameters and MACs, which cost
nothing at all, stand beside them. A proxy is worth a rung only where it tells more than they do:
"within" is the rank correlation of what is left of it and of d1 once both are taken out. "Kept" is
how many of the best tenth are among the half of all networks that a first rung would go on with.

    python benchmarks/proxies.py
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from bench_table import DATA, SIZE
from replay import gate_of
from torch import Tensor, nn

from compress._files import whole
from compress.data import Arrays, cut_validation, open_data, resized
from compress.losses import make_loss
from compress.models import DepthNet, build, normalised
from compress.netscore import netscore
from compress.search.bench import Bench, load_bench
from compress.search.ranks import kendall, spearman
from compress.train.fit import centre
from compress.train.recipe import Recipe

IMAGES = 32
Floats = npt.NDArray[np.float64]
Proxy = Callable[[DepthNet, Tensor, Tensor, float], float]


def synflow(model: DepthNet, image: Tensor, truth_m: Tensor, cap_m: float) -> float:
    """Sum of |weight x gradient| of what a network of absolute weights lets through, log10.

    Source: Tanaka et al., "Pruning neural networks without any data by iteratively conserving
    synaptic flow", arXiv 2006.05467, section 5.
    """
    model.double().eval()  # norms are identities before training
    with torch.no_grad():
        for value in model.parameters():
            value.abs_()
    out: list[Tensor] = []
    hook = last(model).register_forward_hook(lambda _, __, found: out.append(found))
    model(torch.ones(1, 3, *image.shape[-2:], dtype=torch.float64))
    hook.remove()
    out[0].sum().backward()
    flow = sum(
        float((p.detach() * p.grad).abs().sum()) for p in model.parameters() if p.grad is not None
    )
    return float(np.log10(flow))


def gradient(model: DepthNet, image: Tensor, truth_m: Tensor, cap_m: float) -> float:
    """Norm of the training loss's gradient on one batch.

    Source: Abdelfattah et al., "Zero-cost proxies for lightweight NAS", arXiv 2101.08134,
    section 3.2.
    """
    model.train()
    valid = (truth_m > 0) & (truth_m < cap_m)
    make_loss(Recipe().loss, cap_m)(model(image), truth_m, valid).backward()
    squares = [float((p.grad**2).sum()) for p in model.parameters() if p.grad is not None]
    return float(np.sqrt(sum(squares)))


def naswot(model: DepthNet, image: Tensor, truth_m: Tensor, cap_m: float) -> float:
    """How differently images switch a network's units: log-determinant of the agreement kernel.

    A unit's switch is the sign of what its SELU is given. Source: Mellor et al., "Neural
    architecture search without training", arXiv 2006.04647, section 3.
    """
    model.train()  # norms see this batch: before training theirs are no statistics of anything
    kernel = np.zeros((len(image), len(image)))

    def count(_: nn.Module, given: tuple[Tensor]) -> None:
        codes = (given[0].detach() > 0).flatten(1).double()
        kernel[:] += (codes @ codes.T + (1 - codes) @ (1 - codes).T).numpy()

    hooks = [m.register_forward_pre_hook(count) for m in model.modules() if isinstance(m, nn.SELU)]
    with torch.no_grad():
        model(image)
    for hook in hooks:
        hook.remove()
    return float(np.linalg.slogdet(kernel)[1])


def last(model: DepthNet) -> nn.Module:
    """The head's convolution: what comes after it is clamped."""
    head = model.head
    assert isinstance(head, nn.Module)
    return head


PROXIES: dict[str, Proxy] = {"synflow": synflow, "gradient norm": gradient, "NASWOT": naswot}


def batch() -> tuple[Arrays, float, Tensor, Tensor]:
    """Training images (the whole set too, for its mean depth), cap, one batch of them."""
    data = open_data(DATA)
    assert data.train is not None
    frames, _ = cut_validation(data.train, seed=0)
    arrays = resized(frames, SIZE)
    chosen = np.linspace(0, len(arrays) - 1, IMAGES).round().astype(int)
    image = normalised(torch.from_numpy(arrays.rgb[chosen]).permute(0, 3, 1, 2))
    return arrays, data.cap_m, image, torch.from_numpy(arrays.depth_m[chosen])[:, None]


def ask(bench: Bench, seed: int) -> tuple[dict[str, list[float]], dict[str, float]]:
    """Every proxy of every network, and seconds a network."""
    torch.set_num_threads(1)
    arrays, cap_m, image, truth_m = batch()
    found: dict[str, list[float]] = {name: [] for name in PROXIES}
    seconds = dict.fromkeys(PROXIES, 0.0)
    for genotype in bench.genotypes:
        for name, proxy in PROXIES.items():
            model = build(genotype, seed=seed)
            centre(model, arrays, cap_m)
            start = time.perf_counter()
            found[name].append(proxy(model, image, truth_m, cap_m))
            seconds[name] += (time.perf_counter() - start) / len(bench.genotypes)
    return found, seconds


def left_over(values: Floats, params: Floats, macs: Floats) -> Floats:
    """What a straight line on the logarithms of parameters and MACs does not explain."""
    known = np.stack([np.ones_like(params), np.log(params), np.log(macs)], axis=1)
    weights, *_ = np.linalg.lstsq(known, values, rcond=None)
    return values - known @ weights


def tell(bench: Bench, found: dict[str, list[float]], seconds: dict[str, float]) -> None:
    d1 = np.array([row.delta1 for row in bench.final])
    params = np.array([float(row.params) for row in bench.final])
    macs = np.array([float(row.macs) for row in bench.final])
    gate = gate_of(bench)
    best = np.argsort(-objective(d1, params, macs, gate))[: round(0.1 * len(d1))]
    told = {name: np.array(values) for name, values in found.items()}
    told |= {"params": params, "MACs": macs}
    rest = left_over(d1, params, macs)
    chance = np.random.default_rng(0)
    drawn = chance.integers(0, len(d1), (1000, len(d1)))
    print(f"{'':16}{'Spearman with d1':>24}{'Kendall':>9}{'within':>24}"
          f"{'kept':>7}{'kept by NetScore':>18}{'s a network':>13}")  # fmt: skip
    for name, values in told.items():
        inner = left_over(values, params, macs) if name in found else None
        # A first rung: half of all by the proxy, or by NetScore if d1 went as the proxy does.
        guess = np.sort(d1)[np.argsort(np.argsort(values))]
        orders = values, objective(guess, params, macs, 0.0)
        kept = [np.isin(best, np.argsort(-by)[: len(d1) // 2]).mean() for by in orders]
        within = "" if inner is None else _with_interval(inner, rest, drawn)
        time_s = f"{seconds[name]:.2f}" if name in seconds else "0"
        print(f"{name:16}{_with_interval(values, d1, drawn):>24}{kendall(values, d1):>9.2f}"
              f"{within:>24}{kept[0]:>7.0%}{kept[1]:>18.0%}{time_s:>13}")  # fmt: skip


def objective(d1: Floats, params: Floats, macs: Floats, gate: float) -> Floats:
    """What a search maximises: NetScore of those that pass the gate, then the others by d1."""
    rows = zip(d1, params, macs, strict=True)
    return np.array([netscore(100 * d, p, m) if d >= gate else d - 100 for d, p, m in rows])


def _with_interval(a: Floats, b: Floats, drawn: Floats) -> str:
    low, high = np.quantile([spearman(a[rows], b[rows]) for rows in drawn], [0.025, 0.975])
    return f"{spearman(a, b):.2f} ({low:.2f}, {high:.2f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seed", type=int, default=0, help="of the initial weights")
    parser.add_argument("--save", type=Path, help="JSON of what the proxies said; read if there")
    args = parser.parse_args()
    bench = load_bench()
    if args.save and args.save.exists():
        found, seconds = json.loads(args.save.read_text())
    else:
        found, seconds = ask(bench, args.seed)
        if args.save:
            with whole(args.save) as path:
                path.write_text(json.dumps([found, seconds]))
    tell(bench, found, seconds)


if __name__ == "__main__":
    main()
