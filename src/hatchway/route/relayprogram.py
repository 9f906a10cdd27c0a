"""The program of a relay pod: it connects to addresses of the cluster, for one `hatchway forward` or `hatchway socks`.

The pod runs this file alone, as `python3 -c FILE PORT DIGEST SECONDS`, in any image with Python 3.8 or later. It
listens on the pod's loopback interface, which a port-forward reaches and other pods do not. Each connection begins with
one line:

    hatchway-relay SECRET tcp HOST PORT     then the bytes of a TCP connection, both ways
    hatchway-relay SECRET udp HOST PORT     then datagrams, each after its length (two bytes, network order)
    hatchway-relay SECRET renew             nothing follows

The answer is the line `ok`, or the line `error KIND TEXT` and the end of the connection. The pod's spec has DIGEST, the
SHA-256 of the secret, and not the secret itself, so a user who may read the pod cannot use the relay. A connection with
another secret is closed at once.

The program ends SECONDS after the last line with the right secret, so that a command that was killed leaves no process.
"""

from __future__ import annotations

import asyncio
import errno
import hashlib
import hmac
import ipaddress
import os
import resource
import signal
import socket
import struct
import sys
import time

# The maximum number of connections at the same time, each with two descriptors; and the maximum number
# of further connections whose first line has not arrived.
MOST_CONNECTIONS, SPARE = 1000, 64
# The maximum number of bytes of the first line.
LONGEST_LINE = 512
# Seconds for the first line, and for connecting.
LINE_SECONDS, DIAL_SECONDS = 10.0, 10.0
# Reading from one side is paused while this many bytes wait to be sent to the other side; the maximum number of bytes
# of one read.
HIGH_WATER, PIECE = 32 * 1024, 64 * 1024
# The environment variable with the pod's own loopback address, in Hatchway's clusters without network namespaces.
ADDRESS = "HATCHWAY_POD_IP"


class BadLine(Exception):
    """The first line does not follow this protocol, or does not have the right secret."""


class DialError(Exception):
    """A connection could not be opened. kind: one word for the client; the message is for people."""

    def __init__(self, kind: str, text: str) -> None:
        super().__init__(text)
        self.kind = kind


def parse_line(line: bytes, digest: str) -> tuple[str, str, int]:
    """Return (command, host, port) of a first line; ("renew", "", 0) without a host. Raises BadLine.

    digest: SHA-256 of the secret, in hexadecimal.
    """
    try:
        words = line.decode("ascii").split(" ")
    except UnicodeDecodeError as error:
        raise BadLine("it is not ASCII") from error
    if len(words) < 3 or words[0] != "hatchway-relay":
        raise BadLine("it does not begin with the name of this protocol")
    if not hmac.compare_digest(hashlib.sha256(words[1].encode()).hexdigest(), digest):
        raise BadLine("its secret is wrong")
    if words[2:] == ["renew"]:
        return "renew", "", 0
    if len(words) != 5 or words[2] not in ("tcp", "udp") or not words[3] or not words[3].isprintable():
        raise BadLine("it has no known command, or no host")
    if not words[4].isdigit() or len(words[4]) > 5 or not 0 < int(words[4]) < 65536:
        raise BadLine("it has no port")
    return words[2], words[3], int(words[4])


def may_dial(address: str) -> bool:
    """Return False for an address that must not be dialed when it was found by a name.

    Other people may write the objects and the DNS records that map names to addresses. So a name must lead neither to
    this pod itself nor to a link-local service of its node (the metadata service of a cloud).
    """
    found = ipaddress.ip_address(address.partition("%")[0])
    found = getattr(found, "ipv4_mapped", None) or found
    return not (found.is_loopback or found.is_link_local or found.is_unspecified or found.is_multicast)


async def find_addresses(host: str, port: int, kind: int) -> list[tuple[int, tuple[str, int]]]:
    """Return (family, (address, port)) for each address of a host. kind: socket.SOCK_STREAM or SOCK_DGRAM.

    Raises DialError: the host has no address, or only addresses that `may_dial` forbids for a name.
    """
    loop = asyncio.get_running_loop()
    try:
        ipaddress.ip_address(host)
        named = False
    except ValueError:
        named = True
    try:
        found = await loop.getaddrinfo(host, port, type=kind)
    except (OSError, UnicodeError) as error:
        raise DialError("name", getattr(error, "strerror", None) or "this is no host name") from error
    usable: list[tuple[int, tuple[str, int]]] = [
        (one[0], (str(one[4][0]), port)) for one in found if not named or may_dial(str(one[4][0]))
    ]
    if not usable:
        raise DialError("forbidden", "the name leads to the pod itself or its node")
    return usable


