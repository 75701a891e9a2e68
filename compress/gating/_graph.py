"""A network as a flat list of steps: convolutions with norm, scales and ReLU folded in, and others.

It is read off ``torch.export``'s graph, in which a gate is one operator.
"""

from __future__ import annotations

import operator
import warnings
from typing import Any

import torch
from torch import Tensor, fx, nn

from compress.errors import CompressError
from compress.gating._passes import prepare
from compress.gating._steps import Alive, Conv, Gate, Graph, Op, Ref
from compress.models.blocks.gates import as_operators

aten = torch.ops.aten
BN = aten._native_batch_norm_legit_no_training.default
POINTLESS = (aten._assert_tensor_metadata.default, aten.sym_size.int)
SAME = (aten.clone.default, aten.detach.default, aten.alias.default, aten.dropout.default)
# Of values of 0 or more they make no others.
POSITIVE = {
    aten.max_pool2d.default, aten.avg_pool2d.default, aten.adaptive_avg_pool2d.default,
    aten.upsample_bilinear2d.vec, aten.upsample_nearest2d.vec, aten.cat.default,
    aten.add.Tensor, aten.pixel_shuffle.default, aten.mul.Tensor,
}  # fmt: skip
MAKES_POSITIVE = {
    aten.relu.default, aten.sigmoid.default, aten.hardsigmoid.default, aten.softplus.default,
}  # fmt: skip


def read(model: nn.Module, image: Tensor) -> Graph:
    """Export an evaluating network for images of this shape and fold what can be folded.

    Raises:
        CompressError: the network cannot be exported, or gives something else than one tensor.
    """
    try:
        with as_operators(), torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of torch about itself
            program = torch.export.export(model, (image,)).run_decompositions({})
    except Exception as error:
        why = str(error).strip().splitlines() or [type(error).__name__]
        raise CompressError(
            f"{type(model).__name__} cannot be traced for images of {tuple(image.shape)}: {why[0]}"
        ) from error
    return _Reader(program).graph


