from __future__ import annotations

import random
import tomllib
from pathlib import Path

import pytest
from tiny_toml import TINY

from compress.cost import cost
from compress.errors import CompressError
from compress.space import (
    SearchSpace,
    load_space,
    parse_reference,
    shipped,
    space_from_dict,
    space_names,
)

# What is written instead of what, and what the answer must say.
WRONG = [
    ('name = "tiny"', 'nama = "tiny"', ["key 'nama'", "did you mean name"]),
    ('name = "tiny"', "name = 7", ["name = 7", "write a text"]),
    ('name = "tiny"', "", ["the key 'name' is missing"]),
    ('family = "depthnet-nano"', "", ["the key 'family' is missing"]),
    ("size = [32, 48]", "", ["the key 'size' is missing"]),
    ('name = "tiny"', 'name = "tiny"\npaper = 3', ["paper = 3", "write a text"]),
    ('family = "depthnet-nano"', 'family = "depthnet"', ["family", "'depthnet'", "depthnet-nano"]),
    ('family = "depthnet-nano"', "family = [1]", ["family", "[1]", "depthnet-nano"]),
    ("size = [32, 48]", "size = [32]", ["size", "[32]", "16 to 8192"]),
    ("size = [32, 48]", "size = [32, 8]", ["size", "[32, 8]", "16 to 8192"]),
    ("size = [32, 48]", "size = [32.5, 48]", ["size", "[32.5, 48]", "16 to 8192"]),
    ("size = [32, 48]", "size = [inf, 48]", ["size", "[inf, 48]", "16 to 8192"]),
    ("size = [32, 48]", "size = [nan, 48]", ["size", "[nan, 48]", "16 to 8192"]),
    ("size = [32, 48]", 'size = "32x"', ["size", "'32x'", "HEIGHTxWIDTH"]),
    ("size = [32, 48]", "size = { 32 = 1, 48 = 2 }", ["size", "HEIGHTxWIDTH"]),
    ("size = [32, 48]", "size = true", ["size", "True", "HEIGHTxWIDTH"]),
    ("stem = [4, 8]", "stam = [4, 8]", ["parameter 'stam'", "did you mean stem"]),
    ("stem = [4, 8]", "stem.width = [4]", ["parameter 'stem.width'", "allowed"]),
    ("stem = [4, 8]", "", ["no choices for stem", "whole numbers from 1 to 512"]),
    ("stem = [4, 8]", "stem = []", ["stem = []", "write a list", "whole numbers from 1 to 512"]),
    ("stem = [4, 8]", "stem = 4", ["stem = 4", "write a list", "whole numbers from 1 to 512"]),
    ("stem = [4, 8]", "stem = [4, 0]", ["stem: 0", "whole numbers from 1 to 512"]),
    ("stem = [4, 8]", "stem = [513]", ["stem: 513", "whole numbers from 1 to 512"]),
    ("stem = [4, 8]", "stem = [4.0]", ["stem: 4.0", "whole numbers from 1 to 512"]),
    ("stem = [4, 8]", "stem = [true]", ["stem: True", "whole numbers from 1 to 512"]),
    ("stem = [4, 8]", 'stem = ["4"]', ["stem: '4'", "whole numbers from 1 to 512"]),
    ("stem = [4, 8]", "stem = [[4]]", ["stem: [4]", "whole numbers from 1 to 512"]),
    ("stem = [4, 8]", "stem = [4, 8, 4]", ["stem = [4, 8, 4]", "twice"]),
    ("stages = [3]", "stages = [5]", ["stages: 5", "whole numbers from 2 to 4"]),
    ('norm = ["projection"]', 'norm = ["none"]', ["norm: 'none'", "projection, all"]),
    ('norm = ["projection"]', "norm = [1]", ["norm: 1", "projection, all"]),
    ("modules = [1, 2]", "modules = [65]", ["stage1.modules: 65", "whole numbers from 1 to 64"]),
    ("modules = [1, 2]", "modulos = [1]", ["stage1.modulos", "did you mean stage1.modules"]),
    (
        "decoder.expansion = [0.5, 1.0]",
        "decoder.expansion = [nan]",
        ["decoder.expansion: nan", "numbers from 0.25 to 8"],
    ),
    (
        "decoder.expansion = [0.5, 1.0]",
        "decoder.expansion = [-inf]",
        ["decoder.expansion: -inf", "numbers from 0.25 to 8"],
    ),
    (
        "decoder.expansion = [0.5, 1.0]",
        "decoder.expansion = [1, 1.0]",
        ["decoder.expansion = [1, 1.0]", "twice"],
    ),
    ("[references.one]", "[refs.one]", ["key 'refs'", "allowed"]),
    ('description = "a point"', "descr = 1", ["references.one", "key 'descr'", "description"]),
    ('description = "a point"', "description = 1", ["references.one: description = 1", "text"]),
    ("size = [48, 64]", "size = [48]", ["references.one: size", "[48]"]),
    ("published = { params = 1000.0 }", "published = 5", ["references.one: published = 5"]),
    (
        "published = { params = 1000.0 }",
        'published = { params = "1k" }',
        ["references.one: published.params = '1k'", "number"],
    ),
    ("[references.one.spec]", "[references.one.spek]", ["references.one", "key 'spek'", "spec"]),
    ('decoder_expansion = 1.0\nnorm = "projection"', "", ["references.one", "keys", "norm"]),
    ("[[8, 8], [4, 4]]", "[[8, 8]]", ["references.one", "decoder", "[a, b] for each stage"]),
    ("[[8, 8], [4, 4]]", "[[8, 8], [4]]", ["references.one", "decoder level 2"]),
    ("[[8, 8], [4, 4]]", "[[8, 8], [4, 0]]", ["decoder level 2: 0", "whole numbers from 1"]),
    ("widths = [4],", "", ["references.one: stage 2", "widths"]),
    ("widths = [4],", "widths = [],", ["references.one: stage 2", "1 to 64 whole numbers"]),
    ("widths = [4],", "widths = [4, 5], modules = 3,", ["stage 2", "modules = 3", "2 widths"]),
    ("widths = [4],", "widths = [4, true],", ["stage 2: width: True", "whole numbers"]),
    # Rows that "..." stands for.
    ("modules = 4, widths", "widths", ["stage 1: widths", "modules = their number", "got None"]),
    ("modules = 4", "modules = 2", ["stage 1: widths", "modules = their number", "got 2"]),
    ("modules = 4", "modules = 4.0", ["stage 1: widths", "modules = their number", "got 4.0"]),
    ("modules = 4", "modules = true", ["stage 1: widths", "modules = their number", "got True"]),
    ("modules = 4", "modules = 65", ["stage 1: modules: 65", "whole numbers from 1 to 64"]),
    ("modules = 4", "modules = 999999999999", ["stage 1: modules: 99999", "from 1 to 64"]),
    ('[4, 5, "...", 9]', '["...", 9]', ["stage 1: widths", "first widths"]),
    ('[4, 5, "...", 9]', '[4, "..."]', ["stage 1: widths", "last one"]),
    ('[4, 5, "...", 9]', '[4, "...", "...", 9]', ["stage 1: widths", "last one"]),
    ('[4, 5, "...", 9]', '[4, "...", 8, 9]', ["stage 1: widths", "last one"]),
    ('[4, 5, "...", 9]', '[4, "x", "...", 9]', ["stage 1: width: 'x'", "whole numbers"]),
    ('[4, 5, "...", 9]', '[4, 5, "...", nan]', ["stage 1: width: nan", "whole numbers"]),
    ('[4, 5, "...", 9]', '[4, 5, "....", 9]', ["stage 1: width: '....'", "whole numbers"]),
]


