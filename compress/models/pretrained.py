"""Reading the weights of a classification network into a depth network's encoder."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from compress.errors import CompressError
from compress.models.base import DepthNet
from compress.models.encoders import Encoder
from compress.models.timm_ import timm

HALF = (0.5, 0.5, 0.5)  # as mean and as standard deviation: x / 127.5 - 1, as everything here
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)

PREFIXES = ("module.", "encoder.", "backbone.")
NESTS = ("state_dict", "model")  # where training scripts put the weights in their checkpoints
PICKLED = (".pth", ".pt", ".bin", ".tar")
UNSEEN = ".num_batches_tracked"  # counters that no network here reads; old files lack them


class Loaded(NamedTuple):
    """What became of the weights of a file: names of tensors, as timm has them.

    ``misfitting`` holds name, shape here and shape in the file; ``missing`` are the encoder's that
    the file lacks, ``unused`` the file's that the encoder lacks (a classifier, mostly).
    """

    path: str
    loaded: tuple[str, ...]
    missing: tuple[str, ...] = ()
    misfitting: tuple[tuple[str, tuple[int, ...], tuple[int, ...]], ...] = ()
    unused: tuple[str, ...] = ()

    def describe(self) -> str:
        """One line.

        >>> Loaded("a.pth", ("conv1.weight",), unused=("fc.weight", "fc.bias")).describe()
        'a.pth: 1 of 1 encoder tensors loaded; 2 of the file not used (fc.weight, fc.bias)'
        """
        total = len(self.loaded) + len(self.missing) + len(self.misfitting)
        parts = [f"{self.path}: {len(self.loaded)} of {total} encoder tensors loaded"]
        if self.missing:
            parts.append(f"{len(self.missing)} missing ({_few(self.missing)})")
        if self.misfitting:
            shapes = [
                f"{n} {_by(here)} here, {_by(there)} there" for n, here, there in self.misfitting
            ]
            parts.append(f"{len(self.misfitting)} of another shape ({_few(shapes)})")
        if self.unused:
            parts.append(f"{len(self.unused)} of the file not used ({_few(self.unused)})")
        return "; ".join(parts)


def load_encoder_weights(
    model: DepthNet,
    path: str | Path,
    partial: bool = False,
    mean: Sequence[float] = HALF,
    std: Sequence[float] = HALF,
) -> Loaded:
    """Read encoder weights of a file into ``model``; nothing in the file is ever run.

    Args:
        model: a network with an encoder; changed in place, or not at all when this raises.
        path: a ``.safetensors`` file, or one of ``torch.save`` (``.pth .pt .bin .tar``) that holds
            tensors alone, also under "state_dict" or "model"; names as timm's, for the whole
            classification network or a part. Models of this project are files of that kind too.
        partial: take what fits. Otherwise a tensor that is missing or of another shape is an error.
        mean: what the file's network subtracts from RGB between 0 and 1 ...
        std: ... and divides by then. Where they are not this project's, see ``renormalise``.

    Raises:
        CompressError: no encoder, an unreadable file, or weights that do not fit.
    """
    encoder = _encoder(model)
    path = Path(path)
    return _take(encoder, _read(path), str(path), partial, mean, std)


def pretrained_encoder(model: DepthNet, name: str = "") -> Loaded:
    """Fetch timm's weights for the encoder of ``model``, or take them from timm's own cache.

    Args:
        model: a network with an encoder of ``ENCODERS``; changed in place.
        name: timm's name with the tag of one training ("mobilenetv2_100.ra_in1k"); by default
            those that timm prefers.
    """
    encoder = _encoder(model)
    name = name or encoder.name
    if name.partition(".")[0] != encoder.name:
        raise CompressError(f"weights of {name} do not fit the encoder {encoder.name}")
    try:
        source = timm().create_model(name, pretrained=True)
    except Exception as error:  # of the network, of the disk, or timm has none
        raise CompressError(
            f"timm cannot give pretrained weights of {name} ({_line(error)}); where there is no "
            "network, give a file of them"
        ) from None
    config = source.pretrained_cfg
    return _take(encoder, source.state_dict(), f"timm:{name}", False, config["mean"], config["std"])


def renormalise(
    weights: dict[str, Tensor],
    first: str,
    norm: str,
    mean: Sequence[float],
    std: Sequence[float],
) -> None:
    """Make weights for images (x - mean) / std fit images (x - .5) / .5, x between 0 and 1.

    With v the image here, the network's own was v / (2 std) + (.5 - mean) / std. The factor goes
    into the weights of the first convolution and is exact. The shift adds a constant to each of its
    outputs, which the batch norm behind it takes off again through its running mean: exact too,
    except in outputs that see the zeros around the image. Those stood for ``mean``, now they stand
    for .5, as in a network trained here, so a border of one or (ResNet, DenseNet) two pixels of the
    first map differs a little. No operator is added, and fine-tuning starts from the same network.

    Args:
        weights: name to tensor, changed.
        first: name of the first convolution's weight, (C, 3, k, k).
        norm: name of the running mean behind it, (C,).
    """
    weight = weights[first].double()
    centre, spread = (torch.tensor(list(v), dtype=weight.dtype) for v in (mean, std))
    shift = (weight.sum((2, 3)) * ((0.5 - centre) / spread)).sum(1)
    weights[first] = (weight / (2 * spread).view(1, 3, 1, 1)).float()
    weights[norm] = (weights[norm].double() - shift).float()


def _encoder(model: DepthNet) -> Encoder:
    encoder = model.pretrained
    if not isinstance(encoder, Encoder):
        family = getattr(getattr(model, "genotype", None), "family", type(model).__name__)
        raise CompressError(
            f"a network of the family {family} has no encoder that pretrained weights exist for; "
            "leave them out, or take a space with an encoder of timm"
        )
    return encoder


def _take(
    encoder: Encoder,
    given: dict[str, Tensor],
    source: str,
    partial: bool,
    mean: Sequence[float],
    std: Sequence[float],
) -> Loaded:
    own = encoder.state_dict()
    found = {_renamed(name): tensor for name, tensor in given.items()}
    wanted = [name for name in own if not name.endswith(UNSEEN)]
    fits = [name for name in wanted if name in found and found[name].shape == own[name].shape]
    report = Loaded(
        source,
        tuple(fits),
        tuple(name for name in wanted if name not in found),
        tuple(
            (name, tuple(own[name].shape), tuple(found[name].shape))
            for name in wanted
            if name in found and found[name].shape != own[name].shape
        ),
        tuple(name for name in found if name not in own and not name.endswith(UNSEEN)),
    )
    if not fits or (not partial and (report.missing or report.misfitting)):
        raise CompressError(
            f"{report.describe()}; give weights of {encoder.name} under timm's names"
            + ("" if partial or not fits else ", or ask for a partial load")
        )
    weights = {}
    for name in fits:
        if not found[name].is_floating_point():
            kind = str(found[name].dtype).removeprefix("torch.")
            raise CompressError(f"{source}: {name} holds {kind} values; give weights of floats")
        weights[name] = found[name].float()
        if not weights[name].isfinite().all():
            raise CompressError(f"{source}: {name} holds values that are not finite")
    first, norm = _entry(encoder)
    if (tuple(mean), tuple(std)) != (HALF, HALF) and first in weights and norm in weights:
        renormalise(weights, first, norm, mean, std)
    with torch.no_grad():
        for name, tensor in weights.items():
            own[name].copy_(tensor)
    return report


def _entry(encoder: Encoder) -> tuple[str, str]:
    """Names of the first convolution's weight and of the running mean behind it."""
    modules = list(encoder.named_modules())
    conv = next(name for name, module in modules if isinstance(module, nn.Conv2d))
    norm = next(name for name, module in modules if isinstance(module, nn.BatchNorm2d))
    return f"{conv}.weight", f"{norm}.running_mean"


