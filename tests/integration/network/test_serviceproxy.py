"""Service addresses, used from inside pods."""

from __future__ import annotations

from collections.abc import Callable

from tests.integration.network.conftest import Run

MakeRun = Callable[..., Run]


def test_service_addresses_work_from_inside_pods(make_run: MakeRun) -> None:
    found = make_run("private", "service_addresses").result()
    assert found["before"] == ["ECONNREFUSED", "ECONNREFUSED"]
    assert found["tcp"] == "one True"
    assert found["udp"] == "one True"
    assert found["node port"] == "one True"
    assert found["other port"] == "ECONNREFUSED"
    assert found["other service"] == "ECONNREFUSED"
    assert found["large"] == "one True"
    assert found["itself"] == "one True"
    assert found["both"] == ["one True", "two True"]
    assert found["moved"] == ["two True", "two True"]
    assert found["without endpoints"] == ["ECONNREFUSED", "ECONNREFUSED"]
    assert found["deleted"] == "ECONNREFUSED"


def test_session_affinity(make_run: MakeRun) -> None:
    assert make_run("private", "service_affinity").result() == 1


def test_connections_live_on(make_run: MakeRun) -> None:
    found = make_run("private", "service_connections").result()
    assert found["kept"] == "one BEFORE AFTER"
    assert found["passed over"] == ["two True"]
    assert found["dead"] == "ECONNRESET"
    assert found["freed"] == "one "


def test_node_ports_on_loopback(make_run: MakeRun) -> None:
    assert make_run("loopback", "service_on_node_ports").result() == "one"
