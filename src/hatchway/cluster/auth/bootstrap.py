"""The roles and bindings that every cluster starts with (Kubernetes' `rbac/bootstrappolicy/policy.go`).

Roles for cloud volumes are left out. The roles of single controllers are left out, too, except the role for
autoscalers: all controllers run in one process, whose user is in system:masters. As in Kubernetes, the binding of
system:node has no subjects: nodes get the role's rights from the Node authorizer (`nodeauthorizer.py`). Unlike in
Kubernetes, system:kube-dns may read EndpointSlices, pods and namespaces; and admin, edit and view have their aggregated
rules from the start.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from hatchway.cluster.auth.source import CLUSTER_ROLE_BINDINGS, CLUSTER_ROLES, ROLE_BINDINGS, ROLES
from hatchway.kube.api import Object

_GROUP = "rbac.authorization.k8s.io"
_API_VERSION = f"{_GROUP}/v1"
_LABELS = {"kubernetes.io/bootstrapping": "rbac-defaults"}
_ANNOTATIONS = {"rbac.authorization.kubernetes.io/autoupdate": "true"}
_AGGREGATE = f"{_GROUP}/aggregate-to-"

_READ = "get list watch"
_WRITE = "create delete deletecollection patch update"
_ALL = "create delete deletecollection get list patch update watch"
_READ_UPDATE = "get list patch update watch"
_EVENTS = "create patch update"

RuleObject = dict[str, list[str]]


def _rule(verbs: str, group: str, resources: str, names: str = "") -> RuleObject:
    """Return a rule; verbs, resources and names are separated by blanks, groups by commas ("" is the core group)."""
    rule = {"apiGroups": group.split(","), "resources": resources.split(), "verbs": verbs.split()}
    if names:
        rule["resourceNames"] = names.split()
    return rule


def _urls(urls: str) -> RuleObject:
    return {"nonResourceURLs": urls.split(), "verbs": ["get"]}


_VIEW = [
    _rule(
        _READ,
        "",
        "configmaps endpoints persistentvolumeclaims persistentvolumeclaims/status pods replicationcontrollers "
        "replicationcontrollers/scale serviceaccounts services services/status",
    ),
    _rule(
        _READ,
        "",
        "bindings events limitranges namespaces/status pods/log pods/status replicationcontrollers/status "
        "resourcequotas resourcequotas/status",
    ),
    _rule(_READ, "", "namespaces"),
    _rule(_READ, "discovery.k8s.io", "endpointslices"),
    _rule(
        _READ,
        "apps",
        "controllerrevisions daemonsets daemonsets/status deployments deployments/scale deployments/status "
        "replicasets replicasets/scale replicasets/status statefulsets statefulsets/scale statefulsets/status",
    ),
    _rule(_READ, "autoscaling", "horizontalpodautoscalers horizontalpodautoscalers/status"),
    _rule(_READ, "batch", "cronjobs cronjobs/status jobs jobs/status"),
    _rule(_READ, "policy", "poddisruptionbudgets poddisruptionbudgets/status"),
    _rule(_READ, "networking.k8s.io", "ingresses ingresses/status networkpolicies"),
    _rule(_READ, "resource.k8s.io", "resourceclaims resourceclaims/status resourceclaimtemplates"),
]
_EDIT = [
    _rule(_READ, "", "pods/attach pods/exec pods/portforward pods/proxy secrets services/proxy"),
    _rule("impersonate", "", "serviceaccounts"),
    _rule(_WRITE, "", "pods pods/attach pods/exec pods/portforward pods/proxy"),
    _rule("create", "", "pods/eviction"),
    _rule(
        _WRITE,
        "",
        "configmaps events persistentvolumeclaims replicationcontrollers replicationcontrollers/scale secrets "
        "serviceaccounts services services/proxy",
    ),
    _rule("create", "", "serviceaccounts/token"),
    _rule(
        _WRITE,
        "apps",
        "daemonsets deployments deployments/rollback deployments/scale replicasets replicasets/scale statefulsets "
        "statefulsets/scale",
    ),
    _rule(_WRITE, "autoscaling", "horizontalpodautoscalers"),
    _rule(_WRITE, "batch", "cronjobs jobs"),
    _rule(_WRITE, "policy", "poddisruptionbudgets"),
    _rule(_WRITE, "networking.k8s.io", "ingresses networkpolicies"),
    _rule(_ALL, "coordination.k8s.io", "leases"),
    _rule(_WRITE, "resource.k8s.io", "resourceclaims resourceclaimtemplates"),
]
_ADMIN = [
    _rule("create", "authorization.k8s.io", "localsubjectaccessreviews"),
    _rule(_ALL, _GROUP, "rolebindings roles"),
]
_DELEGATION = [
    _rule("create", "authentication.k8s.io", "tokenreviews"),
    _rule("create", "authorization.k8s.io", "subjectaccessreviews"),
]
_EVENTS_RULE = _rule(_EVENTS, ",events.k8s.io", "events")
_PROBES = "/healthz /livez /readyz /version /version/"

_CLUSTER_ROLES: dict[str, list[RuleObject]] = {
    "cluster-admin": [
        {"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]},
        {"nonResourceURLs": ["*"], "verbs": ["*"]},
    ],
    "system:discovery": [
        _urls("/api /api/* /apis /apis/* /healthz /livez /openapi /openapi/* /readyz /version /version/")
    ],
    "system:public-info-viewer": [_urls(_PROBES)],
    "system:monitoring": [
        _urls("/healthz /healthz/* /livez /livez/* /metrics /metrics/slis /readyz /readyz/*"),
    ],
    "system:basic-user": [
        _rule("create", "authorization.k8s.io", "selfsubjectaccessreviews selfsubjectrulesreviews"),
        _rule("create", "authentication.k8s.io", "selfsubjectreviews"),
    ],
    "system:auth-delegator": _DELEGATION,
    "system:service-account-issuer-discovery": [_urls("/.well-known/openid-configuration /openid/v1/jwks")],
    "system:kubelet-api-admin": [
        _rule(_READ + " proxy", "", "nodes"),
        _rule(
            "*", "", "nodes/configz nodes/healthz nodes/log nodes/metrics nodes/pods nodes/proxy nodes/spec nodes/stats"
        ),
    ],
    "system:kube-dns": [
        _rule("list watch", "", "endpoints namespaces pods services"),
        _rule("list watch", "discovery.k8s.io", "endpointslices"),
    ],
    "system:node": [
        _rule("create", "authentication.k8s.io", "tokenreviews"),
        _rule("create", "authorization.k8s.io", "localsubjectaccessreviews subjectaccessreviews"),
        _rule(_READ, "", "services"),
        _rule("create get list watch", "", "nodes"),
        _rule("patch update", "", "nodes/status"),
        _rule("patch update", "", "nodes"),
        _rule(_EVENTS, "", "events"),
        _rule("create delete get list watch", "", "pods"),
        _rule("patch update", "", "pods/status"),
        _rule("create", "", "pods/eviction"),
        _rule(_READ, "", "configmaps secrets"),
        _rule("get", "", "persistentvolumeclaims persistentvolumes"),
        _rule("get", "", "endpoints"),
        _rule("create", "", "serviceaccounts/token"),
        _rule("get", "", "serviceaccounts"),
        _rule("create delete get patch update", "coordination.k8s.io", "leases"),
        _rule(_READ, "node.k8s.io", "runtimeclasses"),
        _rule("create get list watch", "certificates.k8s.io", "certificatesigningrequests"),
        _rule("get", "resource.k8s.io", "resourceclaims"),
        _rule("deletecollection", "resource.k8s.io", "resourceslices"),
    ],
    "system:persistent-volume-provisioner": [
        _rule("create delete get list watch", "", "persistentvolumes"),
        _rule(_READ_UPDATE, "", "persistentvolumeclaims"),
        _rule(_READ, "storage.k8s.io", "storageclasses"),
        _rule("watch", "", "events"),
        _EVENTS_RULE,
    ],
    "system:volume-scheduler": [
        _rule(_READ_UPDATE, "", "persistentvolumes"),
        _rule(_READ, "storage.k8s.io", "storageclasses"),
        _rule(_READ_UPDATE, "", "persistentvolumeclaims"),
    ],
    **{
        f"system:certificates.k8s.io:{signer}-approver": [
            _rule("approve", "certificates.k8s.io", "signers", f"kubernetes.io/{signer}")
        ]
        for signer in ("legacy-unknown", "kubelet-serving", "kube-apiserver-client", "kube-apiserver-client-kubelet")
    },
    "system:node-proxier": [
        _rule("list watch", "", "endpoints services"),
        _rule(_READ, "", "nodes"),
        _EVENTS_RULE,
        _rule("list watch", "discovery.k8s.io", "endpointslices"),
        _rule("list watch", "networking.k8s.io", "servicecidrs"),
    ],
    # In other clusters, the agent of a CNI plugin has these rights.
    "hatchway:network-policies": [
        _rule("list watch", "", "namespaces"),
        _rule("list watch", "networking.k8s.io", "networkpolicies"),
    ],
    "system:kube-scheduler": [
        _EVENTS_RULE,
        _rule("create", "coordination.k8s.io", "leases"),
        _rule("get list update watch", "coordination.k8s.io", "leases", "kube-scheduler"),
        _rule(_READ, "", "nodes"),
        _rule("delete get list watch", "", "pods"),
        _rule("create", "", "bindings pods/binding"),
        _rule("patch update", "", "pods/status"),
        _rule(_READ, "", "replicationcontrollers services"),
        _rule(_READ, "apps", "replicasets statefulsets"),
        _rule(_READ, "policy", "poddisruptionbudgets"),
        _rule(_READ, "", "persistentvolumeclaims persistentvolumes"),
        _rule(_READ, "storage.k8s.io", "csidrivers csinodes csistoragecapacities"),
        *_DELEGATION,
        _rule(_READ, "", "namespaces"),
        _rule(_READ, "resource.k8s.io", "deviceclasses"),
        _rule(_READ_UPDATE, "resource.k8s.io", "resourceclaims"),
        _rule(_READ_UPDATE, "resource.k8s.io", "resourceclaims/status"),
        _rule(_READ, "resource.k8s.io", "resourceslices"),
        _rule("patch update", "resource.k8s.io", "resourceclaims/binding"),
    ],
    "system:kube-controller-manager": [
        _EVENTS_RULE,
        _rule("create", "coordination.k8s.io", "leases"),
        _rule("get list update watch", "coordination.k8s.io", "leases", "kube-controller-manager"),
        _rule("create", "", "secrets serviceaccounts"),
        _rule("delete", "", "secrets"),
        _rule("get", "", "configmaps namespaces secrets serviceaccounts"),
        _rule("update", "", "secrets serviceaccounts"),
        *_DELEGATION,
        {"apiGroups": ["*"], "resources": ["*"], "verbs": ["list", "watch"]},
        _rule("create", "", "serviceaccounts/token"),
    ],
    # Metrics servers check with the API server whether the autoscaler may read metrics.
    "system:controller:horizontal-pod-autoscaler": [
        _rule(_READ, "autoscaling", "horizontalpodautoscalers"),
        _rule("update", "autoscaling", "horizontalpodautoscalers/status"),
        _rule("get update", "*", "*/scale"),
        _rule("list", "", "pods"),
        _rule("list", "metrics.k8s.io", "pods"),
        _rule("get list", "custom.metrics.k8s.io", "*"),
        _rule("get list", "external.metrics.k8s.io", "*"),
        _EVENTS_RULE,
    ],
}
# Aggregated roles: (the role into which this role itself is aggregated, or ""; the rules of all parts of this role, in
# the order in which the controller `clusterroleaggregation` writes them).
_AGGREGATED: dict[str, tuple[str, list[RuleObject]]] = {
    "admin": ("", [*_EDIT, *_VIEW, *_ADMIN]),
    "edit": ("admin", [*_EDIT, *_VIEW]),
    "view": ("edit", _VIEW),
}
# The rules of the role `system:aggregate-to-NAME`, which is a part of the role NAME.
_PARTS = {"admin": _ADMIN, "edit": _EDIT, "view": _VIEW}

_AUTHENTICATED = ("Group", "system:authenticated")
_UNAUTHENTICATED = ("Group", "system:unauthenticated")
_CLUSTER_BINDINGS: dict[str, list[tuple[str, str]]] = {
    "cluster-admin": [("Group", "system:masters")],
    "system:discovery": [_AUTHENTICATED],
    "system:public-info-viewer": [_AUTHENTICATED, _UNAUTHENTICATED],
    "system:monitoring": [("Group", "system:monitoring")],
    "system:basic-user": [_AUTHENTICATED],
    "system:service-account-issuer-discovery": [("Group", "system:serviceaccounts")],
    # The empty list removes subjects that releases of Hatchway without the Node authorizer have written.
    "system:node": [],
    "system:node-proxier": [("User", "system:kube-proxy")],
    "hatchway:network-policies": [("User", "system:kube-proxy")],
    "system:kube-scheduler": [("User", "system:kube-scheduler")],
    "system:volume-scheduler": [("User", "system:kube-scheduler")],
    "system:kube-controller-manager": [("User", "system:kube-controller-manager")],
    "system:kube-dns": [("ServiceAccount", "kube-dns")],
    "system:controller:horizontal-pod-autoscaler": [("ServiceAccount", "horizontal-pod-autoscaler")],
}


def node_rules() -> list[RuleObject]:
    """Return the rules of the role system:node."""
    return _CLUSTER_ROLES["system:node"]


def bootstrap_objects() -> list[tuple[str, Object]]:
    """Return (resource, object) of all default roles and bindings, complete except for the fields that the store adds.

    Each call makes new objects.
    """
    found: list[tuple[str, Object]] = []
    for name, rules in _CLUSTER_ROLES.items():
        found.append((CLUSTER_ROLES, _cluster_role(name, rules)))
    for name, (into, rules) in _AGGREGATED.items():
        role = _cluster_role(name, rules, _into(into) if into else {})
        role["aggregationRule"] = {"clusterRoleSelectors": [{"matchLabels": _into(name)}]}
        found.append((CLUSTER_ROLES, role))
        found.append((CLUSTER_ROLES, _cluster_role(f"system:aggregate-to-{name}", _PARTS[name], _into(name))))
    for name, subjects in _CLUSTER_BINDINGS.items():
        found.append((CLUSTER_ROLE_BINDINGS, _binding("ClusterRoleBinding", name, "ClusterRole", name, subjects)))
    # With a binding to this role, another API server may read how this API server authenticates clients.
    reader = "extension-apiserver-authentication-reader"
    role = _cluster_role(reader, [_rule(_READ, "", "configmaps", "extension-apiserver-authentication")])
    role["kind"] = "Role"
    role["metadata"]["namespace"] = "kube-system"
    found.append((ROLES, role))
    binding = _binding(
        "RoleBinding",
        f"system::{reader}",
        "Role",
        reader,
        [("User", "system:kube-controller-manager"), ("User", "system:kube-scheduler")],
    )
    binding["metadata"]["namespace"] = "kube-system"
    found.append((ROLE_BINDINGS, binding))
    return found


def extension_authentication(client_ca: str, request_header_ca: str) -> list[tuple[str, Object]]:
    """Return the ConfigMap that tells other API servers how this one authenticates clients, as (resource, object).

    client_ca, request_header_ca: PEM (`controlplane/controller/clusterauthenticationtrust`).
    """
    data = {
        "client-ca-file": client_ca,
        "requestheader-client-ca-file": request_header_ca,
        "requestheader-allowed-names": '["front-proxy-client"]',
        "requestheader-username-headers": '["X-Remote-User"]',
        "requestheader-uid-headers": '["X-Remote-Uid"]',
        "requestheader-group-headers": '["X-Remote-Group"]',
        "requestheader-extra-headers-prefix": '["X-Remote-Extra-"]',
    }
    metadata = {"name": "extension-apiserver-authentication", "namespace": "kube-system"}
    return [("configmaps", {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data})]


def _into(name: str) -> dict[str, str]:
    return {_AGGREGATE + name: "true"}


def _metadata(name: str, labels: dict[str, str] | None = None) -> dict[str, Any]:
    return {"name": name, "labels": {**_LABELS, **(labels or {})}, "annotations": dict(_ANNOTATIONS)}


def _cluster_role(name: str, rules: Iterable[RuleObject], labels: dict[str, str] | None = None) -> Object:
    copies = [{field: list(values) for field, values in rule.items()} for rule in rules]
    return {"apiVersion": _API_VERSION, "kind": "ClusterRole", "metadata": _metadata(name, labels), "rules": copies}


def _binding(kind: str, name: str, role_kind: str, role: str, subjects: Iterable[tuple[str, str]]) -> Object:
    return {
        "apiVersion": _API_VERSION,
        "kind": kind,
        "metadata": _metadata(name),
        "roleRef": {"apiGroup": _GROUP, "kind": role_kind, "name": role},
        "subjects": [_subject(*subject) for subject in subjects],
    }


def _subject(kind: str, name: str) -> dict[str, str]:
    if kind == "ServiceAccount":
        return {"kind": kind, "name": name, "namespace": "kube-system"}
    return {"apiGroup": _GROUP, "kind": kind, "name": name}
