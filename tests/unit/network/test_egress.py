"""The program that connects pods to other networks: its choice, settings and end. Also messages of the kernel."""

from __future__ import annotations

import itertools
import socket
import struct
from pathlib import Path

import pytest
from dnslib import RCODE, DNSRecord
from hypothesis import given
from hypothesis import strategies as st

from hatchway.cluster import plan
from hatchway.cluster.network.egress import netmessages, tools
from hatchway.cluster.network.egress.egresskeeper import why_ended
from hatchway.cluster.network.egress.hostnames import is_query, servfail
from hatchway.cluster.startoptions import Options, configure
from hatchway.cluster.state import ClusterConfig, StateDir
from hatchway.errors import HatchwayError


def installed(*names: str) -> dict[str, str]:
    return {name: f"/usr/bin/{name}" for name in names}


@pytest.mark.parametrize(
    ("mode", "there", "chosen"),
    [
        ("auto", installed("pasta", "slirp4netns"), "pasta"),
        ("auto", installed("slirp4netns"), "slirp4netns"),
        ("auto", {}, None),
        ("slirp4netns", installed("pasta", "slirp4netns"), "slirp4netns"),
        ("none", installed("pasta", "slirp4netns"), None),
    ],
)
def test_the_program_is_chosen(mode: str, there: dict[str, str], chosen: str | None) -> None:
    tool = tools.choose(mode, there.get)
    assert (tool and tool.name) == chosen


def test_no_other_program_is_started() -> None:
    with pytest.raises(HatchwayError, match="--egress sh: there is no such program"):
        tools.choose("sh", installed("sh").get)


def test_a_program_chosen_by_the_user_that_is_not_installed_is_an_error() -> None:
    with pytest.raises(HatchwayError) as caught:
        tools.choose("pasta", {}.get)
    assert caught.value.message == "--egress pasta: pasta is not installed"
    assert "apt install passt" in (caught.value.hint or "")


def test_an_interface_needs_a_device_that_can_be_opened(tmp_path: Path) -> None:
    device = tmp_path / "tun"
    assert tools.obstacle(str(device)) == f"{device} cannot be opened: no such file or directory"
    device.touch()
    assert tools.obstacle(str(device)) == ""


@pytest.mark.parametrize("name", tools.TOOLS)
def test_no_program_opens_ports_or_gives_access_to_the_loopback_of_this_machine(name: str) -> None:
    settings = tools.EgressTool(name, f"/usr/bin/{name}").settings(to_host=True)
    argv = settings["argv"]
    assert argv[0] == f"/usr/bin/{name}"
    assert settings["namespace"] in argv
    if name == "pasta":
        pairs = dict(itertools.pairwise(argv))
        assert [pairs[f"--{kind}"] for kind in ("tcp-ports", "udp-ports", "tcp-ns", "udp-ns")] == ["none"] * 4
        assert "--no-map-gw" in argv
    else:
        assert "--disable-host-loopback" in argv


def test_the_uplinks_addresses_are_in_the_clusters_range_but_not_a_nodes() -> None:
    nodes = {plan.node_ip(index) for index in range(256)}
    for ip in (plan.HOST_NAMESERVER, plan.EGRESS_IP, plan.EGRESS_NEXT_HOP):
        assert ip not in nodes
        assert socket.inet_aton(ip) in {address.packed for address in plan.EGRESS_CIDR}
    assert plan.EGRESS_CIDR.subnet_of(plan.NODE_CIDR)


def test_the_settings_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    state = StateDir(tmp_path / "c")
    assert configure(state, Options()).egress == "auto"
    config = configure(state, Options(egress="none", egress_to_host=True))
    assert (config.egress, config.egress_to_host) == ("none", True)
    assert configure(state, Options()) == config
    assert Options(egress="auto", egress_to_host=False).differing(config) == ["--egress", "--egress-to-host"]
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(HatchwayError, match="pasta is not installed"):
        configure(state, Options(egress="pasta"))
    assert state.load_config() == config


@pytest.mark.parametrize(("field", "value"), [("egress", 3), ("egress_to_host", "yes")])
def test_an_edited_configuration_with_a_value_of_the_wrong_type_is_refused(
    tmp_path: Path, field: str, value: object
) -> None:
    state = StateDir(tmp_path / "c")
    state.create()
    state.save_config(ClusterConfig(**{field: value}))  # type: ignore[arg-type]
    with pytest.raises(HatchwayError, match=field):
        state.load_config()


