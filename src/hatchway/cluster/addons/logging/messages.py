"""Requests' bodies read, and answers written, as Elasticsearch does both."""

from __future__ import annotations

import json
from typing import Any

import msgspec
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from hatchway.cluster.addons.logging import bulk, cat
from hatchway.cluster.addons.logging.problems import Problem
from hatchway.cluster.addons.logging.store import Written

BODY_LIMIT = 10 * 1024 * 1024


async def raw_body(request: Request) -> bytes:
    """The body. Raises Problem 413."""
    pieces: list[bytes] = []
    size = 0
    async for piece in request.stream():
        size += len(piece)
        if size > BODY_LIMIT:
            raise Problem(413, "content_too_long_exception", f"the body is longer than {BODY_LIMIT} bytes")
        pieces.append(piece)
    return b"".join(pieces)


async def json_body(request: Request) -> Any:
    """The body's JSON, or that of the parameter `source`; None when there is none. Raises Problem 400."""
    raw = await raw_body(request)
    if not raw.strip():
        raw = request.query_params.get("source", "").encode()
    return decode(raw) if raw.strip() else None


def decode(raw: bytes) -> Any:
    """JSON. Raises Problem 400."""
    try:
        return msgspec.json.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Problem(400, "json_parse_exception", f"the body is not JSON: {error}") from error


def _pretty(request: Request) -> bool:
    return request.query_params.get("pretty", "false") != "false"


def answer(request: Request, body: Any, status: int = 200) -> Response:
    """JSON, indented when the request says `pretty`."""
    if _pretty(request):
        text = json.dumps(body, indent=2, separators=(",", " : "), ensure_ascii=False) + "\n"
    else:
        text = json.dumps(body, separators=(",", ":"), ensure_ascii=False)
    # Official clients refuse a server that does not say so.
    headers = {"X-elastic-product": "Elasticsearch"}
    return Response(text.encode("utf-8", "replace"), status, headers, media_type="application/json; charset=UTF-8")


def table(request: Request, rows: list[dict[str, str]]) -> Response:
    """A table for people, or JSON with `format=json`; columns and order as the request asks."""
    params = request.query_params
    rows = cat.select(rows, params)
    if params.get("format") == "json":
        return answer(request, rows)
    text = cat.table(rows, header=params.get("v", "false") != "false")
    return Response(text, media_type="text/plain; charset=UTF-8")


def written_answer(request: Request, written: Written) -> Response:
    """What became of one document."""
    return answer(request, bulk.written_body(written), bulk.status_of(written))


async def problem_answer(request: Request, error: Exception) -> Response:
    """Starlette's handler of `Problem`."""
    assert isinstance(error, Problem)
    return answer(request, error.body(), error.status)


async def no_handler(request: Request, error: Exception) -> Response:
    """Starlette's handler of paths and methods that are not there: 400 and 405, as Elasticsearch has them."""
    assert isinstance(error, HTTPException)
    uri = request.url.path
    if error.status_code == 405:
        allowed = (error.headers or {}).get("Allow", "")
        message = f"Incorrect HTTP method for uri [{uri}] and method [{request.method}], allowed: [{allowed}]"
        response = answer(request, {"error": message, "status": 405}, 405)
        response.headers["Allow"] = allowed
        return response
    message = f"no handler found for uri [{uri}] and method [{request.method}]"
    return answer(request, {"error": message}, 400)


async def gone(request: Request, error: Exception) -> Response:
    """Starlette's handler of a client that went before its body was read; nobody sees this answer."""
    return Response(status_code=499)
