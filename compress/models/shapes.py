"""Networks narrower than their genotype says: pruned ones, and what their files need to reopen.

The channels a layer keeps are known by the shapes of its tensors; the numbers that modules hold
beside them (``in_channels``, ``groups``) follow from these.
"""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from compress.errors import CompressError, unknown
from compress.models.base import DepthNet
from compress.models.build import build
from compress.models.encoder_decoder import Decoder
from compress.models.encoders import Encoder
from compress.models.gates import describe, without_gates

Shapes = dict[str, dict[str, Any]]
# The widths that a module holds as numbers, in the order of its constructor.
WIDTHS: dict[type[nn.Module], tuple[str, ...]] = {
    nn.modules.conv._ConvNd: ("in_channels", "out_channels", "groups"),
    nn.Linear: ("in_features", "out_features"),
    nn.modules.batchnorm._NormBase: ("num_features",),
    nn.PReLU: ("num_parameters",),
}
OWN = "tensors"  # shapes of parameters and buffers that belong to no such module
SMALLEST = 64  # an image side that every family takes


def widths_of(module: nn.Module) -> dict[str, int]:
    """The widths that a module holds as numbers; empty for one that has none."""
    for kind, names in WIDTHS.items():
        if isinstance(module, kind):
            return {name: int(getattr(module, name)) for name in names}
    return {}


def settle(module: nn.Module) -> None:
    """Bring a module's numbers in line with its tensors, some channels of which were cut.

    Of a grouped convolution whole groups are cut, so channels per group stay what they were.
    """
    if isinstance(module, nn.modules.conv._ConvNd):
        rows, columns = module.weight.shape[:2]
        if module.groups > 1:
            whole = module.in_channels if module.transposed else module.out_channels
            module.groups = rows * module.groups // whole
        if module.transposed:
            module.in_channels, module.out_channels = rows, columns * module.groups
        else:
            module.in_channels, module.out_channels = columns * module.groups, rows
    elif isinstance(module, nn.Linear):
        module.out_features, module.in_features = module.weight.shape
    elif isinstance(module, nn.modules.batchnorm._NormBase):
        held = module.weight if module.weight is not None else module.running_mean
        if held is not None:
            module.num_features = len(held)
    elif isinstance(module, nn.PReLU):
        module.num_parameters = module.weight.numel()


def shapes_of(module: nn.Module, built: nn.Module) -> Shapes:
    """Where a network differs from the one that was built: widths by module path.

    Heads of training alone (``auxiliary``) are left out, as they are from files.
    """
    fresh = dict(built.named_modules())
    found: Shapes = {}
    for path, part in module.named_modules():
        if path.split(".")[0] == "auxiliary" or path not in fresh:
            continue
        now, before = widths_of(part), widths_of(fresh[path])
        if now != before:
            found[path] = dict(now)
        if not now:
            own = {
                name: list(tensor.shape)
                for name, tensor in _own(part).items()
                if name in _own(fresh[path]) and tensor.shape != _own(fresh[path])[name].shape
            }
            if own:
                found[path] = {OWN: own}
    return found


def pruned_shapes(model: DepthNet) -> Shapes:
    """Where a network differs from its genotype; empty for one that is as it was built."""
    with torch.device("meta"):
        return shapes_of(model, build(model.genotype))


def identity(model: DepthNet) -> str:
    """What tells architectures apart: the genotype's hash, and digests of cut widths and gates."""
    held = describe(model)
    parts = [pruned_shapes(without_gates(model) if held else model), held]
    return "-".join([model.genotype.hash, *(digest(part) for part in parts if part)])


def digest(shapes: Mapping[str, Any]) -> str:
    """Twelve hexadecimal digits of ``shapes``."""
    return hashlib.sha256(json.dumps(shapes, sort_keys=True).encode()).hexdigest()[:12]


def reshape(module: nn.Module, shapes: object, source: str) -> None:
    """Narrow a freshly built network as ``shapes_of`` found one to be, with empty tensors.

    Args:
        module: as built, on the meta device, where a hostile header costs no memory.
        shapes: from a file's header, so not to be trusted.
        source: where ``shapes`` come from, for messages.

    Raises:
        CompressError: unknown modules, widths that are no numbers or wider than what was built.
    """
    if not isinstance(shapes, Mapping) or not shapes:
        raise CompressError(f"{source}: shapes in its header is no table of modules")
    modules = dict(module.named_modules())
    for path, wanted in shapes.items():
        at = f"{source}: shapes: {str(path)[:80] or 'top level'}"
        if path not in modules:
            raise CompressError(f"{at}: the genotype has no such module")
        part = modules[path]
        built = widths_of(part)
        if not isinstance(wanted, Mapping):
            raise CompressError(f"{at}: write a table of widths")
        if not built:
            _narrow_own(part, wanted, at)
            continue
        if set(wanted) != set(built):
            raise CompressError(
                f"{at}: has {list(wanted)[:6]}; {type(part).__name__} has {list(built)}"
            )
        for name, value in wanted.items():
            _checked(value, built[name], f"{at}.{name}")
        _narrow(part, dict(wanted), at)
    if isinstance(module, DepthNet):
        refresh(module, source)


