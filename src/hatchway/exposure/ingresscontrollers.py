"""Reads the settings in an Ingress's annotations as its controller does: clients, logins, TLS, ports. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from hatchway.exposure.backends import ClusterFacts, annotations_of, is_challenge
from hatchway.exposure.middlewares import Middlewares, RouteGuard
from hatchway.exposure.providers import is_funnel
from hatchway.exposure.ranges import AddressSet
from hatchway.exposure.snapshot import key
from hatchway.exposure.tolerant import mapping, mappings, number, sequence, text, texts
from hatchway.kube.api import Object

__all__ = ["IngressOptions", "options_of"]

_NGINX: Final = "nginx"
_ALB: Final = "alb"
_HAPROXY: Final = "haproxy.org"
_HAPROXY_INGRESS: Final = "haproxy-ingress"
_TRAEFIK: Final = "traefik"
# Parts of the names of controllers (`IngressClass.spec.controller`). AKS calls its ingress-nginx "approuting".
_CONTROLLERS: Final = {
    _NGINX: ("ingress-nginx", "approuting.kubernetes.azure.com"),
    _ALB: ("/alb",),
    _HAPROXY: ("haproxy.org",),
    _HAPROXY_INGRESS: ("haproxy-ingress",),
    _TRAEFIK: ("traefik",),
}
# Annotations with the ranges of clients that are let in, and annotations for logins, each with the controller that
# evaluates it.
_ALLOWLISTS: Final = {
    "nginx.ingress.kubernetes.io/allowlist-source-range": _NGINX,
    "nginx.ingress.kubernetes.io/whitelist-source-range": _NGINX,
    "alb.ingress.kubernetes.io/inbound-cidrs": _ALB,
    "haproxy.org/allow-list": _HAPROXY,
    "haproxy.org/whitelist": _HAPROXY,
    "haproxy-ingress.github.io/allowlist-source-range": _HAPROXY_INGRESS,
    "haproxy-ingress.github.io/whitelist-source-range": _HAPROXY_INGRESS,
}
_LOGINS: Final = {
    "nginx.ingress.kubernetes.io/auth-url": _NGINX,
    "nginx.ingress.kubernetes.io/auth-secret": _NGINX,
    "nginx.ingress.kubernetes.io/auth-tls-secret": _NGINX,
    "alb.ingress.kubernetes.io/auth-type": _ALB,
    "haproxy.org/auth-type": _HAPROXY,
    "haproxy-ingress.github.io/auth-url": _HAPROXY_INGRESS,
    "haproxy-ingress.github.io/auth-secret": _HAPROXY_INGRESS,
}
# Annotations by which controllers of clouds get certificates without `spec.tls`.
_CERTIFICATES: Final = ("ingress.gcp.kubernetes.io/pre-shared-cert", "networking.gke.io/managed-certificates")
_ALB_CERTIFICATE: Final = "alb.ingress.kubernetes.io/certificate-arn"
_ALB_PORTS: Final = "alb.ingress.kubernetes.io/listen-ports"
_ALB_REDIRECT: Final = "alb.ingress.kubernetes.io/ssl-redirect"
_ALB_GROUPS: Final = "alb.ingress.kubernetes.io/security-groups"
_ALB_ACTION: Final = "alb.ingress.kubernetes.io/actions."
_CLASS: Final = "kubernetes.io/ingress.class"
_DEFAULT_CLASS: Final = "ingressclass.kubernetes.io/is-default-class"
_TRAEFIK_POINTS: Final = "traefik.ingress.kubernetes.io/router.entrypoints"
_TRAEFIK_TLS: Final = "traefik.ingress.kubernetes.io/router.tls"
_TRAEFIK_MIDDLEWARES: Final = "traefik.ingress.kubernetes.io/router.middlewares"
_SECURE_POINT: Final = "websecure"
# The annotation with more hosts for the rules of an Ingress.
_ALIASES: Final = "nginx.ingress.kubernetes.io/server-alias"


@dataclass(frozen=True, slots=True)
class IngressOptions:
    """The settings that a controller reads from an Ingress's annotations.

    controller: the name of the controller of the Ingress's class; "" when not known.
    is_internal: True when the controller's load balancer is marked as internal. is_funnel: True when Tailscale
        publishes it.
    allowed: the clients that are let in; None for all.
    ignored: an annotation without effect, and why; ("", "") for none.
    has_login: True when the controller asks for a login.
    is_nginx: True for ingress-nginx, and when the controller is not known.
    aliases: more host names for the rules.
    listens: (port, True for TLS) of each listener, if an annotation names them; else ().
    redirects: True when requests without TLS are only redirected.
    has_certificate: True when an annotation gives a certificate for all names.
    actions: the names of backends that are no Services, but actions of the controller.
    is_challenge: True for an Ingress by which cert-manager answers challenges.
    """

    controller: str = ""
    is_internal: bool = False
    is_funnel: bool = False
    allowed: AddressSet | None = None
    ignored: tuple[str, str] = ("", "")
    has_login: bool = False
    is_nginx: bool = True
    aliases: tuple[str, ...] = ()
    listens: tuple[tuple[int, bool], ...] = ()
    redirects: bool = False
    has_certificate: bool = False
    actions: frozenset[str] = frozenset()
    is_challenge: bool = False

    def has_tls(self, host: str, spec: Mapping[str, Any]) -> bool:
        """Return True when a host of an Ingress is served with TLS. spec: the spec of the Ingress."""
        if self.listens:
            return any(secure for _, secure in self.listens)
        if self.has_certificate:
            return True
        for entry in mappings(spec.get("tls")):
            hosts = texts(entry.get("hosts"))
            parent = f"*.{host.partition('.')[2]}"
            if not hosts or host in hosts or (host and parent in hosts):
                return True
        return False

    def is_plain(self, host: str, spec: Mapping[str, Any]) -> bool:
        """Return True when a host of an Ingress is served without TLS to clients that do not use TLS."""
        if self.is_challenge or self.redirects:
            return False
        return any(not secure for _, secure in self.listens) or not self.has_tls(host, spec)

    def ports(self, host: str, spec: Mapping[str, Any]) -> tuple[tuple[int, bool], ...]:
        """Return (port, True for TLS) of each listener that serves a host of an Ingress."""
        secure = self.has_tls(host, spec)
        return self.listens or ((443 if secure else 80, secure),)


def options_of(ingress: Object, facts: ClusterFacts, middlewares: Middlewares) -> IngressOptions:
    """Return the settings that an Ingress's controller reads from the Ingress's annotations."""
    annotations = annotations_of(ingress)
    controller, called = _controller(ingress, facts)
    is_alb = called == "alb" or _is(controller, _ALB)
    guard = RouteGuard()
    if not controller or _is(controller, _TRAEFIK):
        guard = middlewares.of_annotation(annotations.get(_TRAEFIK_MIDDLEWARES, ""))
    allowed, ignored = _allowlist(annotations, controller)
    if guard.allowed is not None:
        allowed, ignored = guard.allowed if allowed is None else allowed & guard.allowed, ("", "")
    logins = (one for one, kind in _LOGINS.items() if _knows(controller, kind))
    listens = _alb_ports(annotations) if is_alb else _traefik_ports(annotations, controller)
    nginx = _knows(controller, _NGINX)
    aliases = annotations.get(_ALIASES, "").split(",") if nginx else ()
    return IngressOptions(
        controller=controller,
        is_internal=_is_internal(annotations, called, is_alb=is_alb),
        is_funnel=is_funnel(ingress),
        allowed=allowed,
        ignored=ignored,
        has_login=guard.has_login or any(annotations.get(one, "none") != "none" for one in logins),
        is_nginx=nginx,
        aliases=tuple(one.strip() for one in aliases if one.strip()),
        listens=listens,
        redirects=guard.redirects or (is_alb and _alb_redirects(annotations)),
        has_certificate=any(one in annotations for one in _CERTIFICATES),
        actions=frozenset(one.removeprefix(_ALB_ACTION) for one in annotations if one.startswith(_ALB_ACTION)),
        is_challenge=is_challenge(ingress),
    )


def _controller(ingress: Object, facts: ClusterFacts) -> tuple[str, str]:
    """Return (the name of the Ingress's controller from its class, the class's name); "" when not known."""
    spec = mapping(ingress.get("spec"))
    called = text(spec.get("ingressClassName")) or annotations_of(ingress).get(_CLASS, "")
    for one in facts.snapshot.ingress_classes:
        is_default = not called and annotations_of(one).get(_DEFAULT_CLASS) == "true"
        if is_default or (called and key(one)[1] == called):
            return text(mapping(one.get("spec")).get("controller")), key(one)[1]
    return "", called


def _is(controller: str, kind: str) -> bool:
    return any(part in controller for part in _CONTROLLERS[kind])


def _knows(controller: str, kind: str) -> bool:
    """Return True when a controller may evaluate a kind's annotations: it is of this kind, or it is not known."""
    return not controller or _is(controller, kind)


