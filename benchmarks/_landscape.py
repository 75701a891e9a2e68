"""A made-up d1 over the DepthNet Nano space, in closed form, with the real parameters and MACs.

It is no claim about depth networks: it has what makes their search hard (unequal needs of modules,
saturation, bottlenecks, choices that other choices switch off, noise) and costs nothing to ask.
"""

from __future__ import annotations

import hashlib
import math
import random
from collections.abc import Mapping
from typing import Any

from compress.cost import cost
from compress.cost.count import operators
from compress.netscore import netscore
from compress.search.probe import module_of
from compress.space import Genotype, SearchSpace, load_space

SIZE = (96, 128)
BEST = 0.93  # d1 with all needs met
NOISE = 0.006  # standard deviation of d1, as between two trainings of one network


class Landscape:
    """One instance: every module's weight and need are drawn from ``seed``."""

    def __init__(self, seed: int, space: SearchSpace | None = None) -> None:
        self.space = space or load_space("depthnet-nano")
        self.seed = seed
        chance = random.Random(seed)
        typical = {"stem": 10, "neck": 90, "stage1": 40, "stage2": 70, "stage3": 110, "stage4": 80}
        typical |= {"up1": 60, "up2": 36, "up3": 20, "up4": 13}
        self.need = {m: v * math.exp(chance.gauss(0, 0.4)) for m, v in typical.items()}
        weights = {m: math.exp(chance.gauss(0, 0.7)) for m in typical}
        total = sum(weights.values())
        self.weight = {m: w / total for m, w in weights.items()}
        self.ratio = {f"stage{i}": chance.uniform(1.2, 2.2) for i in range(1, 5)}

    def supply(self, values: Mapping[str, Any]) -> dict[str, float]:
        """What every module that is used has, in units of its need."""
        found = {"stem": values["stem"], "neck": values["neck"]}
        for i in range(1, values["stages"] + 1):
            at = f"stage{i}"
            width = (values[f"{at}.width_first"] + values[f"{at}.width_last"]) / 2
            found[at] = values[f"{at}.modules"] ** 0.7 * width
            found[at] *= (values[f"{at}.expansion"] / 4) ** 0.5
            found[at] *= math.exp(-((math.log(values[f"{at}.projection"] / self.ratio[at])) ** 2))
            if i < values["stages"]:
                room = values[f"{at}.transition"] / (0.5 * self.need[at])
                found[at] *= min(1.0, room) ** 0.5  # a narrow transition wastes what comes before
        for level in range(5 - values["stages"], 5):
            pair = values[f"up{level}.a"], values[f"up{level}.b"]
            found[f"up{level}"] = math.sqrt(pair[0] * pair[1]) * values["decoder.expansion"] ** 0.4
        return {m: v / self.need[m] for m, v in found.items()}

    def losses(self, values: Mapping[str, Any]) -> dict[str, float]:
        """d1 that each module's unmet need costs."""
        has = self.supply(values)
        return {m: 0.5 * w * math.exp(-2.2 * has.get(m, 0.35)) for m, w in self.weight.items()}

    def true_delta1(self, values: Mapping[str, Any]) -> float:
        """d1 without noise."""
        losses = self.losses(values)
        narrowest = max(losses[m] / self.weight[m] for m in losses)
        norm = 0.0 if values["norm"] == "all" else 0.01
        return max(0.0, BEST - sum(losses.values()) - 0.12 * narrowest - norm)

    def delta1(self, genotype: Genotype) -> float:
        """d1 as one training finds it: the same for one network, another for its likeness."""
        key = hashlib.sha256(f"{self.seed} {genotype.hash}".encode()).hexdigest()
        noise = random.Random(key).gauss(0, NOISE)
        return min(1.0, max(0.0, self.true_delta1(genotype.values) + noise))

    def score(self, genotype: Genotype, delta1: float) -> float:
        """NetScore at the real size."""
        size = cost(genotype, SIZE)
        return netscore(100 * delta1, size.params, size.macs)

    def probe(self, genotype: Genotype) -> dict[str, list[float]]:
        """What a probe would read: d1 lost by silencing each module, with an error of a third."""
        values = genotype.values
        chance = random.Random(f"probe {self.seed} {genotype.hash}")
        losses, used = self.losses(values), self.supply(values)
        lost = {m: 0.5 * self.weight[m] - losses[m] for m in used}
        response = {m: lost[m] * math.exp(chance.gauss(0, 0.33)) for m in used}
        macs = dict.fromkeys(used, 0)
        for op in operators(genotype, SIZE):
            module = module_of(op.name, values["stages"])
            if module in macs:
                macs[module] += op.macs
        total, all_macs = sum(response.values()), sum(macs.values())
        return {m: [response[m] / total, macs[m] / all_macs] for m in used}
