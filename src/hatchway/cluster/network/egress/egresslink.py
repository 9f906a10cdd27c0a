"""The control plane's side of egress: serves DNS, and receives the keeper's reports (`egresskeeper.py`)."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from hatchway.cluster.network.channel import Channel, close_all
from hatchway.cluster.network.egress.hostnames import HostNames
from hatchway.cluster.network.egress.tools import EgressTool

log = logging.getLogger(__name__)

_WHY_BYTES: Final = 300


@dataclass(frozen=True, slots=True)
class EgressSettings:
    """The settings with which a private network reaches other networks.

    tool: the program that connects it. to_host: whether pods may reach this machine's own addresses.
    changed: called with True when pods reach other networks, and with False and the reason when they do not.
    """

    tool: EgressTool
    to_host: bool
    changed: Callable[[bool, str], None]


class EgressLink:
    """Receives the keeper's reports. Create it in an event loop. sock: the control plane's end of the socket pair."""

    def __init__(self, sock: socket.socket, settings: EgressSettings) -> None:
        self._settings = settings
        self._names: HostNames | None = None
        self._final = False
        self._channel = Channel(asyncio.get_running_loop(), sock, self._received, self._lost)

    async def close(self) -> None:
        """Stop serving DNS, and end the keeper. Idempotent."""
        self._channel.close()
        names, self._names = self._names, None
        if names is not None:
            await names.close()

    def _received(self, message: dict[str, Any], descriptors: list[int]) -> None:
        if "nameserver" in message and len(descriptors) == 2 and self._names is None:
            queries, connections = (socket.socket(fileno=descriptor) for descriptor in descriptors)
            self._names = HostNames(queries, connections)
            return
        close_all(descriptors)
        name = self._settings.tool.name
        if message.get("up"):
            log.info("pods reach other networks through %s", name)
            self._settings.changed(True, "")
        elif "why" in message:
            why = str(message["why"])[:_WHY_BYTES]
            if message.get("final"):
                self._final = True
                why = f"this machine's kernel cannot do it: {why}"
            else:
                why = f"{name} has ended, and is started again: {why}"
            log.warning("pods do not reach other networks: %s", why)
            self._settings.changed(False, why)

    def _lost(self) -> None:
        if self._final:
            return
        self._settings.changed(
            False, f"the process that starts {self._settings.tool.name} has ended; a new `hatchway up` starts it"
        )
