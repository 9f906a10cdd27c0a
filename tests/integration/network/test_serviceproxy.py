"""Service addresses, used from inside pods."""

from __future__ import annotations

import json
import random
import socket
from collections.abc import Callable

import pytest

from hatchway.cluster import plan
from tests.conftest import wait_for
from tests.integration.network.conftest import Run
from tests.integration.services.echoes import ask_from_host, free_node_ports

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


def test_no_pod_takes_all_connections(make_run: MakeRun) -> None:
    found = make_run("private", "service_quotas").result()
    assert found["tcp"] == 20
    # Each new UDP flow over the limit replaces the client's oldest flow, so all of them got an answer.
    assert found["udp"] == 40
    assert found["tcp of another pod"] == found["udp of another pod"] == found["again"] == "one True"


def test_connections_continue_after_changes_of_their_service(make_run: MakeRun) -> None:
    found = make_run("private", "service_connections").result()
    assert found["kept"] == "one BEFORE AFTER"
    assert found["passed over"] == ["two True"]
    assert found["dead"] == "ECONNRESET"
    assert found["freed"] == "one "


def test_node_ports_on_loopback(make_run: MakeRun) -> None:
    assert make_run("loopback", "service_on_node_ports").result() == "one"


@pytest.mark.parametrize("mode", ["private", "loopback"])
def test_node_ports_and_load_balancers_on_this_machine(
    make_run: MakeRun, user: tuple[list[str], dict[str, str], bool], mode: str
) -> None:
    node_port, taken = free_node_ports(2)
    ip = f"127.16.77.{random.randrange(1, 255)}"
    with socket.create_server((plan.HOST_IP, taken)):
        run = make_run(mode, "service_on_host", {"ports": json.dumps([node_port, 8443, taken, ip])})
        run.wait_for("ready")
        ordinary = user[2]
        # The addresses of a Service are opened one after another, in an undefined order.
        for address in ((plan.HOST_IP, node_port), (ip, 8443), (ip, 8444), *(() if ordinary else ((ip, 80),))):
            wait_for(lambda address=address: ask_from_host("tcp", *address) == "one")
        if ordinary:
            assert ask_from_host("tcp", ip, 80) == "ECONNREFUSED"
    # After the port became free, the proxy tries it again.
    run.wait_for("opened")
    wait_for(lambda: ask_from_host("tcp", plan.HOST_IP, taken) == "one")
    (run.directory / "done").touch()
    events = run.result()
    assert events["PortAvailable"][0] == f"{plan.HOST_IP}:{taken} (TCP) is served now"
    refused = [message for message in events["PortNotAvailable"] if ip in message]
    low = f"{ip}:80 (TCP) is not served: this user may not listen on ports below 1024 of this machine. "
    assert [message.startswith(low) for message in refused] == ([True] if ordinary else [])
    # No listener is left.
    assert ask_from_host("tcp", plan.HOST_IP, node_port) == "ECONNREFUSED"


@pytest.mark.parametrize("mode", ["private", "loopback"])
def test_nothing_else_can_be_opened_on_this_machine(make_run: MakeRun, mode: str) -> None:
    assert make_run(mode, "service_sockets_of_others").result() == ["EACCES"] * 6
