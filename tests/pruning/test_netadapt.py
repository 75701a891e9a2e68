"""NetAdapt: it gets there, by the cheapest steps, and goes on where it was killed."""

from __future__ import annotations

import copy
import itertools

import pytest
import torch
from torch import Tensor, nn

from compress.errors import CompressError
from compress.pruning.cut import copy_cut
from compress.pruning.groups import find_groups
from compress.pruning.netadapt import Iteration, Schedule, netadapt, proposals
from compress.pruning.resource import Ledger, Macs, Params, PredictedLatency, operators_of

SIZE = (16, 24)


class Net(nn.Module):
    """Two branches that are added, a concatenation, a depthwise layer and a head."""

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(3, width, 3, 2, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU()
        )
        self.left = nn.Conv2d(width, width, 3, 1, 1)
        self.right = nn.Conv2d(width, width, 1)
        self.depthwise = nn.Conv2d(width, width, 3, 1, 1, groups=width)
        self.mix = nn.Conv2d(2 * width, 40, 1)
        self.head = nn.Conv2d(40, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        y = torch.relu(self.left(x) + self.right(x))
        return self.head(torch.relu(self.mix(torch.cat((self.depthwise(y), x), 1))))


class Likeness:
    """Accuracy is how alike the cut network answers to the original; tuning is counted."""

    def __init__(self, net: nn.Module) -> None:
        self.image = torch.rand(2, 3, *SIZE, generator=torch.Generator().manual_seed(0))
        with torch.no_grad():
            self.wanted = net(self.image)
        self.tuned = 0
        self.scored = 0

    def score(self, model: nn.Module) -> float:
        self.scored += 1
        with torch.no_grad():
            return 1 / (1 + float((model(self.image) - self.wanted).abs().mean()))

    def tune(self, model: nn.Module, steps: int, seed: int) -> None:
        self.tuned += 1


@pytest.fixture
def net() -> Net:
    torch.manual_seed(0)
    return Net().eval()


@pytest.mark.parametrize(
    "resource", [Macs(), Params(), PredictedLatency(lambda ops: sum(op.macs for op in ops) / 1e5)]
)
def test_the_target_is_met_step_by_step(net, resource):
    start = resource(operators_of(net, SIZE))
    done = netadapt(net, 0.5 * start, resource, Likeness(net), SIZE, Schedule(step=0.1))
    assert done.reached and done.resource <= 0.5 * start
    assert done.resource == resource(operators_of(done.model, SIZE))
    costs = [start, *(step.resource for step in done.history)]
    assert all(after < before for before, after in itertools.pairwise(costs))
    assert [step.number for step in done.history] == list(range(1, len(done.history) + 1))
    assert done.model(torch.rand(1, 3, *SIZE)).shape == (1, 1, 8, 12)
    assert all(
        m.out_channels % 8 == 0
        for m in done.model.modules()
        if isinstance(m, nn.Conv2d) and m is not done.model.head
    )


def test_tied_layers_keep_the_same_channels(net):
    """The trap of the public code: as many channels on both branches, but not the same ones."""
    group = next(g for g in find_groups(net, SIZE) if "right" in g.producers)
    assert set(group.producers) >= {"left", "right"}
    found = proposals(
        net,
        [group],
        Ledger(net, [group], SIZE),
        0.9 * Macs()(operators_of(net, SIZE)),
        Macs(),
        Schedule(),
    )
    keep = found[0].keep
    cut = copy_cut(net, {group.name: keep}, [group])
    for branch in ("left", "right"):
        now, then = cut.get_submodule(branch).weight, net.get_submodule(branch).weight
        assert torch.equal(now, then[list(keep)])
    norms = (net.left.weight**2).sum((1, 2, 3)) + (net.right.weight**2).sum((1, 2, 3))
    assert set(keep) == set(norms.topk(len(keep)).indices.tolist())


def test_the_ledger_counts_what_a_cut_network_runs(net):
    groups = [g for g in find_groups(net, SIZE) if g.prunable]
    ledger = Ledger(net, groups, SIZE)
    for group in groups:
        for count in (1, group.channels // 2, group.channels - 1):
            cut = copy_cut(net, {group.name: range(count)}, groups)
            traced = operators_of(cut, SIZE)
            assert ledger.narrowed(group.name, group.channels - count) == traced
    first = groups[0]
    ledger.cut(first.name, 8)
    assert ledger.operators == operators_of(
        copy_cut(net, {first.name: range(first.channels - 8)}, groups), SIZE
    )


def test_the_published_algorithm_tunes_every_proposal_and_ours_a_few(net):
    for schedule, most in ((Schedule.published(), 99), (Schedule(candidates=2), 2)):
        task = Likeness(net)
        target = 0.97 * Macs()(operators_of(net, SIZE))
        done = netadapt(net, target, Macs(), task, SIZE, schedule)
        assert task.tuned == sum(step.tuned for step in done.history)
        for step in done.history:
            assert step.tuned == min(step.tried, most)


def test_a_run_that_was_killed_between_two_iterations_ends_the_same(net):
    target = 0.6 * Macs()(operators_of(net, SIZE))
    whole = netadapt(net, target, Macs(), Likeness(net), SIZE)

    kept: list[tuple[nn.Module, Iteration]] = []

    class Killed(Exception):
        pass

    def keep(model: nn.Module, step: Iteration) -> None:
        kept.append((copy.deepcopy(model), step))
        if len(kept) == 2:
            raise Killed

    task = Likeness(net)
    start = Macs()(operators_of(net, SIZE))
    with pytest.raises(Killed):
        netadapt(net, target, Macs(), task, SIZE, on_iteration=keep)
    rest = netadapt(
        kept[-1][0], target, Macs(), task, SIZE, history=[step for _, step in kept], start=start
    )
    assert [(s.layer, s.after) for s in rest.history] == [(s.layer, s.after) for s in whole.history]
    for a, b in zip(
        whole.model.state_dict().values(), rest.model.state_dict().values(), strict=True
    ):
        assert torch.equal(a, b)


def test_an_unreachable_target_ends_with_the_narrowest_network(net):
    done = netadapt(net, 1.0, Macs(), Likeness(net), SIZE, Schedule(step=0.3))
    assert not done.reached
    assert done.resource < 0.2 * Macs()(operators_of(net, SIZE))
    assert (
        min(
            m.out_channels
            for m in done.model.modules()
            if isinstance(m, nn.Conv2d) and m is not done.model.head
        )
        == 8
    )


@pytest.mark.parametrize("wrong", [{"step": 0}, {"decay": 2}, {"by": "luck"}, {"floor": 0}])
def test_wrong_schedules(wrong):
    with pytest.raises(CompressError, match=next(iter(wrong))):
        Schedule(**wrong)


def test_no_layer_gives_up_more_than_its_share_at_once(net):
    resource = Params()
    start = resource(operators_of(net, SIZE))
    schedule = Schedule(step=0.3, most=0.25)
    done = netadapt(net, 0.6 * start, resource, Likeness(net), SIZE, schedule)
    assert done.reached
    for step in done.history:
        # A quarter, or one step of 8 where that is more.
        assert step.before - step.after <= max(8, step.before // 4)
    at_once = netadapt(net, 0.6 * start, resource, Likeness(net), SIZE, Schedule(step=0.3, most=1))
    assert any(step.before - step.after > step.before // 4 for step in at_once.history)


def test_what_saves_little_is_proposed_only_where_nothing_else_is(net):
    groups, resource = [g for g in find_groups(net, SIZE) if g.prunable], Params()
    ledger, here = Ledger(net, groups, SIZE), resource(operators_of(net, SIZE))
    wanted = 0.75 * here
    saved = [
        (here - one.resource) / (here - wanted)
        for one in proposals(net, groups, ledger, wanted, resource, Schedule(most=0.25))
    ]
    assert saved and (min(saved) >= 0.5 or max(saved) < 0.5)
    literal = Schedule(most=0.25, by="accuracy")
    published = proposals(net, groups, ledger, wanted, resource, literal)
    alike = [one.resource <= wanted for one in published]
    assert all(alike) or not any(alike)


def test_where_tuning_gains_more_saved_is_better(net):
    class Gains(Likeness):
        """Every cut is as much better than the network was: what it saves decides."""

        def score(self, model: nn.Module) -> float:
            return float(sum(p.numel() for p in model.parameters()) < whole)

    whole = sum(p.numel() for p in net.parameters())
    resource = Params()
    start = resource(operators_of(net, SIZE))
    schedule = Schedule(step=0.02, least=0.02, candidates=0)
    step = netadapt(net, 0.97 * start, resource, Gains(net), SIZE, schedule).history[0]
    groups = [g for g in find_groups(net, SIZE) if g.prunable]
    offered = proposals(net, groups, Ledger(net, groups, SIZE), 0.98 * start, resource, schedule)
    assert step.resource == min(one.resource for one in offered)
