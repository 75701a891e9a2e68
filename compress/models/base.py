"""What every depth network of the project has in common."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from compress.space import Genotype

LOG_DEPTH_LIMIT = 7.0  # exp(7) is 1.1 km: keeps an untrained network's depth finite


class DepthNet(nn.Module):
    """A network from a normalised RGB image to metric depth.

    ``genotype`` is what it was built from, ``size`` its usual input (height, width), ``info`` what
    its file's header says of it: how it was trained, the protocol and the metrics reached.
    """

    genotype: Genotype
    size: tuple[int, int]
    info: dict[str, Any]

    def log_depth(self, image: Tensor) -> Tensor:
        """Natural logarithm of the depth in metres, (N, 1, H, W)."""
        raise NotImplementedError

    def forward(self, image: Tensor) -> Tensor:
        """Predict metric depth.

        Args:
            image: (N, 3, H, W) RGB, normalised by ``normalised``; any size from 16x16.

        Returns:
            depth in metres, (N, 1, H, W) float32.
        """
        return self.log_depth(image).clamp(-LOG_DEPTH_LIMIT, LOG_DEPTH_LIMIT).exp()

    def centre_on(self, log_depth: float) -> None:
        """Make an untrained network predict this log depth everywhere, roughly.

        Training then starts from the data's own scale instead of 1 m.
        """
        raise NotImplementedError


NORMALISATION = {"mean": [127.5] * 3, "std": [127.5] * 3}


def normalised(rgb: Tensor) -> Tensor:
    """Scale uint8 RGB (N, 3, H, W) to -1..1 float32, as every network here expects."""
    return rgb.float().div_(127.5).sub_(1.0)