def _checked(value: object, built: int, at: str) -> None:
    """A cut network is nowhere wider than it was built."""
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= built:
        raise CompressError(f"{at} = {str(value)[:40]!r}: give a whole number of 1 to {built}")


def _narrow(part: nn.Module, wanted: dict[str, int], at: str) -> None:
    """Give a layer these widths and empty tensors to match."""
    first: dict[str, int] = {"weight": 0, "bias": 0, "running_mean": 0, "running_var": 0}
    if isinstance(part, nn.modules.conv._ConvNd):
        into, out, groups = wanted["in_channels"], wanted["out_channels"], wanted["groups"]
        if into % groups or out % groups:
            raise CompressError(f"{at}: {into} to {out} channels cannot be in {groups} groups")
        pair = (into, out // groups) if part.transposed else (out, into // groups)
        full = {"weight": (*pair, *part.weight.shape[2:]), "bias": (out,)}
    elif isinstance(part, nn.Linear):
        out = wanted["out_features"]
        full = {"weight": (out, wanted["in_features"]), "bias": (out,)}
    else:
        full = dict.fromkeys(first, (next(iter(wanted.values())),))
    for name, value in wanted.items():
        setattr(part, name, value)
    for name, tensor in _own(part).items():
        if name in full:
            replace_tensor(part, name, tensor.new_empty(full[name]))


def _narrow_own(part: nn.Module, wanted: Mapping[str, Any], at: str) -> None:
    own = _own(part)
    if set(wanted) != {OWN} or not isinstance(wanted[OWN], Mapping):
        raise CompressError(f"{at}: {type(part).__name__} has no widths but {OWN}")
    for name, shape in wanted[OWN].items():
        if name not in own:
            raise CompressError(f"{at}: {unknown('tensor', name, own)}")
        if not isinstance(shape, list) or len(shape) != own[name].ndim:
            raise CompressError(f"{at}.{name}: give {own[name].ndim} sizes")
        for value, built in zip(shape, own[name].shape, strict=True):
            _checked(value, built, f"{at}.{name}")
        replace_tensor(part, name, own[name].new_empty(shape))


def _own(module: nn.Module) -> dict[str, Tensor]:
    return {
        **dict(module.named_parameters(recurse=False)),
        **dict(module.named_buffers(recurse=False)),
    }


def replace_tensor(module: nn.Module, name: str, tensor: Tensor) -> None:
    """Put another tensor in place of a module's parameter or buffer."""
    if name in module._parameters:
        before = module._parameters[name]
        trained = before is None or before.requires_grad
        setattr(module, name, nn.Parameter(tensor.detach(), requires_grad=trained))
    else:
        setattr(module, name, tensor.detach())


def refresh(model: DepthNet, source: str = "") -> None:
    """Bring ``channels`` of encoder and decoder, which auxiliary heads are built by, up to date.

    Runs the network on the meta device, which it is on already when a file is opened; that also
    shows whether the widths of one layer fit those of the next.
    """
    if not source and not any(isinstance(part, Encoder | Decoder) for part in model.modules()):
        return
    spare = copy.deepcopy(model).eval().to("meta")
    made: dict[str, tuple[int, ...]] = {}
    for path, part in spare.named_modules():
        if isinstance(part, Encoder | Decoder):
            part.register_forward_hook(
                lambda _, __, maps, path=path: made.update({path: tuple(x.shape[1] for x in maps)})
            )
    try:
        with torch.no_grad():
            spare.outputs(torch.empty(1, 3, SMALLEST, SMALLEST, device="meta"))
    except Exception as error:
        raise CompressError(
            f"{source or type(model).__name__}: its shapes do not fit together "
            f"({str(error).splitlines()[0][:200]})"
        ) from None
    for path, channels in made.items():
        part = model.get_submodule(path)
        if isinstance(part, Encoder | Decoder):
            part.channels = channels
