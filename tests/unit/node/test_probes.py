"""Probes: thresholds, what counts as success, what is said of failures."""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hatchway.cluster.auth import pki
from hatchway.cluster.node import probes
from hatchway.cluster.node.probes import Checker, Result, Settings, Threshold
from hatchway.cluster.node.runtime import ContainerConfig, Exit, Process, StartError


@given(st.lists(st.booleans(), max_size=40), st.integers(1, 4), st.integers(1, 4))
def test_a_verdict_needs_its_threshold_of_equal_results(results: list[bool], successes: int, failures: int) -> None:
    threshold = Threshold(Settings(successes=successes, failures=failures))
    wanted: bool | None = None
    for index, result in enumerate(results):
        need = successes if result else failures
        if index + 1 >= need and all(other == result for other in results[index + 1 - need : index + 1]):
            wanted = result
        assert threshold.observe(result) == wanted


def test_settings_have_kubernetes_defaults() -> None:
    assert Settings.of({}) == Settings(0, 10, 1, 1, 3, None)
    given_all = {
        "initialDelaySeconds": 1,
        "periodSeconds": 2,
        "timeoutSeconds": 3,
        "successThreshold": 4,
        "failureThreshold": 5,
        "terminationGracePeriodSeconds": 6,
    }
    assert Settings.of(given_all) == Settings(1, 2, 3, 4, 5, 6)


async def test_watch_tells_verdicts_once_and_ends_when_told() -> None:
    results = iter([False, True, True, False, False, False])
    verdicts: list[bool] = []
    observed: list[bool] = []

    async def check(_: object, timeout: float) -> Result:
        assert timeout == 1
        return Result(next(results))

    def verdict(success: bool, _: Result) -> bool:
        verdicts.append(success)
        return verdicts == [True, False]

    probe = {"periodSeconds": 0.001, "failureThreshold": 2}
    async with asyncio.timeout(5):
        await probes.watch(probe, check, lambda result: observed.append(result.success), verdict)
    assert verdicts == [True, False]
    assert observed == [False, True, True, False, False]


class FakeProcess:
    """Ends with a code, at once or never; writes to the given descriptor first."""

    pid = 1

    def __init__(self, code: int | None) -> None:
        self._code = code
        self.killed = False

    async def wait(self) -> Exit:
        if self._code is None:
            await asyncio.get_running_loop().create_future()
        return Exit(self._code or 0)

    def kill(self, signal: int) -> None:
        self.killed = True


def checker(execute: Callable[[ContainerConfig], Process] | None = None, **ports: int) -> Checker:
    async def dial(ip: str, port: int, timeout: float) -> socket.socket:
        sock = socket.socket()
        sock.setblocking(False)
        try:
            await asyncio.wait_for(asyncio.get_running_loop().sock_connect(sock, (ip, port)), timeout)
        except BaseException:
            sock.close()
            raise
        return sock

    async def run(config: ContainerConfig) -> Process:
        assert execute is not None
        return execute(config)

    return Checker(
        pod_ip="127.0.0.1",
        ports=ports,
        dial=dial,
        execute=run,
        config=lambda argv, output: ContainerConfig("c", argv, {}, output, output),
    )


@asynccontextmanager
async def http_server(answer: bytes, tls: ssl.SSLContext | None = None) -> AsyncIterator[tuple[int, list[bytes]]]:
    heads: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            heads.append(await reader.readuntil(b"\r\n\r\n"))
            writer.write(answer)
            await writer.drain()
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=tls)
    async with server:
        yield server.sockets[0].getsockname()[1], heads


@pytest.mark.parametrize(
    ("answer", "wanted"),
    [
        (b"HTTP/1.1 200 OK\r\n\r\n", Result(True)),
        (b"HTTP/1.0 399 Fine\r\n\r\n", Result(True)),
        (b"HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n", Result(True)),
        (b"HTTP/1.1 404 No\r\n\r\n", Result(False, "HTTP probe failed with statuscode: 404")),
        (b"SSH-2.0-OpenSSH\r\n\r\n", None),
        (b"", None),
        (b"HTTP/1.1 2x0\r\n\r\n", None),
    ],
)
async def test_http(answer: bytes, wanted: Result | None) -> None:
    async with http_server(answer) as (port, heads):
        handler = {
            "httpGet": {
                "path": "/ready now?x=1",
                "port": "web",
                "httpHeaders": [{"name": "Host", "value": "shop"}, {"name": "X", "value": "a\r\nEvil: 1"}],
            }
        }
        result = await checker(web=port).check(handler, 5)
    if wanted is None:
        wanted = Result(False, f'Get "http://127.0.0.1:{port}/ready now?x=1": malformed HTTP response')
    assert result == wanted
    assert heads[0].startswith(b"GET /ready%20now?x=1 HTTP/1.1\r\n")
    assert b"\r\nHost: shop\r\n" in heads[0] and b"Evil" not in heads[0]


async def test_https_is_not_verified(tmp_path: Path) -> None:
    authority = pki.ensure(tmp_path, cluster_name="t", node_names=["n"], node_ips=["127.0.0.2"], api_ips=())
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(authority.kubelet("n").cert, authority.kubelet("n").key)
    async with http_server(b"HTTP/1.1 200 OK\r\n\r\n", context) as (port, _):
        assert await checker().check({"httpGet": {"port": port, "scheme": "HTTPS"}}, 5) == Result(True)
        plain = await checker().check({"httpGet": {"port": port}}, 5)
        assert not plain.success


async def test_a_server_that_says_nothing_is_given_up() -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        result = await checker().check({"httpGet": {"port": port}}, 0.05)
    assert not result.success and "context deadline exceeded" in result.message


async def test_tcp_and_refusals() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        assert await checker().check({"tcpSocket": {"port": port}}, 5) == Result(True)
        assert await checker().check({"grpc": {"port": port}}, 5) == Result(True)
    refused = f"dial tcp 127.0.0.1:{port}: connect: connection refused"
    assert await checker().check({"tcpSocket": {"port": port}}, 5) == Result(False, refused)
    http = await checker().check({"httpGet": {"port": port}}, 5)
    assert http == Result(False, f'Get "http://127.0.0.1:{port}/": {refused}')
    assert await checker().check({"tcpSocket": {"port": "none"}}, 5) == Result(False, "couldn't find port: 'none'")


async def test_exec() -> None:
    def run(code: int | None) -> Callable[[ContainerConfig], Process]:
        def start(config: ContainerConfig) -> Process:
            assert config.argv == ["check"]
            os.write(config.stdout, b"what it said\n")
            return FakeProcess(code)

        return start

    handler = {"exec": {"command": ["check"]}}
    assert await checker(run(0)).check(handler, 5) == Result(True, "what it said")
    assert await checker(run(2)).check(handler, 5) == Result(False, "what it said")
    late = await checker(run(None)).check(handler, 0.01)
    assert not late.success and "timed out" in late.message


async def test_an_exec_that_cannot_start_has_failed() -> None:
    def start(_: ContainerConfig) -> Process:
        raise StartError("no such program")

    assert await checker(start).check({"exec": {"command": ["x"]}}, 5) == Result(False, "no such program")
