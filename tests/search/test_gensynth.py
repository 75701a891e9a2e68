"""Generative synthesis: Optuna's conformance suite, determinism, and what it learns from."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import numpy as np
import optuna
import pytest
import torch
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.testing.pytest_samplers import (
    BasicSamplerTestCase,
    RelativeSamplerTestCase,
    SingleOnlySamplerTestCase,
)

from compress.cost import cost
from compress.data import Arrays
from compress.errors import CompressError
from compress.models import build
from compress.search import peers, search
from compress.search.axes import Axes
from compress.search.gates import Gates, Refusals
from compress.search.gensynth import PROBE, GenerativeSynthesisSampler
from compress.search.history import read_history
from compress.search.inquisitor import Inquisitor, Model, log_cdf, log_improvement, pulls
from compress.search.probe import cost_shares, probe
from compress.search.sampler import GatedSampler, distributions, hush_optuna
from compress.search.store import find_study
from compress.space import load_space

hush_optuna()

VARIANTS = {"whole": {}, "no-inquisitor": {"inquisitor": False}, "no-seeds": {"seeds": False}}


class TestConformance(BasicSamplerTestCase, RelativeSamplerTestCase, SingleOnlySamplerTestCase):
    """Optuna's own suite."""

    @pytest.fixture(params=VARIANTS)
    def sampler(self, request):
        return lambda: GenerativeSynthesisSampler(seed=0, startup=0, **VARIANTS[request.param])


