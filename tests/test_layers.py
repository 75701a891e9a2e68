"""Who may import whom under ``compress/``, read from the source."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1] / "compress"

# Each imports only from the rows above its own (and itself).
ROWS = [
    {"space"},
    {"models"},
    {"export"},
    {"cost"},
    {"data"},
    {"losses", "metrics", "netscore"},
    {"train"},
    {"search"},
    {"pruning"},
    {"gating"},
    {"report"},
    {"cli"},
]
# What a row further up may know nothing of all the same.
APART = {
    "data": {"models"},
    "losses": {"space", "models", "cost", "data"},
    "metrics": {"space", "models", "cost", "data"},
    "netscore": {"space", "models", "cost", "data"},
    "pruning": {"search"},
    "gating": {"search"},
}
# The last thing a study does is write its report, from whichever side it is called.
LAST = {("search/run.py", "report")}
# Without imports of their own from the package, and open to all.
FREE = {"errors", "_callable", "_files"}
# The package's front: it hands out names of every part, and only its version is taken from it.
FRONT = {"__init__", "__main__"}


def allowed(part: str) -> set[str]:
    above: set[str] = set()
    for row in ROWS:
        if part in row:
            return (above | FREE | {part}) - APART.get(part, set())
        above |= row
    raise AssertionError(f"compress/{part} stands in no row")


def imported(path: Path, root: Path) -> Iterator[tuple[int, str, str]]:
    """Line, module and name (or "") of every import in a file: local and for types ones too."""
    inside = path.relative_to(root.parent).with_suffix("").parts
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name, ""
        elif isinstance(node, ast.ImportFrom):
            start = ".".join(inside[: len(inside) - node.level]) if node.level else ""
            module = ".".join(filter(None, (start, node.module or "")))
            for alias in node.names:
                yield node.lineno, module, alias.name


def part_of(path: Path, root: Path) -> str:
    first = path.relative_to(root).parts[0]
    return first.removesuffix(".py")


def parts_used(path: Path, root: Path) -> Iterator[tuple[int, str]]:
    """Line and part of the package of every import of it."""
    for line, module, name in imported(path, root):
        top, _, rest = module.partition(".")
        if top != root.name:
            continue
        if rest:
            yield line, rest.split(".")[0]
        elif name and ((root / name).is_dir() or (root / f"{name}.py").is_file()):
            yield line, name
        elif name != "__version__":
            yield line, "__init__"


def offences(root: Path) -> list[str]:
    found = []
    for path in sorted(root.rglob("*.py")):
        part = part_of(path, root)
        if part in FRONT:
            continue
        known = {part} if part in FREE else allowed(part)
        found += [
            f"{path.relative_to(root.parent)}:{line} imports compress.{used}"
            for line, used in parts_used(path, root)
            if used not in known and (path.relative_to(root).as_posix(), used) not in LAST
        ]
    return found


def test_every_part_stands_in_a_row() -> None:
    parts = {part_of(path, ROOT) for path in ROOT.rglob("*.py")} - FRONT - FREE
    assert parts <= set().union(*ROWS)
    assert {"space", "models", "cost", "data", "train", "search"} <= parts


def test_imports_go_up_only() -> None:
    assert offences(ROOT) == []


def test_one_home_for_each_outside_package() -> None:
    homes = {
        "torch_pruning": {"pruning"},
        "optuna": {"search", "gating", "report", "cli"},
        "onnx": {"export"},
        "onnxruntime": {"export", "cost"},
        "openvino": {"cost"},
        "pynvml": {"cost"},
    }
    forbidden = {"space": {"torch", "numpy", "optuna"}, "netscore": {"torch", "numpy"}}
    found = []
    for path in sorted(ROOT.rglob("*.py")):
        part = part_of(path, ROOT)
        for line, module, _ in imported(path, ROOT):
            top = module.partition(".")[0]
            if part not in homes.get(top, {part}) or top in forbidden.get(part, ()):
                found.append(f"{path.relative_to(ROOT.parent)}:{line} imports {module}")
    assert found == []


@pytest.mark.parametrize(
    ("file", "source", "said"),
    [
        ("space/a.py", "from compress.models import build", "models"),
        ("space/a.py", "import compress.models.files as f", "models"),
        ("space/a.py", "def f():\n    from ..models import build", "models"),
        ("space/a.py", "if TYPE_CHECKING:\n    from compress import cost", "cost"),
        ("space/a.py", "from compress import build", "__init__"),
        ("space/a.py", "import compress", "__init__"),
        ("metrics.py", "from compress.space import Genotype", "space"),
        ("metrics.py", "from compress import losses", "losses"),
        ("data/a.py", "from compress.models import normalised", "models"),
        ("errors.py", "from compress import space", "space"),
        ("space/a.py", "from compress.errors import unknown\nfrom . import b\nimport torch", ""),
        ("search/a.py", "from compress import __version__, losses\nimport compress.space", ""),
    ],
)
def test_the_reading_itself(tmp_path: Path, file: str, source: str, said: str) -> None:
    root = tmp_path / "compress"
    for name in ("space/b.py", "models/files.py", "cost/c.py", "losses.py", file):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text("")
    (root / file).write_text(source)
    found = offences(root)
    assert [line.rpartition(" ")[2] for line in found] == ([f"compress.{said}"] if said else [])


@pytest.mark.parametrize(
    "module",
    ["compress", "compress.space", "compress.data", "compress.netscore", "compress.errors"],
)
def test_light_to_import(module: str) -> None:
    code = f"import sys, {module}; print(sorted({{'torch', 'optuna'}} & sys.modules.keys()))"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "[]"
