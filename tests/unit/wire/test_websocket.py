"""Hatchway's WebSocket with that of the `websockets` library, in both directions, and frames that must be refused."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from websockets.frames import Frame, Opcode
from websockets.frames import apply_mask as reference_mask
from websockets.protocol import Protocol, Side, State

from hatchway.errors import HatchwayError
from hatchway.wire import wshandshake
from hatchway.wire.masking import apply_mask
from hatchway.wire.websocket import (
    NO_STATUS,
    CloseReceived,
    Message,
    Piece,
    PongReceived,
    WebSocket,
    WebSocketError,
)

# Lengths around each size at which the format of the header or the masking changes.
LENGTHS = st.sampled_from([0, 1, 3, 4, 125, 126, 127, 255, 256, 1000, 65535, 65536, 70_001])


def take(socket: WebSocket) -> bytes:
    return b"".join(socket.data_to_send())


def library(client: bool) -> Protocol:
    return Protocol(Side.CLIENT if client else Side.SERVER, state=State.OPEN, max_size=None)


def pieces(wire: bytes, cuts: list[int]) -> list[bytes]:
    found, at = [], 0
    for cut in cuts:
        found.append(wire[at : at + cut])
        at += cut
    return [*found, wire[at:]]


@given(st.binary(max_size=2000), st.binary(min_size=4, max_size=4))
def test_masking_agrees_with_the_library(data: bytes, mask: bytes) -> None:
    assert apply_mask(data, mask) == reference_mask(data, mask)
    assert apply_mask(apply_mask(data, mask), mask) == data


@settings(max_examples=200)
@given(client=st.booleans(), sizes=st.lists(LENGTHS, max_size=5), cuts=st.lists(st.integers(1, 5000), max_size=20))
def test_the_library_reads_sent_frames(client: bool, sizes: list[int], cuts: list[int]) -> None:
    socket, peer = WebSocket(client=client, largest=None), library(not client)
    for index, size in enumerate(sizes):
        data = bytes([index]) * size
        socket.send_binary(data[: size // 3], memoryview(data)[size // 3 :])
        socket.ping(b"%d" % index)
        socket.send_text(b"text %d" % index)
    socket.close(1000, "done")
    for piece in pieces(take(socket), cuts):
        peer.receive_data(piece)
    frames = [frame for frame in peer.events_received() if isinstance(frame, Frame)]
    expected: list[tuple[Opcode, bytes]] = []
    for index, size in enumerate(sizes):
        expected += [
            (Opcode.BINARY, bytes([index]) * size),
            (Opcode.PING, b"%d" % index),
            (Opcode.TEXT, b"text %d" % index),
        ]
    assert [(frame.opcode, bytes(frame.data)) for frame in frames] == [
        *expected,
        (Opcode.CLOSE, b"\x03\xe8done"),
    ]


@settings(max_examples=200)
@given(
    client=st.booleans(),
    messages=st.lists(st.tuples(LENGTHS, st.booleans(), st.integers(0, 3)), max_size=5),
    cuts=st.lists(st.integers(1, 5000), max_size=20),
)
def test_frames_of_the_library_are_read(client: bool, messages: list[tuple[int, bool, int]], cuts: list[int]) -> None:
    socket, peer = WebSocket(client=client, largest=1 << 20), library(not client)
    expected: list[object] = []
    for size, is_text, fragments in messages:
        data = b"x" * size
        send, whole = (peer.send_text, True) if is_text else (peer.send_binary, False)
        send(data, fin=not fragments)
        for index in range(fragments):
            peer.send_ping(b"between")
            peer.send_continuation(b"y", fin=index == fragments - 1)
        expected.append(Message(data + b"y" * fragments, whole))
    peer.send_pong(b"unasked")
    peer.send_close(1001, "bye")
    expected += [PongReceived(b"unasked"), CloseReceived(1001, "bye")]
    events: list[object] = []
    for piece in pieces(b"".join(peer.data_to_send()), cuts):
        events += socket.receive_data(piece)
    assert events == expected
    peer.receive_data(take(socket))
    answers = [frame for frame in peer.events_received() if isinstance(frame, Frame)]
    pongs = sum(fragments for _, _, fragments in messages)
    assert [frame.opcode for frame in answers] == [Opcode.PONG] * pongs + [Opcode.CLOSE]
    assert socket.closed


@given(st.booleans(), st.lists(st.binary(max_size=3000), max_size=5), st.lists(st.integers(1, 400), max_size=30))
def test_joined_pieces_are_the_sent_stream(client: bool, messages: list[bytes], cuts: list[int]) -> None:
    sender, receiver = WebSocket(client=not client, largest=None), WebSocket(client=client, largest=None)
    for message in messages:
        sender.send_binary(message)
    got = b""
    for piece in pieces(take(sender), cuts):
        for event in receiver.receive_data(piece):
            assert isinstance(event, Piece)
            got += bytes(event.data)
    assert got == b"".join(messages)


def test_pieces_are_delivered_before_their_message_is_complete() -> None:
    receiver = WebSocket(client=True, largest=None)
    assert receiver.receive_data(b"\x82\x7e\x10\x00start") == [Piece(b"start")]


def test_after_close_nothing_is_sent_but_the_answer_is_read() -> None:
    client, server = WebSocket(client=True, largest=100), WebSocket(client=False, largest=100)
    client.close(1000, "enough")
    client.send_binary(b"too late")
    server.send_binary(b"last words")
    assert server.receive_data(take(client)) == [CloseReceived(1000, "enough")]
    assert client.receive_data(take(server)) == [Message(b"last words", False), CloseReceived(1000, "")]
    assert client.closed and server.closed


def test_close_without_status_is_answered_without_one() -> None:
    server = WebSocket(client=False, largest=100)
    assert server.receive_data(b"\x88\x80\0\0\0\0") == [CloseReceived(NO_STATUS, "")]
    assert take(server) == b"\x88\x00"


def test_a_long_reason_is_truncated_between_characters() -> None:
    socket = WebSocket(client=False, largest=100)
    socket.close(1000, "é" * 100)
    data = take(socket)
    assert data[1] <= 125 and data[4:].decode() == "é" * 61


@pytest.mark.parametrize(
    ("frame", "code"),
    [
        (b"\xc2\x00", 1002),  # a reserved bit
        (b"\x82\x81\0\0\0\0x", 1002),  # masked by a server
        (b"\x83\x00", 1002),  # a reserved opcode
        (b"\x8b\x00", 1002),
        (b"\x09\x00", 1002),  # a ping in fragments
        (b"\x89\x7e\x00\x7e", 1002),  # a ping of 126 bytes
        (b"\x80\x00", 1002),  # a continuation without a first frame
        (b"\x02\x00\x82\x00", 1002),  # a message inside another message
        (b"\x88\x01\x03", 1002),  # an incomplete code
        (b"\x88\x02\x03\xed", 1002),  # a code that must not be sent
        (b"\x88\x04\x03\xe8\xff\xff", 1007),
        (b"\x81\x01\xff", 1007),
        (b"\x82\x7e\x03\xe9", 1009),
        (b"\x02\x7e\x03\xe8" + bytes(1000) + b"\x80\x01x", 1009),
        (b"\x82\x7f" + b"\xff" * 8, 1009),
    ],
)
def test_protocol_errors_are_refused_with_their_code(frame: bytes, code: int) -> None:
    client = WebSocket(client=True, largest=1000)
    with pytest.raises(WebSocketError) as caught:
        client.receive_data(frame)
    assert caught.value.code == code
    sent = take(client)
    assert sent[0] == 0x88 and struct.unpack(">H", apply_mask(sent[6:8], sent[2:6]))[0] == code
    with pytest.raises(WebSocketError):
        client.receive_data(b"")


def test_server_refuses_frames_without_mask() -> None:
    with pytest.raises(WebSocketError, match="not masked"):
        WebSocket(client=False, largest=10).receive_data(b"\x82\x01x")


def test_stream_refuses_text() -> None:
    with pytest.raises(WebSocketError) as caught:
        WebSocket(client=True, largest=None).receive_data(b"\x81\x01x")
    assert caught.value.code == 1003


def test_flood_of_pings_is_refused() -> None:
    client = WebSocket(client=True, largest=None)
    with pytest.raises(WebSocketError, match="pings"):
        client.receive_data(b"\x89\x00" * 5000)
    assert len(take(client)) < 10_000


def test_handshake_of_rfc_6455() -> None:
    key = b"dGhlIHNhbXBsZSBub25jZQ=="
    assert wshandshake.accept_value(key) == b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
    protocols = ["v5.channel.k8s.io", "SPDY/3.1+portforward.k8s.io"]
    found = wshandshake.parse_request(wshandshake.request_fields(key, protocols))
    assert found == wshandshake.OpeningRequest(key, protocols)
    answer = wshandshake.response_fields(key, protocols[1])
    assert wshandshake.check_response(answer, key, protocols) == protocols[1]
    assert wshandshake.check_response(wshandshake.response_fields(key, None), key, []) == ""


@pytest.mark.parametrize(
    "change",
    [
        (b"Sec-WebSocket-Version", b"8"),
        (b"Sec-WebSocket-Key", b"c2hvcnQ="),
        (b"Sec-WebSocket-Key", b"***"),
        (b"Sec-WebSocket-Protocol", b"a b"),
        (b"Sec-WebSocket-Protocol", b"a," * 200),
    ],
)
def test_malformed_requests_are_refused(change: tuple[bytes, bytes]) -> None:
    fields = dict(wshandshake.request_fields(wshandshake.new_key(), ["p"]))
    fields[change[0]] = change[1]
    with pytest.raises(HatchwayError):
        wshandshake.parse_request(fields.items())


@pytest.mark.parametrize(
    ("answer", "offered"),
    [
        ([(b"Sec-WebSocket-Accept", b"wrong")], []),
        (wshandshake.response_fields(b"key", None), ["v5"]),
        (wshandshake.response_fields(b"key", "v4"), ["v5"]),
        ([*wshandshake.response_fields(b"key", None), (b"Sec-WebSocket-Extensions", b"permessage-deflate")], []),
    ],
)
def test_answers_with_a_subprotocol_that_was_not_offered_are_refused(
    answer: list[tuple[bytes, bytes]], offered: list[str]
) -> None:
    with pytest.raises(HatchwayError):
        wshandshake.check_response(answer, b"key", offered)
