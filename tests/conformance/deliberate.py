"""Responses of Hatchway that differ on purpose from the recorded kube-apiserver 1.36, with reasons.

Each table maps the id of a recording to (reason, changes for `replay.expected`).
"""

from __future__ import annotations

from typing import Any

PREFIX = "/api/v1/namespaces/default/services/web-named:http/proxy"

NO_ENDPOINTS = "a Service without endpoints exists: Hatchway reads its EndpointSlices, which have no endpoints"
BAD_PATH = "a path with a NUL byte is refused with a Status, even if the backend would accept it"
FRAGMENT = "RFC 9112 section 3.2: a request-target has no fragment; the engine refuses it"
HOP_BY_HOP = "RFC 9110 section 7.6.1: the fields that Connection lists are for this hop only"
STALE = "bytes without a request end an idle connection; kube-apiserver took them for the next response"


def asked(recording: dict[str, Any]) -> dict[str, Any]:
    """Return the recording with the header field that selects Kubernetes' own rewriting."""
    return {**recording, "headers": {**(recording.get("headers") or {}), "X-Hatchway-Rewrite": "kubernetes"}}


# The fields of the backend's echo; a Status has none of them.
_ECHO = ("backend", "tls", "method", "path", "client", "headers", "body")


def _no_endpoints(name: str) -> tuple[str, dict[str, Any]]:
    message = f'no endpoints available for service "{name}"'
    return NO_ENDPOINTS, {
        "Status": {"code": 503, "reason": "ServiceUnavailable", "message": message, "details": None},
    }


def _refused(reason: str, **headers: str | None) -> tuple[str, dict[str, Any]]:
    status = {"code": 400, "reason": "BadRequest", "message": "..."}
    return reason, {
        "Status": status | dict.fromkeys(_ECHO),
        "headers": {"X-Backend": None, **headers},
    }


# With Kubernetes' own rewriting.
DELIBERATE: dict[str, tuple[str, dict[str, Any]]] = {
    "039": _no_endpoints("web-empty"),
    "040": _no_endpoints("web-empty:http"),
    "045": _no_endpoints("web-external"),
    "046": _no_endpoints("web-external:http"),
    "068": _refused(BAD_PATH),
    "079": _refused(FRAGMENT, **{"Cache-Control": None}),
    "106": (HOP_BY_HOP, {"echo_headers": {"X-Custom": None}}),
    "127": (STALE, {"status": 400, "body": "status 400\n", "headers": {"Content-Type": "text/plain"}}),
}

IN_PREFIX = "dot segments never leave the prefix, even in X-Forwarded-Uri"
ESCAPES = "the path keeps its bytes; kube-apiserver encodes some of them anew"
COOKIES = "the paths of cookies are put under the prefix"
LOCATION = "a Location that Go cannot parse as a URL is not changed"

# With Kubernetes' rewriting, Hatchway accepts only the seven methods that kube-apiserver accepts. With its default
# rewriting, it forwards all methods, so it cannot be compared.
ONLY_KUBERNETES = {"091"}
# Additional differences with Hatchway's default rewriting.
FULL: dict[str, tuple[str, dict[str, Any]]] = {
    "062": (IN_PREFIX, {"echo_headers": {"X-Forwarded-Uri": f"{PREFIX}/secrets"}}),
    "080": (
        ESCAPES,
        {
            "echo": {"path": "/echo/~!$&'()*,=@:x"},
            "echo_headers": {"X-Forwarded-Uri": f"{PREFIX}/echo/~!$&'()*,=@:x"},
        },
    ),
    "145": (LOCATION, {"status": 302, "body": "", "headers": {"Content-Type": None, "Location": "::bad"}}),
    "147": (
        COOKIES,
        {"headers": {"Set-Cookie": [f"a=1; Path={PREFIX}", f"b=2; Path={PREFIX}/x; HttpOnly"]}},
    ),
}


# Differences of Hatchway's REST API from the recorded Kubernetes 1.36: id -> (reason, changes as
# `rest.compare` takes them).
_OWN_VERSION = ("gitVersion", "gitCommit", "goVersion", "compiler", "minor", "emulationMinor", "minCompatibilityMinor")
_EXTRA = "the recorded distribution puts another ConfigMap into each namespace"
_BY_THEN = "the status depends on how far the controllers have got at that time"
_NAMES = "Hatchway's bindings have other names"
REST_DELIBERATE: dict[str, tuple[str, dict[str, Any]]] = {
    "024": ("the version of this server", dict.fromkeys(_OWN_VERSION)),
    "055": (_EXTRA, {"metadata.remainingItemCount": None}),
    "061": (_EXTRA, {"body": None}),
    "182": (_BY_THEN, {"status": None, "metadata.annotations": None}),
    **{one: (_NAMES, {"status.reason": None}) for one in ("189", "191", "193", "195")},
    "196": ("two bindings allow the request; Kubernetes names either of them", {"status.reason": None}),
    "198": (
        "the recorded distribution lets every user read /.well-known, Kubernetes itself only service accounts; the order "
        "of the rules is that of the bindings",
        {"status.nonResourceRules": None},
    ),
    "199": ("the user's uid comes from the tokens file, which differs", {"status.user.uid": None}),
}
_HASHES = "the names of revisions contain another hash of the template: Kubernetes hashes the dump of a Go struct"
# Differences from the recordings of `whole.jsonl`.
WHOLE_DELIBERATE = {
    one: (_HASHES, {"status.currentRevision": None, "status.updateRevision": None}) for one in ("106", "107", "110")
} | {
    "036": (_BY_THEN, {"status": None, "metadata.annotations": None}),
    "462": (
        "Hatchway's nodes do not use the annotation node.alpha.kubernetes.io/ttl, so it is not set",
        {"metadata.annotations": None},
    ),
    "471": (
        "the recorded distribution lets every user read /.well-known, Kubernetes itself only service accounts",
        {"code": 403, "headers": None, "body": None},
    ),
    "477": (
        "a namespace is emptied at once, not five seconds later, so its conditions report other remaining objects",
        {"status.conditions": None},
    ),
}

# Responses to writes while controllers work. Their statuses depend on chance: on how far the controllers have got.
TIMING = {
    one: (_BY_THEN, {"status": None, "metadata.annotations": None}) for one in ("034", "035", "036", "038", "039")
}
