"""Nothing that a container changes while others start leads out of its volumes (`races.py`).

HATCHWAY_RACE_SECONDS: how long, for each user; without it a minute as the user of the tests, and a few seconds as an
ordinary one. With `pytest -k races` and 600 this is the long run of the release.
"""

from __future__ import annotations

import os
from collections.abc import Callable

from tests.integration.network.conftest import Run

_SECONDS = os.environ.get("HATCHWAY_RACE_SECONDS", "")


def test_races_stay_inside(make_run: Callable[..., Run], user: tuple[list[str], dict[str, str], bool]) -> None:
    seconds = float(_SECONDS) if _SECONDS else 5.0 if user[2] else 60.0
    run = make_run("private", "races", {"race.json": str(seconds)})
    found = run.result(seconds)
    assert found["escaped"] == []
    assert found["tampered"] == "[]"
    assert found["same"]
    # It was a race: most of what is refused while a link stands there was let in at another time. Not all of it in a
    # few seconds.
    assert len(found["never started"]) <= found["kinds"] / 2, found["never started"]
