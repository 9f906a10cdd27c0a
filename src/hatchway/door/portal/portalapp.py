"""The portal's ASGI application: the page and its files, its content as JSON and as server-sent events, object pages.

The router has already checked Host, Origin and Sec-Fetch-*, so the portal is served only on the door's own origin. This
module is imported at the first request, because importing Starlette would slow down the start of `hatchway proxy`.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import AsyncGenerator, Callable, Mapping
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from hatchway.door import assets
from hatchway.door.pages import error_answer
from hatchway.door.portal import exposurepage, ingresspage, objectpages
from hatchway.door.portal.exposurecontent import ExposureSource
from hatchway.door.portal.feed import Feed
from hatchway.door.portal.ingresspage import IngressSource
from hatchway.door.portal.model import DoorInfo, Item, bare_item, node_item, pod_item
from hatchway.door.portal.objectcontent import ObjectSource, container_choices, event_rows, yaml_text
from hatchway.door.problems.problem import DoorProblem
from hatchway.door.problems.refused import bad_request
from hatchway.errors import HatchwayError
from hatchway.kube.api import Object
from hatchway.target import Kind, Target, TargetError

STATE_PATH = assets.PREFIX + "state"
EVENTS_PATH = assets.PREFIX + "events"

OPEN_PATH = assets.PREFIX + "open"

_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; "
    "frame-ancestors 'none'; base-uri 'none'; form-action "
)
# A DNS label (RFC 1123).
_NAMESPACE = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\Z", re.ASCII)
_PORT = re.compile(r"[1-9][0-9]{0,4}\Z", re.ASCII)
_ALWAYS = {
    "content-security-policy": f"{_POLICY}'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
}
_FRESH = {**_ALWAYS, "cache-control": "no-store", "vary": "Accept"}
_FOR_EVER = {**_ALWAYS, "cache-control": "public, max-age=31536000, immutable"}


# By kind, the function that makes the item for the head of an object's page.
_ITEMS: dict[Kind, Callable[[Object, DoorInfo], Item]] = {"services": bare_item, "pods": pod_item, "nodes": node_item}


def _port_of(kind: str, namespace: str, name: str, given: Mapping[str, Any]) -> Target:
    """Return the target of the form that opens a port. Raises TargetError."""
    port = str(given.get("port", "")).strip()
    if not _PORT.match(port) or int(port) > 65535:
        raise TargetError(f'"{port}" is not a port', "a port is a number from 1 to 65535")
    known = next((one for one in _ITEMS if one == kind), None)
    if known is None:
        raise TargetError(f'"{kind}" is not a kind of target', "a target is a service, a pod or a node")
    return Target(known, name, namespace, str(given.get("scheme", "")), port)


class EventStream:
    """A response of server-sent events that ends when the client disconnects (HTML standard, section 9.2)."""

    def __init__(self, events: AsyncGenerator[bytes]) -> None:
        self._events = events

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request (ASGI 3)."""
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
        # `send` raises when the client has disconnected; `receive` reports it as well.
        with contextlib.suppress(OSError):
            async with contextlib.aclosing(self._events) as events:
                async for piece in events:
                    await send({"type": "http.response.body", "body": piece, "more_body": True})


