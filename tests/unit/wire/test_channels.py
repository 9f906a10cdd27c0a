"""Channels, the end of a command, and the streams of port-forward."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hatchway.wire import channels, portforwardstreams
from hatchway.wire.channels import ChannelError, CommandResult
from hatchway.wire.portforwardstreams import ForwardedConnection, PortChannels, PortForwardError, StreamPairs

ALL = [channels.UNNAMED, channels.V1, channels.V1_BASE64, channels.V4, channels.V4_BASE64, channels.V5]


@given(st.sampled_from(ALL), st.integers(0, 9), st.binary(max_size=300))
def test_messages_are_decoded_unchanged(protocol: channels.ChannelProtocol, channel: int, data: bytes) -> None:
    message = protocol.encode(channel, data)
    assert protocol.decode(message) == (channel, data)
    if protocol.is_base64:
        assert message.decode("ascii")[0] == str(channel)


def test_the_end_of_stdin_is_encoded_as_by_kubectl() -> None:
    assert channels.V5.encode_close(channels.STDIN) == b"\xff\x00"
    assert channels.V5.decode(b"\xff\x00") == (channels.CLOSE, b"\x00")


@pytest.mark.parametrize(
    ("protocol", "message"),
    [
        (channels.V5, b""),
        (channels.V5, b"\xff"),
        (channels.V5, b"\xff\x00\x00"),
        (channels.V4, b"\xff\x00"),
        (channels.V4_BASE64, b""),
        (channels.V4_BASE64, b"1a"),
        (channels.V4_BASE64, b"1a-_="),
        (channels.V4_BASE64, b"\x00YQ=="),
    ],
)
def test_malformed_messages_are_refused(protocol: channels.ChannelProtocol, message: bytes) -> None:
    with pytest.raises(ChannelError):
        protocol.decode(message)


@pytest.mark.parametrize(
    ("offered", "chosen"),
    [
        ([], channels.UNNAMED),
        (["v5.channel.k8s.io", "v4.channel.k8s.io"], channels.V5),
        (["v9.channel.k8s.io", "v4.base64.channel.k8s.io"], channels.V4_BASE64),
        (["SPDY/3.1+portforwardstreams.k8s.io"], None),
    ],
)
def test_first_known_protocol_is_chosen(offered: list[str], chosen: channels.ChannelProtocol | None) -> None:
    assert channels.choose(offered) == chosen


@given(st.integers(0, 65535), st.integers(0, 65535))
def test_sizes_are_equal_after_encoding_and_decoding(width: int, height: int) -> None:
    assert channels.decode_size(channels.encode_size(width, height)) == (width, height)


def test_a_size_from_kubectl_is_decoded() -> None:
    assert channels.decode_size(b'{"Width":120,"Height":40}\n') == (120, 40)


@pytest.mark.parametrize(
    "data",
    [b"", b"[]", b'{"Width":-1,"Height":3}', b'{"Width":70000}', b'{"Width":true}', b'{"Width":1.5}', b"[" * 100_000],
)
def test_malformed_sizes_are_refused(data: bytes) -> None:
    with pytest.raises(ChannelError):
        channels.decode_size(data)


def test_the_end_of_a_command_is_encoded_as_by_kubernetes() -> None:
    assert channels.success_status() == b'{"metadata":{},"status":"Success"}'
    assert channels.exit_status(3) == (
        b'{"metadata":{},"status":"Failure","message":"command terminated with non-zero exit code: '
        b'command terminated with exit code 3","reason":"NonZeroExitCode",'
        b'"details":{"causes":[{"reason":"ExitCode","message":"3"}]}}'
    )


@pytest.mark.parametrize(
    ("status", "exit_code", "message"),
    [
        (channels.success_status(), 0, ""),
        (
            channels.exit_status(3),
            3,
            "command terminated with non-zero exit code: command terminated with exit code 3",
        ),
        (channels.failure_status("no such file"), None, "no such file"),
        (b'{"status":"Failure"}', None, "the command failed"),
        (
            b'{"status":"Failure","message":"m","details":{"causes":[7,{"reason":"ExitCode","message":"x"}]}}',
            None,
            "m",
        ),
    ],
)
def test_end_of_a_command_is_read(status: bytes, exit_code: int | None, message: str) -> None:
    result = channels.decode_status(status)
    assert (result.exit_code, result.message) == (exit_code, message)


@pytest.mark.parametrize("data", [b"", b"plain text", b"[1]", b"{}", b'{"status":"Maybe"}', b"\xff", b"[" * 100_000])
def test_malformed_ends_are_refused(data: bytes) -> None:
    with pytest.raises(ChannelError):
        channels.decode_status(data)


@given(
    st.recursive(
        st.none() | st.booleans() | st.text() | st.integers(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    )
)
def test_any_details_are_accepted(details: object) -> None:
    status = json.dumps({"status": "Failure", "message": "m", "details": details}).encode()
    assert isinstance(channels.decode_status(status), CommandResult)


def test_pair_is_complete_in_either_order() -> None:
    pairs = StreamPairs()
    assert pairs.add(1, portforwardstreams.error_headers(80, 0), 0.0) is None
    assert pairs.add(3, portforwardstreams.data_headers(81, 1), 0.0) is None
    assert pairs.add(5, portforwardstreams.data_headers(80, 0), 0.0) == ForwardedConnection(80, 5, 1)
    assert pairs.add(7, portforwardstreams.error_headers(81, 1), 0.0) == ForwardedConnection(81, 3, 7)
    assert pairs.expire(1000.0) == []


def test_streams_without_request_are_paired_by_their_numbers() -> None:
    pairs = StreamPairs()
    headers = [(b"port", b"80")]
    assert pairs.add(1, [(b"streamtype", b"error"), *headers], 0.0) is None
    assert pairs.add(3, [(b"streamtype", b"data"), *headers], 0.0) == ForwardedConnection(80, 3, 1)


def test_half_a_pair_expires() -> None:
    pairs = StreamPairs()
    pairs.add(1, portforwardstreams.error_headers(80, 0), 5.0)
    pairs.add(3, portforwardstreams.error_headers(80, 1), 10.0)
    assert pairs.expire(35.0) == [1]
    pairs.discard(3)
    assert pairs.expire(100.0) == []


@pytest.mark.parametrize(
    "headers",
    [
        [],
        [(b"streamtype", b"stdin"), (b"port", b"80")],
        [(b"streamtype", b"data")],
        [(b"streamtype", b"data"), (b"port", b"0")],
        [(b"streamtype", b"data"), (b"port", b"65536")],
        [(b"streamtype", b"data"), (b"port", b"+80")],
        [(b"streamtype", b"data"), (b"port", b"80"), (b"requestid", b"x" * 300)],
    ],
)
def test_malformed_streams_are_refused(headers: list[tuple[bytes, bytes]]) -> None:
    with pytest.raises(PortForwardError):
        StreamPairs().add(1, headers, 0.0)


def test_second_stream_of_a_kind_or_with_another_port_is_refused() -> None:
    pairs = StreamPairs()
    pairs.add(1, portforwardstreams.error_headers(80, 0), 0.0)
    with pytest.raises(PortForwardError):
        pairs.add(3, portforwardstreams.error_headers(80, 0), 0.0)
    with pytest.raises(PortForwardError):
        pairs.add(5, portforwardstreams.data_headers(81, 0), 0.0)


def test_the_number_of_waiting_streams_is_limited() -> None:
    pairs = StreamPairs()
    with pytest.raises(PortForwardError, match="too many"):
        for number in range(5000):
            pairs.add(2 * number + 1, portforwardstreams.error_headers(80, number), 0.0)


def test_ports_of_the_query_are_read() -> None:
    assert portforwardstreams.parse_ports(["80,443", "8080"]) == [80, 443, 8080]
    for values in ([], [""], ["80,"], ["http"], ["70000"], [",".join(["80"] * 200)]):
        with pytest.raises(PortForwardError):
            portforwardstreams.parse_ports(values)


@pytest.mark.parametrize("protocol", [channels.UNNAMED, channels.V4, channels.V4_BASE64])
def test_port_channels_use_the_format_of_the_kubelet(protocol: channels.ChannelProtocol) -> None:
    ports = PortChannels(protocol, [80, 8080])
    assert [protocol.decode(message) for message in ports.greeting()] == [
        (0, b"\x50\x00"),
        (1, b"\x50\x00"),
        (2, b"\x90\x1f"),
        (3, b"\x90\x1f"),
    ]
    assert protocol.decode(ports.data(1, b"x")) == (2, b"x")
    assert protocol.decode(ports.error(0, "refused")) == (1, b"refused")
    assert ports.decode(protocol.encode(2, b"y")) == (1, b"y")
    assert ports.decode(protocol.encode(1, b"y")) is None
    with pytest.raises(ChannelError):
        ports.decode(protocol.encode(4, b""))
