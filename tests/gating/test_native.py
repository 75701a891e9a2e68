"""The C functions against torch's own operators; and that nothing depends on having them."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from compress.gating import native as module
from compress.gating.native import NativeConvolution, NativeGate, layout, native, native_sum
from compress.models.blocks.gates import TIE, winners

library = native(torch.float64)
needs_compiler = pytest.mark.skipif(library is None, reason=module.built("double").why_not)


def some(chance: torch.Generator, count: int) -> Tensor:
    """A part of so many channels, in order, at least one."""
    share = torch.rand(count, generator=chance) < 0.5
    share[int(torch.randint(count, (), generator=chance))] = True
    return share.nonzero().view(-1)


@needs_compiler
@settings(max_examples=80)
@given(
    kernel=st.tuples(st.integers(1, 5), st.integers(1, 7)),
    stride=st.integers(1, 3),
    padding=st.tuples(st.integers(0, 3), st.integers(0, 3)),
    dilation=st.tuples(st.integers(1, 2), st.integers(1, 2)),
    size=st.tuples(st.integers(1, 20), st.integers(1, 70)),
    channels=st.tuples(st.integers(1, 40), st.integers(1, 20)),
    depthwise=st.booleans(),
    relu=st.booleans(),
    threads=st.integers(1, 2),
    seed=st.integers(0, 1000),
)
def test_any_convolution_of_any_channels(
    kernel, stride, padding, dilation, size, channels, depthwise, relu, threads, seed
):
    chance = torch.Generator().manual_seed(seed)
    ins, outs = channels
    if depthwise:
        outs = ins
    out = tuple(
        (n + 2 * p - d * (k - 1) - 1) // stride + 1
        for n, p, d, k in zip(size, padding, dilation, kernel, strict=True)
    )
    if min(out) < 1:
        return

    def drawn(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=chance, dtype=torch.float64)

    weight, bias = drawn(outs, 1 if depthwise else ins, *kernel), drawn(outs)
    index = some(chance, ins) if seed % 3 else None
    chosen = some(chance, outs) if seed % 2 and not depthwise else None
    x = drawn(1, ins if index is None else len(index), *size)
    kept = index if depthwise else chosen
    part, shift = (weight, bias) if kept is None else (weight[kept], bias[kept])
    if not depthwise and index is not None:
        part = part[:, index]
    scales = None if seed % 5 == 0 else drawn(len(part)).abs()
    groups = len(part) if depthwise else 1
    wanted = F.conv2d(x, part, shift, stride, padding, dilation, groups)
    if relu:
        wanted = wanted.relu()
    if scales is not None:
        wanted = wanted * scales.view(1, -1, 1, 1)
    where = layout(
        library, kernel, weight.shape[1], size, out, stride, padding, dilation, depthwise
    )
    convolve = NativeConvolution(
        library, weight, bias, where, relu=relu, depthwise=depthwise, threads=threads
    )
    got, means = convolve(x, index, chosen, scales)
    torch.testing.assert_close(got, wanted, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(means, wanted.abs().mean((0, 2, 3)), rtol=1e-9, atol=1e-9)


@needs_compiler
@pytest.mark.parametrize("size", [(40, 160), (3, 4)])
def test_more_channels_and_pixels_than_are_worked_on_at_once(size):
    x, weight, bias = torch.randn(1, 200, *size), torch.randn(70, 200, 3, 3), torch.randn(70)
    single = native(torch.float32)
    where = layout(single, (3, 3), 200, size, size, 1, (1, 1), (1, 1))
    convolve = NativeConvolution(
        single, weight, bias, where, relu=False, depthwise=False, threads=1
    )
    got, _ = convolve(x, None, None, None)
    torch.testing.assert_close(got, F.conv2d(x, weight, bias, padding=1), rtol=1e-4, atol=1e-3)


@needs_compiler
@settings(max_examples=60)
@given(st.integers(1, 40), st.integers(1, 12), st.integers(1, 4), st.integers(0, 1000))
def test_a_gate_chooses_as_the_network_does(ins, blocks, block, seed):
    chance = torch.Generator().manual_seed(seed)
    outs, active = blocks * block, block * (1 + seed % blocks)
    # Few different values, so that many are equal.
    bias = torch.randint(-1, 3, (outs,), generator=chance).double()
    weight = torch.zeros(ins, outs, dtype=torch.float64)
    if seed % 2:
        weight.normal_(generator=chance)
    means, index = torch.rand(ins, generator=chance, dtype=torch.float64), some(chance, ins)
    wanted = winners((bias + means[index] @ weight[index]).relu()[None], active, block)[0]
    scales, chosen = NativeGate(library, weight, bias, active, block, TIE)(means[index], index)
    got = torch.zeros_like(wanted).index_copy_(0, chosen, scales)
    torch.testing.assert_close(got, wanted)
    assert len(chosen) == max(1, int((wanted > 0).sum()))
    assert chosen.tolist() == sorted(chosen.tolist())


@needs_compiler
def test_weights_that_bfloat16_holds_are_read_as_such():
    single, weight = native(torch.float32), torch.randn(30, 50)
    rounded = weight.bfloat16().float()
    gates = [NativeGate(single, one, torch.ones(50), 50, 1, TIE) for one in (weight, rounded)]
    assert [gate.half for gate in gates] == [False, True]
    means = torch.rand(30)
    scales, chosen = gates[1](means, None)
    wanted = (1 + means @ rounded).relu()
    torch.testing.assert_close(scales, wanted[chosen], rtol=1e-4, atol=1e-4)


@needs_compiler
@given(st.integers(1, 9), st.booleans(), st.integers(0, 1000))
def test_a_sum_is_over_the_union(channels, relu, seed):
    chance = torch.Generator().manual_seed(seed)
    sides, whole = [], torch.zeros(1, channels, 3, 5, dtype=torch.float64)
    for number in range(2):
        index = None if (seed + number) % 3 == 0 else some(chance, channels)
        held = channels if index is None else len(index)
        data = torch.randn(1, held, 3, 5, generator=chance, dtype=torch.float64)
        whole.index_add_(1, torch.arange(channels) if index is None else index, data)
        sides += [data, index]
    wanted = whole.relu() if relu else whole
    data, union, means = native_sum(library, *sides, channels, relu)
    torch.testing.assert_close(data, wanted[:, union])
    torch.testing.assert_close(means, wanted[:, union].abs().mean((0, 2, 3)))
    left = torch.ones(channels, dtype=torch.bool)
    left[union] = False
    assert not wanted[:, left].any()


def test_what_is_no_number_stays_none():
    if library is None:
        pytest.skip("no compiler")
    x = torch.full((1, 2, 4, 4), float("nan"), dtype=torch.float64)
    weight, bias = torch.ones(3, 2, 1, 1, dtype=torch.float64), torch.zeros(3, dtype=torch.float64)
    where = layout(library, (1, 1), 2, (4, 4), (4, 4), 1, (0, 0), (1, 1))
    convolve = NativeConvolution(
        library, weight, bias, where, relu=True, depthwise=False, threads=1
    )
    assert convolve(x, None, None, None)[0].isnan().all()


def test_a_machine_without_a_compiler_says_so(monkeypatch):
    module.built.cache_clear()
    monkeypatch.setattr(module.shutil, "which", lambda _: None)
    try:
        assert module.built().why_not == "no C compiler on this machine"
        assert native(torch.float32) is None
    finally:
        module.built.cache_clear()


def test_a_compiler_that_fails_says_why(monkeypatch, tmp_path):
    broken = tmp_path / "cc"
    broken.write_text('#!/bin/sh\n[ "$1" = --version ] && exit 0\necho no such flag >&2\nexit 1\n')
    broken.chmod(0o755)
    module.built.cache_clear()
    monkeypatch.setenv("CC", str(broken))
    monkeypatch.setenv("COMPRESS_CACHE", str(tmp_path))
    try:
        assert "no such flag" in module.built().why_not
        assert not list((tmp_path / "native").iterdir())  # nothing half built is left
    finally:
        module.built.cache_clear()


def test_a_cache_that_others_can_write_to_is_not_used(monkeypatch, tmp_path):
    if library is None:
        pytest.skip("no compiler")
    folder = tmp_path / "native"
    folder.mkdir()
    folder.chmod(0o777)
    module.built.cache_clear()
    monkeypatch.setenv("COMPRESS_CACHE", str(tmp_path))
    try:
        assert module.built().library is not None
        assert not list(folder.iterdir())
    finally:
        module.built.cache_clear()
