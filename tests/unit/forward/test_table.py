from __future__ import annotations

from hatchway.cli.forwardtable import render
from hatchway.forward.forwarder import ListenAddress, LocalForward
from hatchway.forward.localports import PlannedForward
from hatchway.route.podport import PodPort, ReadyPods
from hatchway.target import Target


def _forward(name: str, namespace: str = "shop") -> LocalForward:
    target = Target("services", name, namespace, port="80")
    return LocalForward(PlannedForward(target, 80, "http", 0, exact=False), ListenAddress("127.0.0.1", 8080))


READY = ReadyPods((PodPort("shop", "a", "", 80), PodPort("shop", "b", "", 80)))


def test_each_forward_has_a_row_that_fits_an_ordinary_terminal() -> None:
    web, db = _forward("web"), _forward("db")
    lines = render([web, db], {web: READY}, 80, 24)
    assert [line.split()[:3] for line in lines[:-1]] == [
        ["LOCAL", "TARGET", "PODS"],
        ["127.0.0.1:8080", "svc/web:http", "2"],
        ["127.0.0.1:8080", "svc/db:http", "0"],
    ]
    assert all(len(line) <= 80 and not line.endswith("…") for line in lines)


def test_a_problem_is_shown_below_its_row() -> None:
    web, db = _forward("web"), _forward("db", "data")
    db.problem = "connection\x1b[2J refused " + "x" * 100
    lines = render([web, db], {web: ReadyPods((), "no pod is ready"), db: READY}, 60, 24)
    assert lines[2] == "    no pod is ready"
    assert lines[4].startswith("    connection [2J refused x") and len(lines[4]) == 60 and lines[4].endswith("…")
    assert "svc/db:http -n data" in lines[3]


def test_a_table_that_is_too_high_is_shortened() -> None:
    forwards = [_forward(f"web-{number}") for number in range(50)]
    lines = render(forwards, {}, 80, 10)
    assert len(lines) == 10 and lines[-2] == "... and 43 lines more"
