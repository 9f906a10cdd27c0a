"""Gives the node agent the `Runtime` of the network in which it was started.

async with runtimes.open_runtime() as runtime:     # cluster/runtime.py's Runtime
    ...
    await runtime.closed                            # done when the control plane has ended
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Protocol, cast, get_args

from hatchway.cluster import plan
from hatchway.cluster.network import channel
from hatchway.cluster.network.agentlink import ENVIRONMENT
from hatchway.cluster.network.cgroups import GroupTree
from hatchway.cluster.network.nodedirs import NodeDirectories
from hatchway.cluster.runtime import ControlGroups, Runtime, Users
from hatchway.errors import HatchwayError


class AgentRuntime(Runtime, Protocol):
    """A `Runtime` that knows when its network, or the control plane, has ended."""

    @property
    def closed(self) -> asyncio.Future[None]:
        """Return a future that is done when the network, or the control plane, has ended."""
        ...


@contextlib.asynccontextmanager
async def open_runtime(
    directories: NodeDirectories | None = None, published: Sequence[str] = (), control_groups: str = ""
) -> AsyncIterator[AgentRuntime]:
    """Open, for a block, the runtime of the network in which `launcher.py` has started this process.

    In the private network, this process then also answers the control plane's dialer. Raises HatchwayError outside of a
    network.

    directories: the directories that make up the nodes' file systems; None when nodes have none.
    published: on loopback, addresses of this machine for node ports. In the private network, the control plane opens
    node ports.
    control_groups: the directory of the cluster's control group (`cgroups.make_tree`); "" for none.
    """
    # Remove the variable, so that no child process can mistake itself for the agent.
    kind, _, rest = os.environ.pop(ENVIRONMENT, "").partition(":")
    channel.keep_from_children()
    first, _, second = rest.partition(":")
    if kind == "private":
        dial, nodes, filters, users = second.split(":")
        namespaces = [int(number) for number in nodes.split(",") if number]
        if users not in get_args(Users):
            raise HatchwayError(f"the node agent was started with unknown users: {users}")
        way = cast(Users, users)
        groups = GroupTree(Path(control_groups)) if control_groups else None
        async with _private(int(first), int(dial), namespaces, directories, filters == "1", way, groups) as runtime:
            yield runtime
    elif kind == "loopback":
        async with _loopback(int(first), Path(second), directories, published) as runtime:
            yield runtime
    else:
        raise HatchwayError("the node agent was not started by a control plane", "start a cluster with `hatchway up`")


@contextlib.asynccontextmanager
async def _private(
    control: int,
    dial: int,
    namespaces: list[int],
    directories: NodeDirectories | None,
    filters: bool,
    users: Users,
    groups: ControlGroups | None,
) -> AsyncIterator[AgentRuntime]:
    from hatchway.cluster.network.dialer import DialServer
    from hatchway.cluster.network.nodenetworks import NodeNetworks
    from hatchway.cluster.network.packetfilter import NftPacketFilter
    from hatchway.cluster.network.private import PrivateRuntime

    networks = NodeNetworks(namespaces)
    packets = None
    if filters:
        nodes = [(plan.node_ip(index), plan.gateway(index)) for index in range(len(namespaces))]
        packets = NftPacketFilter(nodes, plan.API_SERVICE_IP)
    runtime = PrivateRuntime(socket.socket(fileno=control), networks, directories, packets, users, groups)
    dial_server = DialServer(runtime, socket.socket(fileno=dial))
    networks.publisher = dial_server.publish
    try:
        yield runtime
    finally:
        await dial_server.close()
        runtime.close()


@contextlib.asynccontextmanager
async def _loopback(
    lifeline: int, directory: Path, directories: NodeDirectories | None, published: Sequence[str]
) -> AsyncIterator[AgentRuntime]:
    from hatchway.cluster.network.loopback import LoopbackRuntime

    runtime = LoopbackRuntime(directory, directories, published)
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
        # A reset means the same as an end: the control plane has ended.
        pass
    if not closed.done():
        closed.set_result(None)
