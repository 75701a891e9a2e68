"""Results of prunings and gatings as their commands write them, without running any."""

from __future__ import annotations

from typing import Any

DEVICE = {"processor": "some & any", "system": "Linux"}
METRICS = {
    "delta1": 0.85, "delta2": 0.97, "delta3": 0.99, "abs_rel": 0.12, "sq_rel": 0.06, "rmse": 0.41,
    "rmse_log": 0.15, "log10": 0.05,
}  # fmt: skip


def latency(median: float, low: float, high: float) -> dict[str, Any]:
    return {
        "backend": "onnxruntime", "threads": 1, "size": [96, 128], "preset": "default",
        "image": "random", "median_ms": median, "mean_ms": median, "p5_ms": low, "p95_ms": high,
        "low_ms": low, "high_ms": high, "fps": 1000 / median, "runs": 400, "rounds": 20,
        "warm_up_runs": 10, "noisy": False, "verdict": "quiet", "peak_memory_mb": None,
        "joules_per_image": None, "images_per_s_per_watt": None, "power_sensor": "none",
        "device": DEVICE, "notes": [],
    }  # fmt: skip


def pruning(cuts: int = 14, layers: int = 6) -> dict[str, Any]:
    """A network pruned from 20 ms to 10 ms; two rounds of measuring, the first one missed."""
    names = [f"encoder.stage{1 + k // 2}.{k % 2}.conv" for k in range(layers)]
    full = {name: 64 + 32 * k for k, name in enumerate(names)} | {"head.conv": 1}
    width, steps = dict(full), []
    for i in range(1, cuts + 1):
        name = names[(5 * i) % layers]
        before, width[name] = width[name], max(8, width[name] - 16)
        steps.append(
            {
                "number": i, "layer": name, "before": before, "after": width[name],
                "resource": 20.0 - 10.2 * i / cuts, "accuracy": 0.88 - 0.003 * i, "tried": layers,
                "tuned": 3, "seconds": 4.5,
            }
        )  # fmt: skip
    first = steps[2 * cuts // 3 - 1]["resource"] if cuts > 1 else 12.0
    last = steps[-1]["resource"] if steps else 9.8
    return {
        "model": "out/small.safetensors",
        "target": {"latency_ms": 10.0},
        "reached": True,
        "nothing_to_do": False,
        "before": {
            "params": 127_815, "macs": 26_400_000, "macs_all": 28_100_000, "accuracy": 0.8800,
            "latency": latency(20.0, 19.8, 20.3), "widths": full,
        },
        "after": {
            "params": 48_210, "macs": 12_900_000, "macs_all": 13_800_000, "accuracy": 0.8650,
            "latency": latency(9.7, 9.6, 9.9), "widths": width,
            "speedup": {"ratio": 2.06, "low": 2.01, "high": 2.11},
            "validation": METRICS | {"images": 180, "skipped": 0, "protocol": {"dataset": "nyu"}},
            "heldout": METRICS | {"delta1": 0.842},
        },
        "iterations": steps,
        "predictions": [
            {"predicted_ms": first, "median_ms": first + 0.6, "high_ms": first + 0.8},
            {"predicted_ms": last, "median_ms": 9.75, "high_ms": 9.93},
        ],
        "command": ["compress", "prune", "my net.safetensors", "--target-latency", "10ms"],
        "environment": {"torch": "2.13", "processor": "some & any"},
    }  # fmt: skip


def gating() -> dict[str, Any]:
    """A network gated at density .5, beside the dense one and a static one of the same cost."""
    sweep = [
        {
            "density": d, "delta1": 0.88 - 0.12 * (1 - d) ** 2,
            "macs_mean": 26.4e6 * (0.1 + 0.9 * d),
            "macs_p95": 27.5e6 * (0.1 + 0.9 * d), "macs_worst": 29e6 * (0.1 + 0.9 * d),
            "latency": {"median_ms": 4 + 18 * d, "low_ms": 3.8 + 18 * d, "high_ms": 4.3 + 18 * d},
        }
        for d in (0.25, 0.5, 0.75, 1.0)
    ]  # fmt: skip
    plan = [
        {
            "path": f"encoder.stage{k}.conv", "mode": ("both/mm", "in/mm", "dense/packed")[k % 3],
            "ms": {
                "dense/packed": 1.5 + k, "dense/mm": 1.7 + k, "in/mm": 1.2 + k,
                "both/mm": 0.9 + 1.1 * k,
            },
        }
        for k in range(7)
    ]  # fmt: skip
    epochs = [
        {"phase": phase, "density": density, "epoch": 1, "loss": 0.1, "delta1": d1, "seconds": 9.0}
        for phase, density, d1 in (
            ("gates", 1.0, 0.86), ("together", 1.0, 0.87), ("lower", 0.75, 0.85),
            ("lower", 0.5, 0.82), ("final", 0.5, 0.84), ("final", 0.5, 0.85),
        )
    ]  # fmt: skip
    timed = {"p95_ms": 21.0, "verdict": "quiet"}
    return {
        "model": "out/gated.safetensors",
        "density": 0.5,
        "densities": {"encoder.stage1.conv": 0.4, "encoder.stage2.conv": 0.6},
        "target": {"latency_ms": 13.5},
        "reached": True,
        "threads": 1,
        "better": "gating is better here: 1.0 points of d1 more than static pruning as fast",
        "epochs": epochs,
        "before": {
            "params": 127_815, "macs": 26_400_000,
            "latency": {"median_ms": 20.0, "low_ms": 19.8, "high_ms": 20.3} | timed,
            "eager": {"median_ms": 24.0, "low_ms": 23.5, "high_ms": 24.4} | timed,
            "validation": METRICS | {"delta1": 0.90}, "heldout": METRICS | {"delta1": 0.88},
        },
        "after": {
            "params": 139_300, "macs": 26_500_000,
            "latency": {"median_ms": 13.0, "low_ms": 12.8, "high_ms": 13.3} | timed,
            "speedup": {"ratio": 1.54, "low": 1.50, "high": 1.58},
            "validation": METRICS | {"delta1": 0.87}, "heldout": METRICS | {"delta1": 0.85},
        },
        "macs": {"mean": 14.52e6, "p95": 15.1e6, "worst": 15.9e6, "dense": 26.4e6},
        "sweep": sweep,
        "static": {
            "params": 70_000, "macs": 14_500_000,
            "latency": {"median_ms": 13.1, "low_ms": 12.9, "high_ms": 13.4} | timed,
            "speedup": {"ratio": 1.53, "low": 1.49, "high": 1.57},
            "validation": METRICS | {"delta1": 0.86}, "heldout": METRICS | {"delta1": 0.84},
        },
        "plan": plan,
        "command": "compress gate net.safetensors --density 0.5",
    }  # fmt: skip
