"""The filter of requests to the API, with the flags of `kubectl proxy` (kubectl `pkg/proxy/proxy_server.go`).

Two differences are deliberate: `[::1]:8001`, which kubectl's default refuses by mistake, is accepted, and the case of a
host does not matter (RFC 9110 section 4.2.3).
"""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import unquote_to_bytes

from hatchway.errors import ApiError, HatchwayError
from hatchway.goregexp import Expression, ExpressionError

ACCEPT_PATHS = "^.*"
REJECT_PATHS = "^/api/.*/pods/.*/exec,^/api/.*/pods/.*/attach"
REJECT_METHODS = "^$"
ACCEPT_HOSTS = r"^localhost$,^127\.0\.0\.1$,^\[::1\]$"


@dataclass(frozen=True, slots=True)
class RequestFilter:
    """Compiled lists of regular expressions in Go's syntax; a list matches when one of its expressions does."""

    accept_paths: tuple[Expression, ...]
    reject_paths: tuple[Expression, ...]
    accept_hosts: tuple[Expression, ...]
    reject_methods: tuple[Expression, ...]

    @classmethod
    def of(cls, *, accept_paths: str, reject_paths: str, accept_hosts: str, reject_methods: str) -> RequestFilter:
        """Make the filter from the flags' values, which are comma-separated lists.

        Raises:
            HatchwayError: an expression does not compile.
        """
        return cls(
            compile_list("--accept-paths", accept_paths),
            compile_list("--reject-paths", reject_paths),
            compile_list("--accept-hosts", accept_hosts),
            compile_list("--reject-methods", reject_methods),
        )

    def accepts(self, method: str, path: bytes) -> bool:
        """Return True when a request may reach the API.

        Args:
            method: the request's method.
            path: the path for the API server, with percent-escapes.
        """
        # kubectl has removed the API's prefix at this point, so that the root is an empty path.
        plain = unquote_to_bytes(path).decode("utf-8", "surrogateescape") if path != b"/" else ""
        if _any(self.reject_paths, plain) or _any(self.reject_methods, method):
            return False
        return _any(self.accept_paths, plain)

    def accepts_host(self, host: bytes) -> bool:
        """Return True when a Host field names the door."""
        name = host_name(host).decode("latin-1")
        if not name:
            return False
        return _any(self.accept_hosts, name) or (host[:1] == b"[" and _any(self.accept_hosts, f"[{name}]"))


def compile_list(flag: str, value: str) -> tuple[Expression, ...]:
    """Return the regular expressions of a flag's value; no expression for an empty value.

    Raises:
        HatchwayError: an expression does not compile.
    """
    found = []
    for part in value.split(",") if value else ():
        try:
            found.append(Expression(part))
        except ExpressionError as error:
            raise HatchwayError(
                f'{flag}: "{part}" is not a regular expression in Go\'s (RE2) syntax: {error}',
                "a comma ends an expression of the list",
            ) from error
    return tuple(found)


def check_read(filter: RequestFilter | None, path: str) -> None:
    """Raise ApiError 403 when the door itself must not read a path. filter: the door's filter; None when it is off."""
    if filter is not None and not filter.accepts("GET", path.encode()):
        raise ApiError(403, "Forbidden", f"--reject-paths, --reject-methods or --accept-paths exclude {path}")


def _any(patterns: tuple[Expression, ...], text: str) -> bool:
    return any(pattern.matches(text) for pattern in patterns)


def host_name(host: bytes) -> bytes:
    """Return the name in a Host field, in lower case, without its port and without the brackets of an IPv6 address.

    b"" when the field is malformed: a port that is no number, text after a bracket, or a name in brackets.
    """
    host = host.lower()
    if host[:1] == b"[":
        name, bracket, rest = host[1:].partition(b"]")
        valid = bracket and b":" in name and (not rest or rest[:1] == b":")
        port = rest[1:]
    else:
        name, colon, port = host.rpartition(b":")
        if not colon or b":" in name:  # no port, or an IPv6 address without brackets
            return host
        valid = True
    return name if valid and (not port or port.isdigit()) else b""
