"""The plan of the code is kept: docs/architecture.md names every file, and no two classes have the same name."""

from __future__ import annotations

import ast
import re
from collections import Counter, defaultdict
from pathlib import Path

from tests.syntax import syntax_tree

_ROOT = Path(__file__).parents[2]
_SOURCES = _ROOT / "src/hatchway"
# Names of classes that are the same idea in several rooms. The program of a relay pod imports nothing of the others.
_SHARED = {"Datagrams", "DialError", "End", "Flow"}
_NAMED = re.findall(r"[\w./-]*\w\.py\b", (_ROOT / "docs/architecture.md").read_text())


def test_every_source_file_is_named() -> None:
    """Several rooms have files with the same name. Each must be named, so there are as many names as files."""
    names = Counter(name.rpartition("/")[2] for name in _NAMED)
    files = Counter(path.name for path in _SOURCES.rglob("*.py") if not path.name.startswith("__"))
    assert {name: count for name, count in files.items() if names[name] < count} == {}


def test_every_named_file_exists() -> None:
    paths = [
        "/" + path.relative_to(_ROOT).as_posix() for top in ("src", "tests") for path in (_ROOT / top).rglob("*.py")
    ]
    assert [name for name in _NAMED if not any(path.endswith("/" + name) for path in paths)] == []


def test_no_two_classes_share_a_name() -> None:
    """A name with an underscore counts as the same name: a reader who searches for it finds both."""
    places = defaultdict(list)
    for path in _SOURCES.rglob("*.py"):
        for node in ast.walk(syntax_tree(path.read_text())):
            if isinstance(node, ast.ClassDef):
                places[node.name.lstrip("_")].append(path.relative_to(_SOURCES).as_posix())
    assert {name: files for name, files in places.items() if len(files) > 1 and name not in _SHARED} == {}


def test_only_one_test_file_makes_syntax_trees_itself() -> None:
    """It makes syntax trees safely: see `tests/syntax.py`."""
    tests = (_ROOT / "tests").rglob("*.py")
    assert [path.name for path in tests if re.search(r"\bast\.parse\(|\bPyCF_ONLY_AST\b", path.read_text())] == [
        "syntax.py"
    ]
