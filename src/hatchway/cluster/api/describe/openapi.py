"""OpenAPI v3 (`/openapi/v3`, one document for each group version) and v2 (`/openapi/v2`), from the registry's rows.

kubectl reads three things in them: whether PATCH has the parameter `fieldValidation` (then the server validates), the
schema of a kind (`explain`), and merge keys (`apply`). Documents are made at first use and cached as bytes.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from typing import Any

import hatchway
from hatchway.cluster.api.describe.discovery import by_group_version
from hatchway.cluster.api.describe.documents import ServedDocument
from hatchway.cluster.api.describe.openapi_paths import group_version_path, openapi_paths
from hatchway.cluster.api.describe.openapi_protobuf import CONTENT_TYPE, encode_v2, wants_protobuf
from hatchway.cluster.api.describe.openapi_schemas import V2_REFERENCES, V3_REFERENCES, openapi_schemas
from hatchway.cluster.api.describe.remoteversions import RemoteDocument, RemoteVersion, add_document
from hatchway.cluster.api.registry.resource import Resource
from hatchway.cluster.api.registry.schema.table import load

__all__ = ["OpenAPI"]

Json = dict[str, Any]


class OpenAPI:
    """The documents for the registry's rows, and the index, which also lists the documents of remote versions.

    The API server forwards requests for remote documents.

    version: the value of `info.version`, which is also the version in `/version`.
    """

    def __init__(self, rows: Iterable[Resource], version: str = "v1.37.0") -> None:
        self._rows = by_group_version(rows)
        self._version = version
        self._documents: dict[str, ServedDocument] = {}
        self._known: dict[str, str] = {}
        self._remote: tuple[RemoteDocument, ...] = ()
        self._hash = hashlib.sha256(f"{hatchway.__version__} {version}".encode())
        for message in load().definitions.values():
            self._hash.update(repr((message.name, message.own, message.inline)).encode())

    def set_rows(self, rows: Iterable[Resource]) -> None:
        """Replace the rows. Cached documents of versions with the same rows as before are kept."""
        before, self._rows = self._rows, by_group_version(rows)
        for gv, found in before.items():
            if self._rows.get(gv) != found:
                self._documents.pop("v3/" + group_version_path(gv), None)
        for key in ("v3", "v2", "v2.pb"):
            self._documents.pop(key, None)

    def set_remote(self, versions: Iterable[RemoteVersion]) -> None:
        """Replace the versions that other servers serve."""
        found = list(versions)
        self._known = {group_version_path((one.group, one.version)): one.openapi for one in found if one.openapi}
        self._documents.pop("v3", None)
        documents = tuple(one.document for one in found if one.document is not None)
        if documents != self._remote:
            self._remote = documents
            self._documents.pop("v2", None)
            self._documents.pop("v2.pb", None)

    def index(self) -> ServedDocument:
        """Return `/openapi/v3`: the URL of each document, with a hash of its contents. No document is made for this."""
        paths = {
            group_version_path(gv): {
                "serverRelativeURL": f"/openapi/v3/{group_version_path(gv)}?hash={self._hash_of(gv)}"
            }
            for gv in self._rows
        }
        # An APIService has precedence over a CustomResourceDefinition of the same group and version.
        remote = {path: {"serverRelativeURL": url} for path, url in self._known.items()}
        return self._keep("v3", lambda: {"paths": {**paths, **remote}})

    def v3(self, path: str) -> ServedDocument | None:
        """Return `/openapi/v3/PATH`; None for a path other than `api/v1` and `apis/GROUP/VERSION`."""
        for gv, rows in self._rows.items():
            if path.strip("/") == group_version_path(gv):
                return self._keep("v3/" + group_version_path(gv), lambda gv=gv, rows=rows: self._document_v3(gv, rows))
        return None

    def v2(self, accept: str = "") -> ServedDocument:
        """Return `/openapi/v2` with all group versions, as JSON, or as gnostic's protobuf for older kubectls."""
        if not wants_protobuf(accept):
            return self._keep("v2", self._document_v2)
        if "v2.pb" not in self._documents:
            self._documents["v2.pb"] = ServedDocument.of_bytes(encode_v2(self._document_v2()), CONTENT_TYPE)
        return self._documents["v2.pb"]

    def _keep(self, key: str, make: Any) -> ServedDocument:
        if key not in self._documents:
            self._documents[key] = ServedDocument.of(make())
        return self._documents[key]

    def _hash_of(self, gv: tuple[str, str]) -> str:
        digest = self._hash.copy()
        for row in self._rows[gv]:
            subs = [(sub.name, sub.verbs, sub.kind) for sub in row.subresources]
            digest.update(repr((row.plural, row.kind, row.namespaced, row.verbs, subs)).encode())
            if row.own_schema is not None:
                shown = [row.own_schema.source, row.own_schema.selectable, row.listed_as]
                digest.update(json.dumps(shown, sort_keys=True).encode())
        return digest.hexdigest().upper()

    def _document_v3(self, gv: tuple[str, str], rows: list[Resource]) -> Json:
        return {
            "openapi": "3.0.0",
            "info": {"title": "Kubernetes", "version": self._version},
            "paths": openapi_paths(gv, rows, V3_REFERENCES),
            "components": {"schemas": openapi_schemas(rows, V3_REFERENCES)},
        }

    def _document_v2(self) -> Json:
        paths: Json = {}
        for gv, rows in self._rows.items():
            paths.update(openapi_paths(gv, rows, V2_REFERENCES))
        definitions = openapi_schemas([row for rows in self._rows.values() for row in rows], V2_REFERENCES)
        for document in self._remote:
            add_document(paths, definitions, document)
        return {
            "swagger": "2.0",
            "info": {"title": "Kubernetes", "version": self._version},
            "paths": paths,
            "definitions": definitions,
        }