def dial_error(error: OSError) -> DialError:
    """Return the error for the client after a failed connect."""
    kind = "refused" if error.errno == errno.ECONNREFUSED else "unreachable"
    return DialError(kind, os.strerror(error.errno) if error.errno else str(error))


class Relay:
    """The state that all connections share. renewed: the monotonic time of the last line with the right secret."""

    def __init__(self, digest: str, most: int = MOST_CONNECTIONS) -> None:
        self.digest = digest
        self.most = most
        self.renewed = time.monotonic()
        self.clients: set[RelayClient] = set()
        # The buffer into which all connections read, one after the other. Received bytes are copied from it at once.
        self.piece = memoryview(bytearray(PIECE))


class End(asyncio.BufferedProtocol):
    """One of two joined connections: writes received bytes to the other side. Each direction may end separately."""

    transport: asyncio.Transport

    def __init__(self, relay: Relay) -> None:
        self.relay = relay
        self.other: End | None = None
        self.ended = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the transport."""
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        transport.set_write_buffer_limits(high=HIGH_WATER)

    def get_buffer(self, sizehint: int) -> memoryview:
        """Return the shared buffer."""
        return self.relay.piece

    def buffer_updated(self, nbytes: int) -> None:
        """Handle the bytes that were read into the buffer."""
        self.received(bytes(self.relay.piece[:nbytes]))

    def received(self, data: bytes) -> None:
        """Pass bytes on."""
        if self.other is not None:
            self.other.transport.write(data)

    def eof_received(self) -> bool:
        """Tell the other side that this direction has ended."""
        self.ended = True
        other = self.other
        if other is None or other.ended:
            self.transport.close()
            if other is not None:
                other.transport.close()
        else:
            other.transport.write_eof()
        return True

    def pause_writing(self) -> None:
        """Read no more from the other side."""
        if self.other is not None:
            self.other.transport.pause_reading()

    def resume_writing(self) -> None:
        """Read from the other side again."""
        if self.other is not None:
            self.other.transport.resume_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        """Close the other side, with a reset if this side has ended with an error."""
        other, self.other = self.other, None
        if other is not None:
            if exc is not None:
                reset(other.transport)
            else:
                other.transport.close()


def reset(transport: asyncio.Transport) -> None:
    """Close a connection with a reset, so that the peer knows that bytes are missing."""
    sock = transport.get_extra_info("socket")
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    except (OSError, AttributeError):
        pass  # it is closed already
    transport.abort()


class Datagrams(asyncio.DatagramProtocol):
    """A UDP socket that is connected to one address. Datagrams that cannot be sent on are dropped, as in a network."""

    transport: asyncio.DatagramTransport

    def __init__(self, client: RelayClient) -> None:
        self.client = client
        self.data = bytearray()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the transport."""
        self.transport = transport  # type: ignore[assignment]

    def datagram_received(self, data: bytes, addr: object) -> None:
        """Pass a datagram to the client."""
        near = self.client.transport
        if near.get_write_buffer_size() <= HIGH_WATER:
            near.write(struct.pack("!H", len(data)) + data)

    def error_received(self, exc: Exception) -> None:
        """Do nothing: UDP reports closed ports only sometimes."""

    def received(self, data: bytes) -> None:
        """Send the datagrams that are complete."""
        self.data += data
        while len(self.data) >= 2:
            end = 2 + struct.unpack_from("!H", self.data)[0]
            if len(self.data) < end:
                return
            datagram = bytes(self.data[2:end])
            del self.data[:end]
            if datagram and self.transport.get_write_buffer_size() <= HIGH_WATER:  # type: ignore[attr-defined]
                self.transport.sendto(datagram)


