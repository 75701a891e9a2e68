"""The DepthNet Nano network of a genotype.

Source: Wang, Famouri and Wong, "DepthNet Nano", arXiv 2004.08008, Table 1 and Figure 3.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from compress.models.base import DepthNet, Outputs, to_depth
from compress.models.blocks.pbep import EP, PBEP, DenseStage, activation, conv
from compress.space.depthnet_nano import expanded, projected


class DepthNetNano(DepthNet):
    """Dense PBEP encoder, EP decoder, one-channel head on log depth."""

    def __init__(self, spec: Mapping[str, Any]) -> None:
        super().__init__()
        norm = spec["norm"]
        every = norm == "all"
        c = spec["stem"]
        self.stem = nn.Sequential(conv(3, c, 7, 2), activation(c, every))
        skips = [c, c]
        stages, transitions = [], []
        for stage in spec["stages"]:
            modules = []
            for width in stage["widths"]:
                p = projected(c, stage["projection"])
                modules.append(PBEP(c, width, p, expanded(p, stage["expansion"]), norm))
                c += width
            stages.append(DenseStage(modules))
            transitions.append(
                nn.Sequential(conv(c, stage["transition"]), activation(stage["transition"], every))
            )
            c = stage["transition"]
            skips.append(c)
        self.stages = nn.ModuleList(stages)
        self.transitions = nn.ModuleList(transitions)
        skips = skips[: len(spec["decoder"])]
        ups = []
        for pair in spec["decoder"]:
            c += skips.pop()
            blocks = []
            for width in pair:
                blocks.append(EP(c, width, expanded(c, spec["decoder_expansion"]), norm))
                c = width
            ups.append(nn.Sequential(*blocks))
        self.ups = nn.ModuleList(ups)
        self.head = nn.Conv2d(c, 1, 3, padding=1)
        nn.init.kaiming_normal_(self.head.weight, nonlinearity="linear")
        nn.init.zeros_(self.head.bias)  # type: ignore[arg-type]

    def outputs(self, image: Tensor) -> Outputs:
        """Run the network; see ``DepthNet.outputs``."""
        x = self.stem(image)  # (N, C, H/2, W/2)
        skips = [x]
        x = half(x)
        skips.append(x)
        last = len(self.stages) - 1
        for index, (stage, transition) in enumerate(
            zip(self.stages, self.transitions, strict=True)
        ):
            x = transition(stage(x))
            if index != last:
                x = half(x)
                skips.append(x)
        skips.pop()  # the last stage's own input
        features = x
        for up in self.ups:
            skip = skips.pop()
            x = F.interpolate(x, size=skip.shape[-2:], mode="nearest")
            x = up(torch.cat((x, skip), 1))
        return Outputs(to_depth(self.head(x), "log", image.shape[-2:]), features=features)

    def centre_on(self, log_depth: float) -> None:
        """Start from this log depth everywhere, with a small share of the head's random part."""
        with torch.no_grad():
            self.head.weight.mul_(0.1)
            self.head.bias.fill_(log_depth)  # type: ignore[union-attr]


def half(x: Tensor) -> Tensor:
    """Average 2x2 cells; a last odd row or column is averaged on its own."""
    return F.avg_pool2d(x, 2, 2, ceil_mode=True, count_include_pad=False)
