"""Forwarded exchanges: framing in both directions, forwarded and dropped fields, kept and retried connections."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from hatchway.proxy.limits import Limits
from hatchway.proxy.routing import (
    CachedDecision,
    Decision,
    Forward,
    Headers,
    RequestHead,
    ResponseHead,
    Transform,
    Upstream,
)
from tests.integration.proxy.wire import GET, OK, Backend, Script, World, forward, refuse, until


async def test_requests_of_a_connection_share_one_upstream_connection(world: World) -> None:
    backend = await world.answering(OK)
    server = await world.serve(forward(backend.upstream()))
    client = await world.client(server)
    for _ in range(3):
        answer = await client.ask(GET)
        assert (answer.start, answer.body) == (b"HTTP/1.1 200 OK", b"ok")
    assert backend.connections == 1


async def test_pipelined_requests_are_answered_in_order(world: World) -> None:
    answers = [b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n%d" % n for n in range(3)]
    backend = await world.answering(*answers)
    client = await world.client(await world.serve(forward(backend.upstream())))
    post = b"POST /1 HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc"
    client.send(GET + post + GET)
    assert [(await client.response()).body for _ in range(3)] == [b"0", b"1", b"2"]
    assert [message.body for message in backend.requests] == [b"", b"abc", b""]


@pytest.mark.parametrize(
    ("sent", "body"),
    [
        (b"Content-Length: 5\r\n\r\nhello", b"hello"),
        (b"Content-Length: 0\r\n\r\n", b""),
        (b"Transfer-Encoding: chunked\r\n\r\n2\r\nhe\r\n3;x=y\r\nllo\r\n0\r\n\r\n", b"hello"),
        (b"\r\n", b""),
    ],
)
async def test_request_bodies_arrive(world: World, sent: bytes, body: bytes) -> None:
    backend = await world.answering(OK)
    client = await world.client(await world.serve(forward(backend.upstream())))
    await client.ask(b"POST /x?a=%2F HTTP/1.1\r\nHost: a\r\n" + sent)
    assert backend.requests[0].start == b"POST /x?a=%2F HTTP/1.1"
    assert backend.requests[0].body == body


async def test_trailers_pass_both_ways(world: World) -> None:
    backend = await world.answering(
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n1\r\na\r\n0\r\nX-Sum: 7\r\nHost: evil\r\n\r\n"
    )
    client = await world.client(await world.serve(forward(backend.upstream())))
    answer = await client.ask(
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\nX-Up: 1\r\nContent-Length: 9\r\n\r\n"
    )
    assert (answer.body, answer.trailers) == (b"a", [(b"x-sum", b"7")])
    assert backend.requests[0].trailers == [(b"x-up", b"1")]


@pytest.mark.parametrize(
    ("answer", "body", "method", "connections"),
    [
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n", b"abc", "GET", 1),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n", b"", "HEAD", 1),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"", "HEAD", 1),
        (b"HTTP/1.1 204 No Content\r\n\r\n", b"", "GET", 1),
        (b"HTTP/1.1 304 Not Modified\r\n\r\n", b"", "GET", 1),
        # The announced body may follow such responses, so their connection is not used again.
        (b"HTTP/1.1 204 No Content\r\nContent-Length: 4\r\n\r\n", b"", "GET", 2),
        (b"HTTP/1.1 304 Not Modified\r\nContent-Length: 4\r\n\r\nbody", b"", "GET", 2),
        (b"HTTP/1.1 200 OK\r\nUpgrade: h2c\r\nContent-Length: 2\r\n\r\nhi", b"hi", "GET", 1),
    ],
)
async def test_the_end_of_an_answer_is_found(
    world: World, answer: bytes, body: bytes, method: str, connections: int
) -> None:
    """After a response of any form, the next response on the same client connection is read correctly."""
    backend = await world.answering(answer, OK)
    client = await world.client(await world.serve(forward(backend.upstream())))
    first = await client.ask(GET.replace(b"GET", method.encode()), method)
    assert first.body == body
    assert (await client.ask(GET)).body == b"ok"
    assert backend.connections == connections


async def test_head_keeps_the_length_and_204_has_none(world: World) -> None:
    backend = await world.answering(
        b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n", b"HTTP/1.1 204 No Content\r\nContent-Length: 4\r\n\r\n"
    )
    client = await world.client(await world.serve(forward(backend.upstream())))
    assert (await client.ask(GET.replace(b"GET", b"HEAD"), "HEAD")).get(b"content-length") == b"9"
    assert (await client.ask(GET)).get(b"content-length") is None


def _once(data: bytes, abort: bool = False) -> object:
    def script(backend: Backend) -> Script:
        async def run(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await backend.read(reader)
            writer.write(data)
            await writer.drain()
            if abort:
                writer.transport.abort()

        return run

    return script


async def test_an_answer_that_ends_with_its_connection_becomes_chunked(world: World) -> None:
    backend = await world.backend(_once(b"HTTP/1.1 200 OK\r\n\r\nhello"))  # type: ignore[arg-type]
    client = await world.client(await world.serve(forward(backend.upstream())))
    for _ in range(2):
        answer = await client.ask(GET)
        assert (answer.get(b"transfer-encoding"), answer.body) == (b"chunked", b"hello")
    assert backend.connections == 2


async def test_http_1_0_clients_get_no_chunks(world: World) -> None:
    backend = await world.answering(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n")
    client = await world.client(await world.serve(forward(backend.upstream())))
    client.send(b"GET / HTTP/1.0\r\n\r\n")
    head, _, body = (await client.rest()).partition(b"\r\n\r\n")
    assert b"chunked" not in head.lower()
    assert body == b"abc"


async def test_http_1_0_keep_alive(world: World) -> None:
    backend = await world.answering(OK)
    client = await world.client(await world.serve(forward(backend.upstream())))
    for _ in range(2):
        answer = await client.ask(b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
        assert answer.get(b"connection") == b"keep-alive"


@pytest.mark.parametrize(("answer", "begun"), [(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc", True)])
async def test_a_cut_answer_is_cut_for_the_client_too(world: World, answer: bytes, begun: bool) -> None:
    backend = await world.backend(_once(answer))  # type: ignore[arg-type]
    client = await world.client(await world.serve(forward(backend.upstream())))
    client.send(GET)
    with pytest.raises((asyncio.IncompleteReadError, ConnectionError)):
        await client.response()


async def test_a_cut_chunked_answer_lacks_its_last_chunk(world: World) -> None:
    backend = await world.backend(_once(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n"))  # type: ignore[arg-type]
    client = await world.client(await world.serve(forward(backend.upstream())))
    client.send(GET)
    assert not (await client.rest()).endswith(b"0\r\n\r\n")


async def test_hop_by_hop_fields_stay_on_their_hop(world: World) -> None:
    backend = await world.answering(
        b"HTTP/1.1 200 OK\r\nConnection: x-down, keep-alive\r\nKeep-Alive: 5\r\nX-Down: 1\r\nX-Stay: 1\r\nContent-Length: 0\r\n\r\n"
    )

    def route(head: RequestHead) -> Decision:
        return Forward(backend.upstream(), head.target, [*head.headers, (b"X-Forwarded-For", b"1.2.3.4")], refuse)

    client = await world.client(await world.serve(route))
    answer = await client.ask(
        b"GET / HTTP/1.1\r\nHost: a\r\nConnection: x-up, x-forwarded-for, date\r\nDate: x\r\nX-Up: 1\r\nTE: trailers\r\n"
        b"Keep-Alive: 5\r\nProxy-Connection: x\r\nProxy-Authorization: y\r\nX-Stay: 1\r\n\r\n"
    )
    assert [name for name, _ in answer.headers] == [b"x-stay", b"content-length"]
    names = [name for name, _ in backend.requests[0].headers]
    # By `Connection`, a client cannot remove a field that the routing function adds. `TE: trailers` is forwarded.
    assert names == [b"host", b"date", b"x-stay", b"x-forwarded-for", b"te"]


async def test_absolute_form_is_reduced(world: World) -> None:
    backend = await world.answering(OK)
    client = await world.client(await world.serve(forward(backend.upstream())))
    await client.ask(b"GET http://b:1/x?y HTTP/1.1\r\nHost: a\r\n\r\n")
    assert backend.requests[0].start == b"GET /x?y HTTP/1.1"
    assert backend.requests[0].headers == [(b"host", b"b:1")]


@pytest.mark.parametrize("method", [b"PROPFIND", b"TRACE", b"FROBNICATE", b"get"])
async def test_any_method_reaches_the_routing_function(world: World, method: bytes) -> None:
    backend = await world.answering(OK)
    client = await world.client(await world.serve(forward(backend.upstream())))
    assert (await client.ask(method + b" /\xc3\xa9 HTTP/1.1\r\nHost: a\r\n\r\n")).status == 200
    assert backend.requests[0].start == method + b" /\xc3\xa9 HTTP/1.1"


async def test_expect_continue_is_relayed(world: World) -> None:
    def script(backend: Backend) -> Script:
        async def run(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            head = await reader.readuntil(b"\r\n\r\n")
            assert b"expect: 100-continue" in head.lower()
            writer.write(b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n")
            assert await reader.readexactly(5) == b"hello"
            writer.write(OK)
            await reader.read()

        return run

    backend = await world.backend(script)
    client = await world.client(await world.serve(forward(backend.upstream())))
    client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n")
    seen = await client.reader.readuntil(b"100 Continue\r\n\r\n")
    assert seen.startswith(b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n")
    client.send(b"hello")
    assert (await client.response()).body == b"ok"


async def test_expect_that_the_routing_function_drops_is_answered_by_the_engine(world: World) -> None:
    backend = await world.answering(OK)

    def route(head: RequestHead) -> Decision:
        return Forward(backend.upstream(), head.target, [(b"Host", b"b")], refuse)

    client = await world.client(await world.serve(route))
    client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n")
    assert await client.reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
    client.send(b"hello")
    assert (await client.response()).body == b"ok"
    assert backend.requests[0].body == b"hello"


async def test_a_refusal_before_the_body_is_relayed_and_ends_the_connection(world: World) -> None:
    def script(backend: Backend) -> Script:
        async def run(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 417 No\r\nContent-Length: 0\r\n\r\n")
            await reader.read()

        return run

    backend = await world.backend(script)
    client = await world.client(await world.serve(forward(backend.upstream())))
    client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n")
    answer = await client.response()
    assert (answer.status, answer.get(b"connection")) == (417, b"close")
    assert await client.rest() == b""


async def test_an_early_answer_is_relayed_while_the_body_is_still_coming(world: World) -> None:
    def script(backend: Backend) -> Script:
        async def run(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 413 Too Large\r\nContent-Length: 2\r\n\r\nno")
            await reader.read()

        return run

    backend = await world.backend(script)
    client = await world.client(await world.serve(forward(backend.upstream())))
    client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\nhello")
    assert (await client.response()).body == b"no"
    async with asyncio.timeout(10):
        await backend.ended.wait()
    # The rest of the body is discarded, and the connection stays open.
    client.send(b"x" * 995 + GET)
    assert (await client.response()).status == 413


async def test_a_stale_connection_is_replaced_silently(world: World) -> None:
    def script(backend: Backend) -> Script:
        async def run(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await backend.read(reader)
            writer.write(OK)
            if backend.connections == 1:
                await backend.read(reader)  # The second request gets no answer.
                return
            await reader.read()

        return run

    backend = await world.backend(script)
    client = await world.client(await world.serve(forward(backend.upstream())))
    assert (await client.ask(GET)).status == 200
    assert (await client.ask(GET)).status == 200
    assert (backend.connections, len(backend.requests)) == (2, 3)


async def test_a_request_that_may_have_been_acted_upon_is_not_repeated(world: World) -> None:
    def script(backend: Backend) -> Script:
        async def run(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await backend.read(reader)
            writer.write(OK)
            await backend.read(reader)

        return run

    backend = await world.backend(script)
    other = await world.answering(OK)
    client = await world.client(
        await world.serve(forward(backend.upstream(), next_upstream=lambda _: to(other.upstream())))
    )
    assert (await client.ask(GET)).status == 200
    answer = await client.ask(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nx")
    assert (answer.status, answer.body) == (503, b"read: EOF")
    assert (len(backend.requests), len(other.requests)) == (2, 0)


async def test_a_closed_idle_connection_is_noticed_before_a_body_is_lost_on_it(world: World) -> None:
    backend = await world.backend(_once(OK))  # type: ignore[arg-type]
    client = await world.client(await world.serve(forward(backend.upstream())))
    for _ in range(3):
        answer = await client.ask(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nx")
        assert answer.status == 200
        async with asyncio.timeout(10):
            await backend.ended.wait()
        backend.ended.clear()


def to(upstream: Upstream, headers: Headers | None = None, **more: Any) -> Forward:
    return Forward(upstream, b"/", headers or [(b"Host", b"b")], refuse, **more)


async def test_another_upstream_is_tried_when_connecting_fails(world: World) -> None:
    dead = await world.answering(OK)
    await dead.close()
    live = await world.answering(OK)
    tried: list[int] = []

    def next_upstream(failures: int) -> Forward:
        tried.append(failures)
        return to(dead.upstream() if failures < 2 else live.upstream(), next_upstream=next_upstream)

    client = await world.client(await world.serve(forward(dead.upstream(), next_upstream=next_upstream)))
    answer = await client.ask(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello")
    assert answer.status == 200
    assert live.requests[0].body == b"hello"
    assert tried == [1, 2]


async def test_errors_name_their_stage(world: World) -> None:
    dead = await world.answering(OK)
    await dead.close()
    client = await world.client(await world.serve(forward(dead.upstream(), next_upstream=lambda _: None)))
    assert (await client.ask(GET)).body == b"dial: connection refused"
    silent = await world.backend(_once(b""))  # type: ignore[arg-type]
    client = await world.client(await world.serve(forward(silent.upstream())))
    assert (await client.ask(GET)).body == b"read: EOF"
    assert (await client.ask(GET)).status == 503  # The client's connection stays open.


@pytest.mark.parametrize(
    "answer",
    [
        b"SSH-2.0-OpenSSH\r\n",
        b"HTTP/2.0 200 OK\r\n\r\n",
        b"HTTP/1.1 20 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\nContent-Length: 0\n\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: a\r\n b\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: a\x00b\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + b"x" * 10_500_000,
    ],
)
async def test_answers_that_are_not_http_are_an_error_of_the_protocol(world: World, answer: bytes) -> None:
    backend = await world.answering(answer)
    client = await world.client(await world.serve(forward(backend.upstream())))
    found = await client.ask(GET)
    assert (found.status, found.get(b"x-stage")) == (503, b"protocol")
    async with asyncio.timeout(10):
        await backend.ended.wait()


async def test_bytes_after_an_answer_are_not_part_of_the_next_one(world: World) -> None:
    backend = await world.answering(OK + b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil")
    client = await world.client(await world.serve(forward(backend.upstream())))
    for _ in range(2):
        assert (await client.ask(GET)).body == b"ok"
    assert backend.connections == 2


async def test_a_client_that_disconnects_ends_the_upstream_connection(world: World) -> None:
    def script(backend: Backend) -> Script:
        async def run(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await backend.read(reader)
            writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n")
            await reader.read()

        return run

    done: list[tuple[int, int, int]] = []
    backend = await world.backend(script)

    def route(head: RequestHead) -> Decision:
        head.on_complete = lambda *found: done.append(found)
        return Forward(backend.upstream(), head.target, head.headers, refuse)

    server = await world.serve(route)
    client = await world.client(server)
    client.send(GET)
    await client.reader.readuntil(b"a\r\n")
    client.cut()
    async with asyncio.timeout(10):
        await backend.ended.wait()
    assert done == [(200, 0, 1)]
    await until(lambda: server.connections == 0)


async def test_a_client_that_disconnects_while_connecting_ends_the_attempt(world: World) -> None:
    cancelled = asyncio.Event()
    started = asyncio.Event()

    async def connect() -> object:
        started.set()
        try:
            return await asyncio.Event().wait()
        finally:
            cancelled.set()

    client = await world.client(await world.serve(forward(Upstream("never", connect))))  # type: ignore[arg-type]
    client.send(GET)
    async with asyncio.timeout(10):
        await started.wait()
        client.cut()
        await cancelled.wait()


async def test_a_half_closed_client_gets_its_answer(world: World) -> None:
    backend = await world.answering(OK)
    client = await world.client(await world.serve(forward(backend.upstream())))
    client.send(GET + GET)
    client.writer.write_eof()
    data = await client.rest()
    assert data.count(b"HTTP/1.1 200 OK") == 2


async def test_a_half_closed_client_is_not_kept_for_ever(world: World) -> None:
    def script(backend: Backend) -> Script:
        async def run(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await backend.read(reader)
            await reader.read()

        return run

    backend = await world.backend(script)
    client = await world.client(await world.serve(forward(backend.upstream()), limits=Limits(half_closed_timeout=0.05)))
    client.send(GET)
    await until(lambda: len(backend.requests) == 1)
    client.writer.write_eof()
    async with asyncio.timeout(10):
        await backend.ended.wait()


async def test_a_body_that_is_cut_short_is_cut_upstream(world: World) -> None:
    backend = await world.answering(OK)
    client = await world.client(await world.serve(forward(backend.upstream())))
    client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nabc")
    await until(lambda: backend.connections == 1)
    client.writer.write_eof()
    assert await client.rest() == b""
    async with asyncio.timeout(10):
        await backend.ended.wait()
    assert backend.requests == []


class _Upper(Transform):
    def feed(self, data: bytes) -> bytes:
        return data.upper()

    def finish(self) -> bytes:
        return b"!"


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n2\r\nbc\r\n0\r\n\r\n",
    ],
)
async def test_heads_are_edited_and_bodies_transformed(world: World, answer: bytes) -> None:
    backend = await world.answering(answer)

    def edit(head: ResponseHead) -> Transform:
        head.status = 202
        head.headers.append((b"X-New", b"1"))
        return _Upper()

    client = await world.client(await world.serve(forward(backend.upstream(), edit_response=edit)))
    for _ in range(2):  # An edited head must not be cached.
        found = await client.ask(GET)
        assert (found.start, found.body) == (b"HTTP/1.1 202 Accepted", b"ABC!")
        assert found.headers == [(b"x-new", b"1"), (b"transfer-encoding", b"chunked")]


class _Numbered(CachedDecision):
    """Forwards a request unchanged, and adds the next number to its response."""

    def __init__(self, upstream: Upstream, head: RequestHead, numbers: Iterator[bytes | None]) -> None:
        self._forward = to(upstream, head.headers)
        self._numbers = numbers

    def begin(self, make_head: Callable[[], RequestHead]) -> Decision:
        number = next(self._numbers)
        if number is not None:
            make_head().answer_field = (b"X-Id", number)
        return self._forward


@pytest.mark.parametrize("keep", [True, False])
async def test_a_decision_adds_a_field_to_the_answer(world: World, keep: bool) -> None:
    backend = await world.answering(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nx-ID: theirs\r\nX-Other: o\r\n\r\nok")
    numbers = iter([b"0", b"1", None, b"3", b"4", b"5\r\nSet-Cookie: evil=1", b"6"])

    def route(head: RequestHead) -> Decision:
        decision = _Numbered(backend.upstream(), head, numbers)
        head.cached = decision if keep else None
        return decision.begin(lambda: head)

    client = await world.client(await world.serve(route))
    for expected in (b"0", b"1", b"theirs", b"3", b"4"):
        found = await client.ask(GET)
        assert [value for name, value in found.headers if name == b"x-id"] == [expected]
        assert (found.get(b"x-other"), found.body) == (b"o", b"ok")
    found = await client.ask(GET)
    assert (found.status, found.get(b"set-cookie")) == (503, None)
    assert (await client.ask(GET)).get(b"x-id") == b"6"


async def test_the_length_is_removed_from_a_head_response_of_a_transformed_body(world: World) -> None:
    backend = await world.answering(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n", OK)
    client = await world.client(await world.serve(forward(backend.upstream(), edit_response=lambda head: _Upper())))
    found = await client.ask(GET.replace(b"GET", b"HEAD"), "HEAD")
    assert found.get(b"content-length") is None
    assert (await client.ask(GET)).body == b"OK!"


async def test_a_header_that_would_break_its_line_is_refused(world: World) -> None:
    backend = await world.answering(OK)

    def edit(head: ResponseHead) -> None:
        head.headers.append((b"Location", b"/\r\nSet-Cookie: evil=1"))

    client = await world.client(await world.serve(forward(backend.upstream(), edit_response=edit)))
    found = await client.ask(GET)
    assert found.status == 503
    assert found.get(b"set-cookie") is None

    def route(head: RequestHead) -> Decision:
        return Forward(backend.upstream(), b"/ HTTP/1.1\r\nX: y", head.headers, refuse)

    client = await world.client(await world.serve(route))
    assert (await client.ask(GET)).status == 500


async def test_server_sent_events_pass_without_delay(world: World) -> None:
    gate = asyncio.Event()

    def script(backend: Backend) -> Script:
        async def run(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await backend.read(reader)
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
            for number in range(3):
                writer.write(b"1\r\n%d\r\n" % number)
                await gate.wait()
                gate.clear()
            await reader.read()

        return run

    backend = await world.backend(script)
    client = await world.client(await world.serve(forward(backend.upstream())))
    client.send(GET)
    async with asyncio.timeout(10):
        for number in range(3):
            await client.reader.readuntil(b"1\r\n%d\r\n" % number)
            gate.set()


async def test_a_slow_client_slows_the_upstream_down(world: World) -> None:
    """A backend that wants to send 64 MiB is stopped when sockets and buffers are full."""
    sent = 0
    total = 64 * 1024 * 1024

    def script(backend: Backend) -> Script:
        async def run(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            nonlocal sent
            await backend.read(reader)
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % total)
            while sent < total:
                writer.write(b"x" * 65536)
                sent += 65536
                await writer.drain()
            await reader.read()

        return run

    backend = await world.backend(script)
    client = await world.client(await world.serve(forward(backend.upstream())))
    client.writer.transport.pause_reading()  # type: ignore[attr-defined]
    client.send(GET)
    await _settled(lambda: sent)
    assert sent < total / 2
    client.writer.transport.resume_reading()  # type: ignore[attr-defined]
    assert len((await client.response()).body) == total


async def test_a_slow_upstream_slows_the_client_down(world: World) -> None:
    total = 64 * 1024 * 1024
    gate = asyncio.Event()

    def script(backend: Backend) -> Script:
        async def run(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.transport.pause_reading()  # type: ignore[attr-defined]
            await gate.wait()
            with contextlib.suppress(RuntimeError):  # The stream reader may have paused the transport itself.
                writer.transport.resume_reading()  # type: ignore[attr-defined]
            assert len((await backend.read(reader)).body) == total
            writer.write(OK)
            await reader.read()

        return run

    backend = await world.backend(script)
    client = await world.client(await world.serve(forward(backend.upstream())))
    client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % total)
    sent = 0

    async def pump() -> None:
        nonlocal sent
        while sent < total:
            client.send(b"x" * 65536)
            sent += 65536
            await client.writer.drain()

    task = asyncio.create_task(pump())
    await _settled(lambda: sent)
    assert sent < total / 2
    gate.set()
    assert (await client.response()).status == 200
    await task


async def _settled(value: object) -> None:
    """Wait until the number that `value` returns has stopped growing."""
    last, same = -1, 0
    while same < 20:
        await asyncio.sleep(0.01)
        now = value()  # type: ignore[operator]
        same = same + 1 if now == last and now else 0
        last = now


async def test_completion_is_reported_once_with_its_numbers(world: World) -> None:
    backend = await world.answering(OK)
    done: list[tuple[int, int, int]] = []

    def route(head: RequestHead) -> Decision:
        head.on_complete = lambda *found: done.append(found)
        return Forward(backend.upstream(), head.target, head.headers, refuse)

    client = await world.client(await world.serve(route))
    await client.ask(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello")
    await client.ask(GET)
    client.cut()
    await backend.close()
    assert done == [(200, 5, 2), (200, 0, 2)]


async def test_closing_lets_exchanges_finish(world: World) -> None:
    gate = asyncio.Event()

    def script(backend: Backend) -> Script:
        async def run(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await backend.read(reader)
            await gate.wait()
            writer.write(OK)
            await reader.read()

        return run

    backend = await world.backend(script)
    server = await world.serve(forward(backend.upstream()))
    busy, idle = await world.client(server), await world.client(server)
    busy.send(GET)
    await until(lambda: len(backend.requests) == 1 and server.connections == 2)
    closing = asyncio.create_task(server.close(10))
    assert await idle.rest() == b""
    gate.set()
    answer = await busy.response()
    assert (answer.body, answer.get(b"connection")) == (b"ok", b"close")
    await closing
    assert server.connections == 0


async def test_closing_cuts_what_does_not_finish(world: World) -> None:
    def script(backend: Backend) -> Script:
        async def run(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await backend.read(reader)
            await reader.read()

        return run

    backend = await world.backend(script)
    server = await world.serve(forward(backend.upstream()))
    client = await world.client(server)
    client.send(GET)
    await until(lambda: len(backend.requests) == 1)
    await server.close(0.01)
    assert await client.rest() == b""
    async with asyncio.timeout(10):
        await backend.ended.wait()
