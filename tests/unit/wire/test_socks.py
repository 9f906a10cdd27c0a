"""Parsing of SOCKS: requests of clients in pieces of any size, and bytes that are not SOCKS."""

import ipaddress
import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hatchway.wire.socks import Reply, SocksError, SocksNegotiation, SocksRequest

GREETING = b"\x05\x01\x00"
NAMES = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=1, max_size=255)
PORTS = st.integers(1, 65535)


def socks5(host: str, port: int, command: int = 1) -> bytes:
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        where = b"\x03" + bytes([len(host)]) + host.encode()
    else:
        where = (b"\x01" if address.version == 4 else b"\x04") + address.packed
    return b"\x05" + bytes([command]) + b"\x00" + where + port.to_bytes(2, "big")


def socks4a(host: str, port: int, user: bytes = b"me") -> bytes:
    return b"\x04\x01" + port.to_bytes(2, "big") + b"\0\0\0\x01" + user + b"\0" + host.encode() + b"\0"


def fed(data: bytes, cuts: list[int]) -> SocksNegotiation:
    negotiation = SocksNegotiation()
    edges = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    for begin, end in itertools.pairwise(edges):
        negotiation.receive_data(data[begin:end])
    return negotiation


@given(NAMES, PORTS, st.binary(max_size=20), st.lists(st.integers(0, 400), max_size=5))
def test_a_request_is_parsed_in_any_pieces(host: str, port: int, rest: bytes, cuts: list[int]) -> None:
    host = "x" + host[1:] if host[0].isdigit() or ":" in host else host
    negotiation = fed(GREETING + socks5(host, port) + rest, cuts)
    assert negotiation.request == SocksRequest(host, port)
    assert negotiation.rest == rest
    assert negotiation.data_to_send() == b"\x05\x00"
    assert negotiation.answer(Reply.SUCCEEDED) == b"\x05\x00\x00\x01\x00\x00\x00\x00\x00\x00"


@given(NAMES.filter(lambda name: "\0" not in name), PORTS, st.binary(max_size=20), st.lists(st.integers(0, 400)))
def test_socks_4a_is_parsed_in_any_pieces(host: str, port: int, rest: bytes, cuts: list[int]) -> None:
    negotiation = fed(socks4a(host, port) + rest, cuts)
    assert negotiation.request == SocksRequest(host, port)
    assert negotiation.rest == rest
    assert negotiation.answer(Reply.HOST_UNREACHABLE)[:2] == b"\x00\x5b"
    assert negotiation.answer(Reply.SUCCEEDED)[:2] == b"\x00\x5a"


@pytest.mark.parametrize("address", ["10.96.0.7", "fd00::7"])
def test_addresses_are_parsed_to_text(address: str) -> None:
    assert fed(GREETING + socks5(address, 80), []).request == SocksRequest(address, 80)


def test_socks_4_with_an_address() -> None:
    assert fed(b"\x04\x01\x00\x50\x0a\x60\x00\x07\x00", []).request == SocksRequest("10.96.0.7", 80)


@pytest.mark.parametrize(
    ("data", "answer"),
    [
        (b"\x05\x01\x02", b"\x05\xff"),  # the client offers only a user name with a password
        (b"\x05\x00", b"\x05\xff"),
        (GREETING + socks5("web", 80, command=2), b"\x05\x00\x05\x07"),  # BIND
        (GREETING + socks5("web", 80, command=3), b"\x05\x00\x05\x07"),  # UDP ASSOCIATE
        (GREETING + b"\x05\x01\x00\x09\x00", b"\x05\x00\x05\x08"),
        (GREETING + socks5("web", 0), b"\x05\x00\x05\x01"),
        (GREETING + b"\x05\x01\x00\x03\x00\x00\x50", b"\x05\x00\x05\x04"),  # an empty name
        (GREETING + b"\x05\x01\x00\x03\x02a\n\x00\x50", b"\x05\x00\x05\x04"),
        (b"\x04\x02\x00\x50\x0a\x60\x00\x07\x00", b"\x00\x5b"),
        (b"\x04\x01\x00\x50\x0a\x60\x00\x07" + b"u" * 300, b"\x00\x5b"),
        (b"\x04\x01\x00\x50\x00\x00\x00\x01\x00" + b"h" * 300, b"\x00\x5b"),
        (b"GET / HTTP/1.1\r\n", b""),
    ],
)
def test_unsupported_requests_are_refused_with_an_answer_of_the_protocol(data: bytes, answer: bytes) -> None:
    negotiation = SocksNegotiation()
    with pytest.raises(SocksError):
        negotiation.receive_data(data)
    assert negotiation.data_to_send().startswith(answer)
    assert negotiation.request is None


@given(st.binary(max_size=700), st.lists(st.integers(0, 700), max_size=5))
def test_any_bytes_are_parsed_or_raise_socks_error(data: bytes, cuts: list[int]) -> None:
    try:
        negotiation = fed(data, cuts)
    except SocksError:
        return
    assert negotiation.request is None or 0 < negotiation.request.port < 65536
