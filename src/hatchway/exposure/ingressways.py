"""Finds the ways in by Ingresses, which publish Services at host names. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Final

from hatchway.exposure import mending
from hatchway.exposure.backends import ClusterFacts, annotations_of, reach_of
from hatchway.exposure.findings import Exposure, Issue, Location
from hatchway.exposure.ranges import AddressSet
from hatchway.exposure.routeways import (
    BackendVerdict,
    Publisher,
    Publishers,
    RouteBackend,
    judge_backends,
    published_way,
)
from hatchway.exposure.serviceways import balancer_hosts
from hatchway.exposure.snapshot import key
from hatchway.exposure.tolerant import mapping, mappings, number, text, texts
from hatchway.kube.api import Object

# Annotations with the ranges of clients that are let in, and those for logins. The values are parts of the names of the
# controllers that know the annotations (`IngressClass.spec.controller`).
_ALLOWLISTS: Final = {
    "nginx.ingress.kubernetes.io/allowlist-source-range": "ingress-nginx",
    "nginx.ingress.kubernetes.io/whitelist-source-range": "ingress-nginx",
    "alb.ingress.kubernetes.io/inbound-cidrs": "alb",
    "haproxy.org/allow-list": "haproxy.org",
    "haproxy.org/whitelist": "haproxy.org",
    "haproxy-ingress.github.io/allowlist-source-range": "haproxy-ingress",
    "haproxy-ingress.github.io/whitelist-source-range": "haproxy-ingress",
}
_LOGINS: Final = {
    "nginx.ingress.kubernetes.io/auth-url": "ingress-nginx",
    "nginx.ingress.kubernetes.io/auth-secret": "ingress-nginx",
    "nginx.ingress.kubernetes.io/auth-tls-secret": "ingress-nginx",
    "alb.ingress.kubernetes.io/auth-type": "alb",
    "haproxy.org/auth-type": "haproxy.org",
    "haproxy-ingress.github.io/auth-url": "haproxy-ingress",
    "haproxy-ingress.github.io/auth-secret": "haproxy-ingress",
}
# Annotations by which controllers of clouds get certificates without `spec.tls`.
_CERTIFICATES: Final = (
    "alb.ingress.kubernetes.io/certificate-arn",
    "ingress.gcp.kubernetes.io/pre-shared-cert",
    "networking.gke.io/managed-certificates",
)
_CLASS: Final = "kubernetes.io/ingress.class"
_DEFAULT_CLASS: Final = "ingressclass.kubernetes.io/is-default-class"
# More hosts for the rules of an Ingress.
_ALIASES: Final = "nginx.ingress.kubernetes.io/server-alias"
_NGINX_ALLOWLIST: Final = "nginx.ingress.kubernetes.io/allowlist-source-range"


def ingress_way(ingress: Object, facts: ClusterFacts, publishers: Publishers) -> Exposure:
    """Return the way into the cluster that an Ingress opens."""
    annotations, spec = annotations_of(ingress), mapping(ingress.get("spec"))
    controller, called = _controller(ingress, facts)
    hosts = balancer_hosts(ingress)
    publisher = publishers.at(hosts, internal=_is_internal(annotations, controller, called))
    allowed, ignored = _allowlist(annotations, controller)
    if allowed is not None:
        publisher = Publisher(publisher.sources & allowed, publisher.pods)
    found = judge_backends(_backends(key(ingress)[0], spec), publisher, facts)
    names = [text(rule.get("host")) for rule in mappings(spec.get("rules"))]
    if _knows(controller, "ingress-nginx"):
        names += [one.strip() for one in annotations.get(_ALIASES, "").split(",") if one.strip()]
    if mapping(spec.get("defaultBackend")) or not names:
        names.append("")
    secret = [one for one in dict.fromkeys(names) if _has_tls(one, spec, annotations)]
    plain = [one for one in dict.fromkeys(names) if one not in secret]
    has_login = any(one in annotations and _knows(controller, part) for one, part in _LOGINS.items())
    issues = _issues(ingress, found, publisher, controller, plain, ignored, has_login=has_login)
    notes = [
        "" if hosts else "no controller has published it",
        f"clients: {allowed.shown()}" if allowed is not None else "",
        "its controller asks for a login" if has_login else "",
    ]
    locations = [
        Location(host, 443 if one in secret else 80, host=one if not one.startswith("*") else "", tls=one in secret)
        for one in dict.fromkeys(names)
        for host in hosts
    ]
    locations += [
        Location(address, port, host=one if not one.startswith("*") else "", tls=one in secret)
        for one in dict.fromkeys(names)
        for address, port in publishers.node_ports(hosts, 443 if one in secret else 80)
    ]
    note = "; ".join(filter(None, notes))
    return published_way(ingress, "Ingress", "Ingress", found, publisher, facts, locations, issues, note)


def _controller(ingress: Object, facts: ClusterFacts) -> tuple[str, str]:
    """Return (the name of the Ingress's controller from its class, the class's name); "" when not known."""
    spec = mapping(ingress.get("spec"))
    called = text(spec.get("ingressClassName")) or annotations_of(ingress).get(_CLASS, "")
    for one in facts.snapshot.ingress_classes:
        is_default = not called and annotations_of(one).get(_DEFAULT_CLASS) == "true"
        if is_default or (called and key(one)[1] == called):
            return text(mapping(one.get("spec")).get("controller")), key(one)[1]
    return "", called


def _knows(controller: str, part: str) -> bool:
    """Return True when a controller acts on a project's annotations, or when the controller is not known.

    part: a part of the names of the project's controllers.
    """
    return not controller or part in controller


def _is_internal(annotations: dict[str, str], controller: str, called: str) -> bool:
    if "alb" in controller.partition("/")[2] or called == "alb":
        # Without the annotation, this controller makes internal load balancers.
        return annotations.get("alb.ingress.kubernetes.io/scheme", "internal") == "internal"
    return called == "gce-internal" or annotations.get("appgw.ingress.kubernetes.io/use-private-ip") == "true"


def _allowlist(annotations: dict[str, str], controller: str) -> tuple[AddressSet | None, str]:
    """Return (the clients that are let in, an annotation that has no effect).

    The first is None when all are let in. The second is "" when the controller knows all such annotations.
    """
    ignored = ""
    for annotation, part in _ALLOWLISTS.items():
        ranges = [one for one in annotations.get(annotation, "").split(",") if one.strip()]
        if ranges and _knows(controller, part):
            return AddressSet.parse(ranges), ""
        if ranges:
            ignored = annotation
    unknown = (one for one, part in _LOGINS.items() if one in annotations and not _knows(controller, part))
    return None, ignored or next(unknown, "")


def _backends(namespace: str, spec: Object) -> Iterable[RouteBackend]:
    for _, _, backend in _places(namespace, spec):
        if backend.service:
            yield backend


def _places(namespace: str, spec: Object) -> Iterable[tuple[str, str, RouteBackend]]:
    """Yield the parts of an Ingress that lead somewhere.

    Each is (its JSON pointer, the JSON pointer of its rule, the backend). The pointer of the rule is "" for the default
    backend; the name of the Service is "" for a backend that is not a Service.
    """
    if mapping(spec.get("defaultBackend")):
        yield "/spec/defaultBackend", "", _backend(namespace, mapping(spec.get("defaultBackend")))
    for at, rule in enumerate(mappings(spec.get("rules"))):
        for place, path in enumerate(mappings(mapping(rule.get("http")).get("paths"))):
            pointer = f"/spec/rules/{at}"
            yield f"{pointer}/http/paths/{place}", pointer, _backend(namespace, mapping(path.get("backend")))


def _backend(namespace: str, backend: Object) -> RouteBackend:
    service = mapping(backend.get("service"))
    port = mapping(service.get("port"))
    return RouteBackend(namespace, text(service.get("name")), number(port.get("number")) or text(port.get("name")))


def _without(ingress: Object, unwanted: Collection[RouteBackend]) -> str:
    """Return the command that removes what leads to these backends."""
    namespace, name = key(ingress)
    leads = [
        mending.Lead(
            path, rule, "/backend/service/name" if rule else "/service/name", backend.service, backend in unwanted
        )
        for path, rule, backend in _places(namespace, mapping(ingress.get("spec")))
    ]
    return mending.without_leads("ingress", namespace, name, leads)


def _has_tls(host: str, spec: Object, annotations: dict[str, str]) -> bool:
    if any(one in annotations for one in _CERTIFICATES):
        return True
    for entry in mappings(spec.get("tls")):
        hosts = texts(entry.get("hosts"))
        parent = f"*.{host.partition('.')[2]}"
        if not hosts or host in hosts or (host and parent in hosts):
            return True
    return False


def _issues(
    ingress: Object,
    found: BackendVerdict,
    publisher: Publisher,
    controller: str,
    plain: list[str],
    ignored: str,
    *,
    has_login: bool,
) -> list[Issue]:
    namespace, name = key(ingress)
    issues: list[Issue] = []
    reach = reach_of(found.verdicts)
    by_nginx = _knows(controller, "ingress-nginx")
    nginx_list = mending.annotate("ingress", namespace, name, _NGINX_ALLOWLIST)
    if found.missing:
        text = (
            f"it leads to service {found.missing[0].service}, which is missing or has no pods:"
            " anyone who creates it is public"
        )
        issues.append(Issue("no-backend", "low", text, _without(ingress, found.missing)))
    if reach != "internet":
        return issues
    if found.program and not has_login:
        text = f"anyone on the Internet reaches {found.program}, which nobody should reach from outside"
        mend = nginx_list if by_nginx else _without(ingress, found.sensitive)
        issues.append(Issue("sensitive-port", "high", text, mend))
    if ignored:
        text = f"its annotation {ignored} has no effect, since its controller is {controller}"
        mend = nginx_list if by_nginx else mending.delete("ingress", namespace, name)
        issues.append(Issue("ineffective-allowlist", "medium", text, mend))
    if named := [one for one in plain if one]:
        change = {"spec": {"tls": [{"hosts": named[:5], "secretName": f"{name}-tls"}]}}
        text = f"{named[0]} is served to the Internet without TLS: others in the network can read passwords and cookies"
        issues.append(Issue("no-tls", "medium", text, mending.patch("ingress", namespace, name, change)))
    if "" in plain:
        text = "it answers for every host name, without TLS"
        change_host = [{"op": "add", "path": "/spec/rules/0/host", "value": "NAME.YOUR-DOMAIN"}]
        issues.append(Issue("any-host", "low", text, mending.patch("ingress", namespace, name, change_host)))
    return issues
