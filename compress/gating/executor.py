"""Runs a network with gates and computes no channel that they suppress.

Source: feature boosting and suppression (Gao et al., ICLR 2019) promises the time; public ports
multiply by a mask and take as long as before.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from compress.cost.backends import torch_threads
from compress.errors import CompressError
from compress.gating._count import needed, run, whole
from compress.gating._graph import read
from compress.gating._kernels import Convolve, Predict, awake
from compress.gating._plan import Chooser, LayerPlan, Plan, noise
from compress.gating._rules import compile_op
from compress.gating._steps import Alive, Conv, Gate, Graph, Op
from compress.gating._values import Value, dense

Run = Callable[[list[Any]], Any]
ONE_BY_ONE, TOGETHER = "one by one", "together"


class GatedExecutor:
    """A network compiled for images of one size, on the processor, for inference.

    Calling it gives what the network gives. Weights and densities are those of the moment it was
    made. Convolutions with a gate compute only the channels that win, from only the channels that
    came in; where copying the weights out takes longer than that saves, a layer computes all.
    ``plan`` says what was chosen and measured. One call at a time.

    Each image of a batch wants other channels, so that they run one by one; or together, computing
    all channels, where that takes less time: the first batch of each size is run in both ways.
    ``batches`` says which was chosen.
    """

    def __init__(
        self,
        model: nn.Module,
        size: tuple[int, int],
        *,
        threads: int | None = None,
        choose: str = "measure",
        images: Iterable[Tensor] | None = None,
        plan: Plan | Mapping[str, Any] | None = None,
    ) -> None:
        """Compile.

        Args:
            model: takes (1, 3, H, W), gives one tensor; it stays as it is.
            size: (H, W) of all images.
            threads: of torch while it runs; default: as many as are set.
            choose: "measure" takes the fastest mode of each layer on this machine, "gather"
                computes only what is wanted wherever there is a gate, "dense" computes everything.
            images: (1, 3, H, W) to measure with, some few; default: two of noise.
            plan: modes of an earlier executor of this network, instead of choosing.

        Raises:
            CompressError: the network cannot be traced, or ``plan`` is that of another one.
        """
        self.size, self.threads = size, threads
        count = threads or torch.get_num_threads()
        dtype = next(iter(model.parameters())).dtype
        given = Plan.from_dict(plan) if isinstance(plan, Mapping) else plan
        # Batches may run together, in the network as it was when this was made.
        self._masked = copy.deepcopy(model).eval().requires_grad_(False)
        with self._threads(), torch.inference_mode():
            given_images = noise(2, size, dtype) if images is None else images
            chosen = [self._checked(one) for one in given_images]
            if not chosen:
                raise CompressError("no images to measure with: give one or more, or none at all")
            self.graph = read(self._masked, chosen[0])
            chooser = Chooser(choose, count, given, self.graph)
            self._program, layers = _compile(self.graph, chooser, chosen)
        self.plan = Plan(size, count, tuple(layers))
        self._sets: list[list[tuple[int, int]]] = []  # of each image and layer
        self.batches: dict[int, str] = {}
        self._masked.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def __call__(self, image: Tensor) -> Tensor:
        """Run: (N, 3, H, W) to what the network gives."""
        if image.shape[-2:] != self.size or image.dim() != 4:
            raise CompressError(
                f"images of {tuple(image.shape)}: this executor was made for (N, 3, "
                f"{self.size[0]}, {self.size[1]})"
            )
        with self._threads(), torch.inference_mode():
            if len(image) == 1:
                self._sets = []
                return self._one(image)
            if len(image) not in self.batches:
                self.batches[len(image)] = self._faster(image)
            ways = {ONE_BY_ONE: self._one_by_one, TOGETHER: self._together}
            return ways[self.batches[len(image)]](image)

    @property
    def channels(self) -> list[dict[str, tuple[int, int]]]:
        """Of each image of the last call: channels read and wanted of every convolution."""
        paths = [layer.path for layer in self.plan.layers]
        return [dict(zip(paths, sets, strict=True)) for sets in self._sets]

    @property
    def macs(self) -> list[int]:
        """Multiply-adds that each image of the last call needed, its gates' included.

        Of a batch that ran together all of them.

        Of a convolution d_in x d_out, of a gate C_in x C_out and the H x W x C_in of its means.
        """
        return [needed(self.graph, sets) for sets in self._sets]

    @property
    def macs_run(self) -> list[int]:
        """The same as run: layers that compute all channels count with all."""
        modes = [layer.mode for layer in self.plan.layers]
        return [run(self.graph, sets, modes) for sets in self._sets]

    @property
    def dense_macs(self) -> int:
        """Multiply-adds without gates."""
        return whole(self.graph)

    def _one_by_one(self, images: Tensor) -> Tensor:
        self._sets = []
        return torch.cat([self._one(image) for image in torch.split(images, 1)])

    def _together(self, images: Tensor) -> Tensor:
        whole = [layer.channels for layer in self.plan.layers]
        self._sets = [whole] * len(images)
        out: Tensor = self._masked(images.contiguous(memory_format=torch.channels_last))
        return out.contiguous()

    def _faster(self, images: Tensor) -> str:
        taken: dict[str, float] = {}
        for name, way in ((ONE_BY_ONE, self._one_by_one), (TOGETHER, self._together)):
            way(images)  # what is prepared the first time is not counted
            began = time.perf_counter()
            way(images)
            taken[name] = time.perf_counter() - began
        return min(taken, key=lambda name: taken[name])

    def _one(self, image: Tensor) -> Tensor:
        env: list[Any] = [None] * self.graph.slots
        env[0] = Value(image)
        sets: list[tuple[int, int]] = []
        env.append(sets)
        for out, work, dead in self._program:
            env[out] = work(env)
            for slot in dead:
                env[slot] = None
        self._sets.append(sets)
        return dense(env[self.graph.out]).contiguous()

    def _threads(self) -> AbstractContextManager[None]:
        if self.threads is None or self.threads == torch.get_num_threads():
            return nullcontext()
        return torch_threads(self.threads)

    def _checked(self, image: Tensor) -> Tensor:
        if image.dim() != 4 or image.shape[0] != 1 or image.shape[-2:] != self.size:
            raise CompressError(
                f"an image of {tuple(image.shape)} to measure with: give (1, 3, {self.size[0]}, "
                f"{self.size[1]})"
            )
        return image


def dense_executor(
    model: nn.Module, size: tuple[int, int], *, threads: int | None = None
) -> GatedExecutor:
    """The same for a network without gates, or for all channels of one with: what to compare with.

    Norms are folded in, and every layer runs in the fastest of the ways that the gated network's
    layers are measured in.
    """
    return GatedExecutor(model, size, threads=threads, choose="dense")


Program = list[tuple[int, Run, list[int]]]


def _compile(
    graph: Graph, chooser: Chooser, images: list[Tensor]
) -> tuple[Program, list[LayerPlan]]:
    """Functions of the slots' values, chosen as the images pass through them."""
    program: Program = []
    layers = []
    envs: list[list[Any]] = [[Value(image), *[None] * graph.slots] for image in images]
    for env in envs:
        env[-1] = []
    for step, dead in zip(graph.steps, graph.last, strict=True):
        if isinstance(step, Conv):
            seen = [
                (env[step.x], None if step.scales is None else env[step.scales]) for env in envs
            ]
            kernel, layer = chooser(step, seen)
            layers.append(layer)
            work: Run = _convolving(step, kernel)
        elif isinstance(step, Gate):
            work = _predicting(step)
        elif isinstance(step, Alive):
            work = _waking(step.x)
        else:
            assert isinstance(step, Op)
            work = compile_op(step)
        program.append((step.out, work, dead))
        for env in envs:
            env[step.out] = work(env)
            for slot in dead:
                env[slot] = None
    return program, layers


def _convolving(step: Conv, kernel: Convolve) -> Run:
    source, scales = step.x, step.scales

    def run(env: list[Any]) -> Value:
        x: Value = env[source]
        out = kernel(x, None if scales is None else env[scales])
        env[-1].append((x.active, out.active))
        return out

    return run


def _predicting(step: Gate) -> Run:
    source, predict = step.x, Predict(step)
    return lambda env: predict(env[source])


def _waking(source: int) -> Run:
    return lambda env: awake(env[source])