def make_app(
    feed: Feed, door: DoorInfo, objects: ObjectSource, exposure: ExposureSource, ingresses: IngressSource
) -> Starlette:
    """Return the application.

    It answers `/`, and `/-/hatchway/{state,events,open,exposure,ingresses,static/NAME,KIND/[NAMESPACE/]NAME/PAGE}`.

    Args:
        feed: the page's content.
        door: the portal's interface to the door.
        objects: the source of objects for the pages of single objects.
        exposure: the source of the page "Exposure".
        ingresses: the source of the list of hosts of Ingresses.
    """
    # The form that opens a port is answered with a redirect to another host name of the door, which `form-action` must
    # allow, too.
    document = {**_FRESH, "content-security-policy": f"{_POLICY}'self' {objects.form_action}"}
    by_path = {asset.path: asset for asset in assets.assets().values()}

    async def page(request: Request) -> Response:
        return Response(assets.page(), headers=document, media_type="text/html")

    async def state(request: Request) -> Response:
        return Response(await feed.snapshot(), headers=_FRESH, media_type="application/json")

    async def events(request: Request) -> EventStream:
        return EventStream(feed.follow())

    async def static(request: Request) -> Response:
        found = by_path.get(request.url.path)
        if found is None:
            return Response("there is no such file\n", 404, headers=_FRESH, media_type="text/plain")
        return Response(found.body, headers={**_FOR_EVER, "content-type": found.type})

    def failed(request: Request, problem: DoorProblem) -> Response:
        answer = error_answer(problem, "text/html" in request.headers.get("accept", ""))
        headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in answer.headers}
        return Response(answer.body, answer.status, headers={**_ALWAYS, **headers})

    async def opens(request: Request) -> Response:
        given = request.query_params
        try:
            target = _port_of(given.get("kind", ""), given.get("namespace", ""), given.get("name", ""), given)
            url = door.host_url(target)
        except TargetError as error:
            return failed(request, bad_request(error.message, error.hint, portal="/"))
        return Response(status_code=303, headers={**_FRESH, "location": url})

    async def exposed(request: Request) -> Response:
        namespace = request.query_params.get("namespace", "").strip()
        if namespace and not _NAMESPACE.match(namespace):
            hint = "A name has small letters, digits and hyphens."
            return failed(request, bad_request(f'"{namespace}" is not the name of a namespace', hint, portal="/"))
        if "again" in request.query_params:
            exposure.forget(namespace)
            return Response(status_code=303, headers={**_FRESH, "location": exposurepage.page_address(namespace)})
        try:
            report, renewing = await exposure.report(namespace)
        except HatchwayError as error:
            return failed(request, exposure.problem(error))
        if report is None:
            text = exposurepage.waiting_page(door.context, namespace)
        else:
            text = exposurepage.report_page(door.context, report, renewing=renewing)
        return Response(text, headers=document, media_type="text/html")

    async def published(request: Request) -> Response:
        try:
            hosts = await ingresses.all()
        except HatchwayError as error:
            return failed(request, exposure.problem(error))
        text = ingresspage.ingress_page(door.context, hosts, ingresses.url_of)
        return Response(text, headers=document, media_type="text/html")

    async def of_object(request: Request) -> Response:
        given = request.path_params
        page = given["page"]
        try:
            target = Target(given["kind"], given["name"], given.get("namespace", ""))
        except TargetError:
            target = None
        # Other kinds have no pages. In particular, the YAML of a Secret would show its values.
        if target is None or page not in objectpages.pages_of(target):
            return await first_page(request)
        try:
            obj = await objects.get(target)
            item = _ITEMS[target.kind](obj, door)
            if page == "logs":
                found, path = container_choices(obj), objects.log_path(target)
                text = objectpages.logs_page(target, item, found, path, request.query_params.get("container", ""))
            elif page == "events":
                text = objectpages.events_page(target, item, event_rows(await objects.events(target, obj)))
            else:
                # On a thread, because dumping a large object as YAML takes time.
                dumped, hidden = await asyncio.to_thread(yaml_text, obj)
                text = objectpages.yaml_page(target, item, dumped, hidden=hidden)
        except HatchwayError as error:
            return failed(request, await objects.problem(error, target))
        return Response(text, headers=document, media_type="text/html")

    async def first_page(request: Request) -> Response:
        """Redirect the path of an object to the object's first page; answer 404 for any other path."""
        kind, _, rest = request.url.path.removeprefix(assets.PREFIX).rstrip("/").partition("/")
        namespace, _, name = rest.rpartition("/")
        known = next((one for one in _ITEMS if one == kind), None)
        if "/" in namespace or name in objectpages.PAGES:
            known = None
        try:
            target = Target(known, name, namespace) if known is not None else None
        except TargetError:
            target = None
        if target is not None:
            location = objectpages.page_path(target, objectpages.pages_of(target)[0])
        elif not kind:
            location = "/"
        else:
            problem = DoorProblem(
                kind="not-found",
                status=404,
                title="The portal has no such page",
                message=f"the portal has no page {request.url.path}",
                hint="The portal's first page lists everything that has one.",
                portal="/",
            )
            return failed(request, problem)
        return Response(status_code=307, headers={**_FRESH, "location": location})

    return Starlette(
        routes=[
            Route("/", page),
            Route(OPEN_PATH, opens),
            Route(exposurepage.PATH, exposed),
            Route(assets.INGRESSES, published),
            Route(assets.PREFIX + "{kind:str}/{namespace}/{name}/{page}", of_object),
            Route(assets.PREFIX + "{kind:str}/{name}/{page}", of_object),
            Route(STATE_PATH, state),
            Route(EVENTS_PATH, events),
            Route(assets.PREFIX + "static/{name}", static),
            Route(assets.PREFIX + "{rest:path}", first_page),
        ]
    )
