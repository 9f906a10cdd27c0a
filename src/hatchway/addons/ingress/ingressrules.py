"""Parses an Ingress into rules: hosts, paths, backends and certificates (networking.k8s.io/v1 `types.go`). Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple

from hatchway.kube.api import Object
from hatchway.kube.objects import Key, key_of

__all__ = ["IngressBackend", "ParsedIngress", "PathRule", "TlsEntry", "canonical_path", "class_of", "parse_ingress"]

CLASS_ANNOTATION = "kubernetes.io/ingress.class"
# Rules with longer paths are ignored: no client sends such a request.
MAX_PATH = 4096

_ESCAPE = re.compile(rb"%([0-9A-Fa-f]{2})")


class IngressBackend(NamedTuple):
    """A Service and its port. service: "" for a backend that is not a Service. port: a number or a name."""

    namespace: str
    service: str
    port: int | str


class PathRule(NamedTuple):
    """A path that leads to a backend.

    host: in lower case; `*.example` for a wildcard, "" for all hosts.
    exact: True: a request's path must be equal; False: a request's path must begin with the elements of this path.
    path: in the form of `canonical_path`; without a slash at its end if `exact` is False.
    """

    host: str
    exact: bool
    path: bytes
    backend: IngressBackend


class TlsEntry(NamedTuple):
    """Hosts that are served with the certificate of a Secret. secret: its name; "" for none."""

    hosts: tuple[str, ...]
    secret: str


@dataclass(frozen=True, slots=True)
class ParsedIngress:
    """The parts of an Ingress that routing needs.

    created: the time of its creation (RFC 3339); it decides which Ingress is older.
    hosts: the hosts of its rules; "" for a rule without one. ignored: how many paths are too long.
    """

    key: Key
    uid: str
    created: str
    hosts: tuple[str, ...]
    rules: tuple[PathRule, ...]
    default: IngressBackend | None
    tls: tuple[TlsEntry, ...]
    ignored: int = 0

    @property
    def age(self) -> tuple[str, Key]:
        """Return a sort key: older Ingresses come first. Ingresses of the same age are sorted by namespace and name."""
        return self.created, self.key


def class_of(ingress: Object) -> str:
    """Return the name of an Ingress's class; "" when it has none."""
    name = (ingress.get("spec") or {}).get("ingressClassName")
    return str(name or (ingress["metadata"].get("annotations") or {}).get(CLASS_ANNOTATION) or "")


def canonical_path(path: bytes) -> bytes:
    """Return a path without percent-encoding, except of `/` and `%`. Paths are compared in this form."""
    return _ESCAPE.sub(_decode, path) if b"%" in path else path


def _decode(match: re.Match[bytes]) -> bytes:
    byte = bytes((int(match[1], 16),))
    return match[0].upper() if byte in b"/%" else byte


def parse_ingress(ingress: Object) -> ParsedIngress:
    """Parse an Ingress that the API server has accepted."""
    key = key_of(ingress)
    metadata, spec = ingress["metadata"], ingress.get("spec") or {}
    hosts: dict[str, None] = {}
    rules: list[PathRule] = []
    ignored = 0
    for rule in spec.get("rules") or ():
        host = (rule.get("host") or "").lower()
        hosts[host] = None
        for path in (rule.get("http") or {}).get("paths") or ():
            made = _rule(key[0], host, path)
            if made is None:
                ignored += 1
            else:
                rules.append(made)
    default = spec.get("defaultBackend")
    return ParsedIngress(
        key,
        str(metadata.get("uid") or ""),
        str(metadata.get("creationTimestamp") or ""),
        tuple(hosts),
        tuple(rules),
        None if default is None else _backend(key[0], default),
        tuple(_tls(spec.get("tls") or (), tuple(host for host in hosts if host))),
        ignored,
    )


def _rule(namespace: str, host: str, path: Any) -> PathRule | None:
    text = canonical_path((path.get("path") or "/").encode())
    if len(text) > MAX_PATH:
        return None
    exact = path.get("pathType") == "Exact"
    return PathRule(host, exact, text if exact else text.rstrip(b"/"), _backend(namespace, path.get("backend") or {}))


def _backend(namespace: str, backend: Any) -> IngressBackend:
    service = backend.get("service")
    if not service:
        return IngressBackend(namespace, "", 0)
    port = service.get("port") or {}
    return IngressBackend(namespace, str(service.get("name") or ""), port.get("number") or str(port.get("name") or ""))


def _tls(entries: Iterable[Any], rule_hosts: tuple[str, ...]) -> Iterable[TlsEntry]:
    for entry in entries:
        hosts = tuple(host.lower() for host in entry.get("hosts") or ()) or rule_hosts
        yield TlsEntry(hosts, str(entry.get("secretName") or ""))
