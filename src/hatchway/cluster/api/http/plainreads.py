"""Answers plain reads at once: a GET of one object and a LIST of a whole collection, in compact JSON.

They need not wait for anything, so no task of the REST application has to run for them. The answers are the same as
those of `restapp.py`, which also gives all other answers: errors, other formats, large objects, long lists.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import msgspec

from hatchway.cluster.api.http import compression
from hatchway.cluster.api.http.encodeditems import EncodedItems
from hatchway.cluster.api.http.negotiation import JSON, asks_for_layout, negotiate
from hatchway.cluster.api.http.requestinfo import RequestInfo
from hatchway.cluster.api.operations.verbs import Api
from hatchway.cluster.api.registry.resource import Resource
from hatchway.errors import ApiError
from hatchway.proxy.routing import RequestHead, Respond

__all__ = ["PlainRead", "PlainReads"]

# Returns the current answer; None when the application must answer.
PlainRead = Callable[[], Respond | None]

_encode = msgspec.json.Encoder().encode


class PlainReads:
    """Finds the plain reads among requests. encoded: the JSON of list items."""

    def __init__(self, api: Api, encoded: EncodedItems) -> None:
        self._api = api
        self._encoded = encoded

    def find(self, head: RequestHead, info: RequestInfo) -> PlainRead | None:
        """Return a function that answers an authorized request; None if the request is no plain read.

        The function may be called for every request with the same head until an object changes.
        """
        if head.method != "GET" or info.verb not in ("get", "list") or info.subresource:
            return None
        limit = _plain_limit(head.query)
        if limit is None:
            return None
        row = self._api.registry.find(info.api_group, info.api_version, info.resource)
        if row is None or row.strategy.deprecation or info.verb not in row.verbs:
            return None
        # The objects of virtual types are computed; objects of types with a conversion may have to wait for a webhook.
        if row.virtual or row.from_storage is not None or row.conversion is not None:
            return None
        namespace = info.namespace if row.namespaced else ""
        # For a Namespace, `info.namespace` is its own name. Other types without namespaces must have no namespace in
        # the path.
        if namespace != info.namespace and row.plural != "namespaces":
            return None
        if row.namespaced and info.name and not namespace:
            return None
        fields = {name.lower(): value for name, value in head.headers}
        # The application treats some reads of kubectl's commands in a special way (`RestApp`: `before_port_forward`).
        if head.upgrade is not None or b"kubectl-command" in fields or _has_format(row, fields):
            return None
        if info.verb == "get":
            return partial(self._object, row, namespace, info.name)
        accepts_gzip = compression.accepts_gzip(fields.get(b"accept-encoding", b"").decode("latin-1"))
        return partial(self._list, row, namespace or None, limit, compression.LARGE if accepts_gzip else 0)

    def _is_current(self, row: Resource) -> bool:
        """Return True while the registry has this row. The row of a custom type changes later than its definition."""
        return self._api.registry.find(row.group, row.version, row.plural) is row

    def _object(self, row: Resource, namespace: str, name: str) -> Respond | None:
        store = self._api.store
        if not self._is_current(row):
            return None
        obj = store.get(row.stored_as, namespace, name)
        if obj is None or store.weight(row.stored_as, namespace, name):
            return None
        return _answer(_encode(obj) + b"\n")

    def _list(self, row: Resource, namespace: str | None, limit: int, most: int) -> Respond | None:
        items = self._encoded.joined(row, namespace) if self._is_current(row) else None
        if items is None or 0 < limit < items.number or 0 < most < len(items.text):
            return None
        version = str(self._api.store.revision)
        head = {"kind": row.listed_as, "apiVersion": row.api_version, "metadata": {"resourceVersion": version}}
        return _answer(b"".join((_encode(head)[:-1], b',"items":[', items.text, b"]}\n")))


def _plain_limit(query: bytes | None) -> int | None:
    """Return the limit of a list, 0 without a limit. Return None when the query has other parameters.

    Informers begin with `?limit=500&resourceVersion=0`. Resource version 0 allows any state, such as the latest.
    """
    limit = 0
    for term in query.split(b"&", 3) if query else ():
        if term.startswith(b"limit=") and term[6:].isdigit() and len(term) < 16 and not limit:
            limit = int(term[6:])
        elif term != b"resourceVersion=0":
            return None
    return limit


def _has_format(row: Resource, fields: dict[bytes, bytes]) -> bool:
    """Return True when the client wants another format than compact JSON, or only formats that are not served."""
    if asks_for_layout(fields.get(b"user-agent", b"").decode("latin-1")):
        return True
    try:
        found = negotiate(fields.get(b"accept", b"").decode("latin-1"), protobuf=row.own_schema is None)
    except ApiError:
        return True
    return found.media_type != JSON or bool(found.as_)


def _answer(body: bytes) -> Respond:
    return Respond(200, [(b"content-type", b"application/json"), (b"cache-control", b"no-cache, private")], body)
