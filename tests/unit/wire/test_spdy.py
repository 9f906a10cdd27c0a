"""Two sessions that exchange frames, and frames of a hostile peer."""

from __future__ import annotations

import zlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hatchway.wire import spdy, spdyframes
from hatchway.wire.spdy import SpdySession
from hatchway.wire.spdyevents import (
    DataReceived,
    Event,
    GoneAway,
    PingAnswered,
    SpdyError,
    SpdyLimits,
    StreamAccepted,
    StreamDrained,
    StreamOpened,
    StreamReset,
)
from hatchway.wire.spdyheaders import DICTIONARY, HeaderError, HeaderReader, HeaderWriter

HEADERS = [(b"streamtype", b"data"), (b"port", b"8080"), (b"requestid", b"0")]


def take(session: SpdySession) -> bytes:
    return b"".join(session.data_to_send())


def pair(limits: SpdyLimits = spdy.LIMITS) -> tuple[SpdySession, SpdySession]:
    """Return a client and a server that have received each other's window sizes."""
    client, server = SpdySession(server=False, limits=limits), SpdySession(server=True, limits=limits)
    client.receive_data(take(server))
    server.receive_data(take(client))
    return client, server


def pass_on(source: SpdySession, sink: SpdySession) -> list[Event]:
    return sink.receive_data(take(source))


def received(events: list[Event], stream_id: int) -> bytes:
    return b"".join(event.data for event in events if isinstance(event, DataReceived) and event.stream_id == stream_id)


def test_a_stream_carries_bytes_in_both_directions_and_can_be_half_closed() -> None:
    client, server = pair()
    stream = client.open_stream(HEADERS)
    client.send_data(stream, b"question", fin=True)
    events = pass_on(client, server)
    assert events == [StreamOpened(stream, HEADERS, False), DataReceived(stream, b"question", True)]
    server.accept(stream)
    server.send_data(stream, b"answer")
    assert pass_on(server, client) == [StreamAccepted(stream, [], False), DataReceived(stream, b"answer", False)]
    server.send_data(stream, b"", fin=True)
    assert pass_on(server, client) == [DataReceived(stream, b"", True)]
    assert not client.is_open(stream) and not server.is_open(stream)


def test_the_two_ends_use_different_stream_numbers() -> None:
    client, server = pair()
    assert [client.open_stream([]), client.open_stream([]), server.open_stream([])] == [1, 3, 2]


def test_no_flow_control_towards_a_peer_that_announces_no_window() -> None:
    client = SpdySession(server=False)
    stream = client.open_stream(HEADERS)
    client.send_data(stream, bytes(10_000_000), fin=True)
    assert client.unsent(stream) == 0


def test_a_peer_that_announces_no_window_still_gets_window_updates() -> None:
    client = SpdySession(server=False, limits=SpdyLimits(window=1000))
    stream = client.open_stream(HEADERS)
    client.data_to_send()
    client.consumed(stream, 499)
    assert client.data_to_send() == []
    client.consumed(stream, 1)
    assert take(client) == spdyframes.window_update(stream, 500)


def test_window_holds_back_what_the_peer_has_not_consumed() -> None:
    client, server = pair(SpdyLimits(window=1000))
    stream = client.open_stream(HEADERS)
    client.send_data(stream, bytes(range(256)) * 10, fin=True)
    assert client.unsent(stream) == 1560
    events = pass_on(client, server)
    got = received(events, stream)
    assert len(got) == 1000 and not any(isinstance(event, DataReceived) and event.fin for event in events)
    server.accept(stream)
    fin = drained = False
    while not fin:
        server.consumed(stream, min(1000, len(got)))
        drained |= StreamDrained(stream) in pass_on(server, client)
        events = pass_on(client, server)
        got += received(events, stream)
        fin = any(isinstance(event, DataReceived) and event.fin for event in events)
    assert got == bytes(range(256)) * 10 and drained


