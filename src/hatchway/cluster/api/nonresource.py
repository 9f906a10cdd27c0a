"""Paths that name no resource: health, version, discovery, OpenAPI, and the list of them all.

From `apiserver/pkg/server/routes` and `mux/pathrecorder.go`.
"""

from __future__ import annotations

import platform
from collections.abc import Callable, Mapping

import msgspec

from hatchway.cluster.api.discovery import Discovery
from hatchway.cluster.api.documents import Document
from hatchway.cluster.api.health import Answer, Health
from hatchway.cluster.api.negotiation import JSON, View, encode, negotiate
from hatchway.cluster.api.openapi import OpenAPI
from hatchway.cluster.api.options import Query
from hatchway.cluster.api.registry import Registry
from hatchway.cluster.release import GIT_VERSION, KUBERNETES_MAJOR, KUBERNETES_MINOR
from hatchway.errors import no_such_path

PAGE_NOT_FOUND = Answer(
    404,
    [
        (b"content-type", b"text/plain; charset=utf-8"),
        (b"x-content-type-options", b"nosniff"),
        (b"cache-control", b"no-cache, private"),
    ],
    b"404 page not found\n",
)


def version() -> dict[str, str]:
    """`/version`: apimachinery's version.Info."""
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
    """Answers every path that names no resource. server_address: host:port that `/api` names to clients.

    documents: further paths and what they hold, made when they are asked for (the service-account issuer's keys,
    metrics). Only JSON documents are shown in other ways than their own.
    """

    def __init__(
        self,
        registry: Registry,
        health: Health,
        *,
        server_address: str = "",
        documents: Mapping[str, Callable[[], Document]] | None = None,
    ) -> None:
        self._discovery = Discovery(registry.rows, server_address)
        self._openapi = OpenAPI(registry.rows, GIT_VERSION)
        self._health = health
        self._documents = dict(documents or {})
        groups = dict.fromkeys((row.group, row.version) for row in registry.rows)
        self._rest_roots = (
            "/api",
            *dict.fromkeys(f"/apis/{group}" for group, _ in groups if group),
            "/version",
            "/.well-known/openid-configuration",
            "/openid/v1/jwks",
        )
        self._paths = sorted(
            {
                "/api",
                "/api/v1",
                "/apis",
                *(path for group, one in groups if group for path in (f"/apis/{group}", f"/apis/{group}/{one}")),
                *health.paths(),
                "/openapi/v2",
                "/openapi/v3",
                "/version",
                *self._documents,
            }
        )

    def is_rest(self, path: str) -> bool:
        """Whether a path belongs to what is routed as REST is, so that errors about it are Statuses and only GET is allowed.

        Everything else is a plain page (apiserver's `server/handler.go`: what the go-restful container claims).
        """
        return any(path == root or path.startswith(f"{root}/") for root in self._rest_roots)

    def answer(self, path: str, query: Query, accept: str, if_none_match: str, *, pretty: bool) -> Answer:
        """The answer to a GET. Raises ApiError 404 and 406."""
        healthy = self._health.answer(path, query)
        if healthy is not None:
            return healthy
        if path.rstrip("/") == "/version":
            return _plain(200, version(), View(pretty=True))
        document = self._document(path, accept)
        if document is None:
            if path in ("/", "/index.html"):
                return _plain(200, {"paths": self._paths}, View(pretty=True))
            if self.is_rest(path):
                raise no_such_path()
            return PAGE_NOT_FOUND
        headers = document.headers()
        if document.etag and document.etag in if_none_match:
            return Answer(304, headers, b"")
        if document.content_type != JSON:
            return Answer(200, headers, document.body)
        view = negotiate(accept) if "as=" not in accept else View()
        if pretty or view.media_type != View().media_type:
            return _shown(document, View(view.media_type, "", pretty))
        return Answer(200, headers, document.body)

    def _document(self, path: str, accept: str) -> Document | None:
        if path in self._documents:
            return self._documents[path]()
        if path == "/openapi/v2":
            return self._openapi.v2(accept)
        if path.rstrip("/") == "/openapi/v3":
            return self._openapi.index()
        if path.startswith("/openapi/v3/"):
            return self._openapi.v3(path.removeprefix("/openapi/v3/"))
        return self._discovery.document(path, accept)


def _plain(status: int, value: object, view: View) -> Answer:
    headers = [(b"content-type", view.media_type.encode()), (b"cache-control", b"no-cache, private")]
    return Answer(status, headers, encode(value, view))


def _shown(document: Document, view: View) -> Answer:
    return _plain(200, msgspec.json.decode(document.body), view)