class RelayClient(End):
    """A connection from a port-forward: handles its first line, then the bytes or datagrams after it."""

    def __init__(self, relay: Relay) -> None:
        super().__init__(relay)
        self.line = b""
        self.asked = False
        self.datagrams: Datagrams | None = None
        self.task: asyncio.Task[None] | None = None
        self.timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Wait for the first line."""
        super().connection_made(transport)
        if len(self.relay.clients) >= self.relay.most + SPARE:
            self.transport.abort()
            return
        self.relay.clients.add(self)
        self.timer = asyncio.get_running_loop().call_later(LINE_SECONDS, self.transport.abort)

    def received(self, data: bytes) -> None:
        """Take the first line, or pass bytes on."""
        if self.datagrams is not None:
            self.datagrams.received(data)
        elif self.asked:
            super().received(data)
        else:
            self.line += data
            line, found, rest = self.line.partition(b"\n")
            if found:
                self.line = rest  # the bytes after the line are for the other side
                self.ask(line)
            elif len(self.line) > LONGEST_LINE:
                self.transport.abort()

    def ask(self, line: bytes) -> None:
        """Execute the first line."""
        self.asked = True
        self.stop_timer()
        try:
            if len(line) > LONGEST_LINE:
                raise BadLine("it is too long")
            command, host, port = parse_line(line, self.relay.digest)
        except BadLine:
            self.transport.abort()
            return
        self.relay.renewed = time.monotonic()
        if command == "renew":
            self.transport.write(b"ok\n")
            self.transport.close()
            return
        if len(self.relay.clients) > self.relay.most:
            self.refuse(DialError("busy", f"it has {self.relay.most} connections already"))
            return
        self.transport.pause_reading()
        self.task = asyncio.get_running_loop().create_task(self.open(command, host, port))

    async def open(self, command: str, host: str, port: int) -> None:
        """Connect to the host, and send the client the answer."""
        try:
            await asyncio.wait_for(self.dial(command, host, port), DIAL_SECONDS)
        except asyncio.TimeoutError:  # noqa: UP041 (before Python 3.11 this is not TimeoutError)
            self.refuse(DialError("timeout", f"no answer in {DIAL_SECONDS:g} s"))
        except DialError as error:
            self.refuse(error)
        else:
            if not self.transport.is_closing():
                self.transport.resume_reading()

    async def dial(self, command: str, host: str, port: int) -> None:
        """Open the other side. Raises DialError."""
        loop = asyncio.get_running_loop()
        last = DialError("unreachable", "there is no address")
        for family, address in await find_addresses(
            host, port, socket.SOCK_STREAM if command == "tcp" else socket.SOCK_DGRAM
        ):
            try:
                if command == "udp":
                    _, datagrams = await loop.create_datagram_endpoint(lambda: Datagrams(self), remote_addr=address)
                    self.begin_datagrams(datagrams)
                else:
                    _, end = await loop.create_connection(lambda: End(self.relay), *address, family=family)
                    self.begin(end)
                return
            except OSError as error:
                last = dial_error(error)
        raise last

    def begin(self, end: End) -> None:
        """Join the client with a TCP connection."""
        if self.transport.is_closing():
            reset(end.transport)
            return
        self.other, end.other = end, self
        self.transport.write(b"ok\n")
        rest, self.line = self.line, b""
        if rest:
            end.transport.write(rest)

    def begin_datagrams(self, datagrams: Datagrams) -> None:
        """Give the client's datagrams to a UDP socket."""
        if self.transport.is_closing():
            datagrams.transport.abort()
            return
        self.datagrams = datagrams
        self.transport.write(b"ok\n")
        rest, self.line = self.line, b""
        datagrams.received(rest)

    def refuse(self, error: DialError) -> None:
        """Send the client the reason why there is no connection, and close."""
        text = "".join(one if one.isprintable() else " " for one in str(error))[:200]
        self.transport.write(f"error {error.kind} {text}\n".encode("utf-8", "replace"))
        self.transport.close()

    def eof_received(self) -> bool:
        """Pass the end of this direction on; close when there is no other side."""
        if self.other is None:
            self.transport.close()
            return True
        return super().eof_received()

    def connection_lost(self, exc: Exception | None) -> None:
        """Close the client's other side, or stop opening it."""
        self.stop_timer()
        self.relay.clients.discard(self)
        if self.task is not None:
            self.task.cancel()
        if self.datagrams is not None:
            self.datagrams.transport.abort()
        super().connection_lost(exc)

    def stop_timer(self) -> None:
        """Stop the timer for the first line."""
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None


def connection_limit() -> int:
    """Raise the limit of open descriptors as far as needed and allowed; return how many connections it permits."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 2 * MOST_CONNECTIONS + 2 * SPARE
    limit = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))
    return max(1, min(MOST_CONNECTIONS, (limit - 2 * SPARE) // 2))


async def serve(port: int, digest: str, seconds: float) -> None:
    """Serve until SIGTERM, or until no line with the right secret has come for this many seconds."""
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    # For the first process of a container, a SIGTERM without a handler has no effect.
    loop.add_signal_handler(signal.SIGTERM, stop.set)
    relay = Relay(digest, connection_limit())
    own = os.environ.get(ADDRESS, "")
    host = own if own.startswith("127.") else "127.0.0.1"
    server = await loop.create_server(lambda: RelayClient(relay), host, port)
    print(f"serving until it is not renewed for {seconds:g} s", flush=True)
    while not stop.is_set() and (left := relay.renewed + seconds - time.monotonic()) > 0:
        try:
            await asyncio.wait_for(stop.wait(), left)
        except asyncio.TimeoutError:  # noqa: UP041
            continue
    server.close()


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[1]), sys.argv[2], float(sys.argv[3])))
    # `os._exit` does not wait for threads that still wait for DNS.
    sys.stdout.flush()
    os._exit(0)
