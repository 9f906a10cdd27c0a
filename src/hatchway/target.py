"""The target: what somebody wants to reach, and its three spellings.

    proxy path   /api/v1/namespaces/NS/services/[SCHEME:]NAME[:PORT]/proxy/REST    as the API server writes it
    host name    [SCHEME.][PORT.]NAME.NS.svc.localhost                             as the door writes it
    argument     svc/[SCHEME:]NAME[:PORT]                                          as the command line writes it

Each spelling has a parse and a format that are exact inverses. Nothing else in the code splits such strings.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal
from urllib.parse import quote, unquote

from hatchway.errors import HatchwayError

Kind = Literal["services", "pods", "nodes"]

SCHEMES = ("http", "https")
_KINDS: dict[str, Kind] = {
    **dict.fromkeys(("services", "service", "svc"), "services"),
    **dict.fromkeys(("pods", "pod", "po"), "pods"),
    **dict.fromkeys(("nodes", "node", "no"), "nodes"),
}
_SHORT: dict[Kind, str] = {"services": "svc", "pods": "pod", "nodes": "node"}
# What RFC 3986 allows in a path segment beside unreserved characters.
_SEGMENT_SAFE = ":@!$&'()*+,;="
_HYPHENS = re.compile("-+")
_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?\Z")
# A port name has no two hyphens in a row (IANA_SVC_NAME), so this prefix cannot be the beginning of one.
_PORT_ESCAPE = "port--"


class TargetError(HatchwayError):
    """A spelling that names no target."""


@dataclass(frozen=True, slots=True)
class Target:
    """A service, pod or node.

    namespace: "" for nodes. scheme: "http", "https" or "" (unsaid). port: a name, a number in digits, or "" (unsaid).
    Raises TargetError when a part could not be spelled at all.
    """

    kind: Kind
    name: str
    namespace: str = ""
    scheme: str = ""
    port: str = ""

    def __post_init__(self) -> None:
        if self.kind not in _SHORT:
            raise TargetError(f'"{self.kind}" is not a kind of target', "a target is a service, a pod or a node")
        if self.scheme not in ("", *SCHEMES):
            raise TargetError(f'"{self.scheme}" is not a scheme', "write http or https")
        _check_segment("name", self.name)
        if ":" in self.name or ":" in self.port or "/" in self.port:
            raise TargetError(f'"{self.name}:{self.port}" is not a name and a port')
        if self.kind == "nodes":
            if self.namespace:
                raise TargetError(f'node "{self.name}" cannot have a namespace', "nodes belong to the whole cluster")
        else:
            _check_segment("namespace", self.namespace)

    def __str__(self) -> str:
        spelled = format_argument(self)
        return f"{spelled} in namespace {self.namespace}" if self.namespace else spelled


def _check_segment(what: str, value: str) -> None:
    """apimachinery's `IsValidPathSegmentName`, and not empty."""
    if not value or value in (".", "..") or "/" in value or "%" in value:
        raise TargetError(f'"{value}" cannot be the {what} of a target')


def split_scheme_name_port(raw: str) -> tuple[str, str, str]:
    """(scheme, name, port) of `name`, `name:port` or `scheme:name:port` (apimachinery `pkg/util/net/port_split.go`).

    Two parts are always name and port: `https:foo` is the port "foo" of "https". Raises TargetError.
    """
    parts = raw.split(":")
    if len(parts) == 1:
        scheme, name, port = "", parts[0], ""
    elif len(parts) == 2:
        scheme, (name, port) = "", parts
    elif len(parts) == 3:
        scheme, name, port = parts
    else:
        raise TargetError(f'"{raw}" has too many parts', "write NAME, NAME:PORT or https:NAME:PORT")
    if scheme not in ("", *SCHEMES):
        raise TargetError(f'"{raw}" begins with no known scheme', "write http:NAME:PORT or https:NAME:PORT")
    if not name:
        raise TargetError(f'"{raw}" has no name', "write NAME, NAME:PORT or https:NAME:PORT")
    return scheme, name, port


def join_scheme_name_port(scheme: str, name: str, port: str) -> str:
    """The inverse of `split_scheme_name_port`, in the shortest form."""
    if scheme:
        return f"{scheme}:{name}:{port}"
    return f"{name}:{port}" if port else name


@dataclass(frozen=True, slots=True)
class ProxyPath:
    """A proxy path taken apart.

    raw_name: the name segment as it was spelled, percent-decoded: what authorization and audit see. rest: what
    follows `/proxy`, byte for byte: "" or a string that begins with "/".
    """

    target: Target
    raw_name: str
    rest: str


def parse_proxy_path(path: str) -> ProxyPath:
    """Take a path (no query) apart. Raises TargetError when it is none of the proxy verb's."""
    parts = path.split("/", 8)
    if parts[:4] == ["", "api", "v1", "namespaces"] and len(parts) > 6 and parts[5] in ("services", "pods"):
        namespace, kind, raw, tail = unquote(parts[4]), _KINDS[parts[5]], unquote(parts[6]), parts[7:]
    elif parts[:4] == ["", "api", "v1", "nodes"] and len(parts) > 4:
        parts = path.split("/", 6)
        namespace, kind, raw, tail = "", "nodes", unquote(parts[4]), parts[5:]
    else:
        tail = []
    if not tail or tail[0] != "proxy":
        raise TargetError(
            f'"{path}" is not a proxy path', "it looks like /api/v1/namespaces/NAMESPACE/services/NAME:PORT/proxy/"
        )
    scheme, name, port = split_scheme_name_port(raw)
    return ProxyPath(Target(kind, name, namespace, scheme, port), raw, "/" + tail[1] if len(tail) > 1 else "")


