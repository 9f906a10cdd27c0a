"""Fuzz the decoders of `hatchway.wire`: mutated sessions of SPDY, WebSockets, channels and handshakes.

    python bench/wire_fuzz.py [--count 1000000] [--seed 1]

Each input is a valid sequence of bytes with some changes, fed to a decoder in pieces of random lengths. The decoder may
raise only its declared exception, may return no more bytes than it received, may send answers that are not much longer
than the input, and must keep nothing in memory afterwards. The fuzzer prints inputs per second and the largest resident
set.
"""

from __future__ import annotations

import argparse
import gc
import random
import resource
import sys
import time
from collections import Counter
from collections.abc import Callable

from hatchway.wire import channels, portforwardstreams, wshandshake
from hatchway.wire.channels import ChannelError
from hatchway.wire.portforwardstreams import PortChannels, PortForwardError, StreamPairs
from hatchway.wire.spdy import SpdySession
from hatchway.wire.spdyevents import DataReceived, SpdyError, SpdyLimits, StreamOpened
from hatchway.wire.websocket import Message, Piece, WebSocket, WebSocketError
from hatchway.wire.wshandshake import HandshakeError

# The bytes that a decoder may answer in addition to a number of bytes for each received byte.
_ANSWER = 64 * 1024
_SETTLED = 20_000
_CHANNELS = (channels.UNNAMED, channels.V1_BASE64, channels.V4, channels.V4_BASE64, channels.V5)


