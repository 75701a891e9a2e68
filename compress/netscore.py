"""NetScore: accuracy, size and work in one figure, in decibels."""

from __future__ import annotations

import math
from dataclasses import dataclass

from compress._callable import make_callable
from compress.errors import CompressError, unknown


@dataclass(frozen=True)
class Exponents:
    """How much accuracy (kappa), parameters (beta) and MACs (gamma) weigh in the score."""

    kappa: float
    beta: float
    gamma: float

    def __post_init__(self) -> None:
        # kappa > 0 keeps the score of a network that gets nothing right at -inf.
        if not (math.isfinite(self.kappa) and self.kappa > 0):
            raise CompressError(f"kappa must be a finite number above 0, got {self.kappa!r}")
        for name, value in (("beta", self.beta), ("gamma", self.gamma)):
            if not (math.isfinite(value) and value >= 0):
                raise CompressError(f"{name} must be a finite number, 0 or more, got {value!r}")


EXPONENTS: dict[str, Exponents] = {
    "standard": Exponents(kappa=2.0, beta=0.5, gamma=0.5),
    "depthnet-nano": Exponents(kappa=0.7, beta=0.15, gamma=0.15),
}


def netscore(
    delta1_percent: float,
    params: float,
    macs: float,
    exponents: str | Exponents = "depthnet-nano",
) -> float:
    """Return 20 log10(a^kappa / (p^beta m^gamma)), with a in percent, p in millions, m in G-MACs.

    The published DepthNet Nano for NYU (81.6 %, 3.46 M parameters, 4.4 G MACs):

    >>> round(netscore(81.6, 3_460_000, 4_400_000_000), 3)
    23.216
    >>> round(netscore(81.6, 3_460_000, 4_400_000_000, "standard"), 3)
    64.642

    Args:
        delta1_percent: share of pixels within 1.25 of the truth, 0 to 100; 0 scores -inf.
        params: parameters as a plain count (3460000, not 3.46).
        macs: multiply-adds as a plain count.
        exponents: a name in `EXPONENTS`, or the exponents themselves.

    Raises:
        CompressError: accuracy outside 0..100, a count of 0 or less, an unknown name.

    Source: Wong, "NetScore", arXiv 1806.05512 (standard); Wang, Famouri and Wong,
    "DepthNet Nano", arXiv 2004.08008 (depthnet-nano).
    """
    if isinstance(exponents, str):
        if exponents not in EXPONENTS:
            raise unknown("NetScore exponents", exponents, EXPONENTS)
        exponents = EXPONENTS[exponents]
    if not 0 <= delta1_percent <= 100:  # false for NaN too
        raise CompressError(
            f"delta1_percent must lie between 0 and 100, got {delta1_percent!r}; "
            "give a percentage (81.6, not 0.816)"
        )
    for name, count in (("params", params), ("macs", macs)):
        if not (count > 0 and math.isfinite(count)):
            raise CompressError(
                f"{name} must be a finite count above 0, got {count!r}; "
                "give a plain count (3460000, not 3.46 million)"
            )
    if delta1_percent == 0:
        return -math.inf
    # Summed in the log domain: the quotient itself could overflow for extreme counts.
    return 20 * (
        exponents.kappa * math.log10(delta1_percent)
        - exponents.beta * math.log10(params / 1e6)
        - exponents.gamma * math.log10(macs / 1e9)
    )


make_callable(__name__)
