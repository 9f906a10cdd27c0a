"""An API server with recorded objects, which can be used like `kube.restclient.RestClient`."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterable
from urllib.parse import parse_qs, urlsplit

import msgspec

from hatchway.errors import ApiError
from hatchway.kube.api import Object
from hatchway.kube.restclient import RestClient

_PLURALS = {"NetworkPolicy": "networkpolicies", "Ingress": "ingresses", "IngressClass": "ingressclasses"}


def collection_of(obj: Object) -> str:
    """Return the path of a collection over all namespaces, such as /api/v1/pods."""
    kind, version = obj["kind"], obj["apiVersion"]
    plural = _PLURALS.get(kind, f"{kind.lower()}s")
    return f"/{'apis' if '/' in version else 'api'}/{version}/{plural}"


class RecordedServer(RestClient):
    """Serves lists page by page, and single objects.

    refused: the paths of lists that are answered by 403. page: the number of objects on a page. forgets: the number of
    continue tokens that are answered by 410.
    """

    def __init__(
        self, objects: Iterable[Object], *, refused: Iterable[str] = (), page: int = 3, forgets: int = 0
    ) -> None:
        self.collections: dict[str, list[Object]] = {}
        for obj in objects:
            self.collections.setdefault(collection_of(obj), []).append(obj)
        # A kind without recorded objects exists, too: its list is empty.
        for path in ("/api/v1/pods", "/api/v1/services", "/api/v1/nodes", "/api/v1/namespaces"):
            self.collections.setdefault(path, [])
        self.refused = set(refused)
        self.page = page
        self.forgets = forgets
        self.requests: list[str] = []

    async def exchange(
        self, method: str, path: str, body: bytes | None = None, content_type: str = "application/json"
    ) -> tuple[int, bytes]:
        assert method == "GET"
        self.requests.append(path)
        parts = urlsplit(path)
        query = {key: values[0] for key, values in parse_qs(parts.query).items()}
        if parts.path in self.refused:
            return _status(403, "Forbidden")
        before, _, after = parts.path.partition("/namespaces/")
        namespace, _, rest = after.partition("/")
        name = ""
        if rest:
            plural, _, name = rest.partition("/")
            parts_path = f"{before}/{plural}"
        else:
            parts_path, namespace, name = parts.path, "", after
            if after:
                parts_path = f"{before}/namespaces"
        if parts_path not in self.collections:
            return _status(404, "NotFound")
        found = [one for one in self.collections[parts_path] if namespace in ("", one["metadata"].get("namespace"))]
        if name:
            one = next((one for one in found if one["metadata"]["name"] == name), None)
            return (200, msgspec.json.encode(one)) if one else _status(404, "NotFound")
        begin = int(query.get("continue", 0))
        if begin and self.forgets:
            self.forgets -= 1
            return _status(410, "Expired")
        end = begin + self.page
        metadata = {"resourceVersion": "1", **({"continue": str(end)} if end < len(found) else {})}
        return 200, msgspec.json.encode({"kind": "List", "metadata": metadata, "items": found[begin:end]})

    def lines(self, path: str) -> AsyncGenerator[bytes, None]:
        raise ApiError(405, "MethodNotAllowed", "no watches")


def _status(code: int, reason: str) -> tuple[int, bytes]:
    return code, msgspec.json.encode({"kind": "Status", "code": code, "reason": reason, "message": reason.lower()})
