"""ONNX: one file of fixed size, written only once it computes what torch computes."""

from __future__ import annotations

import copy
import json
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from compress._files import whole
from compress.errors import CompressError
from compress.models.base import NORMALISATION, DepthNet
from compress.space import input_size

OPSET = 17  # read by every runtime of the last years, on small devices too
TOLERANCE = 1e-3  # of the largest value; float32 sums in another order stay far below


class Exported(NamedTuple):
    """A file that was written; the difference (in metres) is the largest from torch, if checked."""

    path: Path
    max_abs_difference: float | None
    size: tuple[int, int]


def export_onnx(
    model: nn.Module,
    path: str | Path,
    size: tuple[int, int] | str | None = None,
    *,
    check: bool = True,
) -> Exported:
    """Write a network as an ONNX file for images of one size, complete or not at all.

    The graph has one input, ``image`` (1, 3, H, W) float32, normalised as x / 127.5 - 1, and the
    output ``depth_m`` (1, 1, H, W) in metres. Batch norms are folded into convolutions before
    them, and what only training needs is left out; ``model`` itself stays as it is.

    Args:
        model: a ``DepthNet``, or any module that takes (1, 3, H, W) and returns a tensor.
        path: the ``.onnx`` file.
        size: (height, width); default: the model's own.
        check: run both on random images and refuse to write where they differ by more than 1e-3
            of the largest depth.

    Raises:
        CompressError: the module cannot be exported, or the exported one computes another thing.
    """
    at = image_size(model, size)
    image = torch.rand(1, 3, *at, generator=torch.Generator().manual_seed(0)).mul_(2).sub_(1)
    notes = {"normalisation": json.dumps(NORMALISATION), "image": "RGB", "depth_m": "metres"}
    difference = write_onnx(
        model, [image], path, inputs_called=["image"], output_called="depth_m", check=check,
        notes=notes if isinstance(model, DepthNet) else {},
    )  # fmt: skip
    return Exported(Path(path), difference, at)


def write_onnx(
    model: nn.Module,
    inputs: Sequence[Tensor],
    path: str | Path,
    *,
    inputs_called: Sequence[str] | None = None,
    output_called: str = "output",
    check: bool = True,
    notes: dict[str, str] | None = None,
) -> float | None:
    """Write any module of tensors as ONNX for inputs of these shapes; see ``export_onnx``.

    Returns:
        the largest difference from torch on ``inputs`` and on others of their shapes, or None
        where it was not checked.
    """
    path = Path(path)
    if path.suffix != ".onnx":
        raise CompressError(f"{path}: an ONNX file's name ends in .onnx")
    deployed = as_deployed(model)
    names = list(inputs_called or (f"input{i}" for i in range(len(inputs))))
    with whole(path) as temporary:
        try:
            with warnings.catch_warnings(), _silent():
                # Of the two exporters this one needs no further package, and it traces, so that it
                # takes every module that runs; that it bakes in what depends on values is why the
                # result is checked on other inputs too.
                warnings.simplefilter("ignore")
                torch.onnx.export(
                    deployed,
                    tuple(inputs),
                    temporary,
                    input_names=names,
                    output_names=[output_called],
                    opset_version=OPSET,
                    do_constant_folding=True,
                    dynamo=False,
                )
        except Exception as error:  # whatever a module does decides what this raises
            said = " ".join(str(error).split())[:300]
            name = type(model).__name__
            raise CompressError(
                f"{name} cannot be exported to ONNX: {type(error).__name__}: {said}"
            ) from error
        if notes:
            _annotate(temporary, notes)
        return _difference(deployed, temporary, inputs, names) if check else None


def image_size(model: nn.Module, size: tuple[int, int] | str | None) -> tuple[int, int]:
    """The (height, width) asked for, or else the model's own."""
    known = getattr(model, "size", None)
    if size is None and known is None:
        raise CompressError("this module has no input size of its own: give size=(height, width)")
    return input_size(known if size is None else size)


def as_deployed(model: nn.Module) -> nn.Module:
    """A copy as it is used after training: evaluating, float32, on the CPU, no training heads."""
    try:
        deployed = copy.deepcopy(model)
    except Exception as error:  # whatever a module holds decides what this raises
        name = type(model).__name__
        raise CompressError(
            f"{name} cannot be copied to be exported: {type(error).__name__}: {error}"
        ) from error
    if isinstance(deployed, DepthNet):
        deployed.drop_auxiliary()
    return deployed.eval().float().cpu().requires_grad_(False)


@contextmanager
def _silent() -> Iterator[None]:
    """Keep the exporter from printing a graph that it gives up on: stdout is for results.

    Its own switch does not work: the exporter turns it on again.
    """
    inside: Any = torch._C
    says = getattr(inside, "_jit_onnx_log", None)
    inside._jit_onnx_log = lambda *_: None
    try:
        yield
    finally:
        if says is not None:
            inside._jit_onnx_log = says


def _annotate(path: Path, notes: dict[str, str]) -> None:
    import onnx

    graph = onnx.load(path, format="protobuf")
    onnx.helper.set_model_props(graph, notes)
    onnx.save(graph, path, format="protobuf")


def _difference(
    deployed: nn.Module, path: Path, inputs: Sequence[Tensor], names: Sequence[str]
) -> float:
    """Largest difference of ONNX Runtime from torch; ``CompressError`` where it is too large."""
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    wanted_names = {one.name for one in session.get_inputs()}
    chance = torch.Generator().manual_seed(1)
    others = [torch.rand(x.shape, generator=chance).neg_() for x in inputs]  # a dark image
    largest = 0.0
    for given in (list(inputs), others):
        with torch.no_grad():
            wanted = _tensors(deployed(*given))
        # An input that the output does not depend on is no longer in the graph.
        feed = {n: x.numpy() for n, x in zip(names, given, strict=True) if n in wanted_names}
        for expected, got in zip(wanted, session.run(None, feed), strict=True):
            difference = float((expected - torch.from_numpy(got)).abs().max())
            allowed = TOLERANCE * max(float(expected.abs().max()), 1e-6)
            if not difference <= allowed:  # not a number is no agreement either
                raise CompressError(
                    f"{type(deployed).__name__} as ONNX differs from torch by {difference:.3g} "
                    f"(allowed {allowed:.3g}): it decides by values while it runs, or the exporter "
                    "lacks one of its operators; nothing was written"
                )
            largest = max(largest, difference)
    return largest


def _tensors(output: Any) -> list[Tensor]:
    if isinstance(output, Tensor):
        return [output]
    if isinstance(output, tuple | list) and all(isinstance(one, Tensor) for one in output):
        return list(output)
    raise CompressError(
        f"a module that returns {type(output).__name__} cannot be checked as ONNX; "
        "return a tensor, or several"
    )
