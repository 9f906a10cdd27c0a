"""The order of the tests, and their units."""

from __future__ import annotations

from pathlib import Path

from tests.sharding import LONG, ordered_units, unit_of

_ROOT = Path(__file__).parents[2]


def test_the_long_units_exist() -> None:
    assert [unit for unit in LONG if not (_ROOT / unit.partition("[")[0]).is_file()] == []
    assert len(set(LONG)) == len(LONG)


def test_a_unit_is_a_file_or_an_application() -> None:
    assert unit_of("tests/browser/test_portal.py::test_names[a::b-c]") == "tests/browser/test_portal.py"
    assert unit_of("tests/unit/test_a.py::TestB::test_c") == "tests/unit/test_a.py"
    both = {unit_of(f"tests/apps/test_apps.py::test_it_works[{mode}-node-red]") for mode in ("host", "prefix")}
    assert len(both) == 1
    assert both < set(LONG)


def test_fast_units_come_first_then_the_longest_units() -> None:
    units = ["tests/integration/a.py", LONG[3], "tests/browser/b.py", LONG[0], "tests/unit/c.py", "tests/apps/d.py"]
    assert ordered_units(units) == [
        "tests/unit/c.py",
        LONG[0],
        LONG[3],
        "tests/integration/a.py",
        "tests/browser/b.py",
        "tests/apps/d.py",
    ]
