"""One network that holds all of a space: any candidate is a slice of its weights.

Sources: Cai et al., "Once-for-All", arXiv 1908.09791, section 3.3 (channels sorted by importance);
Yu et al., "BigNAS", arXiv 2003.11142 (one training, no retraining). That the dense inputs of PBEP
modules are sliced by where they come from, and what is shared between numbers of stages, is ours.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from compress.errors import CompressError
from compress.models.base import DepthNet, Outputs
from compress.models.build import build
from compress.space import Genotype, SearchSpace
from compress.space.depthnet_nano import MAX_STAGES, expanded, interpolated, projected

FAMILY = "depthnet-nano"


@dataclass(frozen=True)
class Layer:
    """A layer of a candidate: ``path`` in its network, ``role`` in the supernet.

    ``out`` names the group of channels that it writes ("" where nothing is sliced), ``ins`` the
    groups that a dense convolution reads, in order; depthwise convolutions and norms have none.
    """

    path: str
    role: str
    out: str
    ins: tuple[str, ...] = ()
    norm: bool = False


@dataclass(frozen=True)
class Wiring:
    """The layers of a candidate and the width of every group of channels."""

    layers: tuple[Layer, ...]
    widths: Mapping[str, int]


def wiring(spec: Mapping[str, Any]) -> Wiring:
    """Which channels each layer of a DepthNet Nano network reads and writes."""
    layers: list[Layer] = []
    widths: dict[str, int] = {"image": 3, "stem": spec["stem"]}
    every = spec["norm"] == "all"

    def conv(path: str, role: str, out: str, ins: Iterable[str] = ()) -> None:
        layers.append(Layer(path, role, out, tuple(ins)))

    def normed(path: str, role: str, out: str, always: bool = False) -> None:
        if every or always:
            layers.append(Layer(path, f"{role}-norm", out, norm=True))

    def tail(path: str, role: str, e: str, out: str) -> None:
        """What PBEP and EP end with."""
        normed(f"{path}.expand_act.0", f"{role}/expand", e)
        conv(f"{path}.depthwise", f"{role}/depthwise", e)
        normed(f"{path}.depthwise_act.0", f"{role}/depthwise", e)
        conv(f"{path}.reduce", f"{role}/reduce", out, [e])
        normed(f"{path}.reduce_act.0", f"{role}/reduce", out)

    conv("stem.0", "stem", "stem", ["image"])
    normed("stem.1.0", "stem", "stem")
    count = len(spec["stages"])
    before = "stem"
    for s, stage in enumerate(spec["stages"], 1):
        inputs = [before]
        for m, width in enumerate(stage["widths"], 1):
            role, path = f"stage{s}/{m}", f"stages.{s - 1}.dense.{m - 1}"
            p, e = f"{role}.p", f"{role}.e"
            widths[p] = projected(sum(widths[g] for g in inputs), stage["projection"])
            widths[e] = expanded(widths[p], stage["expansion"])
            widths[role] = width
            conv(f"{path}.project", f"{role}/project", p, inputs)
            normed(f"{path}.norm", f"{role}/project", p, always=True)
            conv(f"{path}.expand", f"{role}/expand", e, [p])
            tail(path, role, e, role)
            inputs.append(role)
        # Necks of networks of three and of four stages are of different scales: two roles.
        before = f"neck{count}" if s == count else f"transition{s}"
        widths[before] = stage["transition"]
        conv(f"transitions.{s - 1}.0", before, before, inputs)
        normed(f"transitions.{s - 1}.1.0", before, before)
    # Levels are numbered coarse to fine; a network of three stages has no first one.
    skips = ["transition2", "transition1", "stem", "stem"]
    for k, pair in enumerate(spec["decoder"]):
        level = MAX_STAGES - count + 1 + k
        inputs = [before, skips[level - 1]]
        for b, (letter, width) in enumerate(zip("ab", pair, strict=True)):
            role, path = f"up{level}/{letter}", f"ups.{k}.{b}"
            e = f"{role}.e"
            widths[e] = expanded(sum(widths[g] for g in inputs), spec["decoder_expansion"])
            widths[role] = width
            conv(f"{path}.expand", f"{role}/expand", e, inputs)
            tail(path, role, e, role)
            inputs = [before := role]
    conv("head", "head", "", [before])
    return Wiring(tuple(layers), widths)


def shareable(space: SearchSpace) -> SearchSpace:
    """The space, or the part of it whose candidates can share weights.

    That is norms before every activation, where there is a choice: statistics of norms hold slices
    together, and weights trained with and without them have nothing in common.

    Raises:
        CompressError: a space of another family.
    """
    if space.family != FAMILY:
        raise CompressError(
            f"space {space.name} is of the family {space.family}, whose weights cannot be shared "
            f"yet; allowed with --strategy one-shot: {FAMILY}; leave the strategy out"
        )
    return space.restricted({"norm": "all"}) if len(space.choices["norm"]) > 1 else space


class Supernet(DepthNet):
    """The weights of all candidates of a space of the ``depthnet-nano`` family.

    A candidate takes the first channels of every group that it has, the modules from the first
    on, and, of layers that read several groups, the columns of those that are there.
    ``chosen`` is the candidate that ``outputs`` runs, with the statistics of its batch; ``seen``
    what it was given and said last, in training: others are taught with it.

    Args:
        space: as ``shareable`` gives it.
        chosen: the candidate to run at first.
    """

    def __init__(self, space: SearchSpace, chosen: Genotype) -> None:
        super().__init__()
        assert shareable(space).choices == space.choices
        self.genotype, self.size, self.info = chosen, space.size, {}
        self.chosen = chosen
        self.seen: tuple[Tensor, Tensor] | None = None
        self._columns: dict[str, dict[str, tuple[int, int]]] = {}
        self._rows: dict[str, str] = {}
        self._widest: dict[str, int] = {}
        self.shared = nn.ParameterDict()
        found = [wiring(spec) for spec in _widest(space)]
        for wired in found:
            for group, width in wired.widths.items():
                self._widest[group] = max(width, self._widest.get(group, 0))
        for layer in {layer.role: layer for w in found for layer in w.layers}.values():
            reads = {
                g: None for w in found for o in w.layers if o.role == layer.role for g in o.ins
            }
            self._add(layer, tuple(reads))

    def _add(self, layer: Layer, reads: tuple[str, ...]) -> None:
        rows = self._widest[layer.out] if layer.out else 1
        self._rows[layer.role] = layer.out
        if layer.norm:
            self.shared[f"{layer.role}|weight"] = nn.Parameter(torch.ones(rows))
            self.shared[f"{layer.role}|bias"] = nn.Parameter(torch.zeros(rows))
            return
        ends = list(itertools.accumulate(self._widest[g] for g in reads))
        self._columns[layer.role] = {
            g: (end - self._widest[g], self._widest[g]) for g, end in zip(reads, ends, strict=True)
        }
        kernel = {"stem": 7, "head": 3}.get(layer.role, 1 if reads else 3)
        weight = torch.empty(rows, ends[-1] if ends else 1, kernel, kernel)
        nn.init.kaiming_normal_(weight, nonlinearity="linear")
        self.shared[f"{layer.role}|weight"] = nn.Parameter(weight)
        if layer.role == "head":
            self.shared["head|bias"] = nn.Parameter(torch.zeros(1))

    def outputs(self, image: Tensor) -> Outputs:
        """Run ``chosen``; see ``DepthNet.outputs``."""
        depth_m = self.run(self.chosen, image)
        self.seen = (image, depth_m.detach()) if self.training else None
        return Outputs(depth_m)

    def run(self, genotype: Genotype, image: Tensor) -> Tensor:
        """Depth in metres (N, 1, H, W) of a candidate, by its batch's statistics."""
        depth_m: Tensor = functional_call(_shell(genotype), self.tensors(genotype), (image,))
        return depth_m

    def tensors(self, genotype: Genotype) -> dict[str, Tensor]:
        """A candidate's weights by their names in its own network, as views where possible."""
        wired = wiring(genotype.spec)
        found: dict[str, Tensor] = {}
        for layer in wired.layers:
            rows = wired.widths[layer.out] if layer.out else 1
            weight = self.shared[f"{layer.role}|weight"][:rows]
            if layer.ins:
                weight = self._sliced(weight, layer, wired.widths)
            found[f"{layer.path}.weight"] = weight
            if layer.norm or layer.role == "head":
                found[f"{layer.path}.bias"] = self.shared[f"{layer.role}|bias"][:rows]
        return found

    def _sliced(self, weight: Tensor, layer: Layer, widths: Mapping[str, int]) -> Tensor:
        columns = self._columns[layer.role]
        spans = [(columns[g][0], widths[g]) for g in layer.ins]
        if sum(width for _, width in spans) == weight.shape[1]:
            return weight
        if len(spans) == 1:
            start, width = spans[0]
            return weight[:, start : start + width]
        index = torch.cat([torch.arange(start, start + width) for start, width in spans])
        return weight.index_select(1, index.to(weight.device))

    @torch.no_grad()
    def cut(self, genotype: Genotype) -> DepthNet:
        """A candidate as a network of its own; its norms' statistics are still to be taken."""
        network = build(genotype, seed=0)
        network.load_state_dict(self.tensors(genotype), strict=False)
        return network

    @torch.no_grad()
    def orders(self, trained: Iterable[Genotype]) -> dict[str, Tensor]:
        """Channels by importance, most first, for every group that the candidates given have.

        A channel's importance is the sum of absolute weights with which it is read, times its
        norm's. Channels that none of these candidates has stay behind, and count for nothing.
        """
        widths: dict[str, int] = {"": 1}
        for genotype in trained:
            for group, width in wiring(genotype.spec).widths.items():
                widths[group] = max(width, widths.get(group, 0))
        scale: dict[str, Tensor] = {}
        read: dict[str, Tensor] = {}
        for role, out in self._rows.items():
            weight = self.shared[f"{role}|weight"][: widths.get(out, 0)].abs()
            if role.endswith("-norm"):
                scale[out] = weight
            for group, (start, _) in self._columns.get(role, {}).items():
                share = weight[:, start : start + widths.get(group, 0)].sum((0, 2, 3))
                read[group] = read[group] + share if group in read else share
        found = {}
        for group, shares in read.items():
            if group != "image":
                best = (shares * scale.get(group, 1.0)).argsort(descending=True, stable=True)
                rest = torch.arange(len(best), self._widest[group], device=best.device)
                found[group] = torch.cat((best, rest))
        return found

    @torch.no_grad()
    def reorder(self, orders: Mapping[str, Tensor], states: Iterable[Mapping[str, Tensor]]) -> None:
        """Permute channels by ``orders``, in tensors by the names of this network's parameters.

        ``states`` are those to change: parameters, their averages, an optimiser's moments.
        """
        for tensors in states:
            for role, out in self._rows.items():
                for kind in ("weight", "bias"):
                    tensor = tensors.get(f"shared.{role}|{kind}")
                    if tensor is None:
                        continue
                    if out in orders:
                        tensor.copy_(tensor[orders[out]])
                    for group, (start, width) in self._columns.get(role, {}).items():
                        if group in orders and kind == "weight":
                            part = tensor[:, start : start + width]
                            part.copy_(part[:, orders[group]])

    def centre_on(self, log_depth: float) -> None:
        """See ``DepthNet.centre_on``."""
        with torch.no_grad():
            self.shared["head|weight"].mul_(0.1)
            self.shared["head|bias"].fill_(log_depth)


