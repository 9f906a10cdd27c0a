"""The first bytes of a client: requests that are served, and requests that a web page can send, which are refused."""

import contextlib
import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hatchway.socks.opening import Opening, OpeningError, PageRequest, ProxiedRequest, TunnelRequest
from hatchway.wire.socks import Reply

CONNECT = b"CONNECT web.shop:443 HTTP/1.1\r\nHost: web.shop:443\r\n\r\n"
SOCKS = b"\x05\x01\x00" + b"\x05\x01\x00\x03\x08web.shop\x01\xbb"
GET = b"GET http://web.shop/ HTTP/1.1\r\nHost: web.shop\r\n\r\n"
PAC = b"GET /proxy.pac HTTP/1.1\r\nHost: 127.0.0.1:1080\r\n\r\n"


def fed(data: bytes, cuts: list[int]) -> TunnelRequest | ProxiedRequest | PageRequest | None:
    """Feed bytes in pieces; return the client's request as soon as it is complete, None if it is incomplete."""
    opening = Opening()
    edges = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    for begin, end in itertools.pairwise(edges):
        found = opening.receive_data(data[begin:end])
        if found is not None:
            return found
    return None


@given(st.sampled_from([CONNECT, SOCKS]), st.lists(st.integers(0, 100), max_size=4))
def test_a_request_for_a_tunnel_is_parsed_in_any_pieces(data: bytes, cuts: list[int]) -> None:
    assert fed(data, cuts) == TunnelRequest("web.shop", 443, b"")


def test_bytes_after_the_request_are_kept_for_the_host() -> None:
    assert fed(CONNECT + b"\x16\x03\x01", []) == TunnelRequest("web.shop", 443, b"\x16\x03\x01")
    assert fed(SOCKS + b"\x16\x03\x01", []) == TunnelRequest("web.shop", 443, b"\x16\x03\x01")


def test_an_address_of_ipv6() -> None:
    assert fed(b"CONNECT [fd00::7]:80 HTTP/1.1\r\n\r\n", []) == TunnelRequest("fd00::7", 80, b"")


def test_a_request_for_a_proxy_is_returned_with_all_received_bytes() -> None:
    assert fed(GET + b"more", []) == ProxiedRequest(GET + b"more")


def test_a_page_of_this_proxy() -> None:
    assert fed(PAC, [3, 10]) == PageRequest("/proxy.pac", "127.0.0.1:1080")


@pytest.mark.parametrize(
    "data",
    [
        b"POST / HTTP/1.1\r\nHost: 127.0.0.1:1080\r\nContent-Length: 20\r\n\r\n\x05\x01\x00",
        b"GET /proxy.pac HTTP/1.1\r\nHost: 127.0.0.1:1080\r\nSec-Fetch-Site: cross-site\r\n\r\n",
        b"GET /proxy.pac HTTP/1.1\r\nHost: 127.0.0.1:1080\r\nsec-fetch-site:same-site\r\n\r\n",
        b"GET /proxy.pac HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        b"GET /proxy.pac HTTP/1.1\r\n\r\n",
        b"GET https://web.shop/ HTTP/1.1\r\nHost: web.shop\r\n\r\n",
        b"GET ftp://web.shop/ HTTP/1.1\r\nHost: web.shop\r\n\r\n",
        b"OPTIONS * HTTP/1.1\r\nHost: web.shop\r\n\r\n",
        b"CONNECT web.shop HTTP/1.1\r\n\r\n",
        b"CONNECT web.shop:0 HTTP/1.1\r\n\r\n",
        b"CONNECT web.shop:70000 HTTP/1.1\r\n\r\n",
        b"CONNECT a@web.shop:80 HTTP/1.1\r\n\r\n",
        b"CONNECT a\x1b[2J:80 HTTP/1.1\r\n\r\n",
        b"GET / HTTP/2.0\r\n\r\n",
        b"\x16\x03\x01\x02\x00",
        b"A\n",
        b"A" * 20_000,
        b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 4000,
    ],
)
def test_requests_of_web_pages_and_unknown_requests_get_the_same_answer(data: bytes) -> None:
    opening = Opening()
    with pytest.raises(OpeningError):
        opening.receive_data(data)
    answer = opening.data_to_send()
    assert answer.startswith(b"HTTP/1.1 400 Bad Request\r\n")
    assert answer.endswith(b"\r\n\r\n")
    assert b"atchway" not in answer


def test_refusals_in_the_clients_own_protocol() -> None:
    socks, http = Opening(), Opening()
    socks.receive_data(SOCKS)
    http.receive_data(CONNECT)
    assert socks.data_to_send() == b"\x05\x00"
    assert socks.refuse(Reply.HOST_UNREACHABLE, "why")[:2] == b"\x05\x04"
    assert http.refuse(Reply.NOT_ALLOWED, "why").startswith(b"HTTP/1.1 403 ")
    assert http.accept() == b"HTTP/1.1 200 Connection established\r\n\r\n"


@given(st.binary(max_size=300), st.lists(st.integers(0, 300), max_size=4))
def test_any_bytes_are_parsed_or_raise_opening_error(data: bytes, cuts: list[int]) -> None:
    with contextlib.suppress(OpeningError):
        fed(data, cuts)
