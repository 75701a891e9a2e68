from __future__ import annotations

import copy
import hashlib
import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from compress.errors import CompressError
from compress.space import Genotype, family, input_size, load_space, totals

SPACE = load_space("depthnet-nano")
VALID = SPACE.sample(1).to_dict()


def test_json_round_trip() -> None:
    for genotype in (SPACE.reference("kitti"), *map(SPACE.sample, range(50))):
        text = genotype.to_json()
        again = Genotype.from_json(text)
        assert "\n" not in text
        assert again.to_dict() == genotype.to_dict()
        assert (again, again.hash, hash(again)) == (genotype, genotype.hash, hash(genotype))


def test_read(tmp_path: Path) -> None:
    path = tmp_path / "genotype.json"
    path.write_text(SPACE.sample(2).to_json(), encoding="utf-8")
    assert Genotype.read(path) == SPACE.sample(2)
    with pytest.raises(CompressError, match="cannot read a genotype") as caught:
        Genotype.read(tmp_path / "absent.json")
    assert "absent.json" in str(caught.value)
    path.write_bytes(b"\xff\xfe{}")
    with pytest.raises(CompressError, match="cannot read a genotype"):
        Genotype.read(path)


def test_hash_is_that_of_the_architecture() -> None:
    genotype = SPACE.reference("nyu")
    canonical = json.dumps(
        ["depthnet-nano", genotype.spec], sort_keys=True, separators=(",", ":")
    ).encode()
    assert genotype.hash == hashlib.sha256(canonical).hexdigest()[:16]
    # Written down, so that a change that parts old studies from new ones is noticed.
    assert genotype.hash == "165ad47b32784edb"


def test_hash_is_the_same_in_another_process() -> None:
    code = (
        "from compress.space import load_space; s = load_space('depthnet-nano');"
        "print(*[s.sample(i).hash for i in range(5)])"
    )
    ran = subprocess.run(  # its own hash seed
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert ran.stdout.split() == [SPACE.sample(seed).hash for seed in range(5)]


def test_identity_is_the_network_alone() -> None:
    genotype = SPACE.sample(1)
    other = Genotype(genotype.family, genotype.spec, (64, 64), "elsewhere", "a name", {"stem": 1})
    assert other == genotype
    assert other.hash == genotype.hash
    assert len({genotype, other, SPACE.sample(2)}) == 2
    assert genotype != SPACE.sample(2)
    assert genotype != genotype.hash


def test_whole_ratios_are_those_with_a_point() -> None:
    data = copy.deepcopy(SPACE.reference("nyu").to_dict())
    data["spec"]["decoder_expansion"] = 1
    for stage in data["spec"]["stages"]:
        stage["expansion"] = 6
    genotype = Genotype.from_json(json.dumps(data))
    assert genotype.hash == SPACE.reference("nyu").hash


def test_the_given_dict_stays_its_owners() -> None:
    data = copy.deepcopy(VALID)
    genotype = Genotype.from_dict(data)
    before = genotype.to_json()
    data["values"]["stem"] = 99
    data["spec"]["stem"] = 99
    data["spec"]["stages"][0]["projection"] = 9.0
    assert genotype.to_json() == before


def replaced(path: tuple[Any, ...], value: Any) -> dict[str, Any]:
    data: Any = copy.deepcopy(VALID)
    node = data
    for step in path[:-1]:
        node = node[step]
    node[path[-1]] = value
    result: dict[str, Any] = data
    return result


STAGE = ("spec", "stages", 0)
HOSTILE = [
    (("family",), "resnet", "resnet"),
    (("family",), None, "family"),
    (("family",), ["depthnet-nano"], "family"),
    (("size",), [math.inf, 64], "inf"),
    (("size",), [math.nan, 64], "nan"),
    (("size",), [1e308, 64], "1e\\+308"),
    (("size",), [64.5, 64], "64.5"),
    (("size",), [64], "HEIGHTxWIDTH"),
    (("size",), {"64": 1, "96": 2}, "HEIGHTxWIDTH"),
    (("size",), ["64", "96"], "HEIGHTxWIDTH"),
    (("size",), [True, 64], "True"),
    (("space",), 3, "space = 3"),
    (("name",), None, "name = None"),
    (("values",), [["stem", 3]], "values"),
    (("values",), 5, "values = 5"),
    (("values",), "stem", "values"),
    (("values", "stem"), [8], "values"),
    (("extra",), 1, "extra"),
    (("spec",), None, "spec"),
    (("spec",), [], "spec"),
    (("spec", "stem"), -4, "stem: -4"),
    (("spec", "stem"), True, "stem: True"),
    (("spec", "stem"), "8", "stem: '8'"),
    (("spec", "stem"), 8.0, "stem: 8.0"),
    (("spec", "stem"), 10**12, "stem: 1000000000000"),
    (("spec", "stem"), 10**400, "stem: 1000"),
    (("spec", "norm"), "none", "projection, all"),
    (("spec", "norm"), ["all"], "projection, all"),
    (("spec", "stages"), {}, "list of stages"),
    (("spec", "stages"), [], "2 to 4 stages"),
    (("spec", "stages"), [VALID["spec"]["stages"][0]] * 5, "2 to 4 stages"),
    (("spec", "stages", 0), 7, "stage 1"),
    (("spec", "decoder"), 3, "decoder"),
    (("spec", "decoder"), [[8, 8]], "each stage"),
    (("spec", "decoder", 0), [8, 8, 8], "decoder level 1"),
    (("spec", "decoder", 0), [8, 0], "decoder level 1: 0"),
    (("spec", "decoder_expansion"), math.nan, "decoder_expansion: nan"),
    (("spec", "decoder_expansion"), math.inf, "decoder_expansion: inf"),
    (("spec", "extra"), 3, "extra"),
    ((*STAGE, "widths"), [], "1 to 64 whole numbers"),
    ((*STAGE, "widths"), [4] * 65, "1 to 64 whole numbers"),
    ((*STAGE, "widths"), [4, -1], "width: -1"),
    ((*STAGE, "widths"), "4", "1 to 64 whole numbers"),
    ((*STAGE, "projection"), math.nan, "projection: nan"),
    ((*STAGE, "projection"), -math.inf, "projection: -inf"),
    ((*STAGE, "expansion"), 1e9, "expansion: 1000000000.0"),
    ((*STAGE, "expansion"), False, "expansion: False"),
    ((*STAGE, "transition"), 0, "transition: 0"),
    ((*STAGE, "modules"), 10**9, "modules = 1000000000"),
    ((*STAGE, "extra"), 1, "stage 1 has the keys"),
]


@pytest.mark.parametrize(("path", "value", "said"), HOSTILE)
def test_wrong_genotype_is_answered(path: tuple[Any, ...], value: Any, said: str) -> None:
    data = replaced(path, value)
    with pytest.raises(CompressError, match=said) as caught:
        Genotype.from_dict(data, "mine.json")
    assert "\n" not in str(caught.value)
    with pytest.raises(CompressError, match=said):
        Genotype.from_json(json.dumps(data), "mine.json")


@pytest.mark.parametrize("key", ["family", "spec", "size"])
def test_missing_keys_are_named(key: str) -> None:
    data = {k: v for k, v in VALID.items() if k != key}
    with pytest.raises(CompressError, match=f"mine: .*missing keys \\['{key}'\\]"):
        Genotype.from_dict(data, "mine")


@pytest.mark.parametrize("text", ["", "{", "null", "3", "[]", '"x"', "NaN", '{"size": 1e999}'])
def test_not_a_genotype(text: str) -> None:
    with pytest.raises(CompressError, match="mine"):
        Genotype.from_json(text, "mine")


def test_numbers_of_too_many_digits() -> None:
    with pytest.raises(CompressError, match="not JSON"):
        Genotype.from_json('{"size": ' + "9" * 5000 + "}")


@pytest.mark.parametrize("key", ["family", "size", "spec", "space", "values", "extra"])
def test_any_depth_of_nesting(key: str) -> None:
    # Around the interpreter's own limit a list can be read and no longer be shown or written.
    depths = [10, 100, *range(300, sys.getrecursionlimit(), 23), 5000, 200_000]
    for depth in depths:
        text = json.dumps(replaced((key,), "HERE")).replace('"HERE"', "[" * depth + "]" * depth)
        with pytest.raises(CompressError) as caught:
            Genotype.from_json(text)
        assert len(str(caught.value)) < 1000


texts = st.text("abNyx\u00e9\ud800\n\"'", max_size=4)
scalars = (
    st.none()
    | st.booleans()
    | st.integers(-3, 70)
    | st.integers()
    | st.floats()
    | st.sampled_from([10**30, -(2**63), 1e308, "...", "all", "nyu", "depthnet-nano", "96x128"])
    | texts
)
anything = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=8,
)