@pytest.mark.parametrize(("old", "new", "said"), WRONG)
def test_wrong_toml_is_answered(tmp_path: Path, old: str, new: str, said: list[str]) -> None:
    assert TINY.count(old) >= 1
    path = tmp_path / "mine.toml"
    path.write_text(TINY.replace(old, new, 1), encoding="utf-8")
    with pytest.raises(CompressError) as caught:
        load_space(path)
    message = str(caught.value)
    assert message.startswith(str(path))
    assert "\n" not in message
    assert [part for part in said if part not in message] == []


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"name = ", "not TOML"),
        (b"[choices\n", "not TOML"),
        (b'name = "a"\nname = "b"\n', "not TOML"),
        (b"name = \xff\xfe", "cannot read a search space"),
        (b"size = " + b"[" * 100_000, "not TOML"),
        (b"size = " + b"9" * 5000, "not TOML"),
    ],
)
def test_no_toml_at_all(tmp_path: Path, content: bytes, said: str) -> None:
    path = tmp_path / "broken.toml"
    path.write_bytes(content)
    with pytest.raises(CompressError) as caught:
        load_space(path)
    assert str(caught.value).startswith(f"{path}: {said}")


def test_unreadable_toml(tmp_path: Path) -> None:
    (tmp_path / "folder.toml").mkdir()
    for path in (tmp_path / "absent.toml", tmp_path / "folder.toml"):
        with pytest.raises(CompressError, match="cannot read a search space") as caught:
            load_space(path)
        assert str(path) in str(caught.value)