def _renamed(name: str) -> str:
    while name.startswith(PREFIXES):
        name = name.partition(".")[2]
    # torchvision's DenseNet: denselayer1.norm.1.weight is timm's denselayer1.norm1.weight
    return re.sub(r"(denselayer\d+\.(?:norm|conv))\.([12]\.)", r"\1\2", name)


def _read(path: Path) -> dict[str, Tensor]:
    if not path.is_file():
        raise CompressError(f"{path}: there is no such file of weights")
    if path.suffix == ".safetensors":
        try:
            with safe_open(path, framework="pt") as file:
                return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        except (SafetensorError, OSError, ValueError) as error:
            raise CompressError(
                f"{path}: not a readable safetensors file ({_line(error)})"
            ) from None
    if path.suffix not in PICKLED:
        raise CompressError(
            f"{path}: weights are read from .safetensors, {', '.join(PICKLED)} files alone"
        )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of the pickle's age: it is read or refused, below
            content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # whatever a broken or hostile file makes the reader stumble over
        raise CompressError(
            f"{path}: no file of plain tensors ({_line(error)}); save the network's state_dict(), "
            "best as safetensors"
        ) from None
    return _tensors(content, path)


def _tensors(content: Any, path: Path) -> dict[str, Tensor]:
    for nest in NESTS:
        if isinstance(content, dict) and isinstance(content.get(nest), dict):
            content = content[nest]
    if isinstance(content, dict):
        tensors = {str(k): v for k, v in content.items() if isinstance(v, Tensor)}
        if tensors:
            return tensors
    raise CompressError(f"{path}: holds no table of tensors; save the network's state_dict()")


def _few(names: Iterable[str], count: int = 3) -> str:
    listed = list(names)
    return ", ".join(listed[:count]) + (", ..." if len(listed) > count else "")


def _by(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape)) or "a single value"


def _line(error: Exception) -> str:
    line = (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
    return line if len(line) < 160 else f"{line[:160]}..."
