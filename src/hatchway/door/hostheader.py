"""Chooses the Host that is sent to an application, and whether X-Forwarded-* fields are sent with it.

The outer name is the host name in the browser's address bar. Some applications refuse a Host that they do not know
(JupyterLab, mitmweb: 403). Others build their URLs from Host, and break when it is not the outer name (Gradio,
Verdaccio). Others refuse unexpected X-Forwarded-* fields, or interpret them in an unusual way. So the outer name with
these fields is tried first. When a candidate is refused, the next one is tried. The accepted candidate is remembered.

Some applications check only the Origin of WebSockets (Bokeh), or only the Origin of forms (Django, SvelteKit). So there
are separate choices for pages, for upgrades, and for requests that change something (writes).
"""

from __future__ import annotations

import copy
import re
import time
from dataclasses import dataclass
from enum import Enum

from hatchway.errors import HatchwayError
from hatchway.target import DEFAULT_PORTS, Target

REFUSALS = frozenset((400, 403, 421))
# The status by which qBittorrent refuses a Host. Without `WWW-Authenticate` it does not request a password (RFC 9110
# section 15.5.2).
UNCHALLENGED = 401
# After all candidates were refused, the first one is used for this many seconds before others are tried again.
_PATIENCE = 60.0
# A name, an IPv4 address or an IPv6 address in brackets, with an optional port (RFC 9110 section 7.2). Browsers send
# Host in these forms.
_NAME = re.compile(r"([A-Za-z0-9_](?:[A-Za-z0-9_.-]*[A-Za-z0-9_.])?|\[[0-9A-Fa-f:.]{2,45}\])(?::([0-9]{1,5}))?")
_LONGEST = 253 + len(":65535")
_SHOWN = 100
# The maximum number of paths of one target for which the door remembers that a request was accepted or refused.
_MAX_PATHS = 128
# The maximum number of bytes of a path that is remembered.
_LONGEST_PATH = 1024
_WORDS = frozenset(("auto", "external", "cluster", "localhost"))
_UNWRITTEN_PORTS = frozenset(map(str, DEFAULT_PORTS.values()))


class HostState(Enum):
    """The state of the present choice of Host. The portal displays the values, except the value of `OPEN`."""

    OPEN = "being tried"
    CONFIGURED = "as configured"
    ACCEPTED = "the application accepts it"
    REFUSED = "the application refuses every name"


@dataclass(frozen=True, slots=True)
class SentHost:
    """The host name and port that an application gets as its own address.

    host: the value of Host; None for the outer name, which every request of a browser has. Origin and Referer are
        changed accordingly.
    forwarded: True when X-Forwarded-* fields with the outer name are sent, too.
    """

    host: bytes | None = None
    forwarded: bool = True


def parse_host_option(value: str) -> str:
    """Return a value of --host-header or of the annotation in its canonical form.

    Raises:
        HatchwayError: the value is not valid in a Host field.
    """
    if value.lower() in _WORDS:
        return value.lower()
    found = _NAME.fullmatch(value)
    if len(value) > _LONGEST or found is None or (found[2] is not None and not 0 < int(found[2]) < 65536):
        shown = value if len(value) <= _SHOWN else value[:_SHOWN] + "..."
        raise HatchwayError(
            f"{shown!r} cannot be a Host",
            "Write external, cluster, localhost, or the name that the application knows, with a port (1 to 65535) if "
            "it needs one: name, name:8080, [2001:db8::1]:8080.",
        )
    return value


class BadAnnotation(HatchwayError):
    """An annotation of a target has a value that is not valid.

    target: the annotated object.
    name: the annotation's name.
    """

    def __init__(self, target: Target, name: str, error: HatchwayError) -> None:
        super().__init__(error.message, error.hint)
        self.target = target
        self.name = name