class Fuzzer:
    """Makes inputs and feeds them to decoders; `outcomes` counts the results."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.outcomes: Counter[str] = Counter()
        self._kinds: list[Callable[[], None]] = [
            self.spdy,
            self.spdy,
            self.websocket,
            self.tunnel,
            self.channel,
            self.status,
            self.handshake,
            self.forward,
        ]

    def run(self, count: int) -> None:
        """Feed `count` inputs. Raises the exceptions that a decoder must not raise."""
        for _ in range(count):
            self.random.choice(self._kinds)()

    def mutated(self, data: bytes) -> bytes:
        """Return `data` with a few changes, or rarely without changes."""
        found = bytearray(data)
        draw = self.random
        for _ in range(draw.choice((0, 1, 1, 2, 3, 8))):
            at = draw.randrange(len(found) + 1)
            match draw.randrange(6):
                case 0 if at < len(found):
                    found[at] ^= 1 << draw.randrange(8)
                case 1 if at < len(found):
                    found[at] = draw.choice((0, 1, 0x7F, 0x80, 0xFF, draw.randrange(256)))
                case 2:
                    found[at:at] = draw.randbytes(draw.randrange(1, 9))
                case 3:
                    del found[at : at + draw.randrange(1, 9)]
                case 4:
                    found[at:at] = found[at : at + draw.randrange(64)]
                case _:
                    del found[at:]
        return bytes(found)

    def rarely(self, data: bytes) -> bytes:
        """Return `data`, changed in one of ten cases. For inputs of many parts."""
        return self.mutated(data) if self.random.random() < 0.1 else data

    def pieces(self, data: bytes) -> list[bytes]:
        """Split `data` at random places."""
        found = []
        while data:
            cut = self.random.choice((1, 3, 8, 64, 1000, len(data)))
            found.append(data[:cut])
            data = data[cut:]
        return found

    def spdy(self) -> None:
        """Feed a peer's frames to a SPDY session that has opened a stream."""
        draw = self.random
        server = draw.random() < 0.5
        peer = SpdySession(server=not server)
        session = SpdySession(server=server, limits=SpdyLimits(streams=20, window=draw.choice((100, 1 << 20))))
        own = session.open_stream(portforwardstreams.data_headers(80, 1))
        session.send_data(own, bytes(500))
        peer.receive_data(b"".join(session.data_to_send()))
        accepted = False
        for _ in range(draw.randrange(1, 8)):
            match draw.randrange(6):
                case 0 | 1:
                    stream = peer.open_stream(portforwardstreams.error_headers(8080, draw.randrange(100)))
                    peer.send_data(stream, draw.randbytes(draw.randrange(40)), fin=draw.random() < 0.5)
                case 2:
                    peer.ping()
                case 3 if not accepted:
                    accepted = True
                    peer.accept(own)
                case 4:
                    peer.reset(own)
                case 5:
                    peer.consumed(own, 1 << 20)
        if draw.random() < 0.1:
            peer.go_away()
        data = self.mutated(b"".join(peer.data_to_send()))
        answered = received = 0
        try:
            for piece in self.pieces(data):
                for event in session.receive_data(piece):
                    if isinstance(event, DataReceived):
                        received += len(event.data)
                        session.consumed(event.stream_id, len(event.data))
                    elif isinstance(event, StreamOpened):
                        session.accept(event.stream_id)
                        session.send_data(event.stream_id, b"answer")
                answered += sum(map(len, session.data_to_send()))
            self.outcomes["spdy: read"] += 1
        except SpdyError:
            self.outcomes["spdy: refused"] += 1
        answered += sum(map(len, session.data_to_send()))
        assert received <= len(data) and answered <= _ANSWER + 10 * len(data)

    def websocket(self) -> None:
        """Feed messages to a WebSocket connection."""
        self._websocket(4096)

    def tunnel(self) -> None:
        """Feed binary messages that carry a stream of bytes."""
        self._websocket(None)

    def _websocket(self, largest: int | None) -> None:
        draw = self.random
        client = draw.random() < 0.5
        peer, socket = WebSocket(client=not client, largest=None), WebSocket(client=client, largest=largest)
        for _ in range(draw.randrange(1, 6)):
            match draw.randrange(5):
                case 0 | 1:
                    peer.send_binary(draw.randbytes(draw.choice((0, 5, 126, 300))))
                case 2:
                    peer.send_text(b"text")
                case 3:
                    peer.ping(b"ping")
                case _ if draw.random() < 0.3:
                    peer.close(1000, "end")
        data = self.mutated(b"".join(peer.data_to_send()))
        received = answered = 0
        try:
            for piece in self.pieces(data):
                for event in socket.receive_data(piece):
                    if isinstance(event, Message | Piece):
                        received += len(event.data)
                answered += sum(map(len, socket.data_to_send()))
            self.outcomes["websocket: read"] += 1
        except WebSocketError:
            self.outcomes["websocket: refused"] += 1
        answered += sum(map(len, socket.data_to_send()))
        assert received <= len(data) and answered <= _ANSWER + 10 * len(data)

    def channel(self) -> None:
        """Feed one message of a channel protocol, or of port-forward over a WebSocket without SPDY."""
        draw = self.random
        protocol = draw.choice(_CHANNELS)
        message = protocol.encode(draw.randrange(6), draw.randbytes(draw.randrange(20)))
        if protocol.has_close and draw.random() < 0.3:
            message = protocol.encode_close(0)
        data = self.mutated(message)
        try:
            _, payload = protocol.decode(data)
            PortChannels(protocol, [80, 81]).decode(data)
            assert len(payload) <= len(data)
            self.outcomes["channel: read"] += 1
        except ChannelError:
            self.outcomes["channel: refused"] += 1

    def status(self) -> None:
        """Decode the end of a command, and a terminal's size."""
        data = self.mutated(self.random.choice((channels.exit_status(7), channels.failure_status("no"))))
        size = self.rarely(channels.encode_size(80, 24))
        try:
            channels.decode_status(data)
            channels.decode_size(size)
            self.outcomes["status: read"] += 1
        except ChannelError:
            self.outcomes["status: refused"] += 1

    def handshake(self) -> None:
        """Check the fields of a WebSocket's handshake, at both ends."""
        key = wshandshake.new_key()
        offered = ["v5.channel.k8s.io", portforwardstreams.TUNNEL_PROTOCOL]
        try:
            fields = [(name, self.rarely(value)) for name, value in wshandshake.request_fields(key, offered)]
            wshandshake.parse_request(fields)
            fields = [(name, self.rarely(value)) for name, value in wshandshake.response_fields(key, offered[0])]
            assert wshandshake.check_response(fields, key, offered) in offered
            self.outcomes["handshake: read"] += 1
        except HandshakeError:
            self.outcomes["handshake: refused"] += 1

    def forward(self) -> None:
        """Parse the headers of port-forward's streams, and the ports of port-forward without SPDY."""
        draw = self.random
        pairs = StreamPairs()
        try:
            for number in range(1, 9, 2):
                kind = draw.choice((portforwardstreams.error_headers, portforwardstreams.data_headers))
                headers = [(self.rarely(name), self.rarely(value)) for name, value in kind(80, draw.randrange(3))]
                pairs.add(number, headers, 0.0)
            portforwardstreams.parse_ports([self.rarely(b"80,443").decode("latin-1")])
            self.outcomes["forward: read"] += 1
        except PortForwardError:
            self.outcomes["forward: refused"] += 1


def resident() -> int:
    """Return the largest resident set of this process so far, in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def main() -> int:
    """Run the fuzzer, and print the results."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--count", type=int, default=1_000_000, help="inputs")
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    fuzzer = Fuzzer(arguments.seed)
    begun = time.perf_counter()
    settled = min(_SETTLED, arguments.count)
    fuzzer.run(settled)
    before = resident()
    fuzzer.run(arguments.count - settled)
    took = time.perf_counter() - begun
    gc.collect()
    for outcome, count in sorted(fuzzer.outcomes.items()):
        print(f"{outcome:24}{count:>10}")
    print(f"{arguments.count} inputs in {took:.0f} s, {arguments.count / took:.0f}/s")
    print(f"resident set after {settled} inputs {before >> 20} MB, in the end {resident() >> 20} MB")
    return 0 if resident() - before < 32 << 20 else 1


if __name__ == "__main__":
    sys.exit(main())
