"""Errors for people and programs, in one form.

Every error Hatchway reports to a person or a client is a `HatchwayError`. The subclass `ApiError` is also a
Kubernetes `Status` (https://kubernetes.io/docs/reference/kubernetes-api/common-definitions/status/), with the
reasons and messages that apimachinery's `pkg/api/errors/errors.go` uses. The API server sends the error as `Status`
JSON, the command line prints `message` and `hint`, and a browser gets a readable page.

Pure: no sockets, no clocks, no asyncio.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

# How many causes an error names at most.
_MAX_CAUSES = 100
# How many characters of one cause are shown.
_MAX_SHOWN = 8192


class HatchwayError(Exception):
    """An error for people.

    message: what was tried, on what, and what happened; one line without a final full stop.
    hint: what to do next, one sentence; "" when there is nothing to add.
    passing: True when another attempt may succeed later (the cluster cannot be reached now).
    """

    passing = False

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


@dataclass(frozen=True, slots=True)
class Cause:
    """One entry of `Status.details.causes` (metav1.StatusCause)."""

    reason: str
    message: str
    field: str = ""

    def shortened(self) -> Cause:
        """Return the cause with a long message or field cut off at `_MAX_SHOWN` characters."""
        if len(self.message) + len(self.field) <= _MAX_SHOWN:
            return self
        message = self.message if len(self.message) <= _MAX_SHOWN else f"{self.message[:_MAX_SHOWN]}..."
        return Cause(
            self.reason, message, self.field if len(self.field) <= _MAX_SHOWN else f"{self.field[:_MAX_SHOWN]}..."
        )

    def as_dict(self) -> dict[str, str]:
        """Return the cause as `Status.details.causes` holds it."""
        out = {"reason": self.reason, "message": self.message}
        if self.field:
            out["field"] = self.field
        return out


class ApiError(HatchwayError):
    """An error with a Kubernetes `Status`: `code` is the HTTP status, `reason` a metav1.StatusReason ("" for none).

    details: `Status.details` (`name`, `group`, `kind`, `uid`, `causes`, `retryAfterSeconds`), or None.
    """

    def __init__(
        self,
        code: int,
        reason: str,
        message: str,
        details: dict[str, Any] | None = None,
        hint: str = "",
    ) -> None:
        super().__init__(message, hint)
        self.code = code
        self.reason = reason
        self.details = details

    def status(self) -> dict[str, Any]:
        """Return the `Status` object, ready to be encoded as JSON."""
        out: dict[str, Any] = {
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "message": self.message,
        }
        if self.reason:
            out["reason"] = self.reason
        if self.details is not None:
            out["details"] = self.details
        out["code"] = self.code
        return out

    def headers(self) -> list[tuple[bytes, bytes]]:
        """Return the header fields that this error adds to its answer (`Retry-After`)."""
        seconds = (self.details or {}).get("retryAfterSeconds")
        return [(b"retry-after", str(seconds).encode())] if seconds else []


class NoCredentials(ApiError):
    """No request was sent to the API server, because its client got no credentials for it.

    A credential plugin has failed, for example. The status is 401, so that callers do not retry the request.
    """

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(401, "Unauthorized", message, hint=hint)


def _qualified(resource: str, group: str) -> str:
    return f"{resource}.{group}" if group else resource


def _details(name: str = "", group: str = "", kind: str = "", **more: Any) -> dict[str, Any]:
    found = {"name": name, "group": group, "kind": kind, **more}
    return {key: value for key, value in found.items() if value}


def bad_request(message: str, hint: str = "") -> ApiError:
    """Return 400 as `NewBadRequest` words it."""
    return ApiError(400, "BadRequest", message, hint=hint)


def unauthorized(message: str = "Unauthorized") -> ApiError:
    """Return 401: the client could not be authenticated."""
    return ApiError(401, "Unauthorized", message)


def forbidden(resource: str, name: str, why: str, group: str = "") -> ApiError:
    """Return 403 as `NewForbidden` words it: `services "web" is forbidden: WHY`.

    Without a resource it is only `forbidden: WHY`.
    """
    if not resource:
        message = f"forbidden: {why}"
    elif not name:
        message = f"{_qualified(resource, group)} is forbidden: {why}"
    else:
        message = f'{_qualified(resource, group)} "{name}" is forbidden: {why}'
    return ApiError(403, "Forbidden", message, _details(name, group, resource))


def not_found(resource: str, name: str, group: str = "") -> ApiError:
    """Return 404 as `NewNotFound` words it. resource: the plural."""
    return ApiError(
        404, "NotFound", f'{_qualified(resource, group)} "{name}" not found', _details(name, group, resource)
    )


def no_such_path() -> ApiError:
    """Return 404 for a path that is not served (`NewGenericServerResponse`)."""
    return ApiError(404, "NotFound", "the server could not find the requested resource", {})


def method_not_allowed(resource: str, action: str, group: str = "") -> ApiError:
    """Return 405 as `NewMethodNotSupported` words it. action: the verb, such as `delete`."""
    return ApiError(
        405,
        "MethodNotAllowed",
        f'{action} is not supported on resources of kind "{_qualified(resource, group)}"',
        _details(group=group, kind=resource),
    )


def already_exists(resource: str, name: str, group: str = "") -> ApiError:
    """Return 409 as `NewAlreadyExists` words it. resource: the plural."""
    return ApiError(
        409, "AlreadyExists", f'{_qualified(resource, group)} "{name}" already exists', _details(name, group, resource)
    )


def conflict(resource: str, name: str, why: str, group: str = "") -> ApiError:
    """Return 409 as `NewConflict` words it: the object has changed, or a precondition does not hold."""
    return ApiError(
        409,
        "Conflict",
        f'Operation cannot be fulfilled on {_qualified(resource, group)} "{name}": {why}',
        _details(name, group, resource),
    )


def gone(message: str) -> ApiError:
    """Return 410 `Expired`: a resourceVersion or continue token that is too old."""
    return ApiError(410, "Expired", message)


def too_large(limit: int) -> ApiError:
    """Return 413. limit: the largest size of a request's body, in bytes."""
    return ApiError(413, "RequestEntityTooLarge", f"Request entity too large: limit is {limit}")


