"""Small networks that have what makes pruning hard, and the shipped ones at their smallest."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from compress.models import build
from compress.space import load_space, space_names

# A second space of a family has the same modules.
EACH_FAMILY = pytest.mark.parametrize(
    "family", [name for name in space_names() if load_space(name).family == name]
)


def shipped(family: str, seed: int = 0) -> nn.Module:
    """A space's smallest named network, whose norms do not leave channels as they are."""
    space = load_space(family)
    name = next(n for n in ("tiny", "small", *space.references) if n in space.references)
    return stirred(build(space.reference(name), seed), seed)


def stirred(model: nn.Module, seed: int = 0) -> nn.Module:
    """Give norms statistics and factors of their own, as training does."""
    drawn = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                for tensor in (module.weight, module.running_var):
                    tensor.copy_(torch.rand(tensor.shape, generator=drawn) + 0.5)
                for tensor in (module.bias, module.running_mean):
                    tensor.copy_(torch.rand(tensor.shape, generator=drawn) - 0.5)
    return model.eval()


class Toy(nn.Module):
    """Adds, concatenates, splits and shuffles; grouped, depthwise, squeezed, a loose parameter."""

    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, width, 3, padding=1)
        self.norm = nn.BatchNorm2d(width)
        self.left = nn.Conv2d(width, width, 1)
        self.right = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.scale = nn.Parameter(torch.rand(width, 1, 1) + 0.5)
        self.depthwise = nn.Conv2d(2 * width, 2 * width, 3, padding=1, groups=2 * width)
        self.mix = nn.Conv2d(2 * width, 12, 1)
        self.grouped = nn.Conv2d(12, 24, 3, padding=1, groups=3)
        self.prelu = nn.PReLU(24)
        self.squeeze = nn.Linear(24, 6)
        self.excite = nn.Linear(6, 24)
        self.up = nn.Conv2d(24, 16, 1)
        self.one = nn.Conv2d(2, 4, 1)
        self.other = nn.Conv2d(2, 4, 1)
        self.turned = nn.ConvTranspose2d(8, 6, 2, stride=2)
        self.instance = nn.InstanceNorm2d(6, affine=True)
        self.head = nn.Conv2d(6, 2, 1)

    def forward(self, image: Tensor) -> Tensor:
        x = F.selu(self.norm(self.stem(image)), inplace=True)
        x = torch.sigmoid(self.left(x)) + self.right(x) * self.scale
        x = torch.cat((x, F.avg_pool2d(x, 3, 1, 1)), 1)
        x = F.hardswish(self.mix(self.depthwise(x)))
        x = self.prelu(self.grouped(x))
        gate = self.excite(F.relu(self.squeeze(x.mean((2, 3)))))
        x = x * torch.sigmoid(gate)[:, :, None, None]
        x = F.pixel_shuffle(self.up(x), 2)
        first, second = x.chunk(2, 1)
        x = torch.cat((self.one(first), self.other(second)), 1)
        b, c, h, w = x.shape
        x = x.view(b, 2, c // 2, h, w).transpose(1, 2).reshape(b, c, h, w)
        out: Tensor = self.head(self.instance(self.turned(F.interpolate(x, scale_factor=0.5))))
        return out


class Awkward(nn.Module):
    """What cannot be cut, and one convolution that can."""

    def __init__(self) -> None:
        super().__init__()
        self.free = nn.Conv2d(3, 8, 1)
        self.counted = nn.Conv2d(8, 8, 1)
        self.normed = nn.Conv2d(8, 8, 1)
        self.group_norm = nn.GroupNorm(2, 8)
        self.averaged = nn.Conv2d(8, 8, 1)
        self.attended = nn.Conv2d(8, 8, 1)
        self.added = nn.Conv2d(8, 3, 1)
        self.after = nn.Conv2d(3, 5, 1)
        self.weighted = nn.utils.parametrizations.weight_norm(nn.Conv2d(8, 6, 1))
        self.unused = nn.Conv2d(3, 4, 1)
        self.constant = nn.Conv2d(8, 8, 1)
        self.head = nn.Conv2d(28, 2, 1)

    def forward(self, image: Tensor) -> Tensor:
        x = self.free(image)
        written = self.counted(x)
        written = written[:, :4] * written[:, 4:8]  # numbers that no cut changes
        normed = self.group_norm(self.normed(x))
        mean = self.averaged(x).mean(1, keepdim=True)
        flat = self.attended(x).flatten(2)
        attended = (flat @ flat.transpose(1, 2)).mean((1, 2))[:, None, None, None]
        added = self.after(self.added(x) + image)
        constant = self.constant(x) + torch.ones(1, 8, 1, 1, device=x.device)
        parts = (written, normed, mean * attended, added, self.weighted(x), constant[:, :4])
        out: Tensor = self.head(torch.cat(parts, 1))
        return out
