"""Reads the hosts of the cluster's Ingresses when a request or a page needs them, and caches them for some seconds."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import Final

from hatchway.door.address import DoorAddress
from hatchway.door.filteredpages import FilteredPages
from hatchway.door.requestfilter import RequestFilter
from hatchway.errors import ApiError
from hatchway.kube.connection import Connection
from hatchway.kube.ingresshosts import IngressHost, read_ingress_hosts

# Seconds for which a list of hosts is used; and the maximum number of seconds for reading it.
_FRESH: Final = 10.0
_LONGEST: Final = 30.0


class IngressLookup:
    """Finds the controller of an Ingress's host. Callers at the same time share one request to the API server."""

    def __init__(self, connection: Connection, address: DoorAddress, filter: RequestFilter | None) -> None:
        """Make a lookup without any hosts; the first call that needs them reads them.

        Args:
            connection: the API server with the user's credentials.
            address: the address at which browsers reach the door.
            filter: the door's filter, which also applies to the objects that this class reads; None when it is off.
        """
        self._connection = connection
        self._address = address
        self._client = FilteredPages(connection, filter)
        self._hosts: dict[str, IngressHost] = {}
        self._all: list[IngressHost] = []
        self._read_at = -_FRESH
        self._generation = -1
        self._lock = asyncio.Lock()

    @property
    def is_fresh(self) -> bool:
        """Return True while the last list is new enough for `known`."""
        return time.monotonic() - self._read_at < _FRESH and self._generation == self._connection.generation

    def known(self, name: str) -> IngressHost | None:
        """Return the entry for a host name in the last list: the exact host, else `*.` and the rest of the name."""
        return self._hosts.get(name) or self._hosts.get("*." + name.partition(".")[2])

    def url_of(self, host: IngressHost) -> str:
        """Return the URL of a host at the door; "" for a wildcard."""
        return host.url(self._address.port, self._address.domain, self._address.scheme)

    async def find(self, name: str) -> IngressHost | None:
        """Return the entry for a host name; None when no Ingress with a known controller has this host.

        Raises:
            HatchwayError: the request to the API server has failed.
        """
        await self.all()
        return self.known(name)

    async def all(self) -> Sequence[IngressHost]:
        """Return all hosts, sorted.

        Raises:
            HatchwayError: the request to the API server has failed.
        """
        async with self._lock:
            if not self.is_fresh:
                generation = self._connection.generation
                try:
                    async with asyncio.timeout(_LONGEST):
                        found = await read_ingress_hosts(self._client, self._connection.namespace)
                except TimeoutError as error:
                    message = f"the Ingresses of the cluster could not be read in {_LONGEST:.0f} seconds"
                    raise ApiError(504, "Timeout", message) from error
                self._all = found
                self._hosts = {}
                for one in found:
                    self._hosts.setdefault(one.host, one)
                self._generation, self._read_at = generation, time.monotonic()
        return self._all
