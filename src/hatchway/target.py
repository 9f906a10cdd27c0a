"""The target: the service, pod, node or workload that a request is for, and its three spellings.

    proxy path   /api/v1/namespaces/NS/services/[SCHEME:]NAME[:PORT]/proxy/REST    as the API server writes it
    host name    [SCHEME.][PORT.]NAME.NS.svc.localhost                             as the door writes it
    argument     svc/[SCHEME:]NAME[:PORT]                                          as the command line writes it

For each spelling there is a `format_...` and a `parse_...` function. Parsing a formatted target gives the same target
again; only an argument does not contain the namespace. Formatting a parsed text may give another spelling: the argument
`web` becomes `svc/web`. No other code splits such strings. A workload (such as a Deployment) can only be written as an
argument: a connection to it goes to one of its pods, and neither the proxy verb nor the door knows such targets.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Final, Literal
from urllib.parse import quote, unquote

from hatchway.addresses import normal_host, parse_address
from hatchway.errors import HatchwayError
from hatchway.numerals import is_digits

Kind = Literal[
    "services",
    "pods",
    "nodes",
    "hosts",
    "deployments.apps",
    "statefulsets.apps",
    "daemonsets.apps",
    "replicasets.apps",
    "replicationcontrollers",
    "jobs.batch",
]

SCHEMES = ("http", "https")
DEFAULT_PORTS = {"http": 80, "https": 443}
_KINDS: dict[str, Kind] = {
    **dict.fromkeys(("services", "service", "svc"), "services"),
    **dict.fromkeys(("pods", "pod", "po"), "pods"),
    **dict.fromkeys(("nodes", "node", "no"), "nodes"),
}
_WORKLOADS: dict[str, Kind] = {
    **dict.fromkeys(("deployments", "deployment", "deploy"), "deployments.apps"),
    **dict.fromkeys(("statefulsets", "statefulset", "sts"), "statefulsets.apps"),
    **dict.fromkeys(("daemonsets", "daemonset", "ds"), "daemonsets.apps"),
    **dict.fromkeys(("replicasets", "replicaset", "rs"), "replicasets.apps"),
    **dict.fromkeys(("replicationcontrollers", "replicationcontroller", "rc"), "replicationcontrollers"),
    **dict.fromkeys(("jobs", "job"), "jobs.batch"),
}
# Kinds as the command line spells them (kubectl's names and short names).
KINDS: Final = {**_KINDS, **_WORKLOADS}
# For each kind the short name that is printed.
SHORT: Final[dict[Kind, str]] = {
    "services": "svc",
    "pods": "pod",
    "nodes": "node",
    "hosts": "host",
    "deployments.apps": "deploy",
    "statefulsets.apps": "sts",
    "daemonsets.apps": "ds",
    "replicasets.apps": "rs",
    "replicationcontrollers": "rc",
    "jobs.batch": "job",
}
# The spellings of targets that have pods, for hints.
WITH_PODS: Final = ", ".join(f"{short}/NAME" for kind, short in SHORT.items() if kind not in ("nodes", "hosts"))
# The word for each kind in a sentence: "deployment" for "deployments.apps".
WORDS: Final[dict[Kind, str]] = {kind: kind.partition(".")[0].removesuffix("s") for kind in SHORT}
_BRACKETED = re.compile(r"\[([^\]]*)\](?::(.+))?\Z")
# Characters that RFC 3986 allows in a path segment, in addition to the unreserved ones.
_SEGMENT_SAFE = ":@!$&'()*+,;="
_HYPHENS = re.compile("-+")
_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?\Z")
# A port name has no two hyphens in a row (IANA_SVC_NAME), so no port name begins with this prefix.
_PORT_ESCAPE = "port--"


class TargetError(HatchwayError):
    """A text that names no target."""


@dataclass(frozen=True, slots=True)
class Target:
    """A service, pod, node or workload; or a host, which is an address without an object.

    kind: the resource's name in the API, or "hosts".
    name: the object's name; a host's DNS name or IP address.
    namespace: "" for nodes and hosts.
    scheme: "http", "https" or "" (not given).
    port: a name, a number in digits, or "" (not given).

    Raises:
        TargetError: a part has characters that no spelling can carry.
    """

    kind: Kind
    name: str
    namespace: str = ""
    scheme: str = ""
    port: str = ""

    def __post_init__(self) -> None:
        if self.kind not in SHORT:
            raise TargetError(f'"{self.kind}" is not a kind of target', "a target is a service, a pod or a node")
        if self.scheme not in ("", *SCHEMES):
            raise TargetError(f'"{self.scheme}" is not a scheme', "write http or https")
        if self.kind == "hosts":
            if self.namespace or self.scheme:
                raise TargetError(f'host "{self.name}" has neither a namespace nor a scheme')
            if normal_host(self.name) != self.name:
                raise TargetError(f'"{self.name}" is neither a host name nor an address')
            if self.port and not (is_digits(self.port) and 0 < int(self.port) < 65536):
                raise TargetError(f'"{self.port}" is no port of a host', "write its number")
            return
        _check_segment("name", self.name)
        if ":" in self.name or ":" in self.port or "/" in self.port:
            raise TargetError(f'"{self.name}:{self.port}" is not a name and a port')
        if self.kind == "nodes":
            if self.namespace:
                raise TargetError(f'node "{self.name}" cannot have a namespace', "nodes belong to the whole cluster")
        else:
            _check_segment("namespace", self.namespace)

    @property
    def is_workload(self) -> bool:
        """Return True for an object whose controller makes pods for it: a Deployment, a StatefulSet, a Job ..."""
        return self.kind in _WORKLOADS.values()

    def __str__(self) -> str:
        spelled = format_argument(self)
        return f"{spelled} in namespace {self.namespace}" if self.namespace else spelled


def _check_segment(what: str, value: str) -> None:
    """Raise TargetError unless a value is a path segment (apimachinery `IsValidPathSegmentName`) and not empty."""
    if not value or value in (".", "..") or "/" in value or "%" in value:
        raise TargetError(f'"{value}" cannot be the {what} of a target')


def parse_host_argument(text: str) -> Target | None:
    """Return the target of `host/NAME[:PORT]`, or of an IP address alone, with or without a port; None for other text.

    An IPv6 address with a port is written in brackets: `host/[fd00::1]:53`.

    Raises:
        TargetError: the text after `host/` is not a host.
    """
    word, slash, rest = text.partition("/")
    marked = bool(slash) and word.lower() == "host"
    raw = rest if marked else text
    bracketed = _BRACKETED.match(raw)
    if bracketed is not None:
        host, port = bracketed[1], bracketed[2] or ""
    elif raw.count(":") == 1:
        host, _, port = raw.partition(":")
    else:
        host, port = raw, ""
    if not marked:
        # No other argument looks like an IP address.
        address = parse_address(host)
        return Target("hosts", address, port=port) if address else None
    name = normal_host(host)
    if not name:
        raise TargetError(f'"{text}" names no host', "write host/NAME:PORT, host/10.0.0.5:PORT or host/[fd00::1]:PORT")
    return Target("hosts", name, port=port)


def split_scheme_name_port(raw: str) -> tuple[str, str, str]:
    """Return (scheme, name, port) of `name`, `name:port` or `scheme:name:port`.

    Two parts are always a name and a port: `https:foo` is the port "foo" of the object "https" (apimachinery
    `pkg/util/net/port_split.go`).

    Raises:
        TargetError: the text has another form.
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
    """Return the shortest text of which `split_scheme_name_port` returns these parts."""
    if scheme:
        return f"{scheme}:{name}:{port}"
    return f"{name}:{port}" if port else name


