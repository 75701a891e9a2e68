"""Training losses: pure functions of a prediction, the truth and a mask.

Every loss takes `(pred, true, mask)`, three (N, 1, H, W) tensors of one shape, and returns a
scalar. A pixel counts where the mask is true and the truth is finite; any other pixel, whatever
it holds, adds nothing to value or gradient, and a batch without a valid pixel gives 0. A NaN
predicted at a valid pixel stays NaN: divergence is not hidden. Below float32 (autocast), inputs
are computed in float32.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from compress.losses._pixels import clean, mean
from compress.losses.targets import (
    INVERSE_RANGE,
    LOG_FLOOR_M,
    NORM_FLOOR,
    log,
    reciprocal,
    xl_log_depth,
)


def l1(pred: Tensor, true: Tensor, mask: Tensor) -> Tensor:
    """Mean absolute error over valid pixels, in the unit of the maps."""
    p, t, ok = clean(pred, true, mask)
    return mean((p - t).abs(), ok)


def l2(pred: Tensor, true: Tensor, mask: Tensor) -> Tensor:
    """Mean squared error over valid pixels, in the squared unit of the maps."""
    p, t, ok = clean(pred, true, mask)
    return mean((p - t) ** 2, ok)


def rmse(pred: Tensor, true: Tensor, mask: Tensor) -> Tensor:
    """Root of `l2` over the whole batch; its gradient at a perfect prediction is 0."""
    square = l2(pred, true, mask)
    # The root's derivative is infinite at 0, so 0 goes around it (NaN goes through it).
    perfect = square == 0
    return torch.where(perfect, square, torch.where(perfect, 1.0, square).sqrt())


def berhu(pred: Tensor, true: Tensor, mask: Tensor) -> Tensor:
    """Reverse Huber: |x| up to c, (x^2 + c^2) / 2c beyond, c = 0.2 max|x| over the batch.

    c is a constant to the gradient.

    Source: Laina et al., "Deeper Depth Prediction", 3DV 2016 (berHu).
    """
    p, t, ok = clean(pred, true, mask)
    x = (p - t).abs()
    # Invalid pixels have x = 0; the minimum keeps a perfect batch from dividing by 0.
    c = (0.2 * x.detach().amax()).clamp(min=1e-12)
    return mean(torch.where(x <= c, x, (x**2 + c**2) / (2 * c)), ok)


def _gaussian(size: int, like: Tensor, sigma: float = 1.5) -> Tensor:
    offset = torch.arange(size, dtype=like.dtype, device=like.device) - (size - 1) / 2
    weights = torch.exp(-(offset**2) / (2 * sigma**2))
    return weights / weights.sum()


def ssim_loss(pred: Tensor, true: Tensor, mask: Tensor, data_range: float) -> Tensor:
    """(1 - SSIM) / 2, averaged over valid pixels whose window lies inside the image (no padding).

    The window is Gaussian, 11x11, sigma 1.5 (on smaller maps, the largest odd square that fits).
    Holes hold the image's mean true value in both maps: alike, and no sharp edge to the scene.

    Args:
        data_range: span of the values a map can take, the L of SSIM's two constants.

    Source: Wang, Bovik, Sheikh and Simoncelli, IEEE TIP 2004, equation 13 (K1 .01, K2 .03).
    """
    p, t, ok = clean(pred, true, mask)
    count = ok.sum(dim=(1, 2, 3), keepdim=True).clamp(min=1)
    fill = torch.where(ok, t, 0.0).sum(dim=(1, 2, 3), keepdim=True) / count  # (N, 1, 1, 1)
    # Measured from that mean, so that E[x^2] - E[x]^2 loses few digits.
    p, t = torch.where(ok, p - fill, 0.0), torch.where(ok, t - fill, 0.0)
    n, channels, height, width = p.shape
    size = min(11, height - 1 + height % 2, width - 1 + width % 2)
    window = _gaussian(size, p)
    # Autocast would run the two convolutions in bfloat16, whose 8 bits lose the variances.
    with torch.autocast(p.device.type, enabled=False):
        maps = torch.cat([p, t, p * p, t * t, p * t]).reshape(-1, 1, height, width)
        maps = F.conv2d(F.conv2d(maps, window.view(1, 1, -1, 1)), window.view(1, 1, 1, -1))
    mu_p, mu_t, pp, tt, pt = maps.reshape(5, n, channels, *maps.shape[-2:])
    # Rounding can push a variance below 0, and the denominator with it.
    var_p, var_t = (pp - mu_p**2).clamp(min=0), (tt - mu_t**2).clamp(min=0)
    covariance = pt - mu_p * mu_t
    mu_p, mu_t = mu_p + fill, mu_t + fill
    c1, c2 = (0.01 * data_range) ** 2, (0.03 * data_range) ** 2
    luminance = (2 * mu_p * mu_t + c1) / (mu_p**2 + mu_t**2 + c1)
    structure = (2 * covariance + c2) / (var_p + var_t + c2)
    r = size // 2
    inner = ok[..., r : height - r, r : width - r]
    return mean((1 - luminance * structure) / 2, inner)


def edge(pred: Tensor, true: Tensor, mask: Tensor) -> Tensor:
    """L1 between the image gradients: mean over vertical pairs plus mean over horizontal pairs.

    A pair of neighbours counts where both are valid.

    Source: Alhashim and Wonka, "DenseDepth", arXiv 1812.11941, equation 3.
    """
    p, t, ok = clean(pred, true, mask)
    x = p - t  # the gradient is linear, so the difference may be taken first
    down = mean(x.diff(dim=-2).abs(), ok[..., 1:, :] & ok[..., :-1, :])
    across = mean(x.diff(dim=-1).abs(), ok[..., :, 1:] & ok[..., :, :-1])
    return down + across


def _inverted(
    pred_m: Tensor, true_m: Tensor, mask: Tensor, low_m: float, cap_m: float, unit_m: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Return unit_m / depth of both maps, their depths clamped to low_m .. cap_m, and the mask.

    A prediction is clamped only beyond the end where the truth lies too. Elsewhere the clamp
    would leave it no gradient, and so no way back.
    """
    p, t, ok = clean(pred_m, true_m, mask)
    together = ((p < low_m) & (t <= low_m)) | ((p > cap_m) & (t >= cap_m))
    p, t = torch.where(together, p.clamp(low_m, cap_m), p), t.clamp(low_m, cap_m)
    return reciprocal(p / unit_m, low_m / unit_m), unit_m / t, ok