def test_long_values_are_cut_short(tmp_path: Path) -> None:
    path = tmp_path / "long.toml"
    path.write_text(TINY.replace("stem = [4, 8]", f'stem = ["{"x" * 50_000}"]', 1))
    with pytest.raises(CompressError) as caught:
        load_space(path)
    assert len(str(caught.value)) < len(str(path)) + 250


def python_file(folder: Path, ending: str) -> Path:
    path = folder / "mine.py"
    path.write_text(f"import tomllib\n\nDATA = tomllib.loads('''{TINY}''')\n{ending}\n")
    return path


def test_own_spaces_equal_shipped_ones(tmp_path: Path) -> None:
    source = shipped("search_spaces") / "depthnet-nano.toml"
    copy = tmp_path / "copy.toml"
    copy.write_bytes(source.read_bytes())
    python = tmp_path / "copy.py"
    python.write_text(
        "import tomllib\nfrom pathlib import Path\n"
        "from compress.space import SearchSpace, load_space\n"
        f"SPACE = tomllib.loads(Path({str(source)!r}).read_text())\n"
        "given = load_space('depthnet-nano')\n"
        "OBJECT = SearchSpace(given.name, given.family, given.size, dict(given.choices),\n"
        "    given.references, given.description, given.paper)\n"
    )
    known = load_space("depthnet-nano")
    for text in (str(copy), copy, f"{python}:SPACE", f"{python}:OBJECT"):
        space = load_space(text)
        assert isinstance(space, SearchSpace)
        assert (space.name, space.family, space.size) == (known.name, known.family, known.size)
        assert dict(space.choices) == dict(known.choices)
        assert list(space.choices) == list(known.choices)
        assert space.cardinality == known.cardinality
        assert [space.sample(seed).hash for seed in range(20)] == [
            known.sample(seed).hash for seed in range(20)
        ]
        assert space.smallest == known.smallest
        assert {name: r.genotype for name, r in space.references.items()} == {
            name: r.genotype for name, r in known.references.items()
        }


def test_order_of_the_file_makes_no_difference(tmp_path: Path) -> None:
    head, tables = TINY.split("[choices.stage1]", 1)
    tables = "[choices.stage1]" + tables.split("[references.one]")[0]
    parts = [f"[{part}" for part in tables.split("[choices") if part]
    parts = [part.replace("[.", "[choices.", 1) for part in parts]
    random.Random(1).shuffle(parts)
    path = tmp_path / "shuffled.toml"
    path.write_text(head + "\n".join(parts))
    known = space_from_dict(tomllib.loads(TINY), "tiny")
    for seed in range(20):
        assert load_space(path).sample(seed).to_dict() == known.sample(seed).to_dict()


