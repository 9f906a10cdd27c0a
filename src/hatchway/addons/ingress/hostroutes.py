"""The table of all Ingresses' rules, which finds the backend for a host and a path. Pure.

The order of rules is that of the Ingress API (networking.k8s.io/v1 `types.go`, `IngressRule`, `HTTPIngressPath`): an
exact host comes before a wildcard, and a wildcard before no host; the longest path comes first, and an exact path
before an equal prefix. When two Ingresses have the same host and path, the older Ingress' rule is used.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from hatchway.addons.ingress.ingressrules import IngressBackend, ParsedIngress, PathRule, canonical_path
from hatchway.kube.objects import Key

__all__ = ["MAX_RULES", "Conflict", "HostRoutes", "RouteTable", "wildcard_of"]

# The maximum number of paths of all Ingresses together.
MAX_RULES = 50_000


@dataclass(slots=True)
class Conflict:
    """Rules of one Ingress that are not used, because an older Ingress has the same host and path.

    count: the number of these rules. rule: the first rule. winner: the Ingress whose rule is used instead of `rule`.
    """

    count: int
    rule: str
    winner: Key


@dataclass(slots=True)
class HostRoutes:
    """The paths of one host.

    exact, prefixes: (Ingress, backend) by path. default: the backend for other paths.
    longest: the length of the longest path in bytes. depth: the maximum number of elements of a prefix.
    """

    exact: dict[bytes, tuple[Key, IngressBackend]] = field(default_factory=dict)
    prefixes: dict[bytes, tuple[Key, IngressBackend]] = field(default_factory=dict)
    default: IngressBackend | None = None
    longest: int = 0
    depth: int = 0

    def find(self, path: bytes) -> IngressBackend | None:
        """Return the backend of the longest rule for a request's path; None when no rule matches."""
        # Cut the path after the length of the longest rule (times three, because of percent-encoding). So a long path
        # takes no more time than a short one.
        path = canonical_path(path[: 3 * self.longest + 3])
        found = self.exact.get(path)
        if found is None and self.prefixes:
            found = self._find_prefix(path)
        return found[1] if found is not None else None

    def _find_prefix(self, path: bytes) -> tuple[Key, IngressBackend] | None:
        ends: list[int] = []
        at = path.find(b"/", 1)
        while at >= 0 and len(ends) < self.depth:
            ends.append(at)
            at = path.find(b"/", at + 1)
        if at < 0:
            ends.append(len(path))
        for end in reversed(ends):
            found = self.prefixes.get(path[:end])
            if found is not None:
                return found
        return self.prefixes.get(b"")


class RouteTable:
    """All rules. Add the Ingresses one by one, the oldest first; afterwards the table is only read.

    Attributes:
        conflicts: the conflict of each Ingress that has rules which are not used.
        cut: the Ingresses with rules that are left out, because the table was full.
        rules: the number of paths in the table.
    """

    def __init__(self) -> None:
        self.hosts: dict[str, HostRoutes] = {}
        self.default: IngressBackend | None = None
        self.conflicts: dict[Key, Conflict] = {}
        self.cut: set[Key] = set()
        self.rules = 0
        self._default_has_rules = False

    def add(self, ingress: ParsedIngress) -> None:
        """Add the rules of an Ingress. It must not be older than the Ingresses that were added before."""
        for rule in ingress.rules:
            self._add(ingress.key, rule)
        if ingress.default is None:
            return
        for host in ingress.hosts:
            routes = self.hosts.setdefault(host, HostRoutes())
            routes.default = routes.default or ingress.default
        # An Ingress without rules gives its default backend to all requests. If there is no such Ingress, the default
        # backend of the oldest Ingress with rules is used.
        if self.default is None or (self._default_has_rules and not ingress.hosts):
            self.default = ingress.default
            self._default_has_rules = bool(ingress.hosts)

    def _add(self, key: Key, rule: PathRule) -> None:
        routes = self.hosts.get(rule.host)
        if routes is None:
            routes = self.hosts[rule.host] = HostRoutes()
        paths = routes.exact if rule.exact else routes.prefixes
        known = paths.get(rule.path)
        if known is not None:
            if known[0] != key:
                self._note_conflict(key, rule, known[0])
            return
        if self.rules >= MAX_RULES:
            self.cut.add(key)
            return
        self.rules += 1
        paths[rule.path] = (key, rule.backend)
        routes.longest = max(routes.longest, len(rule.path))
        if not rule.exact:
            routes.depth = max(routes.depth, rule.path.count(b"/"))

    def _note_conflict(self, key: Key, rule: PathRule, winner: Key) -> None:
        conflict = self.conflicts.get(key)
        if conflict is None:
            shown = f"{rule.host or '*'}{rule.path.decode('utf-8', 'replace') or '/'}"
            self.conflicts[key] = Conflict(1, shown, winner)
        else:
            conflict.count += 1

    def find(self, host: str, path: bytes) -> IngressBackend | None:
        """Return the backend for a request; None when there is none.

        host: in lower case, without a port. path: as the client sent it.
        """
        named = [routes for name in (host, wildcard_of(host)) if (routes := self.hosts.get(name)) is not None]
        everywhere = self.hosts.get("")
        for routes in (*named, everywhere) if everywhere is not None else named:
            found = routes.find(path)
            if found is not None:
                return found
        for routes in named:
            if routes.default is not None:
                return routes.default
        return self.default


def wildcard_of(host: str) -> str:
    """Return the wildcard that matches a host: `*.example` for `a.example`. A wildcard matches one label."""
    _, dot, parent = host.partition(".")
    return f"*.{parent}" if dot and parent else "*"
