"""How the node agent finds the network that it was started in.

async with agent.open_runtime() as runtime:     # cluster/node/runtime.py's Runtime
    ...
    await runtime.closed                        # the control plane has gone: end
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Protocol

from hatchway.cluster.network import channel
from hatchway.cluster.network.nodedirs import NodeDirectories
from hatchway.cluster.node.runtime import Runtime
from hatchway.errors import HatchwayError

ENVIRONMENT = "HATCHWAY_NETWORK"


class AgentRuntime(Runtime, Protocol):
    """A `Runtime` that says when the network has gone, from outside or below."""

    @property
    def closed(self) -> asyncio.Future[None]: ...


@contextlib.asynccontextmanager
async def open_runtime(directories: NodeDirectories | None = None) -> AsyncIterator[AgentRuntime]:
    """The runtime of the network that this process was started in by `launcher.py`, for the length of a block.

    In the private network it also answers the control plane's dialer. directories: what nodes' file systems are made
    of; None: they have none. Raises HatchwayError outside of a network.
    """
    # Taken away, so that no child can mistake itself for the agent.
    kind, _, rest = os.environ.pop(ENVIRONMENT, "").partition(":")
    channel.keep_from_children()
    first, _, second = rest.partition(":")
    if kind == "private":
        async with _private(int(first), int(second), directories) as runtime:
            yield runtime
    elif kind == "loopback":
        async with _loopback(int(first), Path(second), directories) as runtime:
            yield runtime
    else:
        raise HatchwayError("the node agent was not started by a control plane", "start a cluster with `hatchway up`")


@contextlib.asynccontextmanager
async def _private(control: int, dial: int, directories: NodeDirectories | None) -> AsyncIterator[AgentRuntime]:
    from hatchway.cluster.network.dialer import DialServer
    from hatchway.cluster.network.private import PrivateRuntime

    runtime = PrivateRuntime(socket.socket(fileno=control), directories)
    dial_server = DialServer(runtime, socket.socket(fileno=dial))
    try:
        yield runtime
    finally:
        await dial_server.close()
        runtime.close()


@contextlib.asynccontextmanager
async def _loopback(lifeline: int, directory: Path, directories: NodeDirectories | None) -> AsyncIterator[AgentRuntime]:
    from hatchway.cluster.network.loopback import LoopbackRuntime

    runtime = LoopbackRuntime(directory, directories)
    with socket.socket(fileno=lifeline) as sock:
        sock.setblocking(False)
        watcher = asyncio.get_running_loop().create_task(_until_closed(sock, runtime.closed))
        try:
            yield runtime
        finally:
            watcher.cancel()
            await asyncio.gather(watcher, return_exceptions=True)
            await runtime.close()


async def _until_closed(lifeline: socket.socket, closed: asyncio.Future[None]) -> None:
    try:
        while await asyncio.get_running_loop().sock_recv(lifeline, 64):
            pass
    except ConnectionError:
        # A reset says the same as an end: the control plane is gone.
        pass
    if not closed.done():
        closed.set_result(None)
