"""Stores which of several protocols an API server has accepted, so that this protocol is tried first the next time."""

from __future__ import annotations

import weakref
from collections.abc import Awaitable, Callable, Mapping
from typing import TypeVar

from hatchway.kube.client import ApiConnection
from hatchway.kube.streams.upgrade import UpgradeRefused

_T = TypeVar("_T")


class KnownProtocols:
    """Stores, for each connection to an API server, the protocol that the server has accepted last."""

    def __init__(self) -> None:
        self._last: weakref.WeakKeyDictionary[ApiConnection, tuple[tuple[str, ...], str]] = weakref.WeakKeyDictionary()

    def note(self, connection: ApiConnection, name: str) -> None:
        """Record that a server accepts the protocol with this name, so that `try_in_order` tries it first."""
        self._last[connection] = connection.identity, name

    async def try_in_order(self, connection: ApiConnection, ways: Mapping[str, Callable[[], Awaitable[_T]]]) -> _T:
        """Try protocols in order; return the result of the first one that the server accepts.

        The protocol that the server has accepted last is tried before all others.

        ways: maps each protocol's name to a function that tries this protocol; the best protocol comes first.

        Raises UpgradeRefused when all are refused: the last refusal with a Kubernetes Status, or else the last refusal.
        Any other exception of a function is raised at once.
        """
        identity, last = self._last.get(connection, ((), ""))
        if identity != connection.identity:
            last = ""
        names = sorted(ways, key=lambda name: name != last)
        refusals: list[UpgradeRefused] = []
        for name in names:
            try:
                found = await ways[name]()
            except UpgradeRefused as refusal:
                refusals.append(refusal)
                if refusal.final:
                    break
            else:
                self._last[connection] = connection.identity, name
                return found
        raise next((refusal for refusal in reversed(refusals) if refusal.reason), refusals[-1])