class _Reader:
    def __init__(self, program: torch.export.ExportedProgram) -> None:
        signature = program.graph_signature
        held: dict[str, Any] = {**program.state_dict, **program.constants}
        self.constants: dict[fx.Node, Tensor] = {}
        self.names: dict[fx.Node, str] = {}
        named = {
            **signature.inputs_to_parameters,
            **signature.inputs_to_buffers,
            **signature.inputs_to_lifted_tensor_constants,
        }
        self.graph = Graph()
        self.slot: dict[fx.Node, int] = {}
        self.positive: set[int] = set()
        self.folded: set[fx.Node] = set()
        nodes = list(program.graph.nodes)
        for node in nodes:
            if node.op == "placeholder":
                if node.name in named:
                    self.constants[node] = held[named[node.name]].detach()
                    self.names[node] = named[node.name]
                else:
                    self.slot[node] = 0
            elif node.op == "output":
                results = node.args[0]
                if len(results) != 1 or not isinstance(results[0], fx.Node):
                    raise CompressError(
                        f"a network with {len(results)} outputs: the executor runs those with one"
                    )
                self.result = results[0]
            elif node not in self.folded and node.target not in POINTLESS:
                self._step(node)
        self.graph.out = self.slot[self.result]
        prepare(self.graph)

    def _new(self, node: fx.Node) -> int:
        slot = self.graph.slots
        self.graph.slots += 1
        self.slot[node] = slot
        return slot

    def _step(self, node: fx.Node) -> None:
        target = node.target
        given: Any = node.args
        if target in SAME or (target is aten.to.dtype and _same_type(node)):
            source = given[0]
            if source in self.constants:
                self.constants[node] = self.constants[source]
            else:
                self.slot[node] = self.slot[source]
        elif target is torch.ops.compress.gate.default:
            x, weight, bias, active, block = given
            self.graph.steps.append(
                Gate(
                    self._new(node),
                    self.slot[x],
                    self.constants[weight].t().contiguous(),
                    self.constants[bias].clone(),
                    active,
                    block,
                    self.slot[x] in self.positive,
                    x.meta["val"].shape[2] * x.meta["val"].shape[3],
                )
            )
        elif target is torch.ops.compress.alive.default:
            x = self.slot[given[0]]
            self.graph.steps.append(Alive(self._new(node), x))
        elif target is aten.conv2d.default and given[1] in self.constants:
            self._conv(node)
        else:
            self._op(node)

    def _conv(self, node: fx.Node) -> None:
        inputs: Any = node.args
        given = dict(enumerate(inputs))
        x, weight = inputs[0], self.constants[inputs[1]]
        bias = self.constants[given[2]] if given.get(2) is not None else None
        stride, padding, dilation = (
            _pair(given.get(at, usual)) for at, usual in ((3, 1), (4, 0), (5, 1))
        )
        end = node
        norm = _only_user(node, BN)
        of: Any = norm.args if norm is not None else ()
        if norm is not None and all(a in self.constants for a in of[1:5] if a is not None):
            taken: list[Any] = [self.constants[a] if a is not None else None for a in of[1:5]]
            gamma, beta, mean, var = taken
            weight, bias = folded(weight, bias, gamma, beta, mean, var, float(of[6]))
            picked = _only_user(norm, operator.getitem)
            assert picked is not None and picked.args[1] == 0
            end = picked
            self.folded |= {norm, picked}
        scales, follows = None, False
        times = _only_user(end, aten.mul.Tensor)
        if times is not None and times.args[0] is end:
            gate = _behind(times.args[1])
            if gate is not None and gate in self.slot:
                scales = self.slot[gate]
                follows = gate.target is torch.ops.compress.alive.default
                if follows and gate.args[0] is not x:
                    scales = None
                else:
                    end = times
                    self.folded.add(times)
        relu = _only_user(end, aten.relu.default)
        if relu is not None:
            end = relu
            self.folded.add(relu)
        if bias is None:
            bias = weight.new_zeros(weight.shape[0])
        path = self.names[inputs[1]].removesuffix(".weight")
        step = Conv(
            self._new(end), self.slot[x], weight.contiguous().clone(), bias.clone(), stride,
            padding, dilation, int(given.get(6, 1)),
            path.removesuffix(".conv") if scales is not None else path,
            tuple(node.meta["val"].shape[2:]), scales, follows, relu is not None,
        )  # fmt: skip
        step.positive = self.slot[x] in self.positive
        if relu is not None:
            self.positive.add(step.out)
        self.graph.steps.append(step)

    def _op(self, node: fx.Node) -> None:
        end = node
        relu = _only_user(node, aten.relu.default) if node.target is aten.add.Tensor else None
        if relu is not None:
            end = relu
            self.folded.add(relu)

        def put(argument: Any) -> Any:
            if argument in self.constants:
                return self.constants[argument]
            return Ref(self.slot[argument])

        args = fx.node.map_arg(node.args, put)
        kwargs = fx.node.map_arg(node.kwargs, put)
        sources = [a for a in node.all_input_nodes if a not in self.constants]
        kept = node.target in POSITIVE and len(sources) == len(node.all_input_nodes)
        # Adding or multiplying by a number may change the sign.
        kept = kept and (
            node.target is aten.cat.default or not isinstance(node.args[1], float | int)
        )
        kept = kept and all(self.slot[a] in self.positive for a in sources)
        step = Op(self._new(end), node.target, tuple(args), dict(kwargs), relu is not None)  # type: ignore[arg-type]
        if node.target is aten.linear.default:
            step.linear_macs = node.meta["val"].numel() * node.args[0].meta["val"].shape[-1]  # type: ignore[union-attr]
        self.graph.steps.append(step)
        if relu is not None or kept or node.target in MAKES_POSITIVE:
            self.positive.add(step.out)


def folded(
    weight: Tensor, bias: Tensor | None, gamma: Tensor | None, beta: Tensor | None,
    mean: Tensor, var: Tensor, eps: float,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Weight and bias of a convolution that a batch norm's evaluation is folded into."""
    scale = (var.double() + eps).rsqrt()
    if gamma is not None:
        scale = scale * gamma.double()
    shift = -mean.double() * scale
    if bias is not None:
        shift = shift + bias.double() * scale
    if beta is not None:
        shift = shift + beta.double()
    shape = (-1, *(1,) * (weight.dim() - 1))
    return (weight.double() * scale.view(shape)).to(weight.dtype), shift.to(weight.dtype)


def _only_user(node: fx.Node, target: object) -> fx.Node | None:
    users = list(node.users)
    return users[0] if len(users) == 1 and users[0].target is target else None


def _behind(node: object) -> fx.Node | None:
    """The gate or mask that two ``unsqueeze`` made (N, C, 1, 1)."""
    for dim in (3, 2):
        if not isinstance(node, fx.Node) or node.target is not aten.unsqueeze.default:
            return None
        if node.args[1] != dim:
            return None
        node = node.args[0]
    gates = (torch.ops.compress.gate.default, torch.ops.compress.alive.default)
    return node if isinstance(node, fx.Node) and node.target in gates else None


def _same_type(node: fx.Node) -> bool:
    source = node.args[0]
    assert isinstance(source, fx.Node)
    return bool(node.meta["val"].dtype == source.meta["val"].dtype)


def _pair(value: Any) -> tuple[int, int]:
    if isinstance(value, int):
        return value, value
    return (int(value[0]), int(value[-1]))