def _mobiledepth(
    pred_m: Tensor, true_m: Tensor, mask: Tensor, cap_m: float
) -> tuple[Tensor, Tensor, Tensor]:
    return _inverted(pred_m, true_m, mask, NORM_FLOOR * cap_m, cap_m, unit_m=cap_m)


def mix(pred_m: Tensor, true_m: Tensor, mask: Tensor, cap_m: float = 10.0) -> Tensor:
    """SSIM + edge + 0.1 L1 on normalised inverse depth.

    Args:
        pred_m: prediction in metres, (N, 1, H, W); the maps are inverted here.
        true_m: truth in metres, same shape.
        mask: valid pixels, same shape.
        cap_m: the data set's largest depth, which normalises.

    Source: Y. Wang, "MobileDepth" (MIX).
    """
    p, t, ok = _mobiledepth(pred_m, true_m, mask, cap_m)
    return ssim_loss(p, t, ok, INVERSE_RANGE) + edge(p, t, ok) + 0.1 * l1(p, t, ok)


def bmix(pred_m: Tensor, true_m: Tensor, mask: Tensor, cap_m: float = 10.0) -> Tensor:
    """SSIM + edge + berHu on normalised inverse depth; arguments and source as `mix` (BMIX)."""
    p, t, ok = _mobiledepth(pred_m, true_m, mask, cap_m)
    return ssim_loss(p, t, ok, INVERSE_RANGE) + edge(p, t, ok) + berhu(p, t, ok)


