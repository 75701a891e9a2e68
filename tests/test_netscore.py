from __future__ import annotations

import ast
import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from compress import netscore as module
from compress.errors import CompressError
from compress.netscore import EXPONENTS, Exponents, netscore

# accuracy in percent, millions of parameters, G-MACs, score (standard, depthnet-nano), digits
VECTORS = [
    (100.0, 1.0, 1.0, 80.0, 28.0, 4),
    (70.6, 4.2, 0.569, 70.1686, 24.7482, 4),
    (57.2, 61.0, 0.727, 53.8272, 19.6630, 4),
    (81.6, 3.46, 4.4, 64.642, 23.216, 3),
    (89.4, 1.75, 4.66, 68.939, 24.584, 3),
    (88.6, 42.8, 196.0, 38.660, 15.493, 3),
]


@pytest.mark.parametrize(("a", "p", "m", "standard", "nano", "digits"), VECTORS)
def test_vectors(a: float, p: float, m: float, standard: float, nano: float, digits: int) -> None:
    half = 0.5 * 10**-digits
    assert netscore(a, p * 1e6, m * 1e9, "standard") == pytest.approx(standard, abs=half)
    assert netscore(a, p * 1e6, m * 1e9, "depthnet-nano") == pytest.approx(nano, abs=half)
    assert netscore(a, p * 1e6, m * 1e9) == netscore(a, p * 1e6, m * 1e9, "depthnet-nano")


counts = st.floats(1e3, 1e12)


@given(a=st.floats(0.1, 100.0), p=counts, m=counts)
def test_agrees_with_the_quotient(a: float, p: float, m: float) -> None:
    for e in EXPONENTS.values():
        quotient = a**e.kappa / ((p / 1e6) ** e.beta * (m / 1e9) ** e.gamma)
        assert netscore(a, p, m, e) == pytest.approx(20 * math.log10(quotient), abs=1e-9)


@given(a=st.floats(0.1, 49.0), p=counts, m=counts)
def test_rises_with_accuracy_and_falls_with_cost(a: float, p: float, m: float) -> None:
    score = netscore(a, p, m)
    assert netscore(2 * a, p, m) > score > netscore(a, 2 * p, m)
    assert score > netscore(a, p, 2 * m)


def test_own_exponents() -> None:
    assert netscore(10.0, 5, 7, Exponents(1.0, 0.0, 0.0)) == pytest.approx(20.0)


def test_nothing_right_scores_minus_infinity() -> None:
    assert netscore(0, 1_000_000, 1_000_000) == -math.inf


@pytest.mark.parametrize("delta1", [-0.1, 100.1, math.nan, math.inf])
def test_accuracy_outside_percent(delta1: float) -> None:
    with pytest.raises(CompressError, match=r"between 0 and 100, got .*percentage"):
        netscore(delta1, 1e6, 1e9)


@pytest.mark.parametrize("count", [0, -1, math.nan, math.inf])
def test_bad_counts(count: float) -> None:
    with pytest.raises(CompressError, match="params must be a finite count above 0"):
        netscore(80, count, 1e9)
    with pytest.raises(CompressError, match="macs must be a finite count above 0"):
        netscore(80, 1e6, count)


def test_unknown_exponents() -> None:
    with pytest.raises(CompressError, match="did you mean standard"):
        netscore(80, 1e6, 1e9, "standrad")


@pytest.mark.parametrize("bad", [(0.0, 1.0, 1.0), (1.0, -1.0, 1.0), (1.0, 1.0, math.nan)])
def test_bad_exponents(bad: tuple[float, float, float]) -> None:
    with pytest.raises(CompressError, match="must be a finite number"):
        Exponents(*bad)


def test_scoring_does_not_import_torch() -> None:
    root = Path(module.__file__).parent
    files = [root / "netscore.py", *(root / "metrics").glob("*.py")]
    assert len(files) > 1
    for file in files:
        tree = ast.parse(file.read_text(encoding="utf-8"))
        imports = [n for n in ast.walk(tree) if isinstance(n, ast.Import | ast.ImportFrom)]
        assert not any("torch" in ast.unparse(n) for n in imports), file
