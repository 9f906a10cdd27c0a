"""Responses of Hatchway that differ on purpose from the recorded kube-apiserver 1.36, with reasons.

id -> (reason, changes as `replay.expected` takes them).
"""

from __future__ import annotations

from typing import Any

PREFIX = "/api/v1/namespaces/default/services/web-named:http/proxy"

NO_ENDPOINTS = "a Service without endpoints is not missing: its EndpointSlices tell, and there are none"
BAD_PATH = "no path may hold a NUL byte, whatever a backend would make of it; refused with a Status"
FRAGMENT = "RFC 9112 section 3.2: a request-target has no fragment; the engine refuses it"
HOP_BY_HOP = "RFC 9110 section 7.6.1: what Connection lists is for this hop only"
STALE = "bytes that nobody has asked for end an idle connection; the original took them for the next answer"


def asked(recording: dict[str, Any]) -> dict[str, Any]:
    """Return the recording with a request for Kubernetes' own rewriting."""
    return {**recording, "headers": {**(recording.get("headers") or {}), "X-Hatchway-Rewrite": "kubernetes"}}


# The fields of the backend's echo, which are not in a Status.
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

IN_PREFIX = "dot segments never leave the prefix, in X-Forwarded-Uri neither"
ESCAPES = "the path keeps its bytes; the original encodes some again"
COOKIES = "the paths of cookies are put under the prefix"
LOCATION = "a Location that is no URL for Go passes unchanged"

# With Kubernetes' rewriting only seven methods are accepted; otherwise all are forwarded, so nothing can be compared.
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
_BY_THEN = "how far the controllers are by then"
_NAMES = "the bindings have other names here"
REST_DELIBERATE: dict[str, tuple[str, dict[str, Any]]] = {
    "024": ("the version of this server", dict.fromkeys(_OWN_VERSION)),
    "055": (_EXTRA, {"metadata.remainingItemCount": None}),
    "061": (_EXTRA, {"body": None}),
    "182": (_BY_THEN, {"status": None, "metadata.annotations": None}),
    **{one: (_NAMES, {"status.reason": None}) for one in ("189", "191", "193", "195")},
    "196": ("which of two bindings that allow it is named is chance", {"status.reason": None}),
    "198": (
        "the recorded distribution lets every user read /.well-known, Kubernetes itself only service accounts; the order "
        "of the rules is that of the bindings",
        {"status.nonResourceRules": None},
    ),
    "199": ("the uid of a user is in the tokens file", {"status.user.uid": None}),
}
_HASHES = "revisions are named by another hash of the template: Kubernetes hashes the dump of a Go struct"
# The same for `whole.jsonl`.
WHOLE_DELIBERATE = {
    one: (_HASHES, {"status.currentRevision": None, "status.updateRevision": None}) for one in ("106", "107", "110")
} | {
    "036": (_BY_THEN, {"status": None, "metadata.annotations": None}),
    "462": (
        "no node reads how long it may keep ConfigMaps and Secrets (node.alpha.kubernetes.io/ttl)",
        {"metadata.annotations": None},
    ),
    "471": (
        "the recorded distribution lets every user read /.well-known, Kubernetes itself only service accounts",
        {"code": 403, "headers": None, "body": None},
    ),
    "477": (
        "a namespace is emptied at once, not five seconds later: what remains is told",
        {"status.conditions": None},
    ),
}

# Responses to writes while controllers work: how far these were, and so the statuses, is a matter of chance.
TIMING = {
    one: (_BY_THEN, {"status": None, "metadata.annotations": None}) for one in ("034", "035", "036", "038", "039")
}