def test_python_file_with_a_dataclass(tmp_path: Path) -> None:
    ending = "from dataclasses import dataclass\n@dataclass\nclass A:\n    n: 'int'\nSPACE = DATA"
    text = "from __future__ import annotations\n" + python_file(tmp_path, ending).read_text()
    (tmp_path / "mine.py").write_text(text)
    assert load_space(f"{tmp_path / 'mine.py'}:SPACE").name == "tiny"


@pytest.mark.parametrize(
    ("ending", "attribute", "said"),
    [
        ("SPACE = DATA", "SPICE", ["'SPICE'", "did you mean SPACE"]),
        ("SPACE = 3", "SPACE", ["SPACE is int", "SearchSpace", "dict"]),
        ("SPACE = {**DATA, 'size': 3}", "SPACE", ["size", "HEIGHTxWIDTH"]),
        ("SPACE = {'name': 'x'}", "SPACE", ["'family' is missing"]),
        ("1 / 0", "SPACE", ["ZeroDivisionError", "division by zero"]),
        ("def broken(:", "SPACE", ["SyntaxError"]),
    ],
)
def test_wrong_python_file(tmp_path: Path, ending: str, attribute: str, said: list[str]) -> None:
    path = python_file(tmp_path, ending)
    with pytest.raises(CompressError) as caught:
        load_space(f"{path}:{attribute}")
    assert [part for part in [str(path), *said] if part not in str(caught.value)] == []


def test_missing_python_file(tmp_path: Path) -> None:
    with pytest.raises(CompressError, match="there is no file"):
        load_space(f"{tmp_path}/absent.py:SPACE")


def test_unknown_names_offer_the_nearest() -> None:
    with pytest.raises(CompressError) as caught:
        load_space("depthnet-nan")
    assert "did you mean depthnet-nano " in str(caught.value)
    assert ".toml" in str(caught.value)
    with pytest.raises(CompressError) as caught:
        load_space("depthnet-nano").reference("nuy")
    assert "did you mean nyu" in str(caught.value)
    for text in ("depthnet-nano@kity", "depthnet-nan@kitti", "kitti", "", "@", "depthnet-nano@"):
        with pytest.raises(CompressError, match="unknown"):
            parse_reference(text)


def test_references_are_read(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(TINY)
    reference = load_space(path).references["one"]
    assert reference.description == "a point"
    assert reference.published == {"params": 1000.0}
    genotype = parse_reference(f"{path}@one")
    assert genotype == reference.genotype
    assert (genotype.name, genotype.space, genotype.size) == ("one", "tiny", (48, 64))
    # 4, 5, then evenly to 9 over four modules: 5, 7, 9
    assert genotype.spec["stages"][0]["widths"] == [4, 5, 7, 9]


def test_every_shipped_space_is_sound() -> None:
    assert "depthnet-nano" in space_names()
    for name in space_names():
        space = load_space(name)
        assert space.name == name
        assert space.paper and space.description and space.references


def test_references_by_values_are_points_of_the_space() -> None:
    space = load_space("depthnet-nano")
    small = space.reference("small")
    assert small == space.genotype(small.values)
    assert small.name == "small"
    assert cost(small).params == 127_815


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ({"values": {"stem": 3}}, "references.r: space .*: stem = 3 is not a choice"),
        ({"values": {"stemm": 8}}, "did you mean stem"),
        ({}, "write either spec"),
        ({"values": {}, "spec": {}}, "write either spec"),
        ({"values": 3}, "references.r.values = 3: write a table"),
    ],
)
def test_wrong_references_by_values_are_named(entry: dict, said: str) -> None:
    space = load_space("depthnet-nano")
    data = {
        "name": "x",
        "family": space.family,
        "size": list(space.size),
        "choices": {k: list(v) for k, v in space.choices.items()},
        "references": {"r": entry},
    }
    with pytest.raises(CompressError, match=said):
        space_from_dict(data, "my.toml")
