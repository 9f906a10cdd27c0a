"""The plan of the code is kept: docs/architecture.md names every file, and no two classes have the same name."""

from __future__ import annotations

import ast
import re
from collections import Counter, defaultdict
from pathlib import Path

from tests.syntax import syntax_tree

_ROOT = Path(__file__).parents[2]
_SOURCES = _ROOT / "src/hatchway"
# Names that several classes may share. The program of a relay pod repeats names, because it may not import other rooms.
_SHARED = {"Datagrams", "DialError", "End", "Flow"}
_NAMED = re.findall(r"[\w./-]*\w\.py\b", (_ROOT / "docs/architecture.md").read_text())


def test_every_source_file_is_named() -> None:
    """Files in different rooms may have the same name. The page must name it once for each of these files."""
    names = Counter(name.rpartition("/")[2] for name in _NAMED)
    files = Counter(path.name for path in _SOURCES.rglob("*.py") if not path.name.startswith("__"))
    assert {name: count for name, count in files.items() if names[name] < count} == {}


def test_every_named_file_exists() -> None:
    paths = [
        "/" + path.relative_to(_ROOT).as_posix() for top in ("src", "tests") for path in (_ROOT / top).rglob("*.py")
    ]
    assert [name for name in _NAMED if not any(path.endswith("/" + name) for path in paths)] == []


def test_no_two_classes_share_a_name() -> None:
    """An underscore before a name does not make it different, because a search for one finds the other, too."""
    places = defaultdict(list)
    for path in _SOURCES.rglob("*.py"):
        for node in ast.walk(syntax_tree(path.read_text())):
            if isinstance(node, ast.ClassDef):
                places[node.name.lstrip("_")].append(path.relative_to(_SOURCES).as_posix())
    assert {name: files for name, files in places.items() if len(files) > 1 and name not in _SHARED} == {}


def test_only_one_test_file_makes_syntax_trees_itself() -> None:
    """`tests/syntax.py` explains why other files may not call `ast.parse`."""
    tests = (_ROOT / "tests").rglob("*.py")
    assert [path.name for path in tests if re.search(r"\bast\.parse\(|\bPyCF_ONLY_AST\b", path.read_text())] == [
        "syntax.py"
    ]
