"""A cluster in memory with relay pods. Their program runs in this process, at a port of loopback."""

from __future__ import annotations

import asyncio
from typing import Any, cast

from hatchway.kube.api import Object
from hatchway.kube.connection import Connection
from hatchway.route.relayoptions import RelayOptions
from hatchway.route.relayprogram import Relay, RelayClient
from hatchway.route.relayroute import RelayRoute
from tests.unit.route.pods import World


class RelayWorld(World):
    """Pods, some of them relay pods.

    relays: the program of each relay pod, by the pod's name. broken: the reason why relay pods do not start; "" if they
    start.
    """

    def __init__(self) -> None:
        super().__init__()
        self.relays: dict[str, Relay] = {}
        self.broken = ""
        self.relay_servers: dict[str, asyncio.Server] = {}
        self._create = self.client.create
        self.client.create = self._start_relays  # type: ignore[method-assign]
        self.relay_route = RelayRoute(
            cast(Connection, self.connection), RelayOptions("python:test", "shop"), self._open
        )

    async def _start_relays(self, resource: str, obj: Object, namespace: str | None = None, **more: Any) -> Object:
        made = await self._create(resource, obj, namespace, **more)
        if resource == "pods" and "relay" in (obj["metadata"].get("labels") or {}).values():
            await self._run(made)
        return made

    async def _run(self, pod: Object) -> None:
        name = pod["metadata"]["name"]
        state: Object = {"running": {}}
        if self.broken:
            state = {"waiting": {"reason": "InvalidImageName", "message": self.broken}}
        else:
            port, digest = pod["spec"]["containers"][0]["command"][-3:-1]
            relay = self.relays[name] = Relay(digest)
            loop = asyncio.get_running_loop()
            server = self.relay_servers[name] = await loop.create_server(lambda: RelayClient(relay), "127.0.0.1", 0)
            self.programs[name, int(port)] = server.sockets[0].getsockname()[1]
        status = {"phase": "Running", "containerStatuses": [{"name": "relay", "state": state}]}
        await self.client.update("pods", {**pod, "status": status}, subresource="status")

    def relay_pods(self) -> list[Object]:
        return [pod for pod in self.client.all("pods") if pod["metadata"]["name"].startswith("hatchway-relay-")]

    async def end_relay(self, name: str, *, delete: bool) -> None:
        """End a relay's program. delete: whether its pod is deleted; otherwise the pod becomes finished."""
        self.relay_servers.pop(name).close()
        for client in list(self.relays[name].clients):
            client.transport.abort()
        for key in [key for key in self.programs if key[0] == name]:
            del self.programs[key]
        if delete:
            await self.client.delete("pods", name, "shop", grace_period=0)
            return
        pod = await self.client.get("pods", name, "shop")
        pod["status"] = {"phase": "Succeeded"}
        await self.client.update("pods", pod, subresource="status")

    def close_relays(self) -> None:
        for name, server in self.relay_servers.items():
            server.close()
            for client in list(self.relays[name].clients):
                client.transport.abort()