def _widest(space: SearchSpace) -> list[dict[str, Any]]:
    """Specs at least as wide and deep as any candidate everywhere, for each number of stages."""
    most: dict[str, Any] = dict(space.largest.values)
    specs = []
    for count in space.choices["stages"]:
        spec = dict(space.genotype(most | {"stages": count}).spec)
        spec["stages"] = [dict(stage) for stage in spec["stages"]]
        for number, stage in enumerate(spec["stages"], 1):
            first, last = (most[f"stage{number}.width_{end}"] for end in ("first", "last"))
            # Where first and last differ, fewer modules reach the last width sooner.
            rows = [interpolated(first, last, c) for c in space.choices[f"stage{number}.modules"]]
            stage["widths"] = [
                max(width for width in column if width is not None)
                for column in itertools.zip_longest(*rows)
            ]
        specs.append(spec)
    return specs


@lru_cache(maxsize=256)
def _shell(genotype: Genotype) -> DepthNet:
    """A candidate's network without weights, whose norms always take their batch's statistics."""
    with torch.device("meta"):
        network = build(genotype)
    for part in network.modules():
        if isinstance(part, nn.BatchNorm2d):
            part.track_running_stats = False
            part.running_mean = part.running_var = part.num_batches_tracked = None
    return network


@torch.no_grad()
def inherit(network: DepthNet, parent: DepthNet) -> float:
    """Give a fresh network of the ``depthnet-nano`` family what fits of a trained relative.

    Channels that both have are taken over, by what they are read from and written to; all else
    keeps its fresh weights. Returns the share of the parameters that were taken.

    Raises:
        CompressError: a network of another family.
    """
    for one in (network, parent):
        if one.genotype.family != FAMILY:
            raise CompressError(
                f"{one.genotype.family}: weights are inherited in the family {FAMILY} only"
            )
    own, given = wiring(network.genotype.spec), wiring(parent.genotype.spec)
    theirs = {layer.role: layer for layer in given.layers}
    to, source = network.state_dict(), parent.state_dict()
    taken = 0
    for layer in own.layers:
        other = theirs.get(layer.role)
        if other is None:
            continue
        rows = min(own.widths[layer.out], given.widths[layer.out]) if layer.out else 1
        names = ["weight"]
        if layer.norm:
            names += ["bias", "running_mean", "running_var"]
        elif layer.role == "head":
            names.append("bias")
        for name in names:
            new, old = to[f"{layer.path}.{name}"], source[f"{other.path}.{name}"]
            if not layer.ins or name == "bias":
                new[:rows] = old[:rows]
                taken += new[:rows].numel() * (name in ("weight", "bias"))
                continue
            starts, begins = _starts(layer, own.widths), _starts(other, given.widths)
            for group in layer.ins:
                if group not in begins:
                    continue
                width = min(own.widths[group], given.widths[group])
                i, j = starts[group], begins[group]
                new[:rows, i : i + width] = old[:rows, j : j + width]
                taken += new[:rows, i : i + width].numel()
    return taken / sum(p.numel() for p in network.parameters())


def _starts(layer: Layer, widths: Mapping[str, int]) -> dict[str, int]:
    found, start = {}, 0
    for group in layer.ins:
        found[group] = start
        start += widths[group]
    return found
