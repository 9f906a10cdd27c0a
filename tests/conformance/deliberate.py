"""Where Hatchway's proxy verb answers otherwise than the recorded kube-apiserver 1.20, and why.

id -> (reason, changes as `replay.expected` takes them).
"""

from __future__ import annotations

from typing import Any

PREFIX = "/api/v1/namespaces/default/services/web-named:http/proxy"

UNREACHABLE = "newer API servers answer 503 ServiceUnavailable where 1.20 answered 500 without a reason"
NO_ENDPOINTS = "read through EndpointSlices, a Service without any has no endpoints; it is not missing"
IN_PREFIX = "dot segments never leave the prefix, in X-Forwarded-Uri neither"
ESCAPES = "the path keeps its bytes; the original encodes some again"
BAD_PATH = "a malformed path is refused at once, with a Status"
FRAGMENT = "RFC 9112 section 3.2: a request-target has no fragment; the engine refuses it"
HOP_BY_HOP = "RFC 9110 section 7.6.1: what Connection lists is for this hop only"


# Met when Kubernetes' own rewriting is asked for: a method beyond the seven is forwarded otherwise, and the paths of
# cookies are put under the prefix.
BY_REQUEST = ("091", "147")


def asked(recording: dict[str, Any]) -> dict[str, Any]:
    """The recording as it is sent."""
    if recording["id"] not in BY_REQUEST:
        return recording
    return {**recording, "headers": {**(recording.get("headers") or {}), "X-Hatchway-Rewrite": "kubernetes"}}


# The fields of the backend's echo, which a Status has not.
_ECHO = ("backend", "tls", "method", "path", "client", "headers", "body")


def _unreachable(**more: str) -> tuple[str, dict[str, Any]]:
    return UNREACHABLE, {"Status": {"code": 503, "reason": "ServiceUnavailable", **more}}


def _any_failure() -> tuple[str, dict[str, Any]]:
    return _unreachable(message="error trying to reach service: ...")


def _no_endpoints(name: str) -> tuple[str, dict[str, Any]]:
    message = f'no endpoints available for service "{name}"'
    return NO_ENDPOINTS, {
        "Status": {"code": 503, "reason": "ServiceUnavailable", "message": message, "details": None},
    }


def _bad_path() -> tuple[str, dict[str, Any]]:
    status = {"code": 400, "reason": "BadRequest", "message": "the path of the request ..."}
    return BAD_PATH, {
        "Status": status,
        "headers": {"Content-Type": "application/json", "Cache-Control": "no-cache, private"},
    }


DELIBERATE: dict[str, tuple[str, dict[str, Any]]] = {
    **{one: _any_failure() for one in ("012", "023", "026", "027", "031", "032", "153", "246")},
    **{one: _unreachable() for one in ("043", "044", "247", "251", "253")},
    "039": _no_endpoints("web-empty"),
    "040": _no_endpoints("web-empty:http"),
    "045": _no_endpoints("web-external"),
    "046": _no_endpoints("web-external:http"),
    "062": (IN_PREFIX, {"echo_headers": {"X-Forwarded-Uri": f"{PREFIX}/secrets"}}),
    "068": _bad_path(),
    "069": _bad_path(),
    "079": (
        FRAGMENT,
        {
            "Status": {"code": 400, "reason": "BadRequest", "message": "..."} | dict.fromkeys(_ECHO),
            "headers": {"X-Backend": None, "Cache-Control": None},
        },
    ),
    "080": (ESCAPES, {"echo": {"path": "/echo/~!$&'()*,=@:x"}}),
    "106": (HOP_BY_HOP, {"echo_headers": {"X-Custom": None}}),
}


# Where Hatchway's REST API answers otherwise than the recorded Kubernetes 1.36: id -> (reason, changes as
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
# The same of `objects.jsonl`.
OBJECTS_DELIBERATE: dict[str, tuple[str, dict[str, Any]]] = {
    one: (_BY_THEN, {"status": None, "metadata.annotations": None})
    for one in ("117", "118", "120", "128", "129", "132")
}