def format_proxy_path(target: Target, rest: str = "/") -> str:
    """The proxy path of a target. rest: "" or begins with "/"; it is taken as it is, percent-encoding included."""
    base = f"/api/v1/namespaces/{quote(target.namespace, safe=_SEGMENT_SAFE)}" if target.namespace else "/api/v1"
    name = quote(join_scheme_name_port(target.scheme, target.name, target.port), safe=_SEGMENT_SAFE)
    return f"{base}/{target.kind}/{name}/proxy{rest}"


def parse_host_name(host: str, domain: str = "localhost") -> Target:
    """The target of a host name (without port number of the door). Raises TargetError when it is none of the door's."""
    text = host.lower().rstrip(".")
    if not text.endswith("." + domain):
        raise TargetError(f'"{host}" is not a host name below {domain}')
    *labels, kind_label = text[: -len(domain) - 1].split(".")
    kind = {"svc": "services", "pod": "pods", "node": "nodes"}.get(kind_label)
    own = 1 if kind == "nodes" else 2
    if kind is None or len(labels) < own or not all(labels):
        raise TargetError(f'"{host}" names no target', f"it looks like NAME.NAMESPACE.svc.{domain}")
    namespace = labels[-1] if own == 2 else ""
    name, before = labels[-own], labels[:-own]
    scheme = port = ""
    if before and before[0] in SCHEMES:
        scheme, *before = before
    if before:
        port, *before = before
        port = port.removeprefix(_PORT_ESCAPE)
    if before:
        raise TargetError(f'"{host}" has too many labels', f"it looks like https.PORT.NAME.NAMESPACE.svc.{domain}")
    return Target(_KINDS[kind], _unescape_label(name), namespace, scheme, port)


def format_host_name(target: Target, domain: str = "localhost") -> str:
    """The host name of a target. Raises TargetError for names that no host name can carry (over 63 characters)."""
    port = target.port
    if port in SCHEMES and not target.scheme:
        port = _PORT_ESCAPE + port
    labels = [target.scheme, port, _escape_label(target.name), target.namespace]
    found = [label for label in labels if label]
    for label in found:
        if len(label) > 63 or not _LABEL.match(label):
            raise TargetError(
                f'"{label}" cannot be part of a host name', f"use its proxy path: {format_proxy_path(target)}"
            )
    return ".".join([*found, _SHORT[target.kind], domain])


def format_door_url(target: Target, rest: str = "/", *, port: int = 8001, domain: str = "localhost") -> str:
    """The URL of a target at the door that listens on `port`. rest: begins with "/". Raises TargetError."""
    number = "" if port == 80 else f":{port}"
    return f"http://{format_host_name(target, domain)}{number}{rest}"


def find_domain(host: str) -> str:
    """The domain below which a host name is spelled, whatever it is: `web.x.svc.dev.example.com` → `dev.example.com`.

    Raises TargetError when the host name names no target below any domain.
    """
    labels = host.lower().rstrip(".").split(".")
    for place, label in enumerate(labels[:-1]):
        domain = ".".join(labels[place + 1 :])
        if label in _SHORT.values():
            try:
                parse_host_name(host, domain)
            except TargetError:
                continue
            return domain
    raise TargetError(f'"{host}" names no target', "it looks like NAME.NAMESPACE.svc.localhost")


def _escape_label(name: str) -> str:
    """A dot becomes two hyphens; runs of two and more hyphens become one longer."""
    return _HYPHENS.sub(lambda run: run[0] if len(run[0]) == 1 else run[0] + "-", name).replace(".", "--")


def _unescape_label(label: str) -> str:
    def back(run: re.Match[str]) -> str:
        length = len(run[0])
        return "-" if length == 1 else "." if length == 2 else "-" * (length - 1)

    return _HYPHENS.sub(back, label)


def parse_argument(text: str, namespace: str = "default") -> Target:
    """The target of a command-line argument: `grafana`, `svc/grafana:http`, `https:grafana:`, `pod/web-0:8080`,
    `node/n1`. namespace: where services and pods are looked for. Raises TargetError."""
    word, slash, rest = text.partition("/")
    if not slash:
        word, rest = "services", text
    kind = _KINDS.get(word.lower())
    if kind is None:
        raise TargetError(f'"{word}" is not a kind of target', "write svc/NAME, pod/NAME or node/NAME")
    scheme, name, port = split_scheme_name_port(rest)
    return Target(kind, name, "" if kind == "nodes" else namespace, scheme, port)


def format_argument(target: Target) -> str:
    """The argument of a target; its namespace is said by `-n`."""
    return f"{_SHORT[target.kind]}/{join_scheme_name_port(target.scheme, target.name, target.port)}"


def format_arguments(target: Target) -> str:
    """The argument of a target with its `-n`, as both are typed behind a command."""
    return format_argument(target) + (f" -n {target.namespace}" if target.namespace else "")
