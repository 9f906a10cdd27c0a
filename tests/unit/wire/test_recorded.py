"""Recorded connections of kubectl 1.37 with kube-apiserver 1.36 and its kubelet; Hatchway parses each side's bytes."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import pytest

from hatchway.wire import channels
from hatchway.wire.portforwardstreams import StreamPairs
from hatchway.wire.spdy import SpdySession
from hatchway.wire.spdyevents import DataReceived, Event, GoneAway, StreamAccepted, StreamOpened, StreamReset
from hatchway.wire.spdyheaders import DICTIONARY
from hatchway.wire.websocket import CloseReceived, Message, Piece, WebSocket

RECORDED = Path(__file__).parent / "recorded"


def bytes_of(name: str, side: str) -> bytes:
    """Return the bytes that one side sent after the handshake. side: "c" for the client, "s" for the server."""
    whole = b""
    for line in (RECORDED / f"{name}.jsonl").read_text().splitlines():
        _, sender, data = json.loads(line)
        if sender == side and data != "EOF":
            whole += base64.b64decode(data)
    return whole.partition(b"\r\n\r\n")[2]


def spdy_of(name: str, side: str) -> bytes:
    data = bytes_of(name, side)
    if "websocket" not in name:
        return data
    socket = WebSocket(client=side == "s", largest=None)
    return b"".join(event.data for event in socket.receive_data(data) if isinstance(event, Piece))


def text(events: list[Event], stream_id: int) -> bytes:
    return b"".join(event.data for event in events if isinstance(event, DataReceived) and event.stream_id == stream_id)


def test_the_header_dictionary_is_that_of_spdy() -> None:
    assert (RECORDED / "spdy-dictionary.bin").read_bytes() == DICTIONARY


@pytest.mark.parametrize("name", ["portforward-websocket", "portforward-spdy"])
def test_kubectls_port_forward_is_read(name: str) -> None:
    session = SpdySession(server=True)
    events = session.receive_data(spdy_of(name, "c"))
    pairs = StreamPairs()
    found = [pairs.add(event.stream_id, event.headers, 0.0) for event in events if isinstance(event, StreamOpened)]
    connections = [pair for pair in found if pair is not None]
    assert [(pair.port, pair.error_stream, pair.data_stream) for pair in connections] == [(28080, 1, 3), (29999, 5, 7)]
    assert text(events, 3).startswith(b"GET /hostname HTTP/1.1\r\n")
    assert DataReceived(1, b"", True) in events and DataReceived(3, b"", True) in events
    assert any(isinstance(event, StreamReset) and event.stream_id == 7 for event in events)
    assert isinstance(events[-1], GoneAway)


@pytest.mark.parametrize("name", ["portforward-websocket", "portforward-spdy"])
@pytest.mark.parametrize("cut", [1, 7, 100_000])
def test_kubelets_port_forward_is_read(name: str, cut: int) -> None:
    session = SpdySession(server=False)
    for _ in range(4):
        session.open_stream([])
    data = spdy_of(name, "s")
    events: list[Event] = []
    for at in range(0, len(data), cut):
        events += session.receive_data(data[at : at + cut])
    assert [event.stream_id for event in events if isinstance(event, StreamAccepted)] == [1, 3, 5, 7]
    assert text(events, 3).endswith(b"\r\n\r\nvm")
    assert text(events, 5).startswith(b"error forwarding port 29999 to pod ")
    assert not session.has_windows


def test_kubelets_exec_is_read_over_spdy() -> None:
    session = SpdySession(server=False)
    for _ in range(4):
        session.open_stream([])
    events = session.receive_data(bytes_of("exec-spdy", "s"))
    assert channels.decode_status(text(events, 1)).exit_code == 0
    assert text(events, 5) == b"hello\n"
    assert isinstance(events[-1], GoneAway)


def test_exec_is_read_over_a_websocket() -> None:
    client, server = WebSocket(client=True, largest=1 << 20), WebSocket(client=False, largest=1 << 20)
    sent = [event.data for event in server.receive_data(bytes_of("exec-websocket", "c")) if isinstance(event, Message)]
    assert [channels.V5.decode(message) for message in sent] == [(channels.STDIN, b"hello\n"), (channels.CLOSE, b"\0")]
    *messages, close = client.receive_data(bytes_of("exec-websocket", "s"))
    got = [channels.V5.decode(event.data) for event in messages if isinstance(event, Message)]
    assert got[:2] == [(channels.STDOUT, b""), (channels.STDOUT, b"hello\n")]
    assert channels.decode_status(got[2][1]).exit_code == 0
    assert close == CloseReceived(1000, "")
