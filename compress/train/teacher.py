"""What a trained network teaches another: its depth, its features, and a critic of both."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from compress.data import Arrays
from compress.errors import CompressError
from compress.losses import Discriminator, critic_loss, generator_loss
from compress.models import DepthNet, Outputs, normalised


@dataclass(frozen=True)
class Compensation:
    """A teacher's mean error by distance, as a look-up table, and depth freed of it.

    ``depth_m`` are the centres of bins of the teacher's own depth, ``error_m`` the mean of
    prediction minus truth in each; between centres the error is interpolated, beyond the ends it
    stays.

    Source: Chiu et al., "Real-time Monocular Depth Estimation with Extremely Light-Weight Neural
    Network" (teacher depth is compensated per distance by a table of mean error).
    """

    depth_m: tuple[float, ...]
    error_m: tuple[float, ...]

    @classmethod
    def fit(
        cls, predicted_m: npt.ArrayLike, true_m: npt.ArrayLike, bins: int = 32, least: int = 50
    ) -> Compensation:
        """Learn the table.

        Args:
            predicted_m: the teacher's depth at pixels with truth, metres, any shape.
            true_m: the truth there, same shape.
            bins: bins of equal ratio between the least and the largest prediction.
            least: pixels below which a bin is left to its neighbours.

        Raises:
            CompressError: no bin has enough pixels.
        """
        predicted = np.asarray(predicted_m, np.float64).ravel()
        true = np.asarray(true_m, np.float64).ravel()
        ok = np.isfinite(predicted) & np.isfinite(true) & (predicted > 0) & (true > 0)
        predicted, true = predicted[ok], true[ok]
        if len(predicted) < least:
            raise CompressError(
                f"{len(predicted)} pixels with truth are too few to learn a teacher's error by "
                f"distance; at least {least} are needed"
            )
        low, high = math.log(predicted.min()), math.log(predicted.max() * (1 + 1e-9))
        width = max(high - low, 1e-6) / bins
        index = np.clip(((np.log(predicted) - low) / width).astype(np.int64), 0, bins - 1)
        count = np.bincount(index, minlength=bins)
        error = np.bincount(index, predicted - true, bins)
        centre = np.bincount(index, predicted, bins)
        kept = count >= least
        if not kept.any():  # spread thinly: one mean error for all distances
            return cls((float(predicted.mean()),), (float((predicted - true).mean()),))
        return cls(
            tuple((centre[kept] / count[kept]).tolist()),
            tuple((error[kept] / count[kept]).tolist()),
        )

    def __call__(self, predicted_m: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """The teacher's depth less its mean error; never below half of what it said.

        >>> table = Compensation(depth_m=(1.0, 3.0), error_m=(0.0, 1.0))
        >>> table(np.array([1.0, 2.0, 3.0], np.float32)).tolist()
        [1.0, 1.5, 2.0]
        """
        error = np.interp(predicted_m, self.depth_m, self.error_m)
        freed: npt.NDArray[np.float32] = np.maximum(predicted_m - error, 0.5 * predicted_m)
        return freed.astype(np.float32)

    def tensor(self, predicted_m: Tensor) -> Tensor:
        """The same for a tensor, on its device."""
        fixed = self(predicted_m.detach().float().cpu().numpy())
        return torch.from_numpy(fixed).to(predicted_m.device)


class Teacher:
    """A trained network asked about a student's views.

    Args:
        model: the teacher; it may be of any family and is shown images at its own size.
        compensation: what its depth is freed of before it is taught.
    """

    def __init__(self, model: DepthNet, compensation: Compensation | None = None) -> None:
        self.model = model.eval().requires_grad_(False)
        self.compensation = compensation

    @torch.no_grad()
    def __call__(self, image: Tensor) -> Outputs:
        """What the teacher says of (N, 3, H, W) normalised images, depth at their size."""
        size = image.shape[-2:]
        seen = image
        if tuple(size) != tuple(self.model.size):
            seen = F.interpolate(
                image, size=self.model.size, mode="bilinear", align_corners=False, antialias=True
            )
        out = self.model.to(image.device).outputs(seen)
        depth_m = out.depth_m
        if depth_m.shape[-2:] != size:
            depth_m = F.interpolate(depth_m, size=size, mode="bilinear", align_corners=False)
        if self.compensation:
            depth_m = self.compensation.tensor(depth_m)
        return Outputs(depth_m.float(), features=out.features)

    def compensated(self, data: Arrays, cap_m: float, most: int = 200) -> Teacher:
        """This teacher with the mean error by distance that it shows on ``data`` taken out."""
        chosen = np.linspace(0, len(data) - 1, min(most, len(data))).round().astype(int)
        said, true = [], []
        device = next(self.model.parameters()).device
        for index in chosen:
            rgb = torch.from_numpy(data.rgb[index].copy()).to(device)
            depth_m = Teacher(self.model)(normalised(rgb.permute(2, 0, 1)[None])).depth_m[0, 0]
            truth = data.depth_m[index]
            valid = (truth > 0) & (truth < cap_m)
            said.append(depth_m.cpu().numpy()[valid])
            true.append(truth[valid])
        return Teacher(self.model, Compensation.fit(np.concatenate(said), np.concatenate(true)))


class Critic:
    """A discriminator trained beside the student; it sees the image and a depth map of it.

    Source: Liu et al., "Structured Knowledge Distillation for Semantic Segmentation", CVPR 2019
    (holistic distillation); here with a hinge loss.
    """

    def __init__(self, device: torch.device, seed: int, lr: float = 1e-4) -> None:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.network = Discriminator().to(device)
        self.optimiser = torch.optim.Adam(self.network.parameters(), lr, betas=(0.0, 0.9))

    def judge(self, image: Tensor, depth_m: Tensor) -> Tensor:
        """The student's term: how far the critic is from taking its depth for the teacher's."""
        self.network.requires_grad_(False)
        return generator_loss(self.network(image, depth_m.log()))

    def learn(self, image: Tensor, student_m: Tensor, teacher_m: Tensor) -> None:
        """One step of the critic."""
        self.network.requires_grad_(True)
        real = self.network(image, teacher_m.log())
        fake = self.network(image, student_m.detach().log())
        loss = critic_loss(real, fake)
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimiser.step()

    def state_dict(self) -> dict[str, Any]:
        """Everything needed to go on."""
        return {"network": self.network.state_dict(), "optimiser": self.optimiser.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from ``state_dict``."""
        self.network.load_state_dict(state["network"])
        self.optimiser.load_state_dict(state["optimiser"])
