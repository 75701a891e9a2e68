"""A table of trained networks: all of a small space, so that searches can be replayed and judged.

Every network of the space ``depthnet-nano-bench`` was trained by one protocol, which lies beside
the table. ``benchmarks/bench_table.py`` makes both.
"""

from __future__ import annotations

import math
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from compress.errors import CompressError
from compress.netscore import netscore
from compress.search.probe import cost_shares
from compress.search.records import undominated
from compress.space import Genotype, SearchSpace, load_space

if TYPE_CHECKING:
    import pandas as pd

SPACE = "depthnet-nano-bench"
FOLDER = Path(__file__).parent / "tables"
TABLE, PROTOCOL = f"{SPACE}.csv.gz", f"{SPACE}.toml"
# Columns of each module's share of the response begin so.
RESPONSE = "response."

# Seed, input height, share of the training images, epoch.
Way = tuple[int, int, float, int]


@dataclass(frozen=True)
class Trained:
    """One network after ``epoch`` epochs of one training.

    ``macs`` are those at the table's own size, in whatever ``size`` it was trained. d1 and AbsRel
    are of the validation part; ``heldout_delta1`` is known after the last epoch alone.
    """

    hash: str
    params: int
    macs: int
    seed: int
    size: tuple[int, int]
    share: float
    epoch: int
    delta1: float
    abs_rel: float
    netscore: float
    seconds: float
    heldout_delta1: float | None


class Bench:
    """All networks of a space, trained.

    Args:
        space: that the networks are all of.
        frame: a row for each network, way of training it and rung; see docs/bench.md.
        protocol: data, recipe, rungs, ways and versions.
    """

    def __init__(
        self, space: SearchSpace, frame: pd.DataFrame, protocol: Mapping[str, Any]
    ) -> None:
        self.space, self.frame, self.protocol = space, frame, protocol
        self.epochs: tuple[int, ...] = tuple(protocol["rungs"])
        self._rows: dict[str, dict[Way, Trained]] = {}
        self._response: dict[str, dict[str, float]] = {}
        for row in frame.to_dict("records"):
            found = _trained(row)
            way = found.seed, found.size[0], found.share, found.epoch
            self._rows.setdefault(found.hash, {})[way] = found
            # Read off the network of seed 0, after its last epoch.
            response = {
                str(key).removeprefix(RESPONSE): float(value)
                for key, value in row.items()
                if str(key).startswith(RESPONSE) and not math.isnan(value)
            }
            if response:
                self._response[found.hash] = response

    @cached_property
    def genotypes(self) -> tuple[Genotype, ...]:
        """Every network of the table, each once, in the table's order."""
        varying = [key for key, values in self.space.choices.items() if len(values) > 1]
        rows = self.frame.drop_duplicates("hash")[varying].to_dict("records")
        return tuple(self.genotype(values) for values in rows)

    def genotype(self, values: Mapping[Any, Any]) -> Genotype:
        """A network from its choices, of which those that the space has one of may be left out."""
        only = {key: kind[0] for key, kind in self.space.choices.items() if len(kind) == 1}
        return self.space.genotype({**only, **values})

    def query(
        self,
        candidate: Genotype | Mapping[str, Any],
        epoch: int | None = None,
        seed: int = 0,
        *,
        height: int | None = None,
        share: float = 1.0,
    ) -> Trained:
        """What came of one network.

        Args:
            candidate: a genotype, or choices of the space; those that it leaves out must be ones
                of which the space has one only.
            epoch: a rung; the last one by default.
            seed: of its training.
            height: in pixels of the training's input, the space's own by default.
            share: of the training images.

        Raises:
            CompressError: the network is not in the table, or was not trained in this way.
        """
        genotype = self._opened(candidate)
        rows = self._rows.get(genotype.hash)
        if rows is None:
            raise CompressError(
                f"network {genotype.hash} is not in the table {self.space.name}, which has the "
                f"{len(self._rows)} of that space; take one of load_bench().genotypes, or choices "
                "of load_bench().space"
            )
        height = self.space.size[0] if height is None else height
        way = seed, height, share, self.epochs[-1] if epoch is None else epoch
        if way not in rows:
            raise CompressError(
                f"network {genotype.hash} was not trained with (seed, height, share, epoch) = "
                f"{way}; the table has {', '.join(map(str, sorted(rows)))}"
            )
        return rows[way]

    def probe(self, candidate: Genotype | Mapping[str, Any]) -> dict[str, list[float]]:
        """Each module's share of the trained network's response and cost, as ``probe`` tells."""
        genotype = self._opened(candidate)
        name = self.query(genotype).hash
        cost = cost_shares(genotype, self.space.size)
        return {m: [value, cost[m]] for m, value in self._response.get(name, {}).items()}

    @cached_property
    def final(self) -> tuple[Trained, ...]:
        """Every network after its last epoch, seed 0: what a search over the table can reach."""
        return tuple(self.query(genotype) for genotype in self.genotypes)

    def best(self, gate: float = 0.0) -> Trained:
        """The network of highest NetScore among those whose d1 passes ``gate``."""
        passing = [row for row in self.final if row.delta1 >= gate]
        if not passing:
            most = max(row.delta1 for row in self.final)
            raise CompressError(f"gate {gate:g}: no network passes; give at most {most:.4f}")
        return max(passing, key=lambda row: row.netscore)

    def front(self) -> tuple[Trained, ...]:
        """The networks that no other beats in both d1 and MACs, cheapest first."""
        return tuple(undominated(self.final, lambda row: (row.macs, row.delta1)))

    @cached_property
    def noise(self) -> float:
        """Standard deviation of d1 after the last epoch between trainings from two seeds."""
        last, height = self.epochs[-1], self.space.size[0]
        first, again = (0, height, 1.0, last), (1, height, 1.0, last)
        pairs = [rows for rows in self._rows.values() if first in rows and again in rows]
        squares = [(rows[first].delta1 - rows[again].delta1) ** 2 for rows in pairs]
        # Two draws differ by the root of 2 of what each is spread by.
        return math.sqrt(sum(squares) / len(squares) / 2)

    def _opened(self, candidate: Genotype | Mapping[str, Any]) -> Genotype:
        return candidate if isinstance(candidate, Genotype) else self.genotype(candidate)