@dataclass(frozen=True, slots=True)
class ProxyPath:
    """The parts of a proxy path.

    target: the target that it names.
    raw_name: the path segment with the name as it was spelled, percent-decoded; authorization and audit use it.
    rest: the path after `/proxy`, byte for byte: "" or a text that begins with "/".
    """

    target: Target
    raw_name: str
    rest: str


def parse_proxy_path(path: str) -> ProxyPath:
    """Return the parts of a path, which has no query.

    Raises:
        TargetError: it is not a path of the proxy verb.
    """
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
    """Return the proxy path of a target.

    rest: the path after `/proxy`, already percent-encoded: "" or a text that begins with "/".
    """
    if target.kind == "hosts":
        raise TargetError(f'host "{target.name}" has no path in the API')
    base = f"/api/v1/namespaces/{quote(target.namespace, safe=_SEGMENT_SAFE)}" if target.namespace else "/api/v1"
    name = quote(join_scheme_name_port(target.scheme, target.name, target.port), safe=_SEGMENT_SAFE)
    return f"{base}/{target.kind}/{name}/proxy{rest}"


def parse_host_name(host: str, domain: str = "localhost") -> Target:
    """Return the target of a host name.

    Args:
        host: the host name, without a TCP port.
        domain: the end of the door's host names.

    Raises:
        TargetError: the host name names no target below this domain.
    """
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
    """Return the host name of a target below a domain.

    Raises:
        TargetError: it is a workload or a host; or a part is no DNS label, is too long, or cannot be escaped
            (then the hint has the proxy path).
    """
    if target.is_workload or target.kind == "hosts":
        raise TargetError(f"{target} has no host name", "name a service, or a pod")
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
    return ".".join([*found, SHORT[target.kind], domain])


