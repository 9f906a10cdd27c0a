"""The client with fixed settings, in front of an API server that answers, refuses, closes connections or stops."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager
from typing import Any

import pytest
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse

from hatchway.errors import ApiError
from hatchway.kube import client as clients
from hatchway.kube import restclient
from hatchway.kube.client import ConnectionClient
from hatchway.kube.connection import Connection
from hatchway.kube.informer import Informer, running
from hatchway.kube.serversettings import Settings
from hatchway.proxy.routing import App
from hatchway.proxy.server import serve

Handler = Callable[[Request], Awaitable[Response]]


def pod(name: str, version: int, uid: str = "") -> dict[str, Any]:
    return {"metadata": {"name": name, "namespace": "x", "resourceVersion": str(version), "uid": uid or name}}


def page(items: list[dict[str, Any]], version: int, **more: str) -> Response:
    return JSONResponse({"kind": "PodList", "metadata": {"resourceVersion": str(version), **more}, "items": items})


def stream(*events: dict[str, Any]) -> Response:
    async def lines() -> AsyncIterator[bytes]:
        for event in events:
            yield json.dumps(event).encode() + b"\n"

    return StreamingResponse(lines(), media_type="application/json")


def client_of(url: str) -> ConnectionClient:
    return Connection.fixed(Settings(url, context="", namespace="default", user="")).client


@asynccontextmanager
async def server(handler: Handler) -> AsyncIterator[ConnectionClient]:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        response = await handler(Request(scope, receive))
        await response(scope, receive, send)

    listener = await serve(lambda _head: App(app), host="127.0.0.1", port=0)
    try:
        async with client_of(f"http://127.0.0.1:{listener.port}") as client:
            yield client
    finally:
        await listener.close()


async def test_a_refusal_carries_the_servers_status() -> None:
    async def refuse(_: Request) -> Response:
        status = {"kind": "Status", "code": 409, "reason": "Conflict", "message": "no", "details": {"name": "p"}}
        return JSONResponse(status, 409)

    async with server(refuse) as client:
        with pytest.raises(ApiError) as caught:
            await client.create("pods", pod("p", 1))
    assert (caught.value.code, caught.value.reason, caught.value.message) == (409, "Conflict", "no")
    assert caught.value.details == {"name": "p"}


async def test_an_error_without_a_status_object_is_an_error_too() -> None:
    async def html(_: Request) -> Response:
        return Response("<h1>gateway</h1>", 502, media_type="text/html")

    async with server(html) as client:
        with pytest.raises(ApiError) as caught:
            await client.get("nodes", "n")
    assert caught.value.code == 502
    assert "/api/v1/nodes/n" in caught.value.message


async def test_an_unreachable_server_is_a_503(monkeypatch: pytest.MonkeyPatch) -> None:
    # The client must ignore this proxy of the environment.
    monkeypatch.setenv("HTTP_PROXY", "http://proxy.invalid:3128")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    async with client_of(f"http://127.0.0.1:{port}") as client:
        with pytest.raises(ApiError) as caught:
            await client.list("pods")
    assert caught.value.code == 503
    assert f"http://127.0.0.1:{port}" in caught.value.message


async def test_a_list_is_read_page_by_page() -> None:
    async def pages(request: Request) -> Response:
        if "continue" in request.query_params:
            return page([pod("b", 2)], 5)
        return page([pod("a", 1)], 5, **{"continue": "more"})

    async with server(pages) as client:
        found = await client.list("pods", "x")
    assert [item["metadata"]["name"] for item in found] == ["a", "b"]
    assert {(item["apiVersion"], item["kind"]) for item in found} == {("v1", "Pod")}


async def test_a_watch_reports_changes_during_its_interruption() -> None:
    """The first watch is cut off and its version expires; a new list shows a deletion, a change and a new object."""
    lists = iter(
        [page([pod("gone", 1), pod("new", 2), pod("born", 3)], 5), page([pod("new", 7), pod("born", 8, "2")], 9)]
    )
    watches = iter(
        [stream({"type": "ADDED", "object": pod("late", 6)}), stream({"type": "ERROR", "object": {"code": 410}})]
    )

    async def answer(request: Request) -> Response:
        if "watch" not in request.query_params:
            return next(lists)
        found = next(watches, None)
        return found or stream({"type": "BOOKMARK", "object": pod("", 10)})

    seen: list[tuple[str, str]] = []
    async with server(answer) as client, aclosing(client.watch("pods")) as events:  # type: ignore[type-var]
        async for event in events:
            seen.append((event.type, event.object["metadata"]["name"] if event.object else ""))
            if seen[-1] == ("MODIFIED", "new"):
                break
    assert seen[:5] == [("ADDED", "gone"), ("ADDED", "new"), ("ADDED", "born"), ("SYNCED", ""), ("ADDED", "late")]
    assert set(seen[5:]) == {("DELETED", "gone"), ("DELETED", "late"), ("MODIFIED", "new")}


async def test_connections_that_break_off() -> None:
    """A request without a response fails on a new connection; on a reused connection, it is sent again."""
    asked: list[str] = []

    async def serve_one(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                asked.append("watch" if b"watch=1" in head else "list" if b"limit=" in head else "get")
                if len(asked) in (1, 2, 4):
                    break
                if asked[-1] == "watch":
                    body = json.dumps({"type": "ADDED", "object": pod("a", 2)}).encode() + b"\n"
                else:
                    body = json.dumps({"metadata": {"resourceVersion": "1"}, "items": []}).encode()
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))
        writer.close()

    listener = await asyncio.start_server(serve_one, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{listener.sockets[0].getsockname()[1]}"
    async with listener, client_of(url) as client:
        with pytest.raises(ApiError) as caught:
            await client.get("nodes", "n")
        assert caught.value.code == 503
        async with aclosing(client.watch("pods")) as events:  # type: ignore[type-var]
            async with asyncio.timeout(10):
                assert (await anext(events)).type == "SYNCED"
                assert (await anext(events)).object["metadata"]["name"] == "a"
    assert asked == ["get", "list", "list", "watch", "watch"]


async def test_only_newlines_end_the_lines_of_a_watch() -> None:
    """JSON strings may contain characters that Unicode and many libraries treat as line ends."""
    text = "a\x85b\u2028c\u2029d\x7f"
    odd = pod("odd", 2)
    odd["metadata"]["annotations"] = {"text": text}
    line = json.dumps({"type": "ADDED", "object": odd}, ensure_ascii=False).encode() + b"\n"

    async def answer(request: Request) -> Response:
        if "watch" not in request.query_params:
            return page([], 1)

        async def pieces() -> AsyncIterator[bytes]:
            for start in range(0, len(line), 7):
                yield line[start : start + 7]
            yield json.dumps({"type": "ADDED", "object": pod("next", 3)}).encode() + b"\n"

        return StreamingResponse(pieces(), media_type="application/json")

    async with server(answer) as client, aclosing(client.watch("pods")) as events:  # type: ignore[type-var]
        async with asyncio.timeout(10):
            found = [await anext(events) for _ in range(3)]
    assert [event.object["metadata"]["name"] for event in found[1:]] == ["odd", "next"]
    assert found[1].object["metadata"]["annotations"]["text"] == text


async def test_a_watch_that_cannot_be_read_lists_again() -> None:
    lists = 0

    async def answer(request: Request) -> Response:
        nonlocal lists
        if "watch" in request.query_params:
            return StreamingResponse(iter([b"{]\n"]))
        lists += 1
        return page([pod("a", 1)], 1) if lists == 1 else page([pod("a", 1), pod("b", 3)], 3)

    async with server(answer) as client, aclosing(client.watch("pods")) as events:  # type: ignore[type-var]
        async with asyncio.timeout(10):
            found = [await anext(events) for _ in range(3)]
    assert (found[2].type, found[2].object["metadata"]["name"]) == ("ADDED", "b")


async def test_watches_that_end_at_once_are_repeated_after_growing_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []

    async def back_off(wait: float) -> float:
        waits.append(wait)
        if len(waits) == 3:
            raise ValueError("enough")
        return wait * 2

    monkeypatch.setattr(restclient, "_back_off", back_off)

    async def answer(request: Request) -> Response:
        return stream() if "watch" in request.query_params else page([], 1)

    async with server(answer) as client, aclosing(client.watch("pods")) as events:  # type: ignore[type-var]
        with pytest.raises(ValueError, match="enough"):
            async for _ in events:
                pass
    assert waits == [0.1, 0.2, 0.4]


async def test_a_watch_that_is_silent_for_too_long_is_requested_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """The new watch continues from the last version that was received, as after every broken connection."""
    monkeypatch.setattr(clients, "_WATCH_SILENCE", 0.2)
    hold = asyncio.Event()
    versions: list[str] = []

    async def answer(request: Request) -> Response:
        if "watch" not in request.query_params:
            return page([], 1)
        versions.append(request.query_params["resourceVersion"])

        async def lines() -> AsyncIterator[bytes]:
            yield json.dumps({"type": "BOOKMARK", "object": pod("", 5)}).encode() + b"\n"
            if len(versions) > 1:
                yield json.dumps({"type": "ADDED", "object": pod("a", 6)}).encode() + b"\n"
            await hold.wait()

        return StreamingResponse(lines(), media_type="application/json")

    async with server(answer) as client, aclosing(client.watch("pods")) as events:  # type: ignore[type-var]
        async with asyncio.timeout(20):
            assert (await anext(events)).type == "SYNCED"
            assert (await anext(events)).object["metadata"]["name"] == "a"
        hold.set()
    assert versions[:2] == ["1", "5"]


async def test_an_informer_follows_changes_and_calls_its_subscribers() -> None:
    hold = asyncio.Event()

    async def answer(request: Request) -> Response:
        if "watch" not in request.query_params:
            return page([pod("a", 1)], 1)
        if request.query_params["resourceVersion"] == "1":
            return stream({"type": "DELETED", "object": pod("a", 2)}, {"type": "ADDED", "object": pod("b", 3)})
        await hold.wait()
        return stream()

    async with server(answer) as client:
        informer, told = Informer(client, "pods"), asyncio.Event()
        seen: list[str] = []

        def note(kind: str, obj: dict[str, Any]) -> None:
            seen.append(f"{kind} {obj['metadata']['name']}")
            if len(seen) == 3:
                told.set()

        informer.subscribe(note)
        async with running(informer):
            await told.wait()
            assert list(informer.items) == [("x", "b")]
        hold.set()
    assert seen == ["ADDED a", "DELETED a", "ADDED b"]


async def test_a_refused_informer_ends_with_the_reason() -> None:
    async def refuse(_: Request) -> Response:
        return JSONResponse({"kind": "Status", "code": 403, "reason": "Forbidden", "message": "you may not"}, 403)

    async with server(refuse) as client:
        with pytest.raises(ExceptionGroup) as caught:
            async with running(Informer(client, "pods")):
                raise AssertionError("the informer must not start")
    assert caught.group_contains(ApiError, match="you may not")
