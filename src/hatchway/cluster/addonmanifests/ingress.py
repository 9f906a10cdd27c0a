"""The objects of the add-on `ingress`: a class, and a controller that runs while there are Ingresses for it."""

from __future__ import annotations

from typing import Final

from hatchway.cluster.addonmanifests.shapes import (
    APP,
    NAMESPACE,
    READ,
    Manifest,
    account_with_role,
    container,
    deployment,
    http_probe,
    pod_spec,
    port,
    rule,
    service,
)
from hatchway.kube.api import Object

__all__ = ["CONTROLLER", "INGRESS", "INGRESS_CLASS", "ingress_class", "manifests"]

INGRESS: Final = "hatchway-ingress"
# The name by which an IngressClass chooses the ingress controller, and the default class.
CONTROLLER, INGRESS_CLASS = "hatchway.dev/ingress", "hatchway"
_ROLE = "system:hatchway-ingress"
_LABELS = {APP: INGRESS}


def ingress_class() -> list[Manifest]:
    """Return the class that Ingresses get by default."""
    annotations = {"ingressclass.kubernetes.io/is-default-class": "true"}
    found: Object = {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "IngressClass",
        "metadata": {"name": INGRESS_CLASS, "labels": _LABELS, "annotations": annotations},
        "spec": {"controller": CONTROLLER},
    }
    return [("ingressclasses.networking.k8s.io", found)]


def manifests() -> list[Manifest]:
    """Return the objects of the ingress controller, which are made when there is an Ingress for it."""
    program = container(
        "ingress",
        "ingress",
        "60Mi",
        [port(8080, "http"), port(8443, "https")],
        http_probe("/readyz", 10254),
        env=[{"name": "HATCHWAY_INGRESS_SERVICE", "value": f"{NAMESPACE}/{INGRESS}"}],
    )
    net = "networking.k8s.io"
    rules = [
        rule("", ["services", "secrets"], READ),
        rule("discovery.k8s.io", ["endpointslices"], READ),
        rule(net, ["ingresses", "ingressclasses"], READ),
        rule(net, ["ingresses/status"], ["patch", "update"]),
        rule("", ["events"], ["create", "patch"]),
    ]
    ports: list[Object] = [
        {"name": "http", "port": 80, "protocol": "TCP", "targetPort": "http"},
        {"name": "https", "port": 443, "protocol": "TCP", "targetPort": "https"},
    ]
    return [
        *account_with_role(INGRESS, {_ROLE: rules}, _LABELS),
        service(INGRESS, ports, type="LoadBalancer"),
        deployment(INGRESS, pod_spec(program, account=INGRESS, terminationGracePeriodSeconds=10), maxUnavailable=0),
    ]