def paths(node: Any) -> list[tuple[Any, ...]]:
    steps = node if isinstance(node, dict) else range(len(node) if isinstance(node, list) else 0)
    return [(s, *rest) for s in steps for rest in [(), *paths(node[s])]]


@st.composite
def mutations(draw: st.DrawFn) -> Any:
    data = copy.deepcopy(VALID)
    *steps, place = draw(st.sampled_from(paths(data)))
    node: Any = data
    for step in steps:
        node = node[step]
    match draw(st.sampled_from(["replace", "replace", "delete", "insert", "move"])):
        case "delete":
            del node[place]
        case "insert" if isinstance(node, list):
            node.insert(place, draw(anything))
        case "insert":
            node[draw(texts)] = draw(anything)
        case "move":  # something valid, elsewhere
            node[place] = copy.deepcopy(draw(st.sampled_from(list(VALID["spec"].values()))))
        case _:
            node[place] = draw(anything)
    return data


@settings(max_examples=300)
@given(data=mutations())
def test_mutated_genotypes_are_refused_or_sound(data: Any) -> None:
    for read in (lambda: Genotype.from_dict(data), lambda: Genotype.from_json(json.dumps(data))):
        try:
            genotype = read()
        except CompressError:
            continue
        assert Genotype.from_json(genotype.to_json()) == genotype
        size = totals(family(genotype.family).operators(genotype.spec, genotype.size))
        assert size.params > 0 and size.macs_all > size.macs > 0


@given(text=st.text())
def test_any_text_is_refused(text: str) -> None:
    with pytest.raises(CompressError):
        Genotype.from_json(text)


@given(data=anything)
def test_anything_else_is_refused(data: Any) -> None:
    with pytest.raises(CompressError):
        Genotype.from_dict(data)


@pytest.mark.parametrize("value", ["480x640", "480X640", (480, 640), [480, 640]])
def test_input_size(value: object) -> None:
    assert input_size(value) == (480, 640)


WRONG_SIZES = [
    *("480", "480x", "480x640x3", "15x640", "480x8193", "-480x640", "4.8x640", "9" * 5000),
    *((480,), (480, 640.0), (math.inf, 64), (True, 640), {480, 640}, b"`\x80", None, 480),
]


@pytest.mark.parametrize("value", WRONG_SIZES, ids=range(len(WRONG_SIZES)))
def test_wrong_input_size(value: object) -> None:
    with pytest.raises(CompressError, match=r"mine: .*HEIGHTxWIDTH"):
        input_size(value, "mine")
