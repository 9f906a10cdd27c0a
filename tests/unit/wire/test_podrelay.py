from __future__ import annotations

import hashlib
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hatchway.route.relayprogram import parse_line
from hatchway.wire.podrelay import (
    LONGEST_LINE,
    AnswerReader,
    DatagramReader,
    RelayAnswer,
    RelayProtocolError,
    format_datagram,
    format_renewal,
    format_request,
)

SECRET = "s" * 64
DIGEST = hashlib.sha256(SECRET.encode()).hexdigest()


def _split(data: bytes, cuts: list[int]) -> list[bytes]:
    places = sorted({0, len(data), *(cut % (len(data) + 1) for cut in cuts)})
    return [data[a:b] for a, b in pairwise(places)]


@given(
    st.from_regex(r"[a-z0-9.:-]{1,253}", fullmatch=True),
    st.integers(1, 65535),
    st.sampled_from(["tcp", "udp"]),
)
def test_the_program_parses_the_clients_requests(host: str, port: int, command: str) -> None:
    assert parse_line(format_request(SECRET, command, host, port)[:-1], DIGEST) == (command, host, port)


def test_the_program_parses_a_renewal() -> None:
    assert parse_line(format_renewal(SECRET)[:-1], DIGEST) == ("renew", "", 0)


@pytest.mark.parametrize("host", ["", "a b", "a\nb", "a" * 254, "ä", "a\tb"])
def test_invalid_hosts_are_not_sent(host: str) -> None:
    with pytest.raises(RelayProtocolError):
        format_request(SECRET, "tcp", host, 80)


@pytest.mark.parametrize("port", [0, -1, 65536])
def test_invalid_ports_are_not_sent(port: int) -> None:
    with pytest.raises(RelayProtocolError):
        format_request(SECRET, "tcp", "web", port)


@given(st.binary(max_size=100), st.lists(st.integers(0, 200)))
def test_an_answer_in_pieces(rest: bytes, cuts: list[int]) -> None:
    reader = AnswerReader()
    found: RelayAnswer | None = None
    late = b""
    for piece in _split(b"ok\n" + rest, cuts):
        if found is None:
            found = reader.receive_data(piece)
        else:
            late += piece
    assert found is not None
    assert (found.kind, found.rest + late) == ("", rest)


def test_an_error() -> None:
    found = AnswerReader().receive_data(b"error refused Connection refused\n")
    assert found == RelayAnswer("refused", "Connection refused", b"")


@given(st.lists(st.binary(max_size=300)))
def test_any_bytes_are_an_answer_or_a_protocol_error(pieces: list[bytes]) -> None:
    reader = AnswerReader()
    size = 0
    try:
        for piece in pieces:
            if reader.receive_data(piece) is not None:
                return
            size += len(piece)
            assert size <= LONGEST_LINE
    except RelayProtocolError:
        return


@given(st.lists(st.binary(max_size=300)), st.lists(st.integers(0, 5000)))
def test_datagrams_keep_their_boundaries(datagrams: list[bytes], cuts: list[int]) -> None:
    reader = DatagramReader()
    found = [
        one for piece in _split(b"".join(map(format_datagram, datagrams)), cuts) for one in reader.receive_data(piece)
    ]
    assert found == datagrams


def test_a_datagram_has_a_maximum_size() -> None:
    assert len(format_datagram(b"x" * 65535)) == 65537
    with pytest.raises(ValueError, match="65535"):
        format_datagram(b"x" * 65536)