def unsupported_media_type(message: str) -> ApiError:
    """Return 415: the server cannot decode the request's Content-Type."""
    return ApiError(415, "UnsupportedMediaType", message)


def not_acceptable(message: str) -> ApiError:
    """Return 406: none of the media types in the request's Accept can be sent."""
    return ApiError(406, "NotAcceptable", message)


def invalid(kind: str, name: str, causes: Sequence[Cause], group: str = "") -> ApiError:
    """Return 422 as `NewInvalid` words it: `Pod "x" is invalid: spec.a: Required value` or a bracketed list of several.

    At most `_MAX_CAUSES` causes are named, so that the answer to a bad request does not become large.
    """
    more = len(causes) - _MAX_CAUSES
    causes = [cause.shortened() for cause in causes[:_MAX_CAUSES]]
    lines = [f"{cause.field}: {cause.message}" if cause.field else cause.message for cause in causes]
    if more > 0:
        lines.append(f"and {more} more")
    text = lines[0] if len(lines) == 1 else "[" + ", ".join(lines) + "]"
    return ApiError(
        422,
        "Invalid",
        f'{_qualified(kind, group)} "{name}" is invalid: {text}',
        _details(name, group, kind, causes=[cause.as_dict() for cause in causes]),
    )


def internal(message: str) -> ApiError:
    """Return 500 as `NewInternalError` words it."""
    return ApiError(
        500,
        "InternalError",
        f"Internal error occurred: {message}",
        {"causes": [{"message": message}]},
    )


def out_of_time() -> ApiError:
    """Return 504 for a request whose time is over, as `WithRequestDeadline` of the apiserver words it."""
    message = "Timeout: request did not complete within requested timeout - context deadline exceeded"
    return ApiError(504, "Timeout", message, {})


def service_unavailable(message: str) -> ApiError:
    """Return 503: the server, or another server that it needs, cannot be reached now."""
    return ApiError(503, "ServiceUnavailable", message)
