from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from compress.errors import CompressError
from compress.losses import Discriminator, critic_loss, generator_loss, pairwise, pixel_rmse


def features(seed: int, *shape: int) -> Tensor:
    g = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=g, dtype=torch.float64)


def slow_pairwise(student: Tensor, teacher: Tensor, grid: int) -> float:
    """Node by node; sides are whole multiples of the grid."""

    def nodes(x: Tensor) -> list[Tensor]:
        rows, columns = x.shape[-2] // grid, x.shape[-1] // grid
        return [
            x[:, i * rows : (i + 1) * rows, j * columns : (j + 1) * columns].amax(dim=(1, 2))
            for i in range(grid)
            for j in range(grid)
        ]

    total = 0.0
    for s, t in zip(student, teacher, strict=True):
        for si, ti in zip(nodes(s), nodes(t), strict=True):
            for sj, tj in zip(nodes(s), nodes(t), strict=True):
                a_s = float(si @ sj / (si.norm() * sj.norm()))
                a_t = float(ti @ tj / (ti.norm() * tj.norm()))
                total += (a_t - a_s) ** 2
    return total / (grid**4 * len(student))


# Pixels.


def test_pixel_rmse() -> None:
    student = torch.tensor([1.0, 2.0, 5.0]).view(1, 1, 1, 3).requires_grad_()
    teacher = torch.tensor([1.0, 4.0, 6.0]).view(1, 1, 1, 3).requires_grad_()
    assert float(pixel_rmse(student, teacher).detach()) == pytest.approx(math.sqrt(5 / 3))
    mask = torch.tensor([True, True, False]).view(1, 1, 1, 3)
    loss = pixel_rmse(student, teacher, mask)
    loss.backward()
    assert float(loss.detach()) == pytest.approx(math.sqrt(2))
    assert student.grad is not None
    assert student.grad.flatten()[2] == 0
    assert teacher.grad is None


def test_pixel_rmse_leaves_out_what_the_teacher_does_not_know() -> None:
    student = torch.tensor([1.0, math.nan]).view(1, 1, 1, 2).requires_grad_()
    teacher = torch.tensor([3.0, math.nan]).view(1, 1, 1, 2)
    loss = pixel_rmse(student, teacher)
    loss.backward()
    assert float(loss.detach()) == 2.0
    assert student.grad is not None
    assert student.grad.flatten().tolist() == [-1.0, 0.0]


# Pairs of features.


def test_pairwise_published_vector() -> None:
    student = torch.eye(2).view(1, 2, 1, 2)  # two nodes, orthogonal
    teacher = torch.tensor([[1.0, 2.0], [1.0, 2.0], [3.0, 6.0]]).view(1, 3, 1, 2)  # parallel
    assert float(pairwise(student, teacher)) == pytest.approx(0.5)
    assert float(pairwise(student, student)) == 0.0


@pytest.mark.parametrize("grid", [1, 2, 3])
def test_pairwise_against_a_loop(grid: int) -> None:
    student, teacher = features(0, 3, 4, 6, 12), features(1, 3, 7, 12, 6)
    assert float(pairwise(student, teacher, grid)) == pytest.approx(
        slow_pairwise(student, teacher, grid)
    )


def test_a_grid_of_two_is_pooling_with_half_the_map() -> None:
    student, teacher = features(2, 2, 4, 8, 10), features(3, 2, 9, 8, 10)
    cosines = []
    for x in (student, teacher):
        pooled = F.max_pool2d(x, kernel_size=(4, 5)).flatten(2)
        cosines.append(
            F.cosine_similarity(pooled[:, :, :, None], pooled[:, :, None, :], dim=1, eps=1e-12)
        )
    expected = ((cosines[0] - cosines[1]) ** 2).sum() / (4**2 * 2)
    assert float(pairwise(student, teacher)) == pytest.approx(float(expected))


def test_fewer_nodes_than_the_grid() -> None:
    assert float(pairwise(features(0, 2, 4, 1, 1), features(1, 2, 4, 8, 8))) == pytest.approx(0.0)
    value = pairwise(features(0, 2, 4, 1, 3), features(1, 2, 4, 8, 8), grid=8)
    assert 0 < float(value) < 4


@given(st.floats(1e-3, 1e3), st.floats(1e-3, 1e3))
def test_pairwise_ignores_lengths(a: float, b: float) -> None:
    student, teacher = features(4, 2, 3, 4, 4), features(5, 2, 5, 4, 4)
    expected = float(pairwise(student, teacher))
    assert float(pairwise(a * student, b * teacher)) == pytest.approx(expected, rel=1e-4)


