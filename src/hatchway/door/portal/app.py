"""The portal's ASGI application: the page, its files, and what it shows as JSON and as server-sent events.

Whoever routes to it has checked Host, Origin and Sec-Fetch-*: it belongs on the door's own origin and on no other.
Imported when it is first asked for: Starlette takes longer to import than `hatchway proxy` may take to start.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from hatchway.door.portal import assets
from hatchway.door.portal.feed import Feed

STATE_PATH = assets.PREFIX + "state"
EVENTS_PATH = assets.PREFIX + "events"

CONTENT_SECURITY_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; "
    "frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
)
_ALWAYS = {
    "content-security-policy": CONTENT_SECURITY_POLICY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
}
_FRESH = {**_ALWAYS, "cache-control": "no-store"}
_FOR_EVER = {**_ALWAYS, "cache-control": "public, max-age=31536000, immutable"}


class Events:
    """A response of server-sent events that ends when the client goes (HTML standard, section 9.2)."""

    def __init__(self, events: AsyncGenerator[bytes]) -> None:
        self._events = events

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = {**_FRESH, "content-type": "text/event-stream", "x-accel-buffering": "no"}
        raw = [(name.encode(), value.encode()) for name, value in headers.items()]
        await send({"type": "http.response.start", "status": 200, "headers": raw})
        if scope["method"] == "HEAD":
            await send({"type": "http.response.body"})
            return
        async with asyncio.TaskGroup() as group:
            sending = group.create_task(self._send(send), name="portal events")
            while (await receive())["type"] != "http.disconnect":
                pass
            sending.cancel()

    async def _send(self, send: Send) -> None:
        # What `send` raises once the client has gone is the same news as the disconnect that `receive` tells.
        with contextlib.suppress(OSError):
            async with contextlib.aclosing(self._events) as events:
                async for piece in events:
                    await send({"type": "http.response.body", "body": piece, "more_body": True})


def make_app(feed: Feed) -> Starlette:
    """`GET /`, `/-/hatchway/state`, `/-/hatchway/events`, `/-/hatchway/static/...`."""
    by_path = {asset.path: asset for asset in assets.assets().values()}

    async def page(request: Request) -> Response:
        return Response(assets.page(), headers=_FRESH, media_type="text/html")

    async def state(request: Request) -> Response:
        return Response(await feed.snapshot(), headers=_FRESH, media_type="application/json")

    async def events(request: Request) -> Events:
        return Events(feed.follow())

    async def static(request: Request) -> Response:
        found = by_path.get(request.url.path)
        if found is None:
            return Response("there is no such file\n", 404, headers=_FRESH, media_type="text/plain")
        return Response(found.body, headers={**_FOR_EVER, "content-type": found.type})

    return Starlette(
        routes=[
            Route("/", page),
            Route(STATE_PATH, state),
            Route(EVENTS_PATH, events),
            Route(assets.PREFIX + "static/{name}", static),
        ]
    )
