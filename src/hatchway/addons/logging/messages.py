"""Reads bodies of requests and makes answers, in Elasticsearch's forms."""

from __future__ import annotations

import json
from typing import Any

import msgspec
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from hatchway.addons.logging import bulk, cat
from hatchway.addons.logging.documentstore import Written
from hatchway.addons.logging.problems import EsProblem

BODY_LIMIT = 10 * 1024 * 1024


async def raw_body(request: Request) -> bytes:
    """Read the body. Raises EsProblem 413 when it is longer than BODY_LIMIT."""
    pieces: list[bytes] = []
    size = 0
    async for piece in request.stream():
        size += len(piece)
        if size > BODY_LIMIT:
            raise EsProblem(413, "content_too_long_exception", f"the body is longer than {BODY_LIMIT} bytes")
        pieces.append(piece)
    return b"".join(pieces)


async def json_body(request: Request) -> Any:
    """Read the body as JSON; without a body, the parameter `source`; None without both. Raises EsProblem 400, 413."""
    raw = await raw_body(request)
    if not raw.strip():
        raw = request.query_params.get("source", "").encode()
    return decode(raw) if raw.strip() else None


def decode(raw: bytes) -> Any:
    """Return the value of a JSON text. Raises EsProblem 400."""
    try:
        return msgspec.json.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise EsProblem(400, "json_parse_exception", f"the body is not JSON: {error}") from error


def _pretty(request: Request) -> bool:
    return request.query_params.get("pretty", "false") != "false"


def answer(request: Request, body: Any, status: int = 200) -> Response:
    """Return a response with a JSON body, indented when the request has the parameter `pretty`."""
    if _pretty(request):
        text = json.dumps(body, indent=2, separators=(",", " : "), ensure_ascii=False) + "\n"
    else:
        text = json.dumps(body, separators=(",", ":"), ensure_ascii=False)
    # Elasticsearch's own clients refuse a server without this field.
    headers = {"X-elastic-product": "Elasticsearch"}
    return Response(text.encode("utf-8", "replace"), status, headers, media_type="application/json; charset=UTF-8")


def table(request: Request, rows: list[dict[str, str]]) -> Response:
    """Return a table for people, or JSON for `format=json`. The request's parameters name the columns and the order."""
    params = request.query_params
    rows = cat.select(rows, params)
    if params.get("format") == "json":
        return answer(request, rows)
    text = cat.table(rows, header=params.get("v", "false") != "false")
    return Response(text, media_type="text/plain; charset=UTF-8")


def written_answer(request: Request, written: Written) -> Response:
    """Return the response to the write of one document."""
    return answer(request, bulk.written_body(written), bulk.status_of(written))


async def problem_answer(request: Request, error: Exception) -> Response:
    """Answer a request that has raised `EsProblem` (an exception handler for Starlette)."""
    assert isinstance(error, EsProblem)
    return answer(request, error.body(), error.status)


async def no_handler(request: Request, error: Exception) -> Response:
    """Answer a request for an unknown path or method: 400 or 405, as Elasticsearch does (a handler for Starlette)."""
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
    """Return a response for a client that has disconnected; it is not sent (a handler for Starlette)."""
    return Response(status_code=499)
