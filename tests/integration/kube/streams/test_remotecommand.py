"""Commands with an independent server: over WebSockets with the protocols v5 and v4, and over SPDY."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
from collections.abc import AsyncIterator

import pytest

from hatchway.errors import ApiError
from hatchway.kube.connection import Connection
from hatchway.kube.serversettings import Settings
from hatchway.kube.streams.remotecommand import RemoteCommand, StreamOptions
from hatchway.wire.channels import STDERR, STDOUT
from tests.streamserver import StreamServer

KINDS = {
    "v5": {"spdy": False, "protocols": ("v5.channel.k8s.io",)},
    "v4": {"spdy": False, "protocols": ("v4.channel.k8s.io",)},
    "spdy": {"websocket": False},
}
QUIET = StreamOptions()
INPUT = StreamOptions(stdin=True)


@pytest.fixture(params=list(KINDS))
async def server(request: pytest.FixtureRequest) -> AsyncIterator[StreamServer]:
    async with StreamServer(**KINDS[request.param]) as found:  # type: ignore[arg-type]
        yield found


@contextlib.asynccontextmanager
async def running(server: StreamServer, command: list[str], options: StreamOptions) -> AsyncIterator[RemoteCommand]:
    url = f"http://127.0.0.1:{server.port}"
    connection = Connection.fixed(Settings(url, context="", namespace="default", user=""))
    found = await RemoteCommand.exec(connection, "default", "web", command, options)
    try:
        yield found
    finally:
        found.close()
        await connection.aclose()


async def output(command: RemoteCommand) -> dict[int, bytes]:
    found = {STDOUT: bytearray(), STDERR: bytearray()}
    while (piece := await command.receive()) is not None:
        found[piece[0]] += piece[1]
    return {channel: bytes(data) for channel, data in found.items()}


async def test_output_errors_and_exit_code(server: StreamServer) -> None:
    async with running(server, ["sh", "-c", "echo out; echo err >&2; exit 3"], QUIET) as command:
        assert await output(command) == {STDOUT: b"out\n", STDERR: b"err\n"}
        result = await command.result()
        assert (result.exit_code, result.reason) == (3, "NonZeroExitCode")


async def test_success(server: StreamServer) -> None:
    async with running(server, ["true"], QUIET) as command:
        assert (await command.result()).exit_code == 0


async def test_reset_streams_do_not_count_as_success() -> None:
    async with StreamServer(**KINDS["spdy"]) as server:  # type: ignore[arg-type]
        server.resets_end = True
        async with running(server, ["true"], QUIET) as command:
            with pytest.raises(ConnectionError):
                await command.result()


async def test_command_that_cannot_run_tells_why(server: StreamServer) -> None:
    async with running(server, ["/nonexistent"], QUIET) as command:
        result = await command.result()
        assert result.exit_code is None and "No such file" in result.message and result.reason == "InternalError"


async def test_input_and_its_end(server: StreamServer) -> None:
    async with running(server, ["cat"], INPUT) as command:
        await command.write(b"hello\n")
        assert await command.receive() == (STDOUT, b"hello\n")
        command.end_input()
        if command.can_end_input:
            assert (await command.result()).exit_code == 0
        with pytest.raises(BrokenPipeError):
            await command.write(b"more")


async def test_long_input_and_output_arrive_whole() -> None:
    for kind in ("v5", "spdy"):
        async with StreamServer(**KINDS[kind]) as server, running(server, ["cat"], INPUT) as command:  # type: ignore[arg-type]
            piece = bytes(range(256)) * 1000
            sent, got = hashlib.sha256(), hashlib.sha256()

            async def feed(command: RemoteCommand = command, piece: bytes = piece, sent: object = sent) -> None:
                for _ in range(80):
                    sent.update(piece)  # type: ignore[attr-defined]
                    await command.write(piece)
                command.end_input()

            feeding = asyncio.create_task(feed())
            while (found := await command.receive()) is not None:
                got.update(found[1])
            await feeding
            assert (await command.result()).exit_code == 0
            assert got.digest() == sent.digest()


async def test_output_that_the_client_does_not_receive_pauses_the_command(server: StreamServer) -> None:
    async with running(server, ["head", "-c", "120000000", "/dev/zero"], QUIET) as command:
        before = -1
        while before != server.output or not before:
            before = server.output
            await asyncio.sleep(0.1)
        assert server.output < 60_000_000
        assert len((await output(command))[STDOUT]) == 120_000_000
        assert (await command.result()).exit_code == 0


async def test_terminal_has_a_size(server: StreamServer) -> None:
    async with running(server, ["cat"], StreamOptions(stdin=True, tty=True)) as command:
        command.resize(120, 40)
        await command.write(b"x")
        assert await command.receive() == (STDOUT, b"x")
        while not server.sizes:  # noqa: ASYNC110
            await asyncio.sleep(0.005)
        assert server.sizes == [(120, 40)]


async def test_a_lost_connection_gives_no_exit_code(server: StreamServer) -> None:
    async with running(server, ["cat"], INPUT) as command:
        await command.write(b"x")
        assert await command.receive() == (STDOUT, b"x")
        server.cut()
        with pytest.raises(OSError):
            await command.result()


async def test_query_is_kubectls() -> None:
    async with (
        StreamServer() as server,
        running(server, ["sh", "-c", "a b"], StreamOptions("c", stdin=True)) as command,
    ):
        command.end_input()
        await command.result()
        method, target, headers = server.requests[0]
        assert (method, headers["sec-websocket-protocol"]) == ("GET", "v5.channel.k8s.io")
        assert target == (
            "/api/v1/namespaces/default/pods/web/exec"
            "?command=sh&command=-c&command=a+b&container=c&stderr=true&stdin=true&stdout=true"
        )


async def test_command_with_input_prefers_spdy_to_a_websocket_that_cannot_end_it() -> None:
    async with StreamServer(protocols=("v4.channel.k8s.io",)) as server, running(server, ["cat"], INPUT) as command:
        assert command.can_end_input
        assert [method for method, _, _ in server.requests] == ["GET", "POST"]


async def test_refusal_is_the_servers_status() -> None:
    async with StreamServer() as server:
        body = json.dumps(
            {"kind": "Status", "code": 400, "reason": "BadRequest", "message": "container x is not valid"}
        )
        server.refusals["GET", "/exec"] = server.refusals["POST", "/exec"] = (400, body.encode())
        with pytest.raises(ApiError, match="container x is not valid"):
            async with running(server, ["true"], QUIET):
                pass
