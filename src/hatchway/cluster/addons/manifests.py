"""The objects of the built-in services, as they would stand in manifests.

Names, labels and ports are those of kubeadm's CoreDNS and of the cluster add-on fluentd-elasticsearch, so that
`kubectl cluster-info` and the documentation's examples find them. `kubernetes.io/name` is what cluster-info prints.
What users may want to change and have kept (replicas, say) is not named here.
"""

from __future__ import annotations

from hatchway import __version__
from hatchway.cluster import plan
from hatchway.kube.api import Object

NAMESPACE = "kube-system"
DNS, LOGGING = "kube-dns", "elasticsearch-logging"
DNS_ACCOUNT, DNS_ROLE = "coredns", "system:coredns"
DEPLOYMENTS = "deployments.apps"
_RBAC = "rbac.authorization.k8s.io"
# Where the logging add-on looks for the logs and keeps its index.
LOG_MOUNT, DATA_MOUNT = "/var/log/pods", "/var/lib/hatchway-logging"

Manifest = tuple[str, Object]


def dns() -> list[Manifest]:
    """The cluster's name server at 10.96.0.10."""
    pod = {
        "serviceAccountName": DNS_ACCOUNT,
        # Its own resolv.conf names the resolvers outside: asking the cluster's would be asking itself.
        "dnsPolicy": "Default",
        "tolerations": _TOLERATIONS,
        "containers": [
            {
                "name": "dns",
                "image": f"hatchway/dns:{__version__}",
                "imagePullPolicy": "IfNotPresent",
                "resources": {"requests": {"cpu": "100m", "memory": "40Mi"}},
                "ports": [
                    {"name": "dns", "containerPort": 53, "protocol": "UDP"},
                    {"name": "dns-tcp", "containerPort": 53, "protocol": "TCP"},
                    {"name": "metrics", "containerPort": 9153, "protocol": "TCP"},
                ],
                "readinessProbe": _probe("/ready", 8181),
            }
        ],
    }
    ports = [
        # The first port is the one that cluster-info prints.
        {"name": "dns", "port": 53, "protocol": "UDP", "targetPort": 53},
        {"name": "dns-tcp", "port": 53, "protocol": "TCP", "targetPort": 53},
        {"name": "metrics", "port": 9153, "protocol": "TCP", "targetPort": 9153},
    ]
    role: Object = {
        "apiVersion": f"{_RBAC}/v1",
        "kind": "ClusterRole",
        "metadata": {"name": DNS_ROLE},
        "rules": [
            {"apiGroups": [""], "resources": ["services", "pods", "namespaces"], "verbs": ["list", "watch"]},
            {"apiGroups": ["discovery.k8s.io"], "resources": ["endpointslices"], "verbs": ["list", "watch"]},
        ],
    }
    binding: Object = {
        "apiVersion": f"{_RBAC}/v1",
        "kind": "ClusterRoleBinding",
        "metadata": {"name": DNS_ROLE},
        "roleRef": {"apiGroup": _RBAC, "kind": "ClusterRole", "name": DNS_ROLE},
        "subjects": [{"kind": "ServiceAccount", "name": DNS_ACCOUNT, "namespace": NAMESPACE}],
    }
    account: Object = {
        "apiVersion": "v1",
        "kind": "ServiceAccount",
        "metadata": {"name": DNS_ACCOUNT, "namespace": NAMESPACE},
    }
    return [
        ("serviceaccounts", account),
        (f"clusterroles.{_RBAC}", role),
        (f"clusterrolebindings.{_RBAC}", binding),
        ("services", _service(DNS, ports, clusterIP=plan.DNS_SERVICE_IP)),
        (
            DEPLOYMENTS,
            _deployment(DNS, pod, {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": "25%", "maxUnavailable": 1}}),
        ),
    ]


def logging() -> list[Manifest]:
    """The search index over all containers' logs."""
    pod = {
        "tolerations": _TOLERATIONS,
        "terminationGracePeriodSeconds": 10,
        # It asks nothing of the API.
        "automountServiceAccountToken": False,
        "containers": [
            {
                "name": "logging",
                "image": f"hatchway/logging:{__version__}",
                "imagePullPolicy": "IfNotPresent",
                "resources": {"requests": {"cpu": "100m", "memory": "100Mi"}},
                "ports": [{"containerPort": 9200, "protocol": "TCP"}],
                "env": [
                    {"name": "HATCHWAY_NODE_NAME", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}},
                ],
                "readinessProbe": _probe("/_cluster/health", 9200),
                "volumeMounts": [
                    {"name": "logs", "mountPath": LOG_MOUNT, "readOnly": True},
                    {"name": "data", "mountPath": DATA_MOUNT},
                ],
            }
        ],
        "volumes": [
            {"name": "logs", "hostPath": {"path": plan.NODE_LOGS, "type": "Directory"}},
            {"name": "data", "hostPath": {"path": plan.NODE_LOG_INDEX, "type": "DirectoryOrCreate"}},
        ],
    }
    # One unnamed port: the documentation's URLs name none, and that matches only a port without a name.
    ports = [{"port": 9200, "protocol": "TCP", "targetPort": 9200}]
    # One index has one writer: the old pod must be gone before the new one starts.
    return [
        ("services", _service(LOGGING, ports)),
        (DEPLOYMENTS, _deployment(LOGGING, pod, {"type": "Recreate"})),
    ]


_TOLERATIONS = [
    {"key": "CriticalAddonsOnly", "operator": "Exists"},
    {"key": "node-role.kubernetes.io/control-plane", "effect": "NoSchedule"},
]


def _probe(path: str, port: int) -> Object:
    # Every second: the cluster is up when these are ready.
    return {
        "httpGet": {"path": path, "port": port, "scheme": "HTTP"},
        "periodSeconds": 1,
        "timeoutSeconds": 2,
        "successThreshold": 1,
        "failureThreshold": 3,
    }


def _service(name: str, ports: list[Object], **spec: str) -> Object:
    labels = {"k8s-app": name, "kubernetes.io/cluster-service": "true", "kubernetes.io/name": name}
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name, "namespace": NAMESPACE, "labels": labels},
        "spec": {"type": "ClusterIP", "selector": {"k8s-app": name}, "ports": ports, **spec},
    }


def _deployment(name: str, pod: Object, strategy: Object) -> Object:
    labels = {"k8s-app": name}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name, "namespace": NAMESPACE, "labels": labels},
        "spec": {
            "selector": {"matchLabels": labels},
            "strategy": strategy,
            "template": {"metadata": {"labels": labels}, "spec": pod},
        },
    }
