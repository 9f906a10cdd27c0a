"""An endpoint is removed under load: no request fails, existing connections continue, new ones go elsewhere."""

# ruff: noqa: ASYNC110  the endpoints report no events

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any, cast

from hatchway.cluster import plan
from hatchway.cluster.network.loopbacksockets import LoopbackSockets
from hatchway.cluster.runtime import Runtime
from tests.integration.network.services import Services, proxied
from tests.integration.services.echoes import free_node_ports

SLICES = "endpointslices.discovery.k8s.io"
# Loopback addresses of this machine, for the endpoints.
ONE, TWO = "127.66.0.201", "127.66.0.202"
_CLIENTS = 32


class Backend:
    """An endpoint that answers each line with its address. While `open` is not set, answers wait."""

    def __init__(self, ip: str) -> None:
        self.ip = ip
        self.open = asyncio.Event()
        self.open.set()
        self.accepted = 0

    @asynccontextmanager
    async def running(self, port: int) -> AsyncIterator[None]:
        async with await asyncio.start_server(self._serve, self.ip, port):
            yield

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        while await reader.readline():
            await self.open.wait()
            writer.write(self.ip.encode() + b"\n")
        writer.close()


async def ask(port: int) -> str:
    reader, writer = await asyncio.open_connection(plan.HOST_IP, port)
    writer.write(b"?\n")
    answer = await reader.readline()
    writer.close()
    await writer.wait_closed()
    return answer.decode().strip()


def endpoint(ip: str, **conditions: bool) -> dict[str, Any]:
    return {"addresses": [ip], "conditions": conditions}


async def test_an_endpoint_that_is_removed_under_load() -> None:
    node_port, port = free_node_ports(2)
    one, two = Backend(ONE), Backend(TWO)
    services = Services()
    found = {"port": 80, "nodePort": node_port}
    services.set(
        "services",
        {"metadata": {"name": "web", "namespace": "default"}, "spec": _spec(found)},
    )
    piece = {
        "metadata": {"name": "web-1", "namespace": "default", "labels": {"kubernetes.io/service-name": "web"}},
        "ports": [{"port": port}],
        "endpoints": [endpoint(ONE), endpoint(TWO)],
    }
    services.set(SLICES, piece)
    runtime = cast(Runtime, SimpleNamespace(isolation="loopback", sockets=LoopbackSockets([plan.HOST_IP])))
    answers: list[str] = []
    ended = asyncio.Event()

    async def load() -> None:
        while not ended.is_set():
            answers.append(await ask(node_port))

    async with (
        asyncio.timeout(60),
        one.running(port),
        two.running(port),
        proxied(runtime, services, host_ips=[plan.HOST_IP]),
    ):
        while not await _answers(node_port):
            await asyncio.sleep(0.01)
        async with asyncio.TaskGroup() as group:
            for _ in range(_CLIENTS):
                group.create_task(load())
            await _until(lambda: {ONE, TWO} <= set(answers))
            # When the endpoint is removed, it has unanswered requests.
            one.open.clear()
            before = one.accepted
            await _until(lambda: one.accepted > before)
            services.set(SLICES, {**piece, "endpoints": [endpoint(ONE, ready=False), endpoint(TWO)]})
            count = 0
            while count < 20:
                count = count + 1 if await asyncio.wait_for(_first(node_port, one), 30) == TWO else 0
            accepted, known = one.accepted, len(answers)
            await _until(lambda: len(answers) > known + 10)
            one.open.set()
            await _until(lambda: ONE in answers[known:])
            ended.set()
        # The removed endpoint got no further connection. All requests were answered, or the group would have failed.
        assert one.accepted == accepted
        # If no endpoint is ready, one that is terminating but still serving is used.
        ending = {"ready": False, "serving": True, "terminating": True}
        services.set(SLICES, {**piece, "endpoints": [endpoint(ONE, **ending), endpoint(TWO, ready=False)]})
        await _until_answer(node_port, ONE)
        services.set(SLICES, {**piece, "endpoints": []})
        while await _answers(node_port):
            await asyncio.sleep(0.01)


def _spec(port: dict[str, Any]) -> dict[str, Any]:
    return {"type": "NodePort", "clusterIP": "10.96.3.4", "ports": [port]}


async def _answers(port: int) -> str:
    try:
        return await ask(port)
    except ConnectionRefusedError:
        return ""


async def _until_answer(port: int, answer: str) -> None:
    while await ask(port) != answer:
        pass


async def _first(port: int, held: Backend) -> str:
    """Return the endpoint of a new connection, even if it does not answer yet."""
    before = held.accepted
    asking = asyncio.ensure_future(ask(port))
    while not asking.done() and held.accepted == before:
        await asyncio.sleep(0)
    if asking.done():
        return asking.result()
    asking.cancel()
    return held.ip


async def _until(condition: Any) -> None:
    while not condition():
        await asyncio.sleep(0)
