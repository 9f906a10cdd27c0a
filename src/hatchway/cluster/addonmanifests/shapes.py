"""The shapes that the objects of all add-ons have in common.

Names, labels and ports are those of kubeadm's CoreDNS and of the cluster add-ons fluentd-elasticsearch and
cluster-monitoring, so that `kubectl cluster-info` and the examples of Kubernetes' documentation find them. cluster-info
prints the label `kubernetes.io/name`. A field is left out when a user's change of it should stay after a restart (a
Service's type or a Deployment's number of replicas, for example).
"""

from __future__ import annotations

from typing import Final

from hatchway import __version__
from hatchway.kube.api import Object
from hatchway.kube.clusterinfo import NAMESPACE
from hatchway.kube.wellknown import CONTROL_PLANE

__all__ = [
    "APP",
    "DEPLOYMENTS",
    "NAMESPACE",
    "RBAC",
    "READ",
    "WATCH",
    "Manifest",
    "account_with_role",
    "built_in_service",
    "cluster_role",
    "container",
    "deployment",
    "first_use_role",
    "http_probe",
    "pod_spec",
    "port",
    "role_binding",
    "rule",
    "service",
]

DEPLOYMENTS: Final = "deployments.apps"
RBAC: Final = "rbac.authorization.k8s.io"
# The label by which Services and Deployments find the pods of an add-on.
APP: Final = "k8s-app"
READ: Final = ["get", "list", "watch"]
WATCH: Final = ["list", "watch"]
_TOLERATIONS: Final = [
    {"key": "CriticalAddonsOnly", "operator": "Exists"},
    {"key": CONTROL_PLANE, "effect": "NoSchedule"},
]

# The name of a resource (as in `Client`), and an object of this resource.
Manifest = tuple[str, Object]


def container(name: str, image: str, memory: str, ports: list[Object], probe: Object, **fields: object) -> Object:
    """Return an add-on's only container.

    image: the image's name without `hatchway/` and the tag. memory: the container's request. fields: more fields.
    """
    return {
        "name": name,
        "image": f"hatchway/{image}:{__version__}",
        "imagePullPolicy": "IfNotPresent",
        "resources": {"requests": {"cpu": "100m", "memory": memory}},
        "ports": ports,
        "readinessProbe": probe,
        **fields,
    }


def port(number: int, name: str = "", protocol: str = "TCP") -> Object:
    """Return a container's port."""
    found: Object = {"containerPort": number, "protocol": protocol}
    return {"name": name, **found} if name else found


def http_probe(path: str, number: int, scheme: str = "HTTP") -> Object:
    """Return a probe that is run every second, because `hatchway up` and users wait until an add-on is ready."""
    return {
        "httpGet": {"path": path, "port": number, "scheme": scheme},
        "periodSeconds": 1,
        "timeoutSeconds": 2,
        "successThreshold": 1,
        "failureThreshold": 3,
    }


def pod_spec(only: Object, *, account: str = "", **fields: object) -> Object:
    """Return the spec of an add-on's pod, which may run on every node.

    only: its container. account: its service account; "" for a pod that does not use the API. fields: more fields.
    """
    identity: Object = {"serviceAccountName": account} if account else {"automountServiceAccountToken": False}
    return {**identity, "tolerations": _TOLERATIONS, "containers": [only], **fields}


def deployment(name: str, pod: Object, **strategy: object) -> Manifest:
    """Return a Deployment. strategy: the fields of its rolling update; without them, its strategy is Recreate."""
    labels = {APP: name}
    how = {"type": "RollingUpdate", "rollingUpdate": strategy} if strategy else {"type": "Recreate"}
    return DEPLOYMENTS, {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name, "namespace": NAMESPACE, "labels": labels},
        "spec": {
            "selector": {"matchLabels": labels},
            "strategy": how,
            "template": {"metadata": {"labels": labels}, "spec": pod},
        },
    }


