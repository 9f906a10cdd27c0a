"""The built-in types: one row each. Discovery, OpenAPI, tables and the verbs read these rows.

Adding a built-in type is one row of `ROWS` and, when something about it is special, its strategy.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field, replace

from hatchway.cluster.api.strategies.access import RoleBindingStrategy, RoleStrategy
from hatchway.cluster.api.strategies.base import Strategy
from hatchway.cluster.api.strategies.coordination import LeaseStrategy
from hatchway.cluster.api.strategies.data import ConfigMapStrategy, SecretStrategy, ServiceAccountStrategy
from hatchway.cluster.api.strategies.endpoints import EndpointSliceStrategy, EndpointsStrategy
from hatchway.cluster.api.strategies.events import EventStrategy, events_v1_from_core, events_v1_to_core
from hatchway.cluster.api.strategies.namespaces import NamespaceStrategy
from hatchway.cluster.api.strategies.nodes import NodeStrategy
from hatchway.cluster.api.strategies.pods import PodStrategy
from hatchway.cluster.api.strategies.services import ServiceStrategy
from hatchway.cluster.api.strategies.workloads import DeploymentStrategy, ReplicaSetStrategy
from hatchway.cluster.auth.user import UserInfo
from hatchway.kube.api import Object

__all__ = ["ROWS", "Registry", "Resource", "Subresource", "VirtualCreate", "loopback_rows"]

# Answers a POST for a type or subresource that is computed and not stored (reviews, tokens):
# handler(user, namespace, name, object) -> the answer. `name` is "" unless it is a subresource.
VirtualCreate = Callable[[UserInfo, str, str, Object], Awaitable[Object]]

CRUD = ("create", "delete", "deletecollection", "get", "list", "patch", "update", "watch")
_STATUS = ("get", "patch", "update")
_PROXY = ("create", "delete", "get", "patch", "update")


@dataclass(frozen=True, slots=True)
class Subresource:
    """`pods/log` and its like. kind, group, version: of the object that it takes or gives, when not the parent's."""

    name: str
    verbs: tuple[str, ...]
    kind: str = ""
    group: str = ""
    version: str = ""


@dataclass(frozen=True, slots=True)
class Resource:
    """One served type. `storage`: the group-resource under which its objects are kept (another row's for a type that
    is served by two groups; then the two converters lead there and back)."""

    group: str
    version: str
    plural: str
    singular: str
    kind: str
    namespaced: bool
    short_names: tuple[str, ...] = ()
    categories: tuple[str, ...] = ()
    verbs: tuple[str, ...] = CRUD
    subresources: tuple[Subresource, ...] = ()
    strategy: Strategy = field(default_factory=Strategy)
    storage: str = ""
    to_storage: Callable[[Object], Object] | None = None
    from_storage: Callable[[Object], Object] | None = None

    @property
    def api_version(self) -> str:
        """`v1`, `apps/v1`."""
        return f"{self.group}/{self.version}" if self.group else self.version

    @property
    def group_resource(self) -> str:
        """`pods`, `deployments.apps`: how clients and error messages spell it."""
        return f"{self.plural}.{self.group}" if self.group else self.plural

    @property
    def gvk(self) -> tuple[str, str, str]:
        return self.group, self.version, self.kind

    @property
    def stored_as(self) -> str:
        return self.storage or self.group_resource

    @property
    def virtual(self) -> bool:
        """Created only, never stored."""
        return self.verbs == ("create",)

    def subresource(self, name: str) -> Subresource | None:
        return next((one for one in self.subresources if one.name == name), None)


_status = Subresource("status", _STATUS)
_scale = Subresource("scale", _STATUS, "Scale", "autoscaling", "v1")
_RBAC = "rbac.authorization.k8s.io"


def _review(group: str, plural: str, kind: str, namespaced: bool = False) -> Resource:
    return Resource(group, "v1", plural, kind.lower(), kind, namespaced, verbs=("create",))


