"""Forwards a request in an ASGI application, which sends the upstream's answer to the client as it arrives.

The engine (`proxy/`) is faster, but it only relays bytes. This application is for answers that are sent as WebSocket
messages, and for requests whose field `Upgrade` must not be sent to the upstream.
"""

from __future__ import annotations

import asyncio
from typing import Any

from hatchway.kube.http import HttpClient
from hatchway.proxy.routing import Forward, ProxyError, Respond, ResponseHead

__all__ = ["ForwardedApp"]


class ForwardedApp:
    """An ASGI application that answers every request with the upstream's answer to the GET of `forward`.

    Only these parts of `forward` are used: the upstream, the target, the fields, `error_response` and `edit_response`.
    While the client is slow, the application does not read from the upstream. When the client disconnects, the request
    is cancelled. There is no timeout. If the upstream's answer is cut off, the answer to the client ends normally, as
    with `io.Copy` in apiserver's `StreamObject`.
    """

    def __init__(self, http: HttpClient, forward: Forward) -> None:
        self._http = http
        self._forward = forward

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Answer a request (ASGI 3). Raises OSError when the client has gone."""

        async def gone() -> None:
            while (await receive())["type"] != "http.disconnect":
                pass

        relaying = asyncio.ensure_future(self._relay(send))
        tasks = {relaying, asyncio.ensure_future(gone())}
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
        if not relaying.cancelled():
            relaying.result()

    async def _relay(self, send: Any) -> None:
        forward = self._forward
        fields = b"".join(b"%b: %b\r\n" % field for field in forward.headers)
        head = b"GET %b HTTP/1.1\r\n%b\r\n" % (forward.target, fields)
        try:
            answer = await self._http.ask(forward.upstream, "GET", head, b"", None)
        except ProxyError as error:
            await _respond(send, forward.error_response(error))
            return
        try:
            response = ResponseHead(answer.status, b"", answer.fields)
            transform = forward.edit_response(response) if forward.edit_response is not None else None
            await send({"type": "http.response.start", "status": response.status, "headers": response.headers})
            # The head must not wait for the first bytes of the body.
            await send({"type": "http.response.body", "body": b"", "more_body": True})
            try:
                while piece := await answer.read(None):
                    data = piece if transform is None else transform.feed(piece)
                    await send({"type": "http.response.body", "body": data, "more_body": True})
            except ProxyError:
                pass  # the part of the answer that has arrived is sent
            rest = transform.finish() if transform is not None else b""
            await send({"type": "http.response.body", "body": rest, "more_body": False})
        finally:
            answer.leave()


async def _respond(send: Any, answer: Respond) -> None:
    await send({"type": "http.response.start", "status": answer.status, "headers": answer.headers})
    await send({"type": "http.response.body", "body": answer.body, "more_body": False})
