"""Answers paths without a resource: health, version, discovery, OpenAPI, and the list of all paths.

Sources: `apiserver/pkg/server/routes` and `mux/pathrecorder.go`.
"""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterable, Mapping

import msgspec

from hatchway.cluster.api.describe.discovery import Discovery
from hatchway.cluster.api.describe.documents import ServedDocument
from hatchway.cluster.api.describe.openapi import OpenAPI
from hatchway.cluster.api.describe.remoteversions import RemoteVersion
from hatchway.cluster.api.http.health import Health, PlainAnswer
from hatchway.cluster.api.http.negotiation import JSON, AnswerFormat, encode, negotiate
from hatchway.cluster.api.operations.requestoptions import QueryParameters
from hatchway.cluster.api.registry.types import Registry
from hatchway.cluster.release import GIT_VERSION, KUBERNETES_MAJOR, KUBERNETES_MINOR
from hatchway.errors import no_such_path

PAGE_NOT_FOUND = PlainAnswer(
    404,
    [
        (b"content-type", b"text/plain; charset=utf-8"),
        (b"x-content-type-options", b"nosniff"),
        (b"cache-control", b"no-cache, private"),
    ],
    b"404 page not found\n",
)


def version() -> dict[str, str]:
    """Return the answer of `/version` (apimachinery's version.Info)."""
    return {
        "major": KUBERNETES_MAJOR,
        "minor": KUBERNETES_MINOR,
        "emulationMajor": KUBERNETES_MAJOR,
        "emulationMinor": KUBERNETES_MINOR,
        "minCompatibilityMajor": KUBERNETES_MAJOR,
        "minCompatibilityMinor": str(int(KUBERNETES_MINOR) - 1),
        "gitVersion": GIT_VERSION,
        "gitCommit": "",
        "gitTreeState": "",
        "buildDate": "1970-01-01T00:00:00Z",
        "goVersion": "",
        "compiler": platform.python_implementation(),
        "platform": f"{platform.system().lower()}/{_architecture()}",
    }


def _architecture() -> str:
    machine = platform.machine().lower()
    return {"x86_64": "amd64", "aarch64": "arm64"}.get(machine, machine)


class NonResource:
    """Answers every path without a resource.

    server_address: the `host:port` in the answer of `/api`.
    documents: functions that make the documents at further paths (the service-account issuer's keys, metrics). JSON
        documents are also available in other media types.
    """

    def __init__(
        self,
        registry: Registry,
        health: Health,
        *,
        server_address: str = "",
        documents: Mapping[str, Callable[[], ServedDocument]] | None = None,
    ) -> None:
        self._discovery = Discovery(registry.rows, server_address)
        self._openapi = OpenAPI(registry.rows, GIT_VERSION)
        self._health = health
        self._documents = dict(documents or {})
        self._registry = registry
        self._remote_roots: tuple[str, ...] = ()
        self._remote_paths: set[str] = set()
        self._rest_roots: tuple[str, ...] = ()
        self._paths: frozenset[str] = frozenset()
        self._list_paths()
        registry.subscribe(self._rows_changed)

    def _rows_changed(self) -> None:
        self._discovery.set_rows(self._registry.rows)
        self._openapi.set_rows(self._registry.rows)
        self._list_paths()

    def _list_paths(self) -> None:
        groups = dict.fromkeys((row.group, row.version) for row in self._registry.rows)
        self._rest_roots = (
            "/api",
            *dict.fromkeys(f"/apis/{group}" for group, _ in groups if group),
            "/version",
            "/.well-known/openid-configuration",
            "/openid/v1/jwks",
        )
        self._paths = frozenset(
            {
                "/api",
                "/api/v1",
                "/apis",
                *(path for group, one in groups if group for path in (f"/apis/{group}", f"/apis/{group}/{one}")),
                *self._health.paths(),
                "/openapi/v2",
                "/openapi/v3",
                "/version",
                *self._documents,
            }
        )

    def is_rest(self, path: str) -> bool:
        """Return True for a path that answers errors with a Status and allows only GET, like REST paths.

        All other paths answer errors with plain text. (In apiserver's `server/handler.go`, these other paths are
        not served by the go-restful container.)
        """
        roots = (*self._rest_roots, *self._remote_roots)
        return any(path == root or path.startswith(f"{root}/") for root in roots)

    def set_remote(self, versions: Iterable[RemoteVersion]) -> None:
        """Replace the API group versions of other servers in discovery and in the index of OpenAPI."""
        found = tuple(versions)
        self._discovery.set_remote(found)
        self._openapi.set_remote(found)
        self._remote_roots = tuple(dict.fromkeys(f"/apis/{one.group}" for one in found))
        self._remote_paths = {
            path for one in found for path in (f"/apis/{one.group}", f"/apis/{one.group}/{one.version}")
        }

    def answer(
        self, path: str, query: QueryParameters, accept: str, if_none_match: str, *, pretty: bool
    ) -> PlainAnswer:
        """Return the answer to a GET. Raises ApiError 404 and 406."""
        healthy = self._health.answer(path, query)
        if healthy is not None:
            return healthy
        if path.rstrip("/") == "/version":
            return _plain(200, version(), AnswerFormat(pretty=True))
        document = self._document(path, accept)
        if document is None:
            if path in ("/", "/index.html"):
                return _plain(200, {"paths": sorted(self._paths | self._remote_paths)}, AnswerFormat(pretty=True))
            if self.is_rest(path):
                raise no_such_path()
            return PAGE_NOT_FOUND
        headers = document.headers()
        if document.etag and document.etag in if_none_match:
            return PlainAnswer(304, headers, b"")
        if document.content_type != JSON:
            return PlainAnswer(200, headers, document.body)
        view = negotiate(accept) if "as=" not in accept else AnswerFormat()
        if pretty or view.media_type != AnswerFormat().media_type:
            return _shown(document, AnswerFormat(view.media_type, "", pretty))
        return PlainAnswer(200, headers, document.body)

    def _document(self, path: str, accept: str) -> ServedDocument | None:
        if path in self._documents:
            return self._documents[path]()
        if path == "/openapi/v2":
            return self._openapi.v2(accept)
        if path.rstrip("/") == "/openapi/v3":
            return self._openapi.index()
        if path.startswith("/openapi/v3/"):
            return self._openapi.v3(path.removeprefix("/openapi/v3/"))
        return self._discovery.document(path, accept)


def _plain(status: int, value: object, view: AnswerFormat) -> PlainAnswer:
    headers = [(b"content-type", view.media_type.encode()), (b"cache-control", b"no-cache, private")]
    return PlainAnswer(status, headers, encode(value, view))


def _shown(document: ServedDocument, view: AnswerFormat) -> PlainAnswer:
    return _plain(200, msgspec.json.decode(document.body), view)
