"""Which requests the API is offered to: `kubectl proxy`'s filter (kubectl `pkg/proxy/proxy_server.go`), flags included.

Deliberately different: `[::1]:8001`, which kubectl's default refuses by mistake, is accepted; a host's case does not
matter (RFC 9110 section 4.2.3).
"""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import unquote_to_bytes

from hatchway.door.goregexp import Expression, ExpressionError
from hatchway.errors import HatchwayError

ACCEPT_PATHS = "^.*"
REJECT_PATHS = "^/api/.*/pods/.*/exec,^/api/.*/pods/.*/attach"
REJECT_METHODS = "^$"
ACCEPT_HOSTS = r"^localhost$,^127\.0\.0\.1$,^\[::1\]$"


@dataclass(frozen=True, slots=True)
class Filter:
    """Compiled lists of regular expressions in Go's syntax; one that matches anywhere is enough."""

    accept_paths: tuple[Expression, ...]
    reject_paths: tuple[Expression, ...]
    accept_hosts: tuple[Expression, ...]
    reject_methods: tuple[Expression, ...]

    @classmethod
    def of(cls, *, accept_paths: str, reject_paths: str, accept_hosts: str, reject_methods: str) -> Filter:
        """From the flags' values: lists separated by commas. Raises HatchwayError for what does not compile."""
        return cls(
            compiled("--accept-paths", accept_paths),
            compiled("--reject-paths", reject_paths),
            compiled("--accept-hosts", accept_hosts),
            compiled("--reject-methods", reject_methods),
        )

    def accepts(self, method: str, path: bytes) -> bool:
        """path: as it is asked of the API server, escapes included."""
        # kubectl takes the API's prefix away before it looks, and of the root nothing is left then.
        plain = unquote_to_bytes(path).decode("utf-8", "surrogateescape") if path != b"/" else ""
        if _any(self.reject_paths, plain) or _any(self.reject_methods, method):
            return False
        return _any(self.accept_paths, plain)

    def accepts_host(self, host: bytes) -> bool:
        """host: the field Host."""
        name = host_name(host).decode("latin-1")
        if not name:
            return False
        return _any(self.accept_hosts, name) or (host[:1] == b"[" and _any(self.accept_hosts, f"[{name}]"))


def compiled(flag: str, value: str) -> tuple[Expression, ...]:
    """The regular expressions of a flag's value; an empty value is none at all."""
    found = []
    for part in value.split(",") if value else ():
        try:
            found.append(Expression(part))
        except ExpressionError as error:
            raise HatchwayError(
                f"{flag}: {part!r} is not a regular expression of Go's (RE2) syntax: {error}",
                "a comma ends an expression of the list",
            ) from error
    return tuple(found)


def _any(patterns: tuple[Expression, ...], text: str) -> bool:
    return any(pattern.matches(text) for pattern in patterns)


def host_name(host: bytes) -> bytes:
    """The name of a Host field, in lower case, without its port and without an IPv6 address's brackets."""
    host = host.lower()
    if host[:1] == b"[":
        return host[1:].partition(b"]")[0]
    name, colon, _ = host.rpartition(b":")
    return name if colon and b":" not in name else host