def test_an_empty_frame_with_fin_is_sent_after_buffered_data() -> None:
    client, server = pair(SpdyLimits(window=100))
    stream = client.open_stream([])
    client.send_data(stream, b"x" * 150)
    client.send_data(stream, b"", fin=True)
    events = pass_on(client, server)
    assert events[-1] == DataReceived(stream, b"x" * 100, False)
    server.consumed(stream, 100)
    pass_on(server, client)
    assert pass_on(client, server) == [DataReceived(stream, b"x" * 50, True)]


def test_window_grows_while_bytes_are_consumed_at_once() -> None:
    client, server = pair(SpdyLimits(window=100, largest_window=400))
    stream = client.open_stream([])
    client.send_data(stream, bytes(2000))
    rounds = []
    while len(rounds) < 4:
        data = received(pass_on(client, server), stream)
        rounds.append(len(data))
        server.consumed(stream, len(data), at_once=True)
        pass_on(server, client)
    assert rounds == [100, 200, 400, 400]


def test_one_full_window_does_not_delay_another_stream() -> None:
    client, server = pair(SpdyLimits(window=100))
    stalled, lively = client.open_stream([]), client.open_stream([])
    client.send_data(stalled, bytes(1000))
    client.send_data(lively, b"through")
    assert received(pass_on(client, server), lively) == b"through"


def test_data_is_delivered_before_its_frame_is_complete() -> None:
    client, server = pair()
    stream = client.open_stream([])
    client.send_data(stream, b"a" * 5000, fin=True)
    sent = take(client)
    first, second = sent[:-2000], sent[-2000:]
    assert received(server.receive_data(first), stream) == b"a" * 3000
    assert server.receive_data(second) == [DataReceived(stream, b"a" * 2000, True)]


def test_a_reset_ends_a_stream_and_later_frames_are_ignored() -> None:
    client, server = pair()
    stream = client.open_stream([])
    pass_on(client, server)
    server.accept(stream)
    server.send_data(stream, b"late")
    client.reset(stream)
    assert pass_on(server, client) == []
    assert pass_on(client, server) == [StreamReset(stream, spdy.CANCEL)]
    server.send_data(stream, b"later")
    assert server.data_to_send() == []


def test_data_for_an_unknown_stream_are_answered_with_a_reset() -> None:
    _, server = pair()
    server.receive_data(spdyframes.data_header(7, 3, False) + b"abc")
    assert take(server) == spdyframes.rst_stream(7, spdy.INVALID_STREAM)


def test_pings_are_answered() -> None:
    client, server = pair()
    number = client.ping()
    pass_on(client, server)
    assert pass_on(server, client) == [PingAnswered(number)]


def test_after_go_away_no_stream_can_be_opened() -> None:
    client, server = pair()
    stream = client.open_stream([])
    pass_on(client, server)
    server.go_away()
    server.accept(stream)
    assert pass_on(server, client) == [GoneAway(1, 0), StreamAccepted(stream, [], False)]
    assert not client.can_open and not server.can_open
    with pytest.raises(SpdyError):
        client.open_stream([])


def test_more_streams_than_allowed_are_refused_one_by_one() -> None:
    client, server = pair(SpdyLimits(streams=2))
    ids = [client.open_stream(HEADERS) for _ in range(3)]
    assert [event.stream_id for event in pass_on(client, server) if isinstance(event, StreamOpened)] == ids[:2]
    assert pass_on(server, client) == [StreamReset(ids[2], spdy.REFUSED_STREAM)]
    client.reset(ids[0])
    ids.append(client.open_stream(HEADERS))
    assert StreamOpened(ids[3], HEADERS, False) in pass_on(client, server)


