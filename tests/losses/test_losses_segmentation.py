from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from compress.errors import CompressError
from compress.losses import segmentation_loss


def maps(seed: int = 0, holes: float = 0.3) -> tuple[Tensor, Tensor]:
    g = torch.Generator().manual_seed(seed)
    logits = torch.randn((2, 5, 6, 7), generator=g, dtype=torch.float64)
    labels = torch.randint(0, 5, (2, 6, 7), generator=g)
    return logits, torch.where(torch.rand((2, 6, 7), generator=g) < holes, 255, labels)


def test_hand_vector() -> None:
    logits = torch.tensor([[0.0, 5.0, 0.0], [math.log(3), 5.0, 1.0]]).view(1, 2, 1, 3)
    labels = torch.tensor([[[1, 255, 255]]])
    assert float(segmentation_loss(logits, labels)) == pytest.approx(-math.log(3 / 4))


@pytest.mark.parametrize("kind", [torch.uint8, torch.int32, torch.int64])
def test_against_torch_and_types(kind: torch.dtype) -> None:
    logits, labels = maps()
    expected = F.cross_entropy(logits, labels, ignore_index=255)
    assert float(segmentation_loss(logits, labels.to(kind))) == pytest.approx(float(expected))
    zero = segmentation_loss(logits, torch.where(labels == 255, 0, labels), ignore=0)
    there = torch.where((labels == 255) | (labels == 0), -100, labels)
    assert float(zero) == pytest.approx(float(F.cross_entropy(logits, there)))


@settings(max_examples=20)
@given(
    seed=st.integers(0, 100),
    holes=st.floats(0.0, 1.0),
    junk=st.sampled_from([0.0, 1e30, math.nan, math.inf, -math.inf]),
)
def test_ignored_pixels_do_not_matter(seed: int, holes: float, junk: float) -> None:
    logits, labels = maps(seed, holes)
    results = []
    for value in (1.0, junk):
        leaf = torch.where((labels == 255)[:, None], value, logits).requires_grad_()
        loss = segmentation_loss(leaf, labels)
        loss.backward()
        assert leaf.grad is not None
        results.append((loss.detach(), leaf.grad))
    (clean, clean_grad), (dirty, dirty_grad) = results
    assert math.isfinite(clean)
    assert torch.equal(clean, dirty)
    assert torch.equal(clean_grad, dirty_grad)
    assert (clean_grad.permute(0, 2, 3, 1)[labels == 255] == 0).all()


def test_no_class_anywhere_gives_zero_and_a_graph() -> None:
    logits = torch.full((1, 3, 2, 2), math.nan, requires_grad=True)
    loss = segmentation_loss(logits, torch.full((1, 2, 2), 255))
    loss.backward()
    assert float(loss.detach()) == 0.0
    assert logits.grad is not None
    assert (logits.grad == 0).all()


def test_divergence_and_precision() -> None:
    logits, labels = maps(1)
    assert segmentation_loss(logits.bfloat16(), labels).dtype == torch.float32
    assert torch.autograd.gradcheck(
        lambda x: segmentation_loss(x, labels), (logits.requires_grad_(),)
    )
    assert math.isnan(segmentation_loss(logits.detach() * math.nan, labels))


def test_refuses() -> None:
    logits, labels = maps(2)
    with pytest.raises(CompressError, match=r"labels \(N, H, W\)"):
        segmentation_loss(logits, labels[:, :3])
    with pytest.raises(
        CompressError, match=r"a label is 4, but the logits have 4 classes \(0 to 3"
    ):
        segmentation_loss(logits[:, :4], labels)
    with pytest.raises(CompressError, match="a label is -1"):
        segmentation_loss(logits, torch.where(labels == 255, -1, labels))
