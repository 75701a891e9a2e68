"""What each subcommand does: call one function of the package, print its answer."""

from __future__ import annotations

import json
from argparse import Namespace
from dataclasses import fields
from pathlib import Path
from typing import Any

from compress.cli.gating import gate
from compress.cli.measuring import bench, calibrate
from compress.cli.pruning import prune
from compress.cli.reporting import report
from compress.cli.training import data_options, distill, label, train
from compress.errors import CompressError

__all__ = [
    "bench",
    "calibrate",
    "cost",
    "data",
    "distill",
    "evaluate",
    "gate",
    "label",
    "predict",
    "prune",
    "report",
    "search",
    "spaces",
    "train",
]


def print_json(data: dict[str, Any]) -> None:
    """Print one JSON object on stdout."""
    print(json.dumps(data, sort_keys=False, allow_nan=False, default=str))


def spaces(args: Namespace) -> int:
    """List the shipped spaces."""
    from compress.space import load_space, space_names

    found = [load_space(name) for name in space_names()]
    if args.json:
        print_json(
            {
                space.name: {
                    "description": space.description,
                    "paper": space.paper,
                    "size": list(space.size),
                    "cardinality": space.cardinality,
                    "parameters": {k: list(v) for k, v in space.choices.items()},
                    "references": sorted(space.references),
                }
                for space in found
            }
        )
        return 0
    for space in found:
        print(f"{space.name}: {space.description}")
        print(f"  paper       {space.paper}")
        print(f"  parameters  {len(space.choices)}, {space.cardinality:.1e} combinations")
        for name, reference in space.references.items():
            print(f"  {space.name}@{name:<10} {reference.description}")
    return 0


def cost(args: Namespace) -> int:
    """Count a network."""
    from compress.space import Genotype, parse_reference

    name = args.model
    target: Any
    if name.endswith(".json"):
        target = Genotype.read(name)
    elif "@" in name and not Path(name).exists():
        target = parse_reference(name)
    else:
        from compress.models import load

        target = load(name)
    from compress.cost.count import cost as count_cost
    from compress.cost.count import to_dict

    result = count_cost(target, args.size)
    if args.json:
        print_json(to_dict(result))
        return 0
    print(f"{name} at {result.size[0]}x{result.size[1]}")
    print(f"  params    {result.params:>15,}")
    print(f"  macs      {result.macs:>15,}  multiply-adds of convolutions and linear layers")
    print(f"  macs_all  {result.macs_all:>15,}  and of normalisation and interpolation")
    if result.uncounted:
        print(f"  not counted: {', '.join(result.uncounted)}")
    return 0


def evaluate(args: Namespace) -> int:
    """Score a network."""
    from compress.cli.display import reading_progress
    from compress.cli.gating import spread_over
    from compress.models import load
    from compress.models.gates import gates_of
    from compress.train.run import evaluate as score

    with reading_progress() as reading:
        result = score(
            args.model,
            args.data,
            part=args.part,
            size=args.size,
            crop=args.crop,
            flip_average=bool(args.flip),
            averaging=args.averaging or "per-image",
            alignment=args.alignment,
            reading=reading,
            **data_options(args),
        )
    model = load(args.model)
    spread = None
    if gates_of(model):
        spread = spread_over(model, args.data, args.size, args.part, **data_options(args))
    if args.json:
        print_json(result.to_dict() | ({"macs": spread.to_dict()} if spread else {}))
        return 0
    print(result.protocol.describe())
    for name, value in result.metrics.items():
        print(f"  {name:<9} {value:.4f}")
    if spread:
        for name in ("mean", "p95", "worst", "dense"):
            print(f"  macs {name:<9} {getattr(spread, name):>15,.0f}")
    if result.skipped:
        print(f"  {result.skipped} images had no valid pixel and were left out")
    return 0


def predict(args: Namespace) -> int:
    """Predict one image's depth."""
    from compress.models import load
    from compress.train.evaluate import predict as run
    from compress.train.images import read_image, write_classes, write_depth, write_preview
    from compress.train.label import segment

    out = Path(args.out or f"{Path(args.image).with_suffix('')}-depth.png")
    if out.suffix.lower() not in (".png", ".npy"):
        raise CompressError(f"-o {out}: write a .png (16 bit) or .npy (float32 metres)")
    if args.classes and Path(args.classes).suffix.lower() != ".png":
        raise CompressError(f"--classes {args.classes}: write a .png (8 bit, a class a pixel)")
    rgb, model = read_image(args.image), load(args.model)
    map_ = segment(model, rgb) if args.classes else None
    depth_m = run(model, rgb, args.flip)
    write_depth(out, depth_m, args.depth_scale)
    if map_ is not None:
        write_classes(Path(args.classes), map_)
    if args.preview:
        write_preview(Path(args.preview), depth_m)
    low, middle, high = (float(v) for v in _quantiles(depth_m))
    answer = {
        "image": args.image,
        "depth": str(out),
        "size": list(depth_m.shape),
        "min_m": low,
        "median_m": middle,
        "max_m": high,
    }
    if args.json:
        print_json(answer)
    else:
        print(f"{out}: {low:.2f} to {high:.2f} m, median {middle:.2f} m")
    return 0


def _quantiles(depth_m: Any) -> Any:
    import numpy as np

    return np.quantile(depth_m, [0.0, 0.5, 1.0])


def search(args: Namespace) -> int:
    """Run or resume a study."""
    from compress.search import search as run
    from compress.search.config import SearchConfig, read_fixed, read_recipe

    options: dict[str, Any] = read_recipe(args.recipe) if args.recipe else {}
    for name in fields(SearchConfig):
        value = getattr(args, name.name, None)
        if value is not None and name.name != "fix":
            options[name.name] = value
    if args.fix:
        options["fix"] = {**options.get("fix", {}), **read_fixed(args.fix)}
    if args.cap is not None:
        options["cap_m"] = args.cap
    if args.flip:
        options["flip_average"] = True
    if args.workers is not None and args.workers < 1:
        raise CompressError(f"--workers {args.workers}: give 1 or more")
    from compress.cli.display import SearchDisplay
    from compress.report.live import checked_every

    live = checked_every(args.every, args.live)
    with SearchDisplay() as display:
        result = run(
            study=args.study,
            out=args.out,
            storage=args.storage,
            workers=args.workers,
            events=display,
            live=live,
            **options,
        )
    if args.json:
        print_json(result.to_dict())
    else:
        display.conclude(result)
    return 0 if result.best is not None else 1


def data(args: Namespace) -> int:
    """Fetch a data set."""
    from compress.cli.display import reading_progress
    from compress.data.download import download_nyu

    with reading_progress() as reading:
        path = download_nyu(Path(args.to), progress=reading("bytes"))
    print(f"{path}: complete and verified; use it as --data nyu:{path}")
    return 0