def service(
    name: str,
    ports: list[Object],
    *,
    app: str = "",
    labels: dict[str, str] | None = None,
    annotations: dict[str, str] | None = None,
    **spec: str,
) -> Manifest:
    """Return a Service. app: the value of the pods' label APP; "" to use `name`. spec: more fields."""
    metadata: Object = {
        "name": name,
        "namespace": NAMESPACE,
        "labels": {APP: app or name} if labels is None else labels,
    }
    if annotations:
        metadata["annotations"] = annotations
    return "services", {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": metadata,
        "spec": {"selector": {APP: app or name}, "ports": ports, **spec},
    }


def built_in_service(
    name: str, ports: list[Object], *, app: str = "", annotations: dict[str, str] | None = None, **spec: str
) -> Manifest:
    """Return a Service that cluster-info lists. The parameters are those of `service`."""
    labels = {APP: name, "kubernetes.io/cluster-service": "true", "kubernetes.io/name": name}
    return service(name, ports, app=app, labels=labels, annotations=annotations, **spec)


def rule(group: str, resources: list[str], verbs: list[str]) -> Object:
    """Return a rule of a role. group: the API group."""
    return {"apiGroups": [group], "resources": resources, "verbs": verbs}


def account_with_role(
    account: str, roles: dict[str, list[Object]], labels: dict[str, str] | None = None
) -> list[Manifest]:
    """Return a service account, ClusterRoles, and their bindings to the account. roles: the rules of roles, by name."""
    metadata: Object = {"name": account, "namespace": NAMESPACE, **({"labels": labels} if labels else {})}
    return [
        ("serviceaccounts", {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata}),
        *(cluster_role(role, rules, labels) for role, rules in roles.items()),
        *(role_binding(role, account, labels) for role in roles),
    ]


def cluster_role(name: str, rules: list[Object], labels: dict[str, str] | None = None) -> Manifest:
    """Return a ClusterRole."""
    metadata = {"name": name, **({"labels": labels} if labels else {})}
    return f"clusterroles.{RBAC}", {
        "apiVersion": f"{RBAC}/v1",
        "kind": "ClusterRole",
        "metadata": metadata,
        "rules": rules,
    }


def first_use_role(name: str) -> list[Manifest]:
    """Return a role and its binding: the service proxy may start a Deployment on first use (`cluster/firstuse.py`)."""
    role, proxy = f"system:{name}-first-use", "system:kube-proxy"
    metadata: Object = {"name": role, "namespace": NAMESPACE, "labels": {APP: name}}
    rules = [{**rule("apps", ["deployments/scale"], ["patch"]), "resourceNames": [name]}]
    reference = {"apiGroup": RBAC, "kind": "Role", "name": role}
    subjects = [{"apiGroup": RBAC, "kind": "User", "name": proxy}]
    kinds = {"apiVersion": f"{RBAC}/v1", "metadata": metadata}
    return [
        (f"roles.{RBAC}", {"kind": "Role", **kinds, "rules": rules}),
        (f"rolebindings.{RBAC}", {"kind": "RoleBinding", **kinds, "roleRef": reference, "subjects": subjects}),
    ]


def role_binding(role: str, account: str, labels: dict[str, str] | None = None, *, name: str = "") -> Manifest:
    """Return the binding of a role to a service account.

    name: the name of a RoleBinding to a Role, both in the add-ons' namespace; "" for a ClusterRoleBinding that has the
        role's name.
    """
    metadata: Object = {"name": name or role, **({"namespace": NAMESPACE} if name else {})}
    if labels:
        metadata["labels"] = labels
    return f"{'rolebindings' if name else 'clusterrolebindings'}.{RBAC}", {
        "apiVersion": f"{RBAC}/v1",
        "kind": "RoleBinding" if name else "ClusterRoleBinding",
        "metadata": metadata,
        "roleRef": {"apiGroup": RBAC, "kind": "Role" if name else "ClusterRole", "name": role},
        "subjects": [{"kind": "ServiceAccount", "name": account, "namespace": NAMESPACE}],
    }
