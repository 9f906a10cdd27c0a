"""Printers of Ingresses and IngressClasses (`pkg/printers/internalversion/printers.go`)."""

from __future__ import annotations

from hatchway.cluster.api.registry.printers.base import AGE, NAME, Cells, Column, Json, Printer, age_of, name_of
from hatchway.cluster.api.registry.printers.humanize import NONE

__all__ = ["INGRESS", "INGRESS_CLASS"]

_MAX_HOSTS = 3


def _ingress(obj: Json, now: float) -> Cells:
    spec = obj.get("spec") or {}
    return [
        name_of(obj),
        spec.get("ingressClassName") or NONE,
        _hosts(spec.get("rules") or []),
        _addresses(obj),
        "80, 443" if spec.get("tls") else "80",
        age_of(obj, now),
    ]


def _hosts(rules: list[Json]) -> str:
    """Return the first three hosts and the number of the others, as text; `*` when no rule has a host."""
    hosts = [rule["host"] for rule in rules if rule.get("host")]
    shown = ",".join(hosts[:_MAX_HOSTS]) or "*"
    return f"{shown} + {len(hosts) - _MAX_HOSTS} more..." if len(hosts) > _MAX_HOSTS else shown


def _addresses(obj: Json) -> str:
    ingress = ((obj.get("status") or {}).get("loadBalancer") or {}).get("ingress") or ()
    return ",".join(sorted({one.get("ip") or one.get("hostname") or "" for one in ingress} - {""}))


def _ingress_class(obj: Json, now: float) -> Cells:
    spec = obj.get("spec") or {}
    parameters, shown = spec.get("parameters"), NONE
    if parameters is not None:
        group = parameters.get("apiGroup")
        kind = parameters.get("kind", "") + ("" if group is None else f".{group}")
        shown = f"{kind}/{parameters.get('name', '')}"
    return [name_of(obj), spec.get("controller", ""), shown, age_of(obj, now)]


INGRESS = Printer(
    _ingress,
    NAME,
    Column("Class", description="The class, which names the controller that serves the Ingress"),
    Column("Hosts", description="The hosts of the rules"),
    Column("Address", description="The address of the load balancer"),
    Column("Ports", description="The ports of the rules"),
    AGE,
)
INGRESS_CLASS = Printer(
    _ingress_class,
    NAME,
    Column("Controller", description="The controller that serves Ingresses of the class"),
    Column("Parameters", description="The object with the controller's parameters"),
    AGE,
)