def _is_internal(annotations: Mapping[str, str], called: str, *, is_alb: bool) -> bool:
    if is_alb:
        # AWS' controller makes an internal load balancer when the annotation is missing.
        return annotations.get("alb.ingress.kubernetes.io/scheme", "internal") == "internal"
    return called == "gce-internal" or annotations.get("appgw.ingress.kubernetes.io/use-private-ip") == "true"


def _allowlist(annotations: Mapping[str, str], controller: str) -> tuple[AddressSet | None, tuple[str, str]]:
    """Return the clients that are let in (None for all), and an annotation that has no effect, with the reason."""
    ignored = ""
    for annotation, kind in _ALLOWLISTS.items():
        ranges = [one for one in annotations.get(annotation, "").split(",") if one.strip()]
        if ranges and _knows(controller, kind):
            if kind == _ALB and _ALB_GROUPS in annotations:
                return None, (annotation, f"the security groups in {_ALB_GROUPS} take its place")
            return AddressSet.parse(ranges), ("", "")
        if ranges:
            ignored = annotation
    unknown = (one for one, kind in _LOGINS.items() if one in annotations and not _knows(controller, kind))
    ignored = ignored or next(unknown, "")
    return None, (ignored, f"its controller is {controller}" if ignored else "")


def _alb_ports(annotations: Mapping[str, str]) -> tuple[tuple[int, bool], ...]:
    """Return (port, True for TLS) of AWS' application load balancer, to which `spec.tls` alone gives no TLS."""
    found: list[tuple[int, bool]] = []
    try:
        given: Any = json.loads(annotations.get(_ALB_PORTS, "[]"))
    except (ValueError, RecursionError):
        given = []
    for entry in sequence(given):
        found += [(number(port), protocol == "HTTPS") for protocol, port in mapping(entry).items() if number(port)]
    secure = _ALB_CERTIFICATE in annotations
    return tuple(found) or ((443 if secure else 80, secure),)


def _alb_redirects(annotations: Mapping[str, str]) -> bool:
    actions = (value.lower() for name, value in annotations.items() if name.startswith(_ALB_ACTION))
    return _ALB_REDIRECT in annotations or any("redirect" in value for value in actions)


def _traefik_ports(annotations: Mapping[str, str], controller: str) -> tuple[tuple[int, bool], ...]:
    """Return (port, True for TLS) of Traefik's usual entry points if annotations choose them; else ()."""
    if controller and not _is(controller, _TRAEFIK):
        return ()
    points = {one.strip() for one in annotations.get(_TRAEFIK_POINTS, "").split(",") if one.strip()}
    secure = annotations.get(_TRAEFIK_TLS, "").lower() == "true"
    if points == {_SECURE_POINT} or (secure and not points):
        return ((443, True),)
    return ()