@pytest.mark.parametrize(
    ("what", "frame"),
    [
        ("version", b"\x80\x02\x00\x06\x00\x00\x00\x04\x00\x00\x00\x01"),
        ("control frames", b"\x80\x03\x00\x01\x00\xff\xff\xff"),
        ("SETTINGS", b"\x80\x03\x00\x04\x00\x00\x00\x04\x00\x00\x00\x09"),
        ("length of a ping", b"\x80\x03\x00\x06\x00\x00\x00\x03\x00\x00\x01"),
        ("an own stream", spdyframes.syn_stream(2, HeaderWriter().write([]), False)),
        ("no zlib", spdyframes.syn_stream(1, b"junk", False)),
        ("short", spdyframes.syn_reply(1, b"", False)[:-4] + b"\0\0\0\1"),
    ],
)
def test_protocol_errors_end_the_session(what: str, frame: bytes) -> None:
    _, server = pair()
    with pytest.raises(SpdyError):
        server.receive_data(frame)
    assert take(server) == spdyframes.goaway(0, spdy.GOAWAY_PROTOCOL_ERROR)
    with pytest.raises(SpdyError):
        server.receive_data(b"")


def test_stream_numbers_must_grow() -> None:
    _, server = pair()
    writer = HeaderWriter()
    server.receive_data(spdyframes.syn_stream(5, writer.write([]), False))
    with pytest.raises(SpdyError):
        server.receive_data(spdyframes.syn_stream(3, writer.write([]), False))


def test_floods_of_frames_that_need_answers_end_the_session() -> None:
    _, server = pair()
    with pytest.raises(SpdyError, match="too many"):
        server.receive_data(spdyframes.ping(1) * 2000)
    assert len(take(server)) < 20_000


def test_headers_larger_than_allowed_are_not_decompressed() -> None:
    deflate = zlib.compressobj(9, zdict=DICTIONARY)
    bomb = deflate.compress(b"\0\0\0\1" + bytes(50_000_000)) + deflate.flush(zlib.Z_SYNC_FLUSH)
    with pytest.raises(HeaderError, match="larger"):
        HeaderReader(64 * 1024, 100).read(bomb)


@given(
    st.lists(
        st.lists(
            st.tuples(st.from_regex(rb"[a-z0-9\-]{1,20}", fullmatch=True), st.binary(max_size=200)),
            max_size=10,
            unique_by=lambda header: header[0],
        ),
        max_size=5,
    )
)
def test_headers_are_equal_after_encoding_and_decoding(blocks: list[list[tuple[bytes, bytes]]]) -> None:
    writer, reader = HeaderWriter(), HeaderReader(64 * 1024, 100)
    for headers in blocks:
        assert reader.read(writer.write(headers)) == headers


@settings(max_examples=200)
@given(st.data())
def test_every_stream_arrives_completely_in_any_pieces(data: st.DataObject) -> None:
    window = data.draw(st.sampled_from([16, 1000, 1 << 20]))
    client, server = pair(SpdyLimits(window=window))
    sent: dict[int, bytearray] = {}
    got: dict[int, bytearray] = {}
    ended: set[int] = set()

    def deliver(events: list[Event], session: SpdySession) -> None:
        for event in events:
            if isinstance(event, DataReceived):
                assert event.stream_id not in ended
                got.setdefault(event.stream_id, bytearray()).extend(event.data)
                session.consumed(event.stream_id, len(event.data))
                if event.fin:
                    ended.add(event.stream_id)

    for _ in range(data.draw(st.integers(1, 20))):
        if not sent or data.draw(st.booleans()):
            stream = client.open_stream(HEADERS)
            sent[stream] = bytearray()
        stream = data.draw(st.sampled_from(sorted(sent)))
        piece = data.draw(st.binary(max_size=100))
        client.send_data(stream, piece)
        sent[stream] += piece
    for stream in sent:
        client.send_data(stream, b"", fin=True)
    while ended != set(sent):
        wire = take(client)
        assert wire
        while wire:
            cut = data.draw(st.integers(1, 64)) if len(wire) < 2000 else 1000
            deliver(server.receive_data(wire[:cut]), server)
            wire = wire[cut:]
        client.receive_data(take(server))
    assert got == {stream: piece for stream, piece in sent.items() if piece or stream in got}