@pytest.mark.parametrize(
    ("code", "printed", "why"),
    [
        (-9, b"Error: x", "it was ended by signal 9"),
        (1, b"", "it has ended with exit code 1"),
        (1, b"one\n\ntwo \n", "two"),
        (1, b"Couldn't pick an interface: Error: none\nUsage: pasta\n", "Couldn't pick an interface: Error: none"),
        (127, b"\xff" * 1000, "\ufffd" * 300),
    ],
)
def test_reasons_why_a_program_has_ended(code: int, printed: bytes, why: str) -> None:
    assert why_ended(code, printed) == why


def link_message(name: str, kind: int = 16, index: int = 7) -> bytes:
    text = name.encode() + b"\0"
    attributes = struct.pack("=HHI", 8, 4, 1500) + struct.pack("=HH", 4 + len(text), 3) + text + bytes(-len(text) % 4)
    body = struct.pack("=BxHiII", 0, 1, index, 0, 0) + attributes
    return struct.pack("=IHHII", 16 + len(body), kind, 0, 0, 0) + body


def test_an_interface_is_found_among_messages() -> None:
    assert netmessages.new_link(link_message("eth0") + link_message("uplink", index=9), "uplink") == 9
    assert netmessages.new_link(link_message("uplink2"), "uplink") is None
    # The interface was deleted (RTM_DELLINK).
    assert netmessages.new_link(link_message("uplink", kind=17), "uplink") is None


@given(st.binary(max_size=200))
def test_other_messages_name_no_interface(data: bytes) -> None:
    assert netmessages.new_link(data, "uplink") is None


def route_message(kind: int, address: str, prefix: int) -> bytes:
    body = struct.pack("=BBBBBBBBI", socket.AF_INET, prefix, 0, 0, 255, 2, 254, kind, 0)
    return body + struct.pack("=HH", 8, 1) + socket.inet_aton(address)


def test_the_networks_of_this_machine_are_found() -> None:
    assert netmessages.local_network(route_message(2, "192.0.2.10", 32)) == ("192.0.2.10", 32)
    # A whole network that is local to this machine ("AnyIP").
    assert netmessages.local_network(route_message(2, "198.51.100.0", 24)) == ("198.51.100.0", 24)
    # An address of another machine, a broadcast address, a loopback address.
    for kind, address in ((1, "192.0.2.0"), (3, "192.0.2.255"), (2, "127.0.0.1")):
        assert netmessages.local_network(route_message(kind, address, 32)) is None
    assert all(not address.startswith("127.") for address, _ in netmessages.local_networks())


def test_a_query_is_distinguished_from_other_bytes() -> None:
    query = bytes(DNSRecord.question("www.example.com", "AAAA").pack())
    assert is_query(query)
    assert not is_query(query[:-1])
    assert not is_query(query[:12])
    assert not is_query(bytes(DNSRecord.parse(query).reply().pack()))
    # In order: two questions, a label longer than 63 bytes, a pointer, a name without an end.
    assert not is_query(query[:4] + b"\0\2" + query[6:])
    assert not is_query(query[:12] + b"\x40" + bytes(80))
    assert not is_query(query[:12] + b"\xc0\x0c" + bytes(10))
    assert not is_query(query[:12] + b"\x3f" + b"x" * 20)


@given(st.binary(max_size=600))
def test_every_accepted_query_can_be_answered(data: bytes) -> None:
    data = data[:2] + bytes([data[2] & 0x7F if len(data) > 2 else 0, 0]) + b"\0\1\0\0\0\0\0\0" + data[12:]
    if is_query(data):
        answer = servfail(data)
        assert answer[:2] == data[:2]
        assert data[12:].startswith(answer[12:])
        assert len(answer) <= len(data)


def test_an_answer_servfail_repeats_the_question() -> None:
    query = DNSRecord.question("www.example.com")
    answer = DNSRecord.parse(servfail(bytes(query.pack())))
    assert (answer.header.id, answer.header.qr, answer.header.rd) == (query.header.id, 1, 1)
    assert RCODE.get(answer.header.rcode) == "SERVFAIL"
    assert answer.q == query.q
