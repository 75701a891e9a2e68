"""Which modules of a trained network carry its answer: the inquisitor's probe.

Source: Molchanov et al., "Pruning Convolutional Neural Networks for Resource Efficient Inference",
arXiv 1611.06440, section 2.2: |activation x gradient| is the change of the loss, to first order,
when a channel is silenced.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from compress.cost import operators
from compress.data import Arrays
from compress.models import normalised
from compress.models.base import DepthNet
from compress.models.blocks.pbep import DenseStage
from compress.models.depthnet_nano import DepthNetNano
from compress.space import Genotype
from compress.space.depthnet_nano import MAX_STAGES

IMAGES = 8


def probe(model: DepthNet, arrays: Arrays, count: int = IMAGES) -> dict[str, list[float]]:
    """Read each module's share of the response and of the cost off a trained network.

    The response is how much the error of log depth would change, to first order, if each of a
    module's output channels were silenced for one image; the cost is the mean of the shares of
    parameters and of MACs, as NetScore weighs them.

    Args:
        model: trained; left as it was found.
        arrays: images and depth at the network's size, of the validation part.
        count: images to read, spread evenly.

    Returns:
        module -> [response share, cost share], a module being a prefix of the genotype's
        parameters ("stage1", "up2", "neck"); {} for families whose modules do not have one.
    """
    if not isinstance(model, DepthNetNano) or model.genotype.family != "depthnet-nano":
        return {}
    chosen = np.unique(np.linspace(0, len(arrays) - 1, min(count, len(arrays))).round().astype(int))
    device = next(model.parameters()).device
    image = normalised(torch.from_numpy(arrays.rgb[chosen]).to(device).permute(0, 3, 1, 2))
    truth_m = torch.from_numpy(arrays.depth_m[chosen]).to(device)[:, None]
    held: list[tuple[str, Tensor]] = []
    hooks = [
        part.register_forward_hook(lambda _, __, out, name=name: held.append((name, out)))
        for name, part in _parts(model)
    ]
    training = model.training
    model.eval()
    try:
        with torch.enable_grad():
            valid = truth_m > 0
            error = (model(image)[valid].log() - truth_m[valid].log()).abs().mean()
            gradients = torch.autograd.grad(error, [out for _, out in held])
    finally:
        model.train(training)
        for hook in hooks:
            hook.remove()
    response: dict[str, float] = {}
    for (name, out), gradient in zip(held, gradients, strict=True):
        silenced = (out.detach() * gradient).sum((2, 3)).abs().sum()  # over (N, C)
        response[name] = response.get(name, 0.0) + float(silenced)
    total = sum(response.values())
    if not 0 < total < float("inf"):
        return {}
    cost = cost_shares(model.genotype, arrays.rgb.shape[1:3])
    return {name: [value / total, cost[name]] for name, value in response.items()}


def cost_shares(genotype: Genotype, size: tuple[int, ...]) -> dict[str, float]:
    """Each module's part in a DepthNet Nano's parameters and MACs, the mean of both shares."""
    spec: Mapping[str, Any] = genotype.spec
    params: dict[str, int] = {}
    macs: dict[str, int] = {}
    for op in operators(genotype, (size[0], size[1])):
        name = module_of(op.name, len(spec["stages"]))
        params[name] = params.get(name, 0) + op.params
        macs[name] = macs.get(name, 0) + op.macs
    all_params, all_macs = sum(params.values()), sum(macs.values())
    return {m: (params[m] / all_params + macs[m] / all_macs) / 2 for m in params}


def module_of(operator: str, stages: int) -> str:
    """The parameters' prefix of an operator of a DepthNet Nano with so many stages.

    >>> [module_of(name, 3) for name in ("stage1.2.expand", "transition1", "transition3", "up1.a")]
    ['stage1', 'stage1', 'neck', 'up2']
    """
    part = operator.partition(".")[0]
    kind, number = part.rstrip("0123456789"), part[len(part.rstrip("0123456789")) :]
    if kind == "transition":
        return "neck" if int(number) == stages else f"stage{number}"
    if kind == "up":  # parameters are numbered from 1/16 of the input on, operators from the first
        return f"up{int(number) + MAX_STAGES - stages}"
    return part


def _parts(model: DepthNetNano) -> Iterator[tuple[str, nn.Module]]:
    """What is listened to, and the module that it belongs to."""
    count = len(model.stages)
    yield "stem", model.stem
    for index, stage in enumerate(model.stages, 1):
        assert isinstance(stage, DenseStage)
        yield from ((f"stage{index}", dense) for dense in stage.dense)
    for index, transition in enumerate(model.transitions, 1):
        yield module_of(f"transition{index}", count), transition
    for index, up in enumerate(model.ups, 1):
        yield module_of(f"up{index}", count), up
