"""A placeholder for an exchange."""

from __future__ import annotations

from hatchway.proxy.routing import Headers


class PlaceholderExchange:
    """Stands for an exchange while the routing function decides, and after an upgrade."""

    __slots__ = ()
    takes_bulk = False

    def body(self, data: bytes) -> None:
        """Do nothing."""

    def body_now(self, data: memoryview) -> None:
        """Do nothing."""

    def body_end(self, trailers: Headers) -> None:
        """Do nothing."""

    def flush(self) -> None:
        """Do nothing."""

    def client_full(self) -> None:
        """Do nothing."""

    def client_ready(self) -> None:
        """Do nothing."""

    def client_lost(self) -> None:
        """Do nothing."""
