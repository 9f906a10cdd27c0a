"""`docs/api-coverage.md` agrees with the registry."""

from __future__ import annotations

import importlib.machinery
import importlib.util
from pathlib import Path
from types import ModuleType

from hatchway.cluster.api.registry.types import ROWS

_ROOT = Path(__file__).parents[2]


def _script() -> ModuleType:
    loader = importlib.machinery.SourceFileLoader("update_coverage", str(_ROOT / "scripts/update-coverage"))
    spec = importlib.util.spec_from_loader("update_coverage", loader)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    loader.exec_module(module)
    return module


def test_the_page_is_up_to_date() -> None:
    assert (_ROOT / "docs/api-coverage.md").read_text() == _script().page(), "run scripts/update-coverage"


def test_every_type_and_subresource_exists_in_kubernetes() -> None:
    there = _script().recorded()
    for row in ROWS:
        assert (row.group, row.version, row.plural) in there, f"Kubernetes does not serve {row.plural} by default"
        kind, subresources = there[row.group, row.version, row.plural]
        assert row.kind == kind
        assert {one.name for one in row.subresources} <= subresources
