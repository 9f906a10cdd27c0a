"""An exchange that does nothing, used while there is no real one."""

from __future__ import annotations

from hatchway.proxy.routing import Headers


class PlaceholderExchange:
    """The current exchange while the routing function decides, and after an upgrade."""

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
