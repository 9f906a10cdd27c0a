"""Finds the ways in by Ingresses, which publish Services at host names. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Final

from hatchway.exposure import mending
from hatchway.exposure.backends import ClusterFacts, reach_of
from hatchway.exposure.findings import Exposure, Issue, Location
from hatchway.exposure.ingresscontrollers import IngressOptions, options_of
from hatchway.exposure.middlewares import Middlewares
from hatchway.exposure.publishers import Publisher, Publishers
from hatchway.exposure.routeways import BackendVerdict, RouteBackend, judge_backends, published_way
from hatchway.exposure.serviceways import balancer_hosts
from hatchway.exposure.snapshot import key
from hatchway.exposure.tolerant import mapping, mappings, number, text
from hatchway.kube.api import Object

# The port's name of a backend that is an action of AWS' load balancer (described by an annotation), not a Service.
_BY_ANNOTATION: Final = "use-annotation"
_NGINX_ALLOWLIST: Final = "nginx.ingress.kubernetes.io/allowlist-source-range"


def ingress_way(ingress: Object, facts: ClusterFacts, publishers: Publishers, middlewares: Middlewares) -> Exposure:
    """Return the way into the cluster that an Ingress opens."""
    spec, options = mapping(ingress.get("spec")), options_of(ingress, facts, middlewares)
    hosts = balancer_hosts(ingress)
    publisher = publishers.at(hosts, internal=options.is_internal, funnel=options.is_funnel)
    if options.allowed is not None:
        publisher = Publisher(publisher.sources & options.allowed, publisher.pods)
    found = judge_backends(_backends(key(ingress)[0], spec, options), publisher, facts)
    names = [*(text(rule.get("host")) for rule in mappings(spec.get("rules"))), *options.aliases]
    if mapping(spec.get("defaultBackend")) or not names:
        names.append("")
    names = list(dict.fromkeys(names))
    issues = _issues(ingress, found, options, [one for one in names if options.is_plain(one, spec)])
    notes = [
        "" if hosts else "no controller has published it",
        f"clients: {options.allowed.shown()}" if options.allowed is not None else "",
        "its controller asks for a login" if options.has_login else "",
        "it answers a challenge of ACME (cert-manager)" if options.is_challenge else "",
    ]
    locations = [
        Location(host, port, host=_sent(one), tls=secure)
        for one in names
        for host in publishers.outside(hosts)
        for port, secure in options.ports(one, spec)
    ]
    locations += [
        Location(address, opened, host=_sent(one), tls=secure)
        for one in names
        for port, secure in options.ports(one, spec)
        for address, opened in publishers.node_ports(hosts, port)
    ]
    note = "; ".join(filter(None, notes))
    return published_way(ingress, "Ingress", "Ingress", found, publisher, facts, locations, issues, note)


def _sent(name: str) -> str:
    """Return the host name to send in a request; "" for a wildcard."""
    return "" if name.startswith("*") else name


def _backends(namespace: str, spec: Object, options: IngressOptions) -> Iterable[RouteBackend]:
    for _, _, backend in _references(namespace, spec):
        if backend.service and not (backend.service in options.actions and backend.port == _BY_ANNOTATION):
            yield backend


def _references(namespace: str, spec: Object) -> Iterable[tuple[str, str, RouteBackend]]:
    """Yield the backends of an Ingress: (JSON pointer, JSON pointer of the rule, backend).

    The pointer of the rule is "" for the default backend; the name of the Service is "" for a backend that is not a
    Service.
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


def _removal_command(ingress: Object, unwanted: Collection[RouteBackend]) -> str:
    """Return the command that removes the references to these backends."""
    namespace, name = key(ingress)
    references = [
        mending.BackendReference(
            path, rule, "/backend/service/name" if rule else "/service/name", backend.service, backend in unwanted
        )
        for path, rule, backend in _references(namespace, mapping(ingress.get("spec")))
    ]
    return mending.without_references("ingress", namespace, name, references)


def _issues(ingress: Object, found: BackendVerdict, options: IngressOptions, plain: list[str]) -> list[Issue]:
    """Return the findings about an Ingress. plain: its host names that are served without TLS."""
    namespace, name = key(ingress)
    issues: list[Issue] = []
    reach = reach_of(found.verdicts)
    by_nginx = options.is_nginx
    nginx_list = mending.annotate_command("ingress", namespace, name, _NGINX_ALLOWLIST)
    if found.missing:
        text = (
            f"it leads to service {found.missing[0].service}, which is missing or has no pods:"
            " anyone who creates it publishes its pods"
        )
        issues.append(Issue("no-backend", "low", text, _removal_command(ingress, found.missing)))
    if reach != "internet":
        return issues
    if found.program and not options.has_login:
        text = f"anyone on the Internet reaches {found.program}, which nobody should reach from outside"
        mend = nginx_list if by_nginx else _removal_command(ingress, found.sensitive)
        issues.append(Issue("sensitive-port", "high", text, mend))
    ignored, why = options.ignored
    if ignored:
        text = f"its annotation {ignored} has no effect, since {why}"
        mend = nginx_list if by_nginx else mending.delete_command("ingress", namespace, name)
        issues.append(Issue("ineffective-allowlist", "medium", text, mend))
    if named := [one for one in plain if one]:
        change = {"spec": {"tls": [{"hosts": named[:5], "secretName": f"{name}-tls"}]}}
        text = f"{named[0]} is served to the Internet without TLS: others in the network can read passwords and cookies"
        issues.append(Issue("no-tls", "medium", text, mending.patch_command("ingress", namespace, name, change)))
    if "" in plain:
        text = "it answers for every host name, without TLS"
        change_host = [{"op": "add", "path": "/spec/rules/0/host", "value": "NAME.YOUR-DOMAIN"}]
        issues.append(Issue("any-host", "low", text, mending.patch_command("ingress", namespace, name, change_host)))
    return issues