def am(pred_m: Tensor, true_m: Tensor, mask: Tensor, cap_m: float = 10.0) -> Tensor:
    """0.85 SSIM + 0.15 L1 on normalised inverse depth; arguments and source as `mix` (AM)."""
    p, t, ok = _mobiledepth(pred_m, true_m, mask, cap_m)
    return 0.85 * ssim_loss(p, t, ok, INVERSE_RANGE) + 0.15 * l1(p, t, ok)


def densedepth(pred_m: Tensor, true_m: Tensor, mask: Tensor, cap_m: float = 10.0) -> Tensor:
    """SSIM + edge + 0.1 L1 on 1000 / depth in cm; at a cap of 10 m the same as `mix`.

    Source: Alhashim and Wonka, "DenseDepth", arXiv 1812.11941, equation 1.
    """
    p, t, ok = _inverted(pred_m, true_m, mask, 0.1, cap_m, unit_m=10.0)
    return ssim_loss(p, t, ok, INVERSE_RANGE) + edge(p, t, ok) + 0.1 * l1(p, t, ok)


def xl_log_berhu(pred_m: Tensor, true_m: Tensor, mask: Tensor, cap_m: float = 80.0) -> Tensor:
    """Reverse Huber on `xl_log_depth` with M = cap_m and m = cap_m / 20 (4 and 80 as published).

    Source: Chiu et al., "Real-time Monocular Depth Estimation with Extremely Light-Weight
    Neural Network".
    """
    p, t, ok = clean(pred_m, true_m, mask)
    return berhu(xl_log_depth(p, cap_m / 20, cap_m), xl_log_depth(t, cap_m / 20, cap_m), ok)


def silog(pred_m: Tensor, true_m: Tensor, mask: Tensor, lam: float = 0.5) -> Tensor:
    """Mean g^2 - lam (mean g)^2 per image, g = log p - log t, averaged over images with truth.

    Source: Eigen, Puhrsch and Fergus, NIPS 2014, equation 4 (trained with lam = 0.5).
    """
    p, t, ok = clean(pred_m, true_m, mask)
    g = log(p) - log(t)  # 0 where not valid
    count = ok.sum(dim=(1, 2, 3))  # (N,)
    n = count.clamp(min=1)
    per_image = (g**2).sum(dim=(1, 2, 3)) / n - lam * (g.sum(dim=(1, 2, 3)) / n) ** 2
    return mean(per_image, count > 0)


def log_l1(pred_m: Tensor, true_m: Tensor, mask: Tensor) -> Tensor:
    """Mean |log p - log t| over valid pixels."""
    p, t, ok = clean(pred_m, true_m, mask)
    return l1(log(p), log(t), ok)


def log_gradient(
    pred_m: Tensor,
    true_m: Tensor,
    mask: Tensor,
    scales: int = 4,
    floor: float = LOG_FLOOR_M,
) -> Tensor:
    """Sum of `edge` on log depth over `scales`, each taking every second pixel of the last.

    Below `floor` the logarithm goes on as its tangent.

    Source: Li and Snavely, "MegaDepth", CVPR 2018, gradient matching.
    """
    p, t, ok = clean(pred_m, true_m, mask)
    p, t = log(p, floor), log(t, floor)
    steps = [2**k for k in range(scales)]
    return torch.stack(
        [edge(p[..., ::s, ::s], t[..., ::s, ::s], ok[..., ::s, ::s]) for s in steps]
    ).sum()


def log_l1_gradient(pred_m: Tensor, true_m: Tensor, mask: Tensor) -> Tensor:
    """`log_l1` + 0.5 `log_gradient`."""
    return log_l1(pred_m, true_m, mask) + 0.5 * log_gradient(pred_m, true_m, mask)