class HostChoice:
    """The choice of Host for one target and one kind of request: pages, upgrades or writes."""

    def __init__(
        self, target: Target, option: str, port_number: str, service_port: str = "", own_host_name: bytes = b""
    ) -> None:
        """Begin with the first candidate.

        Args:
            target: the application.
            option: the configured value, as `parse_host_option` returns it; "" or "auto" to try candidates.
            port_number: the port on which the application listens, in digits; "" when it is not known.
            service_port: the port of the service in front of it, in digits; "" when it is not known.
            own_host_name: under a path prefix, the target's own host name with the door's port; else b"".
        """
        port, outer_port = (
            f":{found}" if found and found not in _UNWRITTEN_PORTS else ""
            for found in (port_number, service_port or port_number)
        )
        cluster = {
            "services": f"{target.name}.{target.namespace}.svc.cluster.local",
            "pods": target.name,
            "nodes": target.name,
        }[target.kind]
        self._own_host_name = own_host_name
        self._localhost = f"localhost{port}".encode()
        self._cluster = f"{cluster}{outer_port}".encode()
        self._configured = option not in ("", "auto")
        self._candidates: list[SentHost]
        if self._configured:
            named = {"external": None, "localhost": self._localhost, "cluster": self._cluster}
            self._candidates = [SentHost(named[option] if option in named else option.encode())]
        else:
            homes = [SentHost(own_host_name)] if own_host_name else []
            self._candidates = [
                SentHost(),
                *homes,
                SentHost(self._localhost),
                SentHost(forwarded=False),
                SentHost(self._cluster),
                SentHost(self._localhost, forwarded=False),
            ]
        self._state = HostState.OPEN
        self._was_accepted = False
        self._at = 0
        self._refused_until = 0.0
        self._reopened_until = 0.0
        self._keep_forwarded_until = 0.0

    def for_upgrades(self) -> HostChoice:
        """Return a new choice for upgrades, which begins with the present value of this choice for pages."""
        return self._beginning_with(self.without_forwarded, *self._candidates)

    def for_writes(self) -> HostChoice:
        """Return a new choice for writes, which begins with the present value of this choice for pages.

        A refused write is not repeated, so the next candidate must be the most likely one. Applications compare Origin
        with Host, with the forwarded host, or with an address in their configuration. Without forwarded fields, only
        Host is left to compare with; and `localhost` is the usual address in a default configuration.
        """
        homes = [SentHost(self._own_host_name)] if self._own_host_name else []
        first = [self.without_forwarded] if self.value.host is not None else []
        local, cluster = SentHost(self._localhost, forwarded=False), SentHost(self._cluster, forwarded=False)
        return self._beginning_with(*first, *homes, local, cluster, SentHost(), self.without_forwarded)

    def _beginning_with(self, *following: SentHost) -> HostChoice:
        other = copy.copy(self)
        if not self._configured:
            other._candidates = list(dict.fromkeys((self.value, *following)))
            other._at = 0
            other._state = HostState.OPEN
            other._was_accepted = False
            other._refused_until = other._reopened_until = 0.0
        return other

    @property
    def value(self) -> SentHost:
        """Return the present value."""
        return self._candidates[self._at]

    @property
    def without_forwarded(self) -> SentHost:
        """Return the present value without X-Forwarded-* fields."""
        return SentHost(self.value.host, forwarded=False)

    @property
    def state(self) -> HostState:
        """Return the state of `value`."""
        return HostState.CONFIGURED if self._configured else self._state

    @property
    def is_open(self) -> bool:
        """Return True when a refusal is a reason to try another candidate."""
        return not self._configured and (
            self._state is HostState.OPEN
            or (self._state is HostState.REFUSED and time.monotonic() > self._refused_until)
        )

    @property
    def may_omit_forwarded(self) -> bool:
        """Return True when a page's refused request may be tried again without X-Forwarded-* fields."""
        return not self.value.forwarded or time.monotonic() >= self._keep_forwarded_until

    def try_next(self, sent: SentHost, *, certain: bool = False) -> bool:
        """Change to the next candidate, after a request with `sent` was refused.

        Args:
            sent: the value that the refused request had.
            certain: True when the application has named the address as the reason. The refusal then counts even if an
                earlier request was accepted.

        Returns:
            True when another attempt should be made with the new `value`.
        """
        if self._configured:
            return False
        if self.value != sent:
            return True
        if not self.is_open:
            if not certain or self._state is HostState.REFUSED or time.monotonic() < self._reopened_until:
                return False
            self._reopened_until = time.monotonic() + _PATIENCE
            self._candidates = list(dict.fromkeys((self.value, *self._candidates)))
            self._at = 0
        self._state = HostState.OPEN
        if self._at + 1 < len(self._candidates):
            self._at += 1
            return True
        self._at = 0
        self._state = HostState.ACCEPTED if self._was_accepted else HostState.REFUSED
        self._refused_until = time.monotonic() + _PATIENCE
        return self.value != sent

    def record_accepted(self, sent: SentHost) -> bool:
        """Record that a request with `sent` was accepted. Return True if no earlier request has shown this."""
        if self._configured or self._state is HostState.ACCEPTED or self.value != sent:
            return False
        self._state = HostState.ACCEPTED
        self._was_accepted = True
        return True

    def prefer(self, host: bytes) -> bool:
        """Send the Host `host` from now on, because the application has redirected a browser to this host.

        Returns:
            True when `host` is a candidate, and not the present one.
        """
        hosts = [one.host for one in self._candidates]
        if self._configured or host not in hosts or host == self.value.host:
            return False
        self._at = hosts.index(host)
        self._state = HostState.ACCEPTED
        return True

    def record_without_forwarded(self, sent: SentHost, *, accepted: bool) -> bool:
        """Record the outcome of an attempt without X-Forwarded-* fields. Return True when `value` has changed."""
        if sent == self.value:
            return False
        if accepted and sent == self.without_forwarded:
            self._candidates[self._at] = sent
            return True
        self._keep_forwarded_until = time.monotonic() + _PATIENCE
        return False