@pytest.fixture(scope="module")
def landscape():
    """The benchmark's made-up objective."""
    path = Path(__file__).parents[2] / "benchmarks" / "_landscape.py"
    spec = importlib.util.spec_from_file_location("_landscape", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules["_landscape"] = module
    spec.loader.exec_module(module)
    yield module
    del sys.modules["_landscape"]


def replay(landscape, seed, trials, name="gensynth", probes=False, **options):
    """A study over the landscape; its candidates' hashes and its best gated NetScore."""
    land = landscape.Landscape(seed)
    gates = Gates(1e6, None, 0.8, landscape.SIZE)
    make = (lambda s: GenerativeSynthesisSampler(s, **options)) if name == "gensynth" else None
    study = optuna.create_study(
        direction="maximize",
        sampler=GatedSampler(land.space, gates, name, seed, Refusals(), make=make),
    )
    found, best = [], -np.inf
    for _ in range(trials):
        trial = study.ask(distributions(land.space))
        genotype = land.space.genotype(trial.params)
        trial.set_user_attr("hash", genotype.hash)
        found.append(genotype.hash)
        delta1 = land.delta1(genotype)
        if probes:
            trial.set_user_attr(PROBE, land.probe(genotype))
        trial.set_constraint("delta1", 0.8 - delta1)
        study.tell(trial, land.score(genotype, delta1))
        if delta1 >= 0.8:
            best = max(best, land.score(genotype, land.true_delta1(genotype.values)))
    return found, best


class TestSearching:
    """Whole studies over the DepthNet Nano space with a made-up d1 and real sizes."""

    def test_better_than_random(self, landscape):
        pairs = [
            [replay(landscape, seed, 45, name)[1] for seed in (0, 1, 2)]
            for name in ("gensynth", "random")
        ]
        assert np.mean(pairs[0]) > np.mean(pairs[1]) + 0.3

    @pytest.mark.parametrize("name", VARIANTS)
    def test_the_same_seed_proposes_the_same(self, landscape, name):
        runs = [replay(landscape, 3, 14, **VARIANTS[name])[0] for _ in range(2)]
        assert runs[0] == runs[1] and len(set(runs[0])) == 14

    def test_probes_change_what_is_proposed(self, landscape):
        with_probes = replay(landscape, 3, 14, probes=True)[0]
        without = replay(landscape, 3, 14)[0]
        assert with_probes[:8] == without[:8] and with_probes != without

    def test_constraints_are_kept(self):
        # The best value lies at 1, the constraint allows .5 at most.
        study = optuna.create_study(
            direction="maximize", sampler=GenerativeSynthesisSampler(seed=1, startup=5)
        )
        for _ in range(40):
            trial = study.ask()
            x, y = trial.suggest_float("a.x", 0, 1), trial.suggest_float("b.y", 0, 1)
            trial.set_constraint("c", x - 0.5)
            study.tell(trial, x + y)
        late = [t.params for t in study.trials[20:]]
        assert np.median([p["a.x"] for p in late]) < 0.6
        assert np.median([p["b.y"] for p in late]) > 0.7


class TestInsight:
    """The inquisitor moves the module it should, and no other."""

    def proposals(self, probes, values=lambda x: 0.0):
        space = {
            f"{module}.{name}": CategoricalDistribution((4, 8, 12, 16, 24, 32))
            for module in ("one", "two", "three")
            for name in ("width", "depth")
        }
        rng = np.random.default_rng(0)
        study = optuna.create_study(direction="maximize")
        for _ in range(20):
            params = {k: int(rng.choice(kind.choices)) for k, kind in space.items()}
            noise = float(rng.normal(0, 0.1))
            study.add_trial(
                optuna.trial.create_trial(
                    params=params, distributions=space, value=values(params) + noise,
                    user_attrs={PROBE: probes} if probes else {},
                )
            )  # fmt: skip
        drawn = []
        for seed in range(40):
            sampler = GenerativeSynthesisSampler(seed, seeds=False)
            point = Axes(space).encode(sampler.sample_relative(study, study.ask(), space))
            drawn.append(point)
        means = np.array(drawn).mean(0)
        return {m: float(means[i].mean()) for m, i in Axes(space).modules.items()}

    def test_a_probe_widens_what_answers_and_narrows_what_only_costs(self):
        before = self.proposals(None)
        after = self.proposals({"one": [0.7, 0.2], "two": [0.25, 0.25], "three": [0.05, 0.55]})
        assert after["one"] > before["one"] + 0.05
        assert after["three"] < before["three"] - 0.05

    def test_trials_outweigh_a_probe_that_misleads(self):
        wrong = {"one": [0.05, 0.55], "two": [0.25, 0.25], "three": [0.7, 0.2]}
        after = self.proposals(wrong, lambda p: (p["one.width"] - p["three.width"]) / 10)
        assert after["one"] > after["three"] + 0.1

    def test_without_probes_the_statistics_speak(self):
        after = self.proposals(None, lambda p: (p["one.width"] + p["one.depth"]) / 10)
        assert after["one"] > max(after["two"], after["three"]) + 0.1

    def test_pulls(self):
        axes = Axes({k: IntDistribution(0, 9) for k in ("a.x", "a.y", "b", "c")})
        pull = pulls(axes, [{"a": [0.6, 0.2], "b": [0.2, 0.6], "gone": [0.2, 0.2]}], False)
        assert pull[0] == pull[1] > 0 > pull[2] and pull[3] == 0
        assert pull[0] * np.sqrt(2) == pytest.approx(-pull[2]) == pytest.approx(np.log(3))
        assert not pulls(axes, [], False).any()

    def test_a_line_is_learnt(self):
        axes = Axes({"x": FloatDistribution(0, 1), "y": FloatDistribution(0, 1)})
        points = np.random.default_rng(0).random((40, 2))
        told = Inquisitor(axes, points, 3 * points[:, 0] - points[:, 1], (), False)
        mean, spread = told.predict(np.array([[0.1, 0.9], [0.9, 0.1], [3.0, -2.0]]))
        assert mean[:2] == pytest.approx([-0.6, 2.6], abs=0.1)
        assert (spread[:2] > 0).all() and (spread[:2] < 0.3).all()
        assert spread[2] > 2 * spread[:2].max()  # far from all that was tried

    def test_predictions_are_the_posterior_by_its_definition(self):
        rng = np.random.default_rng(1)
        features, asked = rng.normal(size=(12, 5)), rng.normal(size=(3, 5))
        values, prior = rng.normal(size=12), rng.normal(size=5)
        model = Model(features, values, prior)
        mean, spread = model.predict(asked)
        # Weights' covariance and mean from the normal equations, in units of the values' spread.
        weight, noise = model.variance * model.unit**2, model.variance * model.ratio
        covariance = np.linalg.inv(features.T @ features / noise + np.eye(5) / weight)
        right = features.T @ (values - values.mean()) / values.std() / noise + prior / weight
        expected = values.mean() + values.std() * (asked @ (covariance @ right))
        assert mean == pytest.approx(expected)
        variance = np.einsum("ij,jk,ik->i", asked, covariance, asked)
        assert spread == pytest.approx(values.std() * np.sqrt(variance))

    def test_what_a_network_promises(self):
        z = np.linspace(-8.5, 4, 200)
        grid = np.linspace(-14, 14, 400_001)
        density = np.exp(-(grid**2) / 2) / np.sqrt(2 * np.pi)
        step = grid[1] - grid[0]
        below = [density[grid <= value].sum() * step for value in z[::20]]
        assert np.exp(log_cdf(z[::20])) == pytest.approx(np.array(below), rel=2e-3)
        gains = [(np.maximum(0, value + grid) * density).sum() * step for value in z[::20]]
        assert np.exp(log_improvement(z[::20])) == pytest.approx(np.array(gains), rel=5e-3)
        for function in (log_cdf, log_improvement):  # no seam, and no underflow far away
            assert (np.diff(function(np.linspace(-60, 3, 5000))) > 0).all()


class TestHistory:
    """What a sampler remembers."""

    def test_order(self):
        study = optuna.create_study(direction="minimize")
        kinds = {"x": IntDistribution(0, 9)}
        for x, value, violation in ((1, 5.0, -1), (2, 1.0, 0.5), (3, 4.0, 0), (4, float("inf"), 0)):
            trial = study.ask(kinds | {"x": IntDistribution(x, x)})
            trial.set_constraint("c", violation)
            trial.report(value + 1, 1)
            study.tell(trial, value)
        trial = study.ask({"x": IntDistribution(7, 7)})
        trial.report(3.0, 1)
        trial.set_constraint("c", 9.0)
        study.tell(trial, state=optuna.trial.TrialState.PRUNED)
        history = read_history(study, Axes(kinds))
        assert [t.params["x"] for t in history.trials] == [3, 1, 2, 7]
        # The stopped one is given the mean gain and the usual miss.
        assert history.values == pytest.approx([-4, -5, -1, -2])
        assert history.violations[-1] == 0.5
        assert [t.params["x"] for t in history.latest(2).trials] == [3, 7]

    @pytest.mark.parametrize(
        ("kind", "values"),
        [
            (CategoricalDistribution((32, 4, 8.5)), (4, 8.5, 32)),
            (CategoricalDistribution(("b", True, None)), ("b", True, None)),
            (IntDistribution(3, 9, step=2), (3, 5, 7, 9)),
            (IntDistribution(1, 100, log=True), (1, 10, 100)),
            (FloatDistribution(-1, 1, step=0.5), (-1, -0.5, 0, 0.5, 1)),
            (FloatDistribution(1e-6, 1, log=True), (1e-6, 1e-3, 1)),
        ],
    )
    def test_coordinates_and_back(self, kind, values):
        axes = Axes({"x": kind})
        points = [axes.encode({"x": value}) for value in values]
        assert [axes.decode(p)["x"] for p in points] == pytest.approx(list(values)) or [
            axes.decode(p)["x"] for p in points
        ] == list(values)
        assert [float(p[0]) for p in points] == sorted(float(p[0]) for p in points)
        assert axes.encode({"x": 1e9}) is None and axes.encode({}) is None


class TestProbe:
    """What a trained network is asked."""

    def arrays(self, count=12):
        rng = np.random.default_rng(0)
        depth_m = rng.uniform(1, 4, (count, 32, 48)).astype(np.float32)
        depth_m[:, :2] = 0
        rgb = rng.integers(0, 255, (count, 32, 48, 3), dtype=np.uint8)
        return Arrays(rgb, depth_m, tuple(map(str, range(count))))

    @pytest.mark.parametrize("name", ["tiny", "small"])
    def test_shares(self, name):
        genotype = load_space("depthnet-nano").reference(name)
        model = build(genotype, seed=0).train()
        state = {k: v.clone() for k, v in model.state_dict().items()}
        found = probe(model, self.arrays())
        used = {
            "stem",
            "neck",
            *(f"stage{i}" for i in range(1, 5)),
            *(f"up{i}" for i in range(1, 5)),
        }
        used -= {"stage4", "up1"} if name == "tiny" else set()
        assert found.keys() == used
        assert sum(r for r, _ in found.values()) == pytest.approx(1)
        assert all(0 < r < 1 and 0 < c < 1 for r, c in found.values())
        assert found == probe(model, self.arrays())
        # The network is left as it was.
        assert model.training and all(p.grad is None for p in model.parameters())
        assert all(torch.equal(v, state[k]) for k, v in model.state_dict().items())
        shares = cost_shares(genotype, (96, 128))
        assert sum(shares.values()) == pytest.approx(1) and cost(genotype).macs

    def test_a_silenced_module_has_no_response(self):
        model = build(load_space("depthnet-nano").reference("tiny"), seed=0)
        with torch.no_grad():  # what the second stage's modules say is not listened to
            start = model.stages[1].dense[0].project.in_channels
            model.transitions[1][0].weight[:, start:] = 0
        before = probe(build(model.genotype, seed=0), self.arrays())["stage2"][0]
        found = probe(model, self.arrays())
        # Only through the modules among themselves, which nothing then reads; the transition stays.
        assert found["stage2"][0] < before

    def test_other_families_have_none(self):
        space = load_space("fastdepth")
        assert probe(build(space.sample(0)), self.arrays()) == {}


def test_a_study_stores_probes(tiny_space, tiny_folder, tmp_path):
    search(
        study="s", space=str(tiny_space), data=f"folder:{tiny_folder}", out=tmp_path, size=(32, 48),
        delta1=0.2, epochs=1, final_epochs=1, workers=1, trials=1, sampler="gensynth",
    )  # fmt: skip
    (trial,) = find_study("s", tmp_path, None).trials
    assert {"stem", "stage1", "neck"} <= trial.user_attrs[PROBE].keys()


@pytest.mark.parametrize("name", ["gp", "cmaes"])
def test_a_missing_package_is_named(name, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(CompressError, match=rf"--sampler {name} needs the package .*pip install"):
        getattr(peers, name)(0)
