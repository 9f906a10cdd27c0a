"""Changes by a container while others start cannot make files outside of its volumes reachable (`races.py`).

HATCHWAY_RACE_SECONDS: seconds for each user. By default a few, in which each kind of start is tried about once. With
`pytest -k races` and 600 this is the long run of the release.
"""

from __future__ import annotations

import os
from collections.abc import Callable

import pytest

from tests.integration.network.conftest import Run

_SECONDS = float(os.environ.get("HATCHWAY_RACE_SECONDS", "2"))


@pytest.mark.timeout(240 + _SECONDS)
def test_races_stay_inside(make_run: Callable[..., Run], user: tuple[list[str], dict[str, str], bool]) -> None:
    run = make_run("private", "races", {"race.json": str(_SECONDS)})
    # The race has its own timeout, and reports what hangs.
    found = run.result(100 + _SECONDS)
    print(found)
    assert found["escaped"] == []
    assert found["tampered"] == "[]"
    assert found["same"]
    # There was a race: most kinds that are refused while there is a link were started at another time. In a few
    # seconds, not all of them.
    assert len(found["never started"]) <= found["kinds"] / 2, found["never started"]
