"""The objects of the add-on `metrics`: metrics.k8s.io and the objects' state, which one program serves.

Names are those of the manifests of metrics-server and of kube-state-metrics.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass
from typing import Final

from hatchway.cluster.addonmanifests.shapes import (
    APP,
    NAMESPACE,
    RBAC,
    READ,
    WATCH,
    Manifest,
    account_with_role,
    built_in_service,
    cluster_role,
    container,
    deployment,
    http_probe,
    pod_spec,
    port,
    role_binding,
    rule,
    service,
)
from hatchway.kube.api import Object
from hatchway.kube.wellknown import API_SERVICES

__all__ = ["METRICS", "METRICS_API", "METRICS_HOST", "ServerCertificate", "manifests"]

METRICS: Final = "metrics-server"
METRICS_API: Final = "v1beta1.metrics.k8s.io"
# The name in the certificate of the metrics server. The API server accepts only this name.
METRICS_HOST: Final = f"{METRICS}.{NAMESPACE}.svc"
_ROLE, _STATE_METRICS = "system:metrics-server", "kube-state-metrics"
# Where the pod has the files of its certificate.
_TLS_MOUNT = "/etc/metrics-server"
_LABELS = {APP: METRICS}


@dataclass(frozen=True, slots=True)
class ServerCertificate:
    """The certificate of an add-on that serves HTTPS, its key, and the authority that has signed it (PEM)."""

    certificate: bytes
    key: bytes
    authority: bytes


def manifests(certificate: ServerCertificate) -> list[Manifest]:
    """Return the objects. certificate: a certificate for the name METRICS_HOST."""
    program = container(
        METRICS,
        "metrics-server",
        "40Mi",
        [port(10250, "https"), port(8080, "state-metrics")],
        http_probe("/readyz", 10250, "HTTPS"),
        volumeMounts=[{"name": "tls", "mountPath": _TLS_MOUNT, "readOnly": True}],
    )
    volumes = [{"name": "tls", "secret": {"secretName": f"{METRICS}-tls"}}]
    usage = [rule("", ["nodes/metrics"], ["get"]), rule("", ["pods", "nodes"], READ)]
    state = [
        rule("", ["namespaces", "nodes", "pods", "services"], WATCH),
        rule("apps", ["deployments", "replicasets"], WATCH),
        rule("autoscaling", ["horizontalpodautoscalers"], WATCH),
        rule("discovery.k8s.io", ["endpointslices"], WATCH),
    ]
    reader = cluster_role(
        "system:aggregated-metrics-reader",
        [rule("metrics.k8s.io", ["pods", "nodes"], READ)],
        {**_LABELS, **{f"{RBAC}/aggregate-to-{role}": "true" for role in ("admin", "edit", "view")}},
    )
    return [
        _secret(certificate),
        reader,
        *account_with_role(METRICS, {_ROLE: usage, _STATE_METRICS: state}, _LABELS),
        role_binding("extension-apiserver-authentication-reader", METRICS, _LABELS, name=f"{METRICS}-auth-reader"),
        built_in_service(METRICS, [{"name": "https", "port": 443, "protocol": "TCP", "targetPort": "https"}]),
        service(
            _STATE_METRICS,
            [{"name": "http-metrics", "port": 8080, "protocol": "TCP", "targetPort": "state-metrics"}],
            app=METRICS,
            labels={"app.kubernetes.io/name": _STATE_METRICS},
            # Prometheus' usual configuration finds the Service by these annotations.
            annotations={"prometheus.io/scrape": "true", "prometheus.io/port": "8080"},
        ),
        deployment(METRICS, pod_spec(program, account=METRICS, volumes=volumes), maxUnavailable=0),
        _api_service(certificate),
    ]


def _secret(certificate: ServerCertificate) -> Manifest:
    encoded = {"tls.crt": certificate.certificate, "tls.key": certificate.key}
    found: Object = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": f"{METRICS}-tls", "namespace": NAMESPACE, "labels": _LABELS},
        "type": "kubernetes.io/tls",
        "data": {key: base64.b64encode(value).decode() for key, value in encoded.items()},
    }
    return "secrets", found


def _api_service(certificate: ServerCertificate) -> Manifest:
    found: Object = {
        "apiVersion": "apiregistration.k8s.io/v1",
        "kind": "APIService",
        "metadata": {"name": METRICS_API, "labels": _LABELS},
        "spec": {
            "group": "metrics.k8s.io",
            "version": "v1beta1",
            "groupPriorityMinimum": 100,
            "versionPriority": 100,
            "service": {"name": METRICS, "namespace": NAMESPACE, "port": 443},
            "caBundle": base64.b64encode(certificate.authority).decode(),
        },
    }
    return API_SERVICES, found