class WriteChoices:
    """The choices of Host for requests that change something.

    All paths share one choice, with an exception: some applications check the Origin of forms only, and accept other
    writes from every origin. So if writes were accepted before, and the first write to another path is refused, this
    path gets its own choice.
    """

    def __init__(self) -> None:
        self._shared: HostChoice | None = None
        self._by_path: dict[bytes, HostChoice] = {}
        self._accepted: set[bytes] = set()

    def begin(self, pages: HostChoice) -> None:
        """Make the shared choice, unless there is one. pages: the choice for pages, from which it starts."""
        self._shared = self._shared or pages.for_writes()

    def clear(self) -> None:
        """Drop all choices."""
        self._shared = None
        self._by_path.clear()
        self._accepted.clear()

    def keep_if_accepted(self) -> None:
        """Drop all choices, unless the shared choice was accepted."""
        if self._shared is not None and self._shared.state is not HostState.ACCEPTED:
            self.clear()

    def choice_for(self, path: bytes) -> HostChoice | None:
        """Return the choice for a request for `path`; None when there is none yet."""
        return self._by_path.get(path) or self._shared

    def record_accepted(self, path: bytes) -> None:
        """Record that a request for `path` was accepted, so later refusals have other reasons."""
        if len(self._accepted) < _MAX_PATHS and len(path) <= _LONGEST_PATH:
            self._accepted.add(path)

    def choice_after_refusal(self, path: bytes, sent: SentHost, *, certain: bool) -> HostChoice | None:
        """Return the choice that a refused request for `path` should change; if needed, make one for this path.

        sent: the value that the refused request had. certain: as in `HostChoice.try_next`.
        """
        shared = self._shared
        if shared is None or certain or path in self._by_path or path in self._accepted or len(path) > _LONGEST_PATH:
            return self.choice_for(path)
        if shared.state is not HostState.ACCEPTED or shared.value != sent or len(self._by_path) >= _MAX_PATHS:
            return shared
        own = self._by_path[path] = shared.for_writes()
        return own
