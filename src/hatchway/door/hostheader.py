"""What an application is told as its Host.

Some applications refuse names that they do not know (JupyterLab, mitmweb: 403), others build their own addresses from
Host and break when it is not the outer one (Gradio, Verdaccio). So the outer name is tried first; where it is refused
the next candidate is, and what was taken is remembered. What checks a page's Host and what checks a WebSocket's Origin are two things
(Bokeh looks at Origin only, Tornado's applications at both), so upgrades have a choice of their own.
"""

from __future__ import annotations

import copy
import time
from enum import Enum

from hatchway.errors import HatchwayError
from hatchway.target import Target

REFUSALS = frozenset((400, 403, 421))
# qBittorrent's; without a challenge it is nobody's question for a password (RFC 9110 section 15.5.2).
UNCHALLENGED = 401
# After all candidates were refused: so long the outer name is what it is.
_PATIENCE = 60.0
_WORDS = frozenset(("auto", "external", "cluster", "localhost"))


class Settled(Enum):
    """How it is known which Host is right."""

    open = "tried first"
    said = "as it was said"
    taken = "the application takes it"
    refused = "the application refuses every name"


def check(value: str) -> str:
    """A value of --host-header or of the annotation. Raises HatchwayError when it cannot stand in a Host field."""
    if value not in _WORDS and (not value.isascii() or not value.isprintable() or set(value) & set(" /?#@\\\"'<>")):
        raise HatchwayError(
            f"{value!r} cannot be a Host", "write external, cluster, localhost, or the name that the application knows"
        )
    return value


class HostHeader:
    """The choice for one target. wanted: as `check` takes it. number: the port it listens on, service_number: the
    service's own; "" when unknown. home: under a path prefix, the target's own host name at the door, with its port.

    agrees: X-Forwarded-Host says the Host that is sent. Otherwise it says the outer name, always; but some compare it
    with Origin and Referer, which follow the Host.
    """

    def __init__(self, target: Target, wanted: str, number: str, service_number: str = "", home: bytes = b"") -> None:
        port, outer_port = (
            f":{found}" if found and found not in ("80", "443") else "" for found in (number, service_number or number)
        )
        cluster = {
            "services": f"{target.name}.{target.namespace}.svc.cluster.local",
            "pods": target.name,
            "nodes": target.name,
        }[target.kind]
        # None is the outer name, which every request brings along.
        every: dict[str, bytes | None] = {
            "external": None,
            "localhost": f"localhost{port}".encode(),
            "cluster": f"{cluster}{outer_port}".encode(),
        }
        self._candidates: list[bytes | None]
        if wanted in ("", "auto"):
            self._candidates = list(every.values())
            if home:
                self._candidates.insert(1, home)
            self.settled = Settled.open
        else:
            self._candidates = [every[wanted] if wanted in every else wanted.encode()]
            self.settled = Settled.said
        self._at = 0
        self._until = 0.0
        self.agrees = False
        self._disagrees_until = 0.0

    def apart(self) -> HostHeader:
        """A choice for upgrades, which begins with what pages are sent now."""
        other = copy.copy(self)
        if self.settled is not Settled.said:
            other._candidates = [self.value, *(one for one in self._candidates if one != self.value)]
            other._at = 0
            other.settled = Settled.open
        return other

    @property
    def value(self) -> bytes | None:
        """What is sent now; None for the outer name."""
        return self._candidates[self._at]

    @property
    def open(self) -> bool:
        """Whether a refusal is a reason to try another one."""
        if self.settled is Settled.refused and time.monotonic() > self._until:
            self.settled = Settled.open
        return self.settled is Settled.open

    def refused(self, value: bytes | None) -> bool:
        """A request with this Host was refused. Whether another try is worth it, with `value` as it is now."""
        if not self.open:
            return self.value != value
        if self.value != value:
            return True
        if self._at + 1 < len(self._candidates):
            self._at += 1
            return True
        self._at = 0
        self.settled = Settled.refused
        self._until = time.monotonic() + _PATIENCE
        return self.value != value

    def prefers(self, host: bytes) -> bool:
        """It has sent a browser to this name of its own. Whether that is what it is told from now on."""
        if self.settled is Settled.said or host not in self._candidates or host == self.value:
            return False
        self._at = self._candidates.index(host)
        self.settled = Settled.taken
        return True

    def may_agree(self) -> bool:
        """A page's request with another Host than the outer one was refused. Whether it is worth another try in which
        X-Forwarded-Host agrees."""
        return self.agrees or time.monotonic() >= self._disagrees_until

    def agreed(self, taken: bool) -> bool:
        """That other try was taken, or not. Whether that is news."""
        if taken and not self.agrees:
            self.agrees = True
            return True
        self._disagrees_until = time.monotonic() + _PATIENCE
        return False

    def taken(self, value: bytes | None) -> bool:
        """A request with this Host was answered as hoped. Whether that settles it."""
        if self.settled is not Settled.open or self.value != value:
            return False
        self.settled = Settled.taken
        return True
