"""What a route is to those who use it.

A route answers two questions: what can it carry, and how does one exchange reach a target. The door asks `chooser.py`
for a route and builds its exchanges from the `Way` that the route gives.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from hatchway.proxy.routing import Headers, Upstream
from hatchway.target import Target


@dataclass(frozen=True, slots=True)
class Carries:
    """What reaches an application by a route.

    authorization: the client's `Authorization` field. upgrade_query: the query of a WebSocket's URL. methods: methods
    beyond GET, HEAD, POST, PUT, PATCH, DELETE and OPTIONS. codings: bodies as they are, HTML in Brotli and Zstandard
    included. unchanged: pages and redirects as the application has written them.
    """

    authorization: bool
    upgrade_query: bool
    methods: bool
    codings: bool
    unchanged: bool


@dataclass(frozen=True, slots=True)
class Way:
    """One target's way by a route.

    upstream: where exchanges go. prefix: the path that stands before the application's own, without a slash at its end
    (b"" where there is none). fields: the route's own request fields, credentials among them. host: what `Host` must be
    for the route, or None when it is the application's.
    """

    upstream: Upstream
    prefix: bytes
    fields: Headers
    carries: Carries
    host: bytes | None = None


class Route(Protocol):
    """A way to carry exchanges to targets. name: as `--via` spells it.

    generation: another number whenever what `way` gives may be different.
    """

    name: str

    @property
    def generation(self) -> int: ...

    @property
    def ready(self) -> bool:
        """Whether `way` may be called as things stand, so that `prepare` need not be awaited."""
        ...

    async def prepare(self) -> None:
        """Get what `way` needs (credentials, what the server can do). Raises HatchwayError."""

    def way(self, target: Target) -> Way: ...

    async def renew(self) -> bool:
        """The route's credentials were refused: get new ones. True when another try is worth it."""
        ...