def test_pairwise_gradient_holds_lengths_constant() -> None:
    student = features(6, 2, 3, 2, 2).requires_grad_()
    teacher = features(7, 2, 3, 2, 2).requires_grad_()
    pairwise(student, teacher).backward()
    length = student.detach().flatten(2).norm(dim=1, keepdim=True)
    other = student.detach().clone().requires_grad_()
    unit = other.flatten(2) / length
    t = F.normalize(teacher.detach().flatten(2), dim=1)
    loss = ((t.transpose(1, 2) @ t - unit.transpose(1, 2) @ unit) ** 2).sum() / (16 * 2)
    loss.backward()
    assert teacher.grad is None
    assert student.grad is not None
    assert other.grad is not None
    torch.testing.assert_close(student.grad, other.grad)


def test_silent_features_are_no_division_by_zero() -> None:
    student = torch.zeros(1, 2, 4, 4, requires_grad=True)
    loss = pairwise(student, torch.ones(1, 3, 4, 4))
    loss.backward()
    assert float(loss.detach()) == pytest.approx(1.0)
    assert student.grad is not None
    assert torch.isfinite(student.grad).all()


def test_pairwise_under_autocast() -> None:
    student, teacher = features(8, 2, 64, 4, 4).float(), features(9, 2, 32, 4, 4).float()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = pairwise(student, teacher)
    assert loss.dtype == torch.float32
    assert float(loss) == pytest.approx(float(pairwise(student, teacher)), rel=1e-6)


def test_pairwise_refuses() -> None:
    a = torch.ones(2, 3, 4, 4)
    for bad in ((a, a[:1], 2), (a[0], a, 2), (a, a, 0)):
        with pytest.raises(CompressError, match="of the same N images"):
            pairwise(*bad)


# The critic.


def test_hinge_vectors() -> None:
    real, fake = torch.tensor([2.0, 0.5, -1.0]), torch.tensor([-2.0, -0.5, 1.0])
    assert float(critic_loss(real, fake)) == pytest.approx((0 + 0.5 + 2) / 3 * 2)
    assert float(generator_loss(fake)) == pytest.approx(0.5)


def test_critic_scores_patches() -> None:
    critic = Discriminator(width=8)
    image, depth = torch.randn(2, 3, 40, 56), torch.randn(2, 1, 40, 56).requires_grad_()
    scores = critic(image, depth)
    assert scores.shape == (2, 1, 5, 7)
    # One score sees 38x38 pixels and no more.
    critic(torch.zeros(1, 3, 96, 96), wide := torch.zeros(1, 1, 96, 96).requires_grad_())[
        0, 0, 6, 6
    ].backward()
    assert wide.grad is not None
    rows, columns = torch.nonzero(wide.grad[0, 0], as_tuple=True)
    assert int(rows.max() - rows.min()) + 1 == int(columns.max() - columns.min()) + 1 == 38
    with pytest.raises(CompressError, match="of one size"):
        critic(image, depth[..., :-1])
    with pytest.raises(CompressError, match="at least 8x8"):
        critic(image[..., :4, :4], depth[..., :4, :4])
    with pytest.raises(CompressError, match="width must be"):
        Discriminator(width=0)


def test_critic_learns_to_tell_and_the_student_to_follow() -> None:
    torch.manual_seed(0)
    critic = Discriminator(width=8)
    image = torch.rand(2, 3, 16, 16)
    teacher, student = torch.rand(2, 1, 16, 16), torch.rand(2, 1, 16, 16) + 1
    optimiser = torch.optim.Adam(critic.parameters(), 1e-2, betas=(0.0, 0.9))
    first = None
    for _ in range(30):
        loss = critic_loss(critic(image, teacher), critic(image, student))
        first = float(loss.detach()) if first is None else first
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert first is not None
    assert float(loss.detach()) < 0.8 * first
    critic.requires_grad_(False)
    leaf = student.clone().requires_grad_()
    before = generator_loss(critic(image, leaf))
    before.backward()
    assert leaf.grad is not None
    assert float(generator_loss(critic(image, student - 10 * leaf.grad))) < float(before.detach())


def test_critic_goes_on_from_its_state() -> None:
    torch.manual_seed(0)
    a, b = Discriminator(width=4), Discriminator(width=4)
    image, depth = torch.rand(1, 3, 16, 16), torch.rand(1, 1, 16, 16)
    a(image, depth)  # the power iteration has moved
    b.load_state_dict(a.state_dict())
    assert torch.equal(a(image, depth), b(image, depth))
