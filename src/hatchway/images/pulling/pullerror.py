"""Errors of a pull: the registry's own reason, in the words of containerd and Docker, and advice. Pure."""

from __future__ import annotations

import json
from typing import Any, Literal

from hatchway.errors import HatchwayError
from hatchway.printable import printable

# not-found: the registry does not have the image. denied: credentials are missing or refused. limited: too many
# requests. unreachable: no connection. unavailable: a temporary fault of the registry. invalid: the registry's data
# cannot be used. storage: a fault of this machine's disk. unsupported: Hatchway cannot run images of this form.
Kind = Literal["not-found", "denied", "limited", "unreachable", "unavailable", "invalid", "storage", "unsupported"]

_PASSING: frozenset[Kind] = frozenset({"limited", "unreachable", "unavailable", "storage"})
# The most errors and characters of a registry's answer that are shown.
_MOST_ERRORS = 3
_LONGEST = 400
_MESSAGES = {
    400: "Bad Request",
    401: "Unauthorized",
    403: "Forbidden",
    404: "Not Found",
    405: "Method Not Allowed",
    408: "Request Timeout",
    410: "Gone",
    416: "Requested Range Not Satisfiable",
    429: "Too Many Requests",
    500: "Internal Server Error",
    502: "Bad Gateway",
    503: "Service Unavailable",
    504: "Gateway Timeout",
}


class PullError(HatchwayError):
    """An image cannot be pulled.

    message: begins with the failed operation, in containerd's words. reason: the last part of the message: the reason
    that the registry or the system reported. kind: the kind of failure. of_mirrors: for each mirror of the registry,
    why it did not serve the image. The hint contains these texts, too.
    """

    def __init__(self, kind: Kind, reason: str, hint: str = "", *, doing: str = "") -> None:
        super().__init__(f"{doing}: {reason}" if doing else reason, hint)
        self.kind = kind
        self.reason = reason
        self.of_mirrors: tuple[str, ...] = ()
        self.passing = self.retryable

    @property
    def retryable(self) -> bool:
        """Return True when the same pull may succeed later without any change. The kubelet retries in any case."""
        return self.kind in _PASSING

    def while_doing(self, doing: str) -> PullError:
        """Return the error with `doing` in front of its message."""
        if self.message != self.reason:
            return self
        return PullError(self.kind, self.reason, self.hint, doing=doing)


def explain_body(status: int, body: bytes) -> str:
    """Return a registry's reason in words; "" when its answer has none.

    The forms are the distribution specification's list of errors (worded as Docker does: `denied: requested access to
    the resource is denied`), OAuth 2's errors, and errors of token servers (`{"details": ...}`).
    """
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        return _plain(body)
    if not isinstance(found, dict):
        return ""
    errors = found.get("errors")
    if isinstance(errors, list):
        texts = [_one(error) for error in errors[:_MOST_ERRORS] if isinstance(error, dict)]
        return _shown("; ".join(text for text in texts if text))
    words = [
        found[key] for key in ("error", "error_description", "details", "message") if isinstance(found.get(key), str)
    ]
    return _shown(": ".join(dict.fromkeys(word for word in words if word)))


def _one(error: dict[str, Any]) -> str:
    """Return one error's text as distribution's `errcode.Error` formats it, with the detail if that is a string."""
    code, message, detail = error.get("code"), error.get("message"), error.get("detail")
    name = code.lower().replace("_", " ") if isinstance(code, str) and code != "UNKNOWN" else ""
    parts = [name, message if isinstance(message, str) else "", detail if isinstance(detail, str) else ""]
    if isinstance(detail, dict) and isinstance(detail.get("Tag"), str):
        parts.append(f"tag {detail['Tag']}")
    return ": ".join(dict.fromkeys(part for part in parts if part))


def _plain(body: bytes) -> str:
    text = " ".join(body[:_LONGEST].decode(errors="replace").split())
    # HTML pages of proxies and load balancers contain no more information than the status.
    return "" if text.startswith("<") else _shown(text)


def _shown(text: str) -> str:
    return printable(" ".join(text.split()), _LONGEST)


def status_text(status: int) -> str:
    """Return a status with its name: `404 Not Found`."""
    return f"{status} {_MESSAGES[status]}" if status in _MESSAGES else str(status)


def refusal(status: int, body: bytes, what: str, registry: str, *, with_credentials: bool) -> PullError:
    """Return the error for a registry's answer with an error status.

    Args:
        status: the answer's status, 300 and above.
        body: the beginning of the answer's body.
        what: what was requested, such as `docker.io/library/nginx:1.27`, for messages.
        registry: the registry's name, for advice.
        with_credentials: True when credentials were sent.
    """
    said = explain_body(status, body)
    if status in (404, 410):
        # A registry may answer 404 to hide which private repositories exist.
        hint = f"check its name and tag; if it is private: {log_in(registry)}"
        return PullError("not-found", f"{what}: not found" + (f": {said}" if said else ""), hint)
    if status in (401, 403):
        return denied(said or status_text(status), registry, with_credentials=with_credentials)
    if status == 429:
        reason = said if said.startswith("toomanyrequests") else f"toomanyrequests: {said or status_text(status)}"
        return PullError("limited", reason, f"try again later, or {log_in(registry)}: users may pull more")
    kind: Kind = "unavailable" if status >= 500 or status == 408 else "invalid"
    return PullError(kind, f"unexpected status code {status_text(status)}" + (f": {said}" if said else ""))


def denied(said: str, registry: str, *, with_credentials: bool) -> PullError:
    """Return the error for credentials that are missing or refused. said: the reason that the server sent."""
    reason = f"pull access denied, repository does not exist or may require authorization: server message: {said}"
    if with_credentials:
        hint = f"the credentials that were sent are not accepted: {log_in(registry)} again; and check the image's name"
    else:
        hint = f"check the image's name; if it is private: {log_in(registry)}"
    return PullError("denied", reason, hint)


def log_in(registry: str) -> str:
    """Return the advice to log in to a registry."""
    target = "" if registry == "docker.io" else f" {registry}"
    return f"log in with `docker login{target}` or `podman login {registry}`"
