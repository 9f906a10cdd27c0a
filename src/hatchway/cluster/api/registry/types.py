"""The rows of the built-in types. No other code lists the types.

Routing, authorization, discovery, OpenAPI, tables and the verbs read these rows. A new built-in type needs one row in
`ROWS` and, if it has special rules or columns, a strategy and a printer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace

from hatchway.cluster.api.connect.handler import Backend, Connect
from hatchway.cluster.api.connect.podlog import PodLog
from hatchway.cluster.api.connect.podstreams import (
    PodStreams,
    StreamQuery,
    attach_location,
    exec_location,
    forward_location,
)
from hatchway.cluster.api.connect.proxyverb import ProxyVerb, rewriting_of
from hatchway.cluster.api.registry.printers import (
    autoscaling,
    batch,
    certificates,
    devices,
    flowcontrol,
    ingresses,
    limits,
    network,
    others,
    pods,
    policies,
    storage,
    webhooks,
    workloads,
)
from hatchway.cluster.api.registry.resource import CRUD, Resource, Subresource, VirtualCreate
from hatchway.cluster.api.registry.strategies.access import RoleBindingStrategy, RoleStrategy
from hatchway.cluster.api.registry.strategies.admissionpolicies import PolicyBindingStrategy, PolicyStrategy
from hatchway.cluster.api.registry.strategies.apiservices import APIServiceStrategy
from hatchway.cluster.api.registry.strategies.autoscaling import HorizontalPodAutoscalerStrategy
from hatchway.cluster.api.registry.strategies.autoscalingv1 import v1_to_v2, v2_to_v1
from hatchway.cluster.api.registry.strategies.base import Strategy
from hatchway.cluster.api.registry.strategies.certificates import CertificateSigningRequestStrategy
from hatchway.cluster.api.registry.strategies.componentstatuses import ComponentStatusStrategy
from hatchway.cluster.api.registry.strategies.coordination import LeaseStrategy
from hatchway.cluster.api.registry.strategies.cronjobs import CronJobStrategy
from hatchway.cluster.api.registry.strategies.csi import (
    CSIDriverStrategy,
    CSINodeStrategy,
    CSIStorageCapacityStrategy,
    VolumeAttachmentStrategy,
)
from hatchway.cluster.api.registry.strategies.customresourcedefinitions import CustomResourceDefinitionStrategy
from hatchway.cluster.api.registry.strategies.daemonsets import DaemonSetStrategy
from hatchway.cluster.api.registry.strategies.data import ConfigMapStrategy, SecretStrategy, ServiceAccountStrategy
from hatchway.cluster.api.registry.strategies.deviceclaims import ResourceClaimStrategy, ResourceClaimTemplateStrategy
from hatchway.cluster.api.registry.strategies.deviceclasses import DeviceClassStrategy
from hatchway.cluster.api.registry.strategies.disruptions import PodDisruptionBudgetStrategy
from hatchway.cluster.api.registry.strategies.endpoints import EndpointSliceStrategy, EndpointsStrategy
from hatchway.cluster.api.registry.strategies.events import EventStrategy, events_v1_from_core, events_v1_to_core
from hatchway.cluster.api.registry.strategies.flowcontrol import FlowSchemaStrategy, PriorityLevelStrategy
from hatchway.cluster.api.registry.strategies.ingressclasses import IngressClassStrategy
from hatchway.cluster.api.registry.strategies.ingresses import IngressStrategy
from hatchway.cluster.api.registry.strategies.jobs import JobStrategy
from hatchway.cluster.api.registry.strategies.limitranges import LimitRangeStrategy
from hatchway.cluster.api.registry.strategies.mutatingpolicies import MutatingBindingStrategy, MutatingPolicyStrategy
from hatchway.cluster.api.registry.strategies.namespaces import NamespaceStrategy
from hatchway.cluster.api.registry.strategies.networkpolicies import NetworkPolicyStrategy
from hatchway.cluster.api.registry.strategies.nodes import NodeStrategy
from hatchway.cluster.api.registry.strategies.persistentvolumeclaims import PersistentVolumeClaimStrategy
from hatchway.cluster.api.registry.strategies.persistentvolumes import PersistentVolumeStrategy
from hatchway.cluster.api.registry.strategies.pods import PodStrategy
from hatchway.cluster.api.registry.strategies.podtemplate import PodTemplateStrategy
from hatchway.cluster.api.registry.strategies.priorityclasses import PriorityClassStrategy
from hatchway.cluster.api.registry.strategies.resourcequotas import ResourceQuotaStrategy
from hatchway.cluster.api.registry.strategies.resourceslices import ResourceSliceStrategy
from hatchway.cluster.api.registry.strategies.runtimeclasses import RuntimeClassStrategy
from hatchway.cluster.api.registry.strategies.servicecidrs import IPAddressStrategy, ServiceCIDRStrategy
from hatchway.cluster.api.registry.strategies.services import ServiceStrategy
from hatchway.cluster.api.registry.strategies.statefulsets import ControllerRevisionStrategy, StatefulSetStrategy
from hatchway.cluster.api.registry.strategies.storageclasses import StorageClassStrategy, VolumeAttributesClassStrategy
from hatchway.cluster.api.registry.strategies.webhookconfigurations import WebhookConfigurationStrategy
from hatchway.cluster.api.registry.strategies.workloads import (
    DeploymentStrategy,
    ReplicaSetStrategy,
    ReplicationControllerStrategy,
)
from hatchway.kube.api import Object

__all__ = ["ROWS", "Registry", "rows_for", "scalable_resources", "stored_rows"]

_STATUS = ("get", "patch", "update")
_PROXY_VERBS = ("create", "delete", "get", "patch", "update")
_CONNECT_VERBS = ("create", "get")
_status = Subresource("status", _STATUS)
_scale = Subresource("scale", _STATUS, "Scale", "autoscaling", "v1")


def _proxy(kind: str, upgrade_verb: str = "") -> Subresource:
    return Subresource("proxy", _PROXY_VERBS, kind, connect=Connect(_proxy_verb, True, upgrade_verb))


def _proxy_verb(backend: Backend) -> ProxyVerb:
    return ProxyVerb(backend.locator, rewriting_of(backend.rewriting))


def _stream(
    name: str, kind: str, location: Callable[[Object, StreamQuery], str], *, dials: bool = False
) -> Subresource:
    """Return a connecting subresource such as `exec`, for which every method needs the right to `create`.

    dials: the API server may connect to pods directly, without their kubelets.
    """

    def make(backend: Backend) -> PodStreams:
        return PodStreams(backend.objects, backend.locator, location, backend.pod_networks if dials else None)

    return Subresource(name, _CONNECT_VERBS, kind, connect=Connect(make, also_verb="create"))


_RBAC, _STORAGE = "rbac.authorization.k8s.io", "storage.k8s.io"
_DEVICES = "resource.k8s.io"
_REGISTRATION = "admissionregistration.k8s.io"


def _review(group: str, plural: str, kind: str, namespaced: bool = False) -> Resource:
    return Resource(group, "v1", plural, kind.lower(), kind, namespaced, verbs=("create",))


ROWS: tuple[Resource, ...] = (
    Resource("", "v1", "bindings", "binding", "Binding", True, verbs=("create",)),
    Resource("", "v1", "componentstatuses", "componentstatus", "ComponentStatus", False, ("cs",),
             verbs=("get", "list"), strategy=ComponentStatusStrategy(), printer=others.COMPONENT_STATUS),
    Resource("", "v1", "configmaps", "configmap", "ConfigMap", True, ("cm",),
             strategy=ConfigMapStrategy(), printer=others.CONFIG_MAP),
    Resource("", "v1", "endpoints", "endpoints", "Endpoints", True, ("ep",),
             strategy=EndpointsStrategy(), printer=network.ENDPOINTS),
    Resource("", "v1", "events", "event", "Event", True, ("ev",), strategy=EventStrategy(), printer=others.EVENT),
    Resource("", "v1", "limitranges", "limitrange", "LimitRange", True, ("limits",), strategy=LimitRangeStrategy()),
    Resource(
        "", "v1", "namespaces", "namespace", "Namespace", False, ("ns",),
        verbs=tuple(verb for verb in CRUD if verb != "deletecollection"),
        subresources=(Subresource("finalize", ("update",)), _status),
        strategy=NamespaceStrategy(), printer=others.NAMESPACE,
    ),
    Resource(
        "", "v1", "nodes", "node", "Node", False, ("no",),
        # An upgraded connection to a kubelet can run commands, so it also needs the right to `create`.
        subresources=(_proxy("NodeProxyOptions", "create"), _status),
        strategy=NodeStrategy(), printer=others.NODE,
    ),
    Resource(
        "", "v1", "persistentvolumeclaims", "persistentvolumeclaim", "PersistentVolumeClaim", True, ("pvc",),
        subresources=(_status,), strategy=PersistentVolumeClaimStrategy(), printer=storage.PERSISTENT_VOLUME_CLAIM,
    ),
    Resource(
        "", "v1", "persistentvolumes", "persistentvolume", "PersistentVolume", False, ("pv",),
        subresources=(_status,), strategy=PersistentVolumeStrategy(), printer=storage.PERSISTENT_VOLUME,
    ),
    Resource(
        "", "v1", "pods", "pod", "Pod", True, ("po",), ("all",),
        subresources=(
            _stream("attach", "PodAttachOptions", attach_location),
            Subresource("binding", ("create",), "Binding"),
            Subresource("ephemeralcontainers", _STATUS),
            Subresource("eviction", ("create",), "Eviction", "policy", "v1"),
            _stream("exec", "PodExecOptions", exec_location),
            Subresource("log", ("get",), connect=Connect(PodLog.of)),
            _stream("portforward", "PodPortForwardOptions", forward_location, dials=True),
            _proxy("PodProxyOptions"),
            Subresource("resize", _STATUS),
            _status,
        ),
        strategy=PodStrategy(), printer=pods.POD,
    ),
    Resource("", "v1", "podtemplates", "podtemplate", "PodTemplate", True,
             strategy=PodTemplateStrategy(), printer=limits.POD_TEMPLATE),
    Resource(
        "", "v1", "replicationcontrollers", "replicationcontroller", "ReplicationController", True, ("rc",), ("all",),
        subresources=(_scale, _status), strategy=ReplicationControllerStrategy(),
        printer=workloads.REPLICATION_CONTROLLER,
    ),
    Resource(
        "", "v1", "resourcequotas", "resourcequota", "ResourceQuota", True, ("quota",), subresources=(_status,),
        strategy=ResourceQuotaStrategy(), printer=limits.RESOURCE_QUOTA,
    ),
    Resource("", "v1", "secrets", "secret", "Secret", True, strategy=SecretStrategy(), printer=others.SECRET),
    Resource(
        "", "v1", "serviceaccounts", "serviceaccount", "ServiceAccount", True, ("sa",),
        subresources=(Subresource("token", ("create",), "TokenRequest", "authentication.k8s.io", "v1"),),
        strategy=ServiceAccountStrategy(), printer=others.SERVICE_ACCOUNT,
    ),
    Resource(
        "", "v1", "services", "service", "Service", True, ("svc",), ("all",),
        subresources=(_proxy("ServiceProxyOptions"), _status),
        strategy=ServiceStrategy(), printer=network.SERVICE,
    ),
    Resource(
        _REGISTRATION, "v1", "mutatingadmissionpolicies", "mutatingadmissionpolicy", "MutatingAdmissionPolicy", False,
        (), ("api-extensions",), strategy=MutatingPolicyStrategy(), printer=policies.MUTATING_POLICY,
    ),
    Resource(
        _REGISTRATION, "v1", "mutatingadmissionpolicybindings", "mutatingadmissionpolicybinding",
        "MutatingAdmissionPolicyBinding", False, (), ("api-extensions",), strategy=MutatingBindingStrategy(),
        printer=policies.MUTATING_BINDING,
    ),
    Resource(
        _REGISTRATION, "v1", "mutatingwebhookconfigurations", "mutatingwebhookconfiguration",
        "MutatingWebhookConfiguration", False, (), ("api-extensions",), strategy=WebhookConfigurationStrategy(),
        printer=webhooks.WEBHOOK_CONFIGURATION,
    ),
    Resource(
        _REGISTRATION, "v1", "validatingadmissionpolicies", "validatingadmissionpolicy", "ValidatingAdmissionPolicy",
        False, (), ("api-extensions",), subresources=(_status,), strategy=PolicyStrategy(), printer=policies.POLICY,
    ),
    Resource(
        _REGISTRATION, "v1", "validatingadmissionpolicybindings", "validatingadmissionpolicybinding",
        "ValidatingAdmissionPolicyBinding", False, (), ("api-extensions",), strategy=PolicyBindingStrategy(),
        printer=policies.POLICY_BINDING,
    ),
    Resource(
        _REGISTRATION, "v1", "validatingwebhookconfigurations", "validatingwebhookconfiguration",
        "ValidatingWebhookConfiguration", False, (), ("api-extensions",), strategy=WebhookConfigurationStrategy(),
        printer=webhooks.WEBHOOK_CONFIGURATION,
    ),
    Resource(
        "apiextensions.k8s.io", "v1", "customresourcedefinitions", "customresourcedefinition",
        "CustomResourceDefinition", False, ("crd", "crds"), ("api-extensions",),
        subresources=(_status,), strategy=CustomResourceDefinitionStrategy(),
    ),
    Resource(
        "apiregistration.k8s.io", "v1", "apiservices", "apiservice", "APIService", False, (), ("api-extensions",),
        subresources=(_status,), strategy=APIServiceStrategy(), printer=others.API_SERVICE,
    ),
    Resource("apps", "v1", "controllerrevisions", "controllerrevision", "ControllerRevision", True,
             strategy=ControllerRevisionStrategy(), printer=workloads.CONTROLLER_REVISION),
    Resource(
        "apps", "v1", "daemonsets", "daemonset", "DaemonSet", True, ("ds",), ("all",), subresources=(_status,),
        strategy=DaemonSetStrategy(), printer=workloads.DAEMON_SET,
    ),
    Resource(
        "apps", "v1", "deployments", "deployment", "Deployment", True, ("deploy",), ("all",),
        subresources=(_scale, _status), strategy=DeploymentStrategy(), printer=workloads.DEPLOYMENT,
    ),
    Resource(
        "apps", "v1", "replicasets", "replicaset", "ReplicaSet", True, ("rs",), ("all",),
        subresources=(_scale, _status), strategy=ReplicaSetStrategy(), printer=workloads.REPLICA_SET,
    ),
    Resource(
        "apps", "v1", "statefulsets", "statefulset", "StatefulSet", True, ("sts",), ("all",),
        subresources=(_scale, _status), strategy=StatefulSetStrategy(), printer=workloads.STATEFUL_SET,
    ),
    _review("authentication.k8s.io", "selfsubjectreviews", "SelfSubjectReview"),
    _review("authentication.k8s.io", "tokenreviews", "TokenReview"),
    _review("authorization.k8s.io", "localsubjectaccessreviews", "LocalSubjectAccessReview", True),
    _review("authorization.k8s.io", "selfsubjectaccessreviews", "SelfSubjectAccessReview"),
    _review("authorization.k8s.io", "selfsubjectrulesreviews", "SelfSubjectRulesReview"),
    _review("authorization.k8s.io", "subjectaccessreviews", "SubjectAccessReview"),
    Resource(
        "autoscaling", "v2", "horizontalpodautoscalers", "horizontalpodautoscaler", "HorizontalPodAutoscaler", True,
        ("hpa",), ("all",), subresources=(_status,), strategy=HorizontalPodAutoscalerStrategy(),
        printer=autoscaling.HORIZONTAL_POD_AUTOSCALER,
    ),
    Resource(
        "autoscaling", "v1", "horizontalpodautoscalers", "horizontalpodautoscaler", "HorizontalPodAutoscaler", True,
        ("hpa",), ("all",), subresources=(_status,), strategy=HorizontalPodAutoscalerStrategy(),
        printer=autoscaling.HORIZONTAL_POD_AUTOSCALER_V1, storage="horizontalpodautoscalers.autoscaling",
        to_storage=v1_to_v2, from_storage=v2_to_v1,
    ),
    Resource(
        "batch", "v1", "cronjobs", "cronjob", "CronJob", True, ("cj",), ("all",), subresources=(_status,),
        strategy=CronJobStrategy(), printer=batch.CRON_JOB,
    ),
    Resource(
        "batch", "v1", "jobs", "job", "Job", True, (), ("all",), subresources=(_status,), strategy=JobStrategy(),
        printer=batch.JOB,
    ),
    Resource(
        "certificates.k8s.io", "v1", "certificatesigningrequests", "certificatesigningrequest",
        "CertificateSigningRequest", False, ("csr",), subresources=(Subresource("approval", _STATUS), _status),
        strategy=CertificateSigningRequestStrategy(), printer=certificates.SIGNING_REQUEST,
    ),
    Resource("coordination.k8s.io", "v1", "leases", "lease", "Lease", True,
             strategy=LeaseStrategy(), printer=others.LEASE),
    Resource(
        "discovery.k8s.io", "v1", "endpointslices", "endpointslice", "EndpointSlice", True,
        strategy=EndpointSliceStrategy(), printer=network.ENDPOINT_SLICE,
    ),
    Resource(
        "events.k8s.io", "v1", "events", "event", "Event", True, ("ev",),
        strategy=EventStrategy(new_api=True), printer=others.EVENT, storage="events",
        to_storage=events_v1_to_core, from_storage=events_v1_from_core,
    ),
    Resource(
        "flowcontrol.apiserver.k8s.io", "v1", "flowschemas", "flowschema", "FlowSchema", False,
        subresources=(_status,), strategy=FlowSchemaStrategy(), printer=flowcontrol.FLOW_SCHEMA,
    ),
    Resource(
        "flowcontrol.apiserver.k8s.io", "v1", "prioritylevelconfigurations", "prioritylevelconfiguration",
        "PriorityLevelConfiguration", False,
        subresources=(_status,), strategy=PriorityLevelStrategy(), printer=flowcontrol.PRIORITY_LEVEL,
    ),
    Resource("networking.k8s.io", "v1", "ingressclasses", "ingressclass", "IngressClass", False,
             strategy=IngressClassStrategy(), printer=ingresses.INGRESS_CLASS),
    Resource(
        "networking.k8s.io", "v1", "ipaddresses", "ipaddress", "IPAddress", False, ("ip",),
        strategy=IPAddressStrategy(), printer=network.IP_ADDRESS,
    ),
    Resource(
        "networking.k8s.io", "v1", "servicecidrs", "servicecidr", "ServiceCIDR", False, subresources=(_status,),
        strategy=ServiceCIDRStrategy(), printer=network.SERVICE_CIDR,
    ),
    Resource(
        "networking.k8s.io", "v1", "ingresses", "ingress", "Ingress", True, ("ing",), subresources=(_status,),
        strategy=IngressStrategy(), printer=ingresses.INGRESS,
    ),
    Resource("node.k8s.io", "v1", "runtimeclasses", "runtimeclass", "RuntimeClass", False,
             strategy=RuntimeClassStrategy(), printer=others.RUNTIME_CLASS),
    Resource(
        "networking.k8s.io", "v1", "networkpolicies", "networkpolicy", "NetworkPolicy", True, ("netpol",),
        strategy=NetworkPolicyStrategy(), printer=network.NETWORK_POLICY,
    ),
    Resource(
        "policy", "v1", "poddisruptionbudgets", "poddisruptionbudget", "PodDisruptionBudget", True, ("pdb",),
        subresources=(_status,), strategy=PodDisruptionBudgetStrategy(), printer=others.DISRUPTION_BUDGET,
    ),
    Resource(_RBAC, "v1", "clusterrolebindings", "clusterrolebinding", "ClusterRoleBinding", False,
             strategy=RoleBindingStrategy(), printer=others.BINDING),
    Resource(_RBAC, "v1", "clusterroles", "clusterrole", "ClusterRole", False, strategy=RoleStrategy()),
    Resource(_RBAC, "v1", "rolebindings", "rolebinding", "RoleBinding", True,
             strategy=RoleBindingStrategy(), printer=others.BINDING),
    Resource(_RBAC, "v1", "roles", "role", "Role", True, strategy=RoleStrategy()),
    Resource(_DEVICES, "v1", "deviceclasses", "deviceclass", "DeviceClass", False,
             strategy=DeviceClassStrategy(), printer=devices.DEVICE_CLASS),
    Resource(
        _DEVICES, "v1", "resourceclaims", "resourceclaim", "ResourceClaim", True, subresources=(_status,),
        strategy=ResourceClaimStrategy(), printer=devices.RESOURCE_CLAIM,
    ),
    Resource(_DEVICES, "v1", "resourceclaimtemplates", "resourceclaimtemplate", "ResourceClaimTemplate", True,
             strategy=ResourceClaimTemplateStrategy(), printer=devices.DEVICE_CLASS),
    Resource(_DEVICES, "v1", "resourceslices", "resourceslice", "ResourceSlice", False,
             strategy=ResourceSliceStrategy(), printer=devices.RESOURCE_SLICE),
    Resource("scheduling.k8s.io", "v1", "priorityclasses", "priorityclass", "PriorityClass", False, ("pc",),
             strategy=PriorityClassStrategy(), printer=others.PRIORITY_CLASS),
    Resource(_STORAGE, "v1", "csidrivers", "csidriver", "CSIDriver", False,
             strategy=CSIDriverStrategy(), printer=storage.CSI_DRIVER),
    Resource(_STORAGE, "v1", "csinodes", "csinode", "CSINode", False,
             strategy=CSINodeStrategy(), printer=storage.CSI_NODE),
    Resource(_STORAGE, "v1", "csistoragecapacities", "csistoragecapacity", "CSIStorageCapacity", True,
             strategy=CSIStorageCapacityStrategy(), printer=storage.CSI_STORAGE_CAPACITY),
    Resource(_STORAGE, "v1", "storageclasses", "storageclass", "StorageClass", False, ("sc",),
             strategy=StorageClassStrategy(), printer=storage.STORAGE_CLASS),
    Resource(
        _STORAGE, "v1", "volumeattachments", "volumeattachment", "VolumeAttachment", False,
        subresources=(_status,), strategy=VolumeAttachmentStrategy(), printer=storage.VOLUME_ATTACHMENT,
    ),
    Resource(
        _STORAGE, "v1", "volumeattributesclasses", "volumeattributesclass", "VolumeAttributesClass", False, ("vac",),
        strategy=VolumeAttributesClassStrategy(), printer=storage.VOLUME_ATTRIBUTES_CLASS,
    ),
)  # fmt: skip


def rows_for(*, loopback: bool = False, no_policies: str = "") -> tuple[Resource, ...]:
    """Return the rows of a cluster.

    loopback: the cluster has no network of its own, and endpoints have loopback addresses. no_policies: why network
    policies are not enforced; "" when they are.
    """
    special: dict[str, Strategy] = {}
    if loopback:
        special["endpoints"] = EndpointsStrategy(loopback=True)
        special["endpointslices.discovery.k8s.io"] = EndpointSliceStrategy(loopback=True)
    if no_policies:
        special["networkpolicies.networking.k8s.io"] = NetworkPolicyStrategy(no_policies)
    return tuple(replace(row, strategy=special.get(row.group_resource, row.strategy)) for row in ROWS)


def stored_rows(rows: Iterable[Resource] = ROWS) -> dict[tuple[str, str], Resource]:
    """Return the row of each (API group, kind) whose objects are stored. Garbage collection watches these rows.

    When two groups serve a type, only the row that stores the objects is returned. A custom type never replaces a
    built-in type.
    """
    found: dict[tuple[str, str], Resource] = {}
    for row in rows:
        if not row.virtual and not row.storage:
            found.setdefault((row.group, row.kind), row)
    return found


def scalable_resources(rows: Iterable[Resource] = ROWS) -> dict[tuple[str, str], str]:
    """Return the resource of each (API group, kind) that has a Scale."""
    return {(row.group, row.kind): row.group_resource for row in rows if row.subresource("scale") is not None}


class Registry:
    """The rows by name, and the handlers of computed types and subresources.

    Rows of custom types are added and removed while the server runs. `subscribe` reports these changes.

    Attributes:
        virtual: the handlers of computed types and subresources, by name, such as
            `tokenreviews.authentication.k8s.io` and `serviceaccounts/token`.
        computed: for each type that can be listed but is not stored (`componentstatuses`), a function that returns all
            its objects.
    """

    def __init__(self, rows: Iterable[Resource] = ROWS) -> None:
        self._builtin = tuple(rows)
        self._builtin_groups = frozenset(row.group for row in self._builtin)
        self.rows = self._builtin
        self.virtual: dict[str, VirtualCreate] = {}
        self.computed: dict[str, Callable[[], list[Object]]] = {}
        self._listeners: list[Callable[[], None]] = []
        self._by_path: dict[tuple[str, str, str], Resource] = {}
        self._by_name: dict[str, Resource] = {}
        self._index()

    def _index(self) -> None:
        self._by_path = {(row.group, row.version, row.plural): row for row in reversed(self.rows)}
        self._by_name = {}
        for row in self.rows:
            self._by_name.setdefault(row.group_resource, row)
            name = f"{row.plural}.{row.version}.{row.group}" if row.group else f"{row.plural}.{row.version}"
            self._by_name.setdefault(name, row)

    def set_custom(self, rows: Iterable[Resource]) -> None:
        """Replace the rows of all custom types, and call the subscribers.

        A custom type never replaces a built-in type.
        """
        self.rows = (*self._builtin, *rows)
        self._index()
        for listener in self._listeners:
            listener()

    def subscribe(self, listener: Callable[[], None]) -> None:
        """Call `listener` after each change of the rows."""
        self._listeners.append(listener)

    def is_builtin_group(self, group: str) -> bool:
        """Return True when an API group has built-in types."""
        return group in self._builtin_groups

    def find(self, group: str, version: str, plural: str) -> Resource | None:
        """Return the row of a group, version and plural name, or None."""
        return self._by_path.get((group, version, plural))

    def by_name(self, resource: str) -> Resource | None:
        """Return the row of `pods`, `deployments.apps` or `deployments.v1.apps`, or None."""
        return self._by_name.get(resource)