ROWS: tuple[Resource, ...] = (
    Resource("", "v1", "configmaps", "configmap", "ConfigMap", True, ("cm",), strategy=ConfigMapStrategy()),
    Resource("", "v1", "endpoints", "endpoints", "Endpoints", True, ("ep",), strategy=EndpointsStrategy()),
    Resource("", "v1", "events", "event", "Event", True, ("ev",), strategy=EventStrategy()),
    Resource(
        "", "v1", "namespaces", "namespace", "Namespace", False, ("ns",),
        verbs=tuple(verb for verb in CRUD if verb != "deletecollection"),
        subresources=(Subresource("finalize", ("update",)), _status),
        strategy=NamespaceStrategy(),
    ),
    Resource(
        "", "v1", "nodes", "node", "Node", False, ("no",),
        subresources=(Subresource("proxy", _PROXY, "NodeProxyOptions"), _status),
        strategy=NodeStrategy(),
    ),
    Resource(
        "", "v1", "pods", "pod", "Pod", True, ("po",), ("all",),
        subresources=(
            Subresource("binding", ("create",), "Binding"),
            Subresource("eviction", ("create",), "Eviction", "policy", "v1"),
            Subresource("log", ("get",)),
            Subresource("proxy", _PROXY, "PodProxyOptions"),
            _status,
        ),
        strategy=PodStrategy(),
    ),
    Resource("", "v1", "secrets", "secret", "Secret", True, strategy=SecretStrategy()),
    Resource(
        "", "v1", "serviceaccounts", "serviceaccount", "ServiceAccount", True, ("sa",),
        subresources=(Subresource("token", ("create",), "TokenRequest", "authentication.k8s.io", "v1"),),
        strategy=ServiceAccountStrategy(),
    ),
    Resource(
        "", "v1", "services", "service", "Service", True, ("svc",), ("all",),
        subresources=(Subresource("proxy", _PROXY, "ServiceProxyOptions"), _status),
        strategy=ServiceStrategy(),
    ),
    Resource(
        "apps", "v1", "deployments", "deployment", "Deployment", True, ("deploy",), ("all",),
        subresources=(_scale, _status), strategy=DeploymentStrategy(),
    ),
    Resource(
        "apps", "v1", "replicasets", "replicaset", "ReplicaSet", True, ("rs",), ("all",),
        subresources=(_scale, _status), strategy=ReplicaSetStrategy(),
    ),
    _review("authentication.k8s.io", "selfsubjectreviews", "SelfSubjectReview"),
    _review("authentication.k8s.io", "tokenreviews", "TokenReview"),
    _review("authorization.k8s.io", "localsubjectaccessreviews", "LocalSubjectAccessReview", True),
    _review("authorization.k8s.io", "selfsubjectaccessreviews", "SelfSubjectAccessReview"),
    _review("authorization.k8s.io", "selfsubjectrulesreviews", "SelfSubjectRulesReview"),
    _review("authorization.k8s.io", "subjectaccessreviews", "SubjectAccessReview"),
    Resource("coordination.k8s.io", "v1", "leases", "lease", "Lease", True, strategy=LeaseStrategy()),
    Resource(
        "discovery.k8s.io", "v1", "endpointslices", "endpointslice", "EndpointSlice", True,
        strategy=EndpointSliceStrategy(),
    ),
    Resource(
        "events.k8s.io", "v1", "events", "event", "Event", True, ("ev",),
        strategy=EventStrategy(new_api=True), storage="events",
        to_storage=events_v1_to_core, from_storage=events_v1_from_core,
    ),
    Resource(_RBAC, "v1", "clusterrolebindings", "clusterrolebinding", "ClusterRoleBinding", False,
             strategy=RoleBindingStrategy()),
    Resource(_RBAC, "v1", "clusterroles", "clusterrole", "ClusterRole", False, strategy=RoleStrategy()),
    Resource(_RBAC, "v1", "rolebindings", "rolebinding", "RoleBinding", True, strategy=RoleBindingStrategy()),
    Resource(_RBAC, "v1", "roles", "role", "Role", True, strategy=RoleStrategy()),
)  # fmt: skip


def loopback_rows() -> tuple[Resource, ...]:
    """The rows of a cluster that has no network of its own: its endpoints' addresses are loopback ones."""
    special: dict[str, Strategy] = {
        "endpoints": EndpointsStrategy(loopback=True),
        "endpointslices.discovery.k8s.io": EndpointSliceStrategy(loopback=True),
    }
    return tuple(replace(row, strategy=special.get(row.group_resource, row.strategy)) for row in ROWS)


class Registry:
    """The rows by name, and the handlers of what is computed instead of stored.

    Wiring: `registry.virtual["tokenreviews.authentication.k8s.io"] = handler`,
    `registry.virtual["serviceaccounts/token"] = handler`.
    """

    def __init__(self, rows: Iterable[Resource] = ROWS) -> None:
        self.rows = tuple(rows)
        self.virtual: dict[str, VirtualCreate] = {}
        self._by_path = {(row.group, row.version, row.plural): row for row in self.rows}
        self._by_name: dict[str, Resource] = {}
        for row in self.rows:
            self._by_name.setdefault(row.group_resource, row)
            self._by_name[f"{row.plural}.{row.version}.{row.group}" if row.group else f"{row.plural}.{row.version}"] = (
                row
            )

    def find(self, group: str, version: str, plural: str) -> Resource | None:
        """The row that serves a path, or None."""
        return self._by_path.get((group, version, plural))

    def by_name(self, resource: str) -> Resource | None:
        """The row of `pods`, `deployments.apps` or `deployments.v1.apps`, or None."""
        return self._by_name.get(resource)
