"""The streams of an API server and its kubelet, implemented for tests without `hatchway.wire`.

SPDY behaves like moby/spdystream: no SETTINGS, no WINDOW_UPDATE, data before the reply are lost, and a stream that is
not read blocks all other streams. WebSockets come from the `websockets` library. Port-forward connects to loopback
ports; commands run on this machine.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import struct
import zlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from websockets.frames import Frame, Opcode
from websockets.protocol import Protocol, Side, State
from websockets.utils import accept_key

DICTIONARY = (Path(__file__).parent / "unit/wire/recorded/spdy-dictionary.bin").read_bytes()
TUNNEL = "SPDY/3.1+portforward.k8s.io"
CHUNK = 32 * 1024


class Pipe:
    """A plain connection: bytes in both directions."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    async def read_exactly(self, size: int) -> bytes:
        return await self.reader.readexactly(size)

    async def write(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()


class WebSocketPipe(Pipe):
    """Bytes or messages in both directions of a WebSocket."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        super().__init__(reader, writer)
        self.protocol = Protocol(Side.SERVER, state=State.OPEN, max_size=None)
        self.buffer = bytearray()
        self.incoming = self.messages()

    async def messages(self) -> AsyncIterator[bytes]:
        while data := await self.reader.read(65536):
            self.protocol.receive_data(data)
            for event in self.protocol.events_received():
                assert isinstance(event, Frame)
                if event.opcode in (Opcode.BINARY, Opcode.TEXT, Opcode.CONT):
                    yield bytes(event.data)
            await self.flush()

    async def read_exactly(self, size: int) -> bytes:
        while len(self.buffer) < size:
            try:
                self.buffer += await anext(self.incoming)
            except StopAsyncIteration:
                raise asyncio.IncompleteReadError(b"", size) from None
        found = bytes(self.buffer[:size])
        del self.buffer[:size]
        return found

    async def write(self, data: bytes, text: bool = False) -> None:
        (self.protocol.send_text if text else self.protocol.send_binary)(data)
        await self.flush()

    async def flush(self) -> None:
        for data in self.protocol.data_to_send():
            self.writer.write(data)
        await self.writer.drain()


class Stream:
    def __init__(self, session: Spdy, number: int, headers: dict[str, str]) -> None:
        self.session, self.number, self.headers = session, number, headers
        self.queue: asyncio.Queue[bytes] = asyncio.Queue(1)
        self.replied = self.finished = self.ended = False

    async def read(self) -> bytes:
        if self.ended:
            return b""
        data = await self.queue.get()
        self.ended = not data
        return data

    async def write(self, data: bytes, fin: bool = False) -> None:
        if self.finished:
            return
        self.finished = fin
        await self.session.send(struct.pack(">II", self.number, len(data) | fin << 24) + data)

    async def reset(self) -> None:
        await self.session.control(3, struct.pack(">II", self.number, 5))


class Spdy:
    def __init__(self, pipe: Pipe, on_stream: Callable[[Stream], None]) -> None:
        self.pipe, self.on_stream = pipe, on_stream
        self.streams: dict[int, Stream] = {}
        self.inflate = zlib.decompressobj(zdict=DICTIONARY)
        self.deflate = zlib.compressobj(9, zdict=DICTIONARY)
        self.lock = asyncio.Lock()
        self.frames: list[int] = []
        self.answers_pings = True

    async def send(self, data: bytes) -> None:
        async with self.lock:
            await self.pipe.write(data)

    async def control(self, kind: int, body: bytes) -> None:
        await self.send(struct.pack(">HHI", 0x8003, kind, len(body)) + body)

    async def run(self) -> None:
        while True:
            first, second = struct.unpack(">II", await self.pipe.read_exactly(8))
            body = await self.pipe.read_exactly(second & 0xFFFFFF)
            fin = bool(second >> 24 & 1)
            if not first >> 31:
                stream = self.streams.get(first)
                if stream is None or not stream.replied:
                    continue
                if body:
                    await stream.queue.put(body)
                if fin:
                    await stream.queue.put(b"")
                continue
            kind = first & 0xFFFF
            self.frames.append(kind)
            if kind == 1:
                await self.opened(int.from_bytes(body[:4], "big"), body[10:], fin)
            elif kind == 3:
                stream = self.streams.pop(int.from_bytes(body[:4], "big"), None)
                if stream is not None:
                    stream.finished = True
                    with contextlib.suppress(asyncio.QueueFull):
                        stream.queue.put_nowait(b"")
            elif kind == 6 and self.answers_pings:
                await self.control(6, body)
            elif kind == 7:
                return

    async def opened(self, number: int, block: bytes, fin: bool) -> None:
        plain = self.inflate.decompress(block)
        strings: list[str] = []
        at = 4
        for _ in range(2 * int.from_bytes(plain[:4], "big")):
            size = int.from_bytes(plain[at : at + 4], "big")
            strings.append(plain[at + 4 : at + 4 + size].decode())
            at += 4 + size
        stream = Stream(self, number, dict(zip(strings[::2], strings[1::2], strict=True)))
        self.streams[number] = stream
        if fin:
            stream.queue.put_nowait(b"")
        stream.replied = True
        empty = self.deflate.compress(b"\0\0\0\0") + self.deflate.flush(zlib.Z_SYNC_FLUSH)
        await self.control(2, struct.pack(">I", number) + empty)
        self.on_stream(stream)


class StreamServer:
    """Serves `/portforward`, `/exec` and `/attach` of any pod on a free port of loopback.

    websocket, spdy: whether the server accepts these upgrades; it answers other requests with 400.
    protocols: the accepted subprotocols of exec over WebSocket. exec_spdy: those of exec over SPDY.
    output: the number of bytes that commands have written so far. sizes: the received terminal sizes.
    refusals: (method, end of the path) of requests to refuse -> (status, body) of the response.
    resets_end: whether SPDY streams of a command are reset at its end, and no exit status is sent.
    """

    def __init__(
        self,
        *,
        websocket: bool = True,
        spdy: bool = True,
        protocols: tuple[str, ...] = ("v5.channel.k8s.io", "v4.channel.k8s.io"),
        exec_spdy: tuple[str, ...] = ("v4.channel.k8s.io",),
    ) -> None:
        self.websocket, self.spdy = websocket, spdy
        self.protocols, self.exec_spdy = protocols, exec_spdy
        self.refusals: dict[tuple[str, str], tuple[int, bytes]] = {}
        self.requests: list[tuple[str, str, dict[str, str]]] = []
        self.sessions: list[Spdy] = []
        self.sizes: list[tuple[int, int]] = []
        self.output = 0
        self.resets_end = False
        self.tasks: set[asyncio.Task[None]] = set()
        self.writers: set[asyncio.StreamWriter] = set()

    async def __aenter__(self) -> StreamServer:
        self.server = await asyncio.start_server(self.accept, "127.0.0.1", 0, limit=1 << 20)
        self.port: int = self.server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self.server.close()
        self.cut()
        for task in list(self.tasks):
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)

    def cut(self) -> None:
        """Close all connections."""
        for writer in list(self.writers):
            writer.transport.abort()

    def has_ended(self, kind: str) -> bool:
        """Return True if this server has ended a stream. kind: its `streamtype`."""
        streams = [stream for session in self.sessions for stream in session.streams.values()]
        return any(stream.finished and stream.headers["streamtype"] == kind for stream in streams)

    def spawn(self, coroutine: Any) -> None:
        task = asyncio.get_running_loop().create_task(coroutine)
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    async def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.writers.add(writer)
        try:
            await self.serve(reader, writer)
        except (asyncio.IncompleteReadError, OSError):
            pass
        finally:
            self.writers.discard(writer)
            writer.close()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        line, *lines = head.split("\r\n")[:-2]
        method, target, _ = line.split(" ")
        headers: dict[str, str] = {}
        for name, _, value in (found.partition(":") for found in lines):
            name, value = name.lower(), value.strip()
            headers[name] = f"{headers[name]}, {value}" if name in headers else value
        self.requests.append((method, target, headers))
        path = urlsplit(target).path
        refusal = next(
            (found for (verb, end), found in self.refusals.items() if verb == method and path.endswith(end)), None
        )
        upgrade = headers.get("upgrade", "").lower()
        if refusal is None and not (
            (upgrade == "websocket" and self.websocket) or (upgrade == "spdy/3.1" and self.spdy)
        ):
            refusal = 400, b"Bad Request: unknown upgrade"
        if refusal is not None:
            status, body = refusal
            writer.write(b"HTTP/1.1 %d Refused\r\nContent-Length: %d\r\n\r\n%b" % (status, len(body), body))
            await writer.drain()
            return
        query = parse_qs(urlsplit(target).query)
        is_forward = path.endswith("/portforward")
        if upgrade == "websocket":
            offered = [name.strip() for name in headers.get("sec-websocket-protocol", "").split(",")]
            known = (TUNNEL,) if is_forward else self.protocols
            chosen = next((name for name in offered if name in known), None)
            if chosen is None:
                writer.write(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n")
                return
            writer.write(
                "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                f"Sec-WebSocket-Accept: {accept_key(headers['sec-websocket-key'])}\r\n"
                f"Sec-WebSocket-Protocol: {chosen}\r\n\r\n".encode()
            )
            pipe = WebSocketPipe(reader, writer)
            if is_forward:
                await self.forward(pipe)
            else:
                await self.run_channels(pipe, chosen, query)
            return
        offered = [name.strip() for name in headers.get("x-stream-protocol-version", "").split(",")]
        known = ("portforward.k8s.io",) if is_forward else self.exec_spdy
        chosen = next((name for name in offered if name in known), None)
        if chosen is None:
            writer.write(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n")
            return
        writer.write(
            "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\n"
            f"X-Stream-Protocol-Version: {chosen}\r\n\r\n".encode()
        )
        plain = Pipe(reader, writer)
        await (self.forward(plain) if is_forward else self.run_streams(plain, chosen, query))

    # Port-forward

    async def forward(self, pipe: Pipe) -> None:
        waiting: dict[str, dict[str, Stream]] = {}

        def on_stream(stream: Stream) -> None:
            pair = waiting.setdefault(stream.headers["requestid"], {})
            pair[stream.headers["streamtype"]] = stream
            if len(pair) == 2:
                self.spawn(self.join(pair["data"], pair["error"]))

        session = Spdy(pipe, on_stream)
        self.sessions.append(session)
        await session.run()

    async def join(self, data: Stream, error: Stream) -> None:
        port = int(data.headers["port"])
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
        except OSError as problem:
            # Use containerd's order: first end the data stream, then send the error text.
            await data.write(b"", fin=True)
            await error.write(f"error forwarding port {port} to pod: {problem}".encode())
            await error.write(b"", fin=True)
            return

        async def up() -> None:
            while piece := await data.read():
                writer.write(piece)
                await writer.drain()
            with contextlib.suppress(OSError):
                writer.write_eof()

        task = asyncio.get_running_loop().create_task(up())
        try:
            while piece := await reader.read(CHUNK):
                await data.write(piece)
            await data.write(b"", fin=True)
            await task
        except OSError as problem:
            await error.write(f"error forwarding port {port} to pod: {problem}".encode())
        finally:
            task.cancel()
            writer.close()
            with contextlib.suppress(OSError):
                await error.write(b"", fin=True)
                await data.write(b"", fin=True)

    # Exec

    async def run_streams(self, pipe: Pipe, protocol: str, query: dict[str, list[str]]) -> None:
        wanted = {"error"} | {name for name in ("stdin", "stdout", "stderr") if query.get(name) == ["true"]}
        if query.get("tty") == ["true"]:
            wanted.add("resize")
        streams: dict[str, Stream] = {}
        complete = asyncio.Event()

        def on_stream(stream: Stream) -> None:
            streams[stream.headers["streamtype"]] = stream
            if set(streams) == wanted:
                complete.set()

        session = Spdy(pipe, on_stream)
        self.sessions.append(session)

        async def command() -> None:
            await complete.wait()

            async def read_stdin() -> bytes:
                return await streams["stdin"].read() if "stdin" in streams else b""

            async def out(name: str, data: bytes) -> None:
                if name in streams:
                    await streams[name].write(data)

            if "resize" in streams:
                self.spawn(self.take_sizes(streams["resize"]))
            status = await self.run_command(query, read_stdin, out)
            if self.resets_end:
                for stream in streams.values():
                    await stream.reset()
                return
            if protocol.startswith("v4"):
                await streams["error"].write(json.dumps(status).encode())
            elif status["status"] != "Success":
                await streams["error"].write(status["message"].encode())
            for stream in streams.values():
                await stream.write(b"", fin=True)
            await session.control(7, bytes(8))
            pipe.writer.close()

        self.spawn(command())
        await session.run()

    async def take_sizes(self, stream: Stream) -> None:
        while data := await stream.read():
            self.take_size(data)

    def take_size(self, data: bytes) -> None:
        found = json.loads(data)
        self.sizes.append((found["Width"], found["Height"]))

    async def run_channels(self, pipe: WebSocketPipe, protocol: str, query: dict[str, list[str]]) -> None:
        is_text = "base64" in protocol
        stdin: asyncio.Queue[bytes] = asyncio.Queue()
        ended = False

        async def send(channel: int, data: bytes) -> None:
            if is_text:
                await pipe.write(b"%d" % channel + base64.b64encode(data), text=True)
            else:
                await pipe.write(bytes([channel]) + data)

        async def read_stdin() -> bytes:
            nonlocal ended
            if not ended:
                data = await stdin.get()
                ended = not data
                return data
            return b""

        async def out(name: str, data: bytes) -> None:
            if query.get(name) == ["true"]:
                await send({"stdout": 1, "stderr": 2}[name], data)

        async def command() -> None:
            await send(1, b"")
            status = await self.run_command(query, read_stdin, out)
            await send(3, json.dumps(status).encode())
            pipe.protocol.send_close(1000)
            await pipe.flush()

        self.spawn(command())
        async for message in pipe.incoming:
            channel, data = message[0], message[1:]
            if is_text:
                channel, data = channel - 0x30, base64.b64decode(data)
            if channel == 0 and data:
                stdin.put_nowait(data)
            elif channel == 4:
                self.take_size(data)
            elif channel == 255 and protocol.startswith("v5"):
                stdin.put_nowait(b"")

    async def run_command(
        self,
        query: dict[str, list[str]],
        read_stdin: Callable[[], Any],
        out: Callable[[str, bytes], Any],
    ) -> dict[str, Any]:
        try:
            process = await asyncio.create_subprocess_exec(
                *query["command"],
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
            )
        except OSError as problem:
            return {
                "metadata": {},
                "status": "Failure",
                "message": f"error executing command in container: {problem}",
                "reason": "InternalError",
                "code": 500,
            }

        async def feed() -> None:
            assert process.stdin is not None
            with contextlib.suppress(ConnectionError):
                while query.get("stdin") == ["true"] and (data := await read_stdin()):
                    process.stdin.write(data)
                    await process.stdin.drain()
                process.stdin.close()

        async def drain(name: str, reader: asyncio.StreamReader) -> None:
            while data := await reader.read(CHUNK):
                self.output += len(data)
                await out(name, data)

        assert process.stdout is not None and process.stderr is not None
        feeding = asyncio.get_running_loop().create_task(feed())
        try:
            await asyncio.gather(drain("stdout", process.stdout), drain("stderr", process.stderr))
            code = await process.wait()
        finally:
            feeding.cancel()
            process._transport.close()  # type: ignore[attr-defined]
        if not code:
            return {"metadata": {}, "status": "Success"}
        return {
            "metadata": {},
            "status": "Failure",
            "reason": "NonZeroExitCode",
            "message": f"command terminated with non-zero exit code: exit status {code}",
            "details": {"causes": [{"reason": "ExitCode", "message": str(code)}]},
        }
