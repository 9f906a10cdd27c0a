"""Reads Traefik's middlewares: which clients they let in, and whether they ask for a login. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

from hatchway.exposure.ranges import AddressSet
from hatchway.exposure.snapshot import key
from hatchway.exposure.tolerant import mapping, mappings, text, texts
from hatchway.kube.api import Object

__all__ = ["Middlewares", "RouteGuard"]

_LOGINS: Final = ("basicAuth", "digestAuth", "forwardAuth")
_ALLOWLISTS: Final = ("ipAllowList", "ipWhiteList")
_SUFFIX: Final = "@kubernetescrd"
# The maximum number of middlewares that are followed for one route. A limit is needed because a chain may refer to
# itself.
_MOST: Final = 100


@dataclass(frozen=True, slots=True)
class RouteGuard:
    """The combined effect of the middlewares of a route.

    allowed: the clients that are let in; None for all.
    has_login: True when they ask for a login.
    redirects: True when all requests without TLS are redirected to HTTPS.
    unknown: the names of middlewares that are missing, or were not read.
    """

    allowed: AddressSet | None = None
    has_login: bool = False
    redirects: bool = False
    unknown: tuple[str, ...] = ()


class Middlewares:
    """Traefik's middlewares by kind, namespace and name."""

    def __init__(self, objects: Iterable[Object]) -> None:
        self._specs: dict[tuple[str, str, str], dict[str, Any]] = {}
        self._by_label: dict[str, tuple[str, str]] = {}
        for obj in objects:
            namespace, name = key(obj)
            self._specs[text(obj.get("kind")), namespace, name] = mapping(obj.get("spec"))
            self._by_label[f"{namespace}-{name}"] = namespace, name

    def of(self, references: Iterable[tuple[str, str]], kind: str = "Middleware") -> RouteGuard:
        """Return the combined effect of middlewares. references: (namespace, name) of each. kind: their kind."""
        allowed: AddressSet | None = None
        has_login = redirects = False
        unknown: list[str] = []
        left = list(references)
        for _ in range(_MOST):
            if not left:
                break
            namespace, name = left.pop(0)
            spec = self._specs.get((kind, namespace, name))
            if spec is None:
                unknown.append(name)
                continue
            for one in _ALLOWLISTS:
                if one in spec:
                    ranges = AddressSet.parse(texts(mapping(spec[one]).get("sourceRange")))
                    allowed = ranges if allowed is None else allowed & ranges
            has_login = has_login or any(one in spec for one in _LOGINS)
            redirects = redirects or mapping(spec.get("redirectScheme")).get("scheme") == "https"
            left += references_of(mapping(spec.get("chain")), namespace)
        return RouteGuard(allowed, has_login, redirects, tuple(unknown))

    def of_annotation(self, value: str) -> RouteGuard:
        """Return the combined effect of an Ingress annotation's middlewares (`NAMESPACE-NAME@kubernetescrd, ...`)."""
        labels = (one.strip() for one in value.split(","))
        named = [one.removesuffix(_SUFFIX) for one in labels if one.endswith(_SUFFIX)]
        found = self.of(self._by_label[one] for one in named if one in self._by_label)
        return RouteGuard(
            found.allowed, found.has_login, found.redirects, tuple(one for one in named if one not in self._by_label)
        )


def references_of(holder: dict[str, Any], namespace: str) -> list[tuple[str, str]]:
    """Return (namespace, name) of the middlewares to which a route or a chain (`holder`) refers.

    namespace: the namespace of `holder`.
    """
    return [
        (text(one.get("namespace")) or namespace, text(one.get("name"))) for one in mappings(holder.get("middlewares"))
    ]