def format_door_url(
    target: Target, rest: str = "/", *, port: int = 8001, domain: str = "localhost", scheme: str = "http"
) -> str:
    """Return the URL of a target at a door.

    Args:
        target: the target to which the URL leads.
        rest: path and query; begins with "/".
        port: the TCP port at which browsers reach the door; 0 for the scheme's own.
        domain: the end of the door's host names.
        scheme: "http" or "https", which browsers use to connect to the door.

    Raises:
        TargetError: no host name can carry the target's name.
    """
    number = "" if port in (0, DEFAULT_PORTS[scheme]) else f":{port}"
    return f"{scheme}://{format_host_name(target, domain)}{number}{rest}"


def find_domain(host: str) -> str:
    """Return the domain below which a host name is spelled.

    For `web.x.svc.dev.example.com` it is `dev.example.com`.

    Raises:
        TargetError: the host name names no target below any domain.
    """
    labels = host.lower().rstrip(".").split(".")
    for place, label in enumerate(labels[:-1]):
        domain = ".".join(labels[place + 1 :])
        if label in ("svc", "pod", "node"):
            try:
                parse_host_name(host, domain)
            except TargetError:
                continue
            return domain
    raise TargetError(f'"{host}" names no target', "it looks like NAME.NAMESPACE.svc.localhost")


def _escape_label(name: str) -> str:
    """Escape a name: a dot becomes two hyphens; a run of two or more hyphens becomes one hyphen longer."""
    return _HYPHENS.sub(lambda run: run[0] if len(run[0]) == 1 else run[0] + "-", name).replace(".", "--")


def _unescape_label(label: str) -> str:
    def back(run: re.Match[str]) -> str:
        length = len(run[0])
        return "-" if length == 1 else "." if length == 2 else "-" * (length - 1)

    return _HYPHENS.sub(back, label)


def parse_argument(text: str, namespace: str = "default", *, workloads: bool = False) -> Target:
    """Return the target of a command-line argument.

    Args:
        text: `grafana`, `svc/grafana:http`, `https:grafana:`, `pod/web-0:8080`, `node/n1` ...
        namespace: the namespace of services, pods and workloads.
        workloads: True to accept workloads, too, such as `deploy/web`.

    Raises:
        TargetError: it names no target.
    """
    word, slash, rest = text.partition("/")
    if not slash:
        word, rest = "services", text
    kind = (KINDS if workloads else _KINDS).get(word.lower())
    if kind is None:
        hint = f"write one of {WITH_PODS}" if workloads else "write svc/NAME, pod/NAME or node/NAME"
        if rest.isdigit():
            hint = f"write {word}:{rest} for a port; {hint}"
        raise TargetError(f'"{word}" is not a kind of target', hint)
    scheme, name, port = split_scheme_name_port(rest)
    return Target(kind, name, "" if kind == "nodes" else namespace, scheme, port)


def parse_qualified_argument(text: str, namespace: str | None, default: str, *, workloads: bool = False) -> Target:
    """Return the target of a command-line argument in which a namespace may follow the service's name.

    This is the spelling of DNS: `web.shop`, `web.shop.svc`, `web.shop.svc.cluster.local:80`. No service's name has a
    dot.

    Args:
        text: the argument.
        namespace: the value of the option -n; None without that option.
        default: the namespace to use when neither the option nor the argument names one.
        workloads: True to accept workloads, too, such as `deploy/web`.

    Raises:
        TargetError: it names no target, or two namespaces were given.
    """
    found = parse_argument(text, namespace or default, workloads=workloads)
    name, dot, rest = found.name.partition(".")
    if found.kind != "services" or not dot:
        return found
    inner, _, suffix = rest.partition(".")
    if not name or not inner or (suffix and suffix.partition(".")[0] != "svc"):
        raise TargetError(f'"{found.name}" names no service', "write NAME, NAME.NAMESPACE or NAME.NAMESPACE.svc")
    if namespace not in (None, inner):
        raise TargetError(
            f'"{found.name}" is in namespace "{inner}", and -n says "{namespace}"', "give only one of the two"
        )
    return replace(found, name=name, namespace=inner)


def format_argument(target: Target) -> str:
    """Return the command-line argument of a target, without its namespace."""
    name = f"[{target.name}]" if ":" in target.name else target.name
    return f"{SHORT[target.kind]}/{join_scheme_name_port(target.scheme, name, target.port)}"


def format_arguments(target: Target) -> str:
    """Return the command-line argument of a target with its `-n`, as both are typed after a command."""
    return format_argument(target) + (f" -n {target.namespace}" if target.namespace else "")
