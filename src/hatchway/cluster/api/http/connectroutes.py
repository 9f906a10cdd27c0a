"""Finds the registry's connecting subresources and their handlers, for the filters."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from hatchway.cluster.api.connect.handler import Connect, ConnectHandler
from hatchway.cluster.api.http.requestinfo import RequestInfo
from hatchway.cluster.api.registry.resource import Resource

__all__ = ["ConnectRoute", "ConnectRoutes"]


@dataclass(frozen=True, slots=True)
class ConnectRoute:
    """One connecting subresource of one type. kind: the kind of its options; "" when it has none (`log`)."""

    row: Resource
    verbs: tuple[str, ...]
    connect: Connect
    handler: ConnectHandler
    kind: str = ""

    def serves(self, info: RequestInfo) -> bool:
        """Return True for a request that the handler serves. (The REST application answers all others.)"""
        if not info.name or bool(info.namespace) != self.row.namespaced:
            return False
        return self.connect.takes_path or (info.verb in self.verbs and len(info.parts) == 3)


class ConnectRoutes:
    """Finds the connecting subresource of a request.

    rows: the registry's rows.
    make: makes the handler of a connecting subresource.
    """

    def __init__(self, rows: Iterable[Resource], make: Callable[[Connect], ConnectHandler]) -> None:
        self._by_path = {
            ("apis" if row.group else "api", row.group, row.version, row.plural, sub.name): ConnectRoute(
                row, sub.verbs, sub.connect, make(sub.connect), sub.kind
            )
            for row in rows
            for sub in row.subresources
            if sub.connect is not None
        }

    def find(self, info: RequestInfo) -> ConnectRoute | None:
        """Return the connecting subresource in the request's path, or None."""
        if not info.subresource:
            return None
        return self._by_path.get((info.api_prefix, info.api_group, info.api_version, info.resource, info.subresource))