def _trained(row: Mapping[Any, Any]) -> Trained:
    heldout = float(row["heldout_delta1"])
    return Trained(
        row["hash"], int(row["params"]), int(row["macs"]), int(row["seed"]),
        (int(row["height"]), int(row["width"])), float(row["share"]), int(row["epoch"]),
        float(row["delta1"]), float(row["abs_rel"]), float(row["netscore"]),
        float(row["seconds"]), None if math.isnan(heldout) else heldout,
    )  # fmt: skip


def read_bench(folder: Path) -> Bench:
    """Read a table and its protocol from a folder.

    Raises:
        CompressError: a file is not there, or not readable as one.
    """
    import pandas as pd

    try:
        protocol = tomllib.loads((folder / PROTOCOL).read_text(encoding="utf-8"))
        frame = pd.read_csv(folder / TABLE, dtype={"hash": str})
        score = [
            netscore(100 * d1, params, macs)
            for d1, params, macs in zip(frame.delta1, frame.params, frame.macs, strict=True)
        ]
        frame.insert(list(frame.columns).index("delta1") + 1, "netscore", score)
        return Bench(load_space(SPACE), frame, protocol)
    except (OSError, EOFError, ValueError, KeyError, AttributeError) as error:
        raise CompressError(
            f"{folder}: no table of trained networks ({error}); install the package again, or make "
            "one with benchmarks/bench_table.py"
        ) from None


@lru_cache(maxsize=1)
def load_bench() -> Bench:
    """The table that comes with the package: 288 networks, 375 trainings, three rungs each.

    >>> bench = load_bench()
    >>> len(bench.genotypes), bench.query(bench.genotypes[0]).epoch
    (288, 8)
    """
    return read_bench(FOLDER)
