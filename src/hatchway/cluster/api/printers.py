"""What `kubectl get` shows of each type: columns and cells, one row of `PRINTERS` a type.

As Kubernetes' `pkg/printers/internalversion/printers.go` has them (the pod's row is in `podprinter.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from hatchway.cluster.api.humanize import NONE, age
from hatchway.cluster.api.podprinter import pod_cells

__all__ = ["PRINTERS", "Column", "Printer", "conditions", "printer_of"]

Json = dict[str, Any]
Cells = list[Any]

_MAX_ENDPOINTS = 3
_ROLE_PREFIX = "node-role.kubernetes.io/"


@dataclass(frozen=True, slots=True)
class Column:
    name: str
    type: str = "string"
    format: str = ""
    wide: bool = False
    description: str = ""

    def definition(self) -> Json:
        return {
            "name": self.name,
            "type": self.type,
            "format": self.format,
            "description": self.description,
            "priority": int(self.wide),
        }


class Printer:
    """The columns of a type, and the function that makes one object's cells (object, now in seconds)."""

    def __init__(self, cells: Callable[[Json, float], Cells], *columns: Column) -> None:
        self.cells = cells
        self.definitions = [column.definition() for column in columns]


def conditions(kind: str, obj: Json) -> list[Json]:
    """The conditions of a table's row: pods that are over."""
    if kind != "Pod":
        return []
    phase = obj.get("status", {}).get("phase")
    if phase == "Succeeded":
        message = "The pod has completed successfully."
    elif phase == "Failed":
        message = "The pod failed."
    else:
        return []
    return [{"type": "Completed", "status": "True", "reason": phase, "message": message}]


def printer_of(group: str, kind: str) -> Printer:
    """The printer of a type; types without one of their own show name and creation time."""
    return PRINTERS.get((group, kind), _DEFAULT)


def _metadata(obj: Json) -> Json:
    found: Json = obj.get("metadata") or {}
    return found


def _name(obj: Json) -> str:
    return str(_metadata(obj).get("name", ""))


def _age(obj: Json, now: float) -> str:
    return age(_metadata(obj).get("creationTimestamp"), now)


def _labels(labels: Json | None) -> str:
    return ",".join(f"{key}={labels[key]}" for key in sorted(labels)) if labels else NONE


def _selector(selector: Json | None) -> str:
    """A label selector in the words of `-l` (metav1 `FormatLabelSelector`)."""
    if not selector:
        return NONE
    parts = [(key, f"{key}={value}") for key, value in (selector.get("matchLabels") or {}).items()]
    for one in selector.get("matchExpressions") or ():
        key, operator, values = one.get("key", ""), one.get("operator"), ",".join(sorted(one.get("values") or ()))
        text = {
            "In": f"{key} in ({values})",
            "NotIn": f"{key} notin ({values})",
            "Exists": key,
            "DoesNotExist": f"!{key}",
        }.get(operator, "<error>")
        parts.append((key, text))
    return ",".join(text for _, text in sorted(parts)) or NONE


def _containers(template: Json) -> tuple[str, str]:
    containers = template.get("spec", {}).get("containers") or []
    names = ",".join(str(one.get("name", "")) for one in containers)
    return names, ",".join(str(one.get("image", "")) for one in containers)


def _some(items: Iterable[str], count: int) -> str:
    """The first three, and how many more there are."""
    shown = ",".join(list(items)[:_MAX_ENDPOINTS])
    return f"{shown} + {count - _MAX_ENDPOINTS} more..." if count > _MAX_ENDPOINTS else shown


def _namespace(obj: Json, now: float) -> Cells:
    return [_name(obj), obj.get("status", {}).get("phase", ""), _age(obj, now)]


def _node(obj: Json, now: float) -> Cells:
    status = obj.get("status", {})
    ready = next((one for one in status.get("conditions") or () if one.get("type") == "Ready"), None)
    words = ["Unknown" if ready is None else "Ready" if ready.get("status") == "True" else "NotReady"]
    if obj.get("spec", {}).get("unschedulable"):
        words.append("SchedulingDisabled")
    roles = set()
    for key, value in (_metadata(obj).get("labels") or {}).items():
        if key.startswith(_ROLE_PREFIX) and key != _ROLE_PREFIX:
            roles.add(key.removeprefix(_ROLE_PREFIX))
        elif key == "kubernetes.io/role" and value:
            roles.add(value)
    addresses: dict[str, str] = {}
    for one in status.get("addresses") or ():
        addresses.setdefault(one.get("type", ""), one.get("address", ""))
    info = status.get("nodeInfo", {})
    return [
        _name(obj),
        ",".join(words),
        ",".join(sorted(roles)) or NONE,
        _age(obj, now),
        info.get("kubeletVersion", ""),
        addresses.get("InternalIP", NONE),
        addresses.get("ExternalIP", NONE),
        info.get("osImage") or "<unknown>",
        info.get("kernelVersion") or "<unknown>",
        info.get("containerRuntimeVersion") or "<unknown>",
    ]


def _service(obj: Json, now: float) -> Cells:
    spec = obj.get("spec", {})
    ports = []
    for one in spec.get("ports") or ():
        node = f":{one['nodePort']}" if one.get("nodePort") else ""
        ports.append(f"{one.get('port', 0)}{node}/{one.get('protocol', '')}")
    return [
        _name(obj),
        spec.get("type", ""),
        (spec.get("clusterIPs") or [spec.get("clusterIP") or NONE])[0],
        _external_ip(obj),
        ",".join(ports) or NONE,
        _age(obj, now),
        _labels(spec.get("selector")),
    ]


def _external_ip(service: Json) -> str:
    spec = service.get("spec", {})
    external = list(spec.get("externalIPs") or ())
    match spec.get("type"):
        case "ClusterIP" | "NodePort":
            return ",".join(external) or NONE
        case "LoadBalancer":
            ingress = service.get("status", {}).get("loadBalancer", {}).get("ingress") or ()
            balancers = sorted({one.get("ip") or one.get("hostname") or "" for one in ingress} - {""})
            return ",".join(balancers + external) or "<pending>"
        case "ExternalName":
            return str(spec.get("externalName", ""))
    return "<unknown>"


def _endpoints(obj: Json, now: float) -> Cells:
    found: list[str] = []
    for subset in obj.get("subsets") or ():
        addresses = [one.get("ip", "") for one in subset.get("addresses") or ()]
        ports = subset.get("ports") or ()
        if not ports:
            found.extend(addresses)
        for port in ports:
            found.extend(f"[{ip}]:{port['port']}" if ":" in ip else f"{ip}:{port['port']}" for ip in addresses)
    return [_name(obj), _some(found, len(found)) or NONE, _age(obj, now)]


def _endpoint_slice(obj: Json, now: float) -> Cells:
    ports = ["*" if one.get("port") is None else str(one["port"]) for one in obj.get("ports") or ()]
    addresses = [address for one in obj.get("endpoints") or () for address in one.get("addresses") or ()]
    return [
        _name(obj),
        obj.get("addressType", ""),
        _some(ports, len(ports)) or "<unset>",
        _some(addresses, len(addresses)) or "<unset>",
        _age(obj, now),
    ]


def _deployment(obj: Json, now: float) -> Cells:
    spec, status = obj.get("spec", {}), obj.get("status", {})
    return [
        _name(obj),
        f"{status.get('readyReplicas', 0)}/{spec.get('replicas', 0)}",
        status.get("updatedReplicas", 0),
        status.get("availableReplicas", 0),
        _age(obj, now),
        *_containers(spec.get("template", {})),
        _selector(spec.get("selector")),
    ]


def _replica_set(obj: Json, now: float) -> Cells:
    spec, status = obj.get("spec", {}), obj.get("status", {})
    return [
        _name(obj),
        spec.get("replicas", 0),
        status.get("replicas", 0),
        status.get("readyReplicas", 0),
        _age(obj, now),
        *_containers(spec.get("template", {})),
        _selector(spec.get("selector")),
    ]


def _config_map(obj: Json, now: float) -> Cells:
    return [_name(obj), len(obj.get("data") or ()) + len(obj.get("binaryData") or ()), _age(obj, now)]


def _secret(obj: Json, now: float) -> Cells:
    return [_name(obj), obj.get("type", ""), len(obj.get("data") or ()), _age(obj, now)]


def _service_account(obj: Json, now: float) -> Cells:
    return [_name(obj), _age(obj, now)]


def _lease(obj: Json, now: float) -> Cells:
    return [_name(obj), obj.get("spec", {}).get("holderIdentity") or "", _age(obj, now)]


def _event(obj: Json, now: float) -> Cells:
    """Both spellings: core/v1 and events.k8s.io/v1 name the same fields differently."""

    def either(core: str, new: str) -> Any:
        return obj.get(core) or obj.get(new)

    first = either("firstTimestamp", "deprecatedFirstTimestamp") or obj.get("eventTime")
    last = either("lastTimestamp", "deprecatedLastTimestamp") or first
    count = either("count", "deprecatedCount") or 1
    series = obj.get("series")
    if series:
        last, count = series.get("lastObservedTime"), series.get("count", 0)
    target = either("involvedObject", "regarding") or {}
    source = either("source", "deprecatedSource") or {}
    component = source.get("component") or either("reportingComponent", "reportingController") or ""
    instance = source.get("host") or obj.get("reportingInstance") or ""
    kind = str(target.get("kind", "")).lower()
    return [
        age(last, now),
        obj.get("type", ""),
        obj.get("reason", ""),
        f"{kind}/{target['name']}" if target.get("name") else kind,
        target.get("fieldPath", ""),
        f"{component}, {instance}" if instance else component,
        str(either("message", "note") or "").strip(),
        age(first, now),
        count,
        _name(obj),
    ]


def _role_binding(obj: Json, now: float) -> Cells:
    reference = obj.get("roleRef", {})
    subjects: dict[str, list[str]] = {"User": [], "Group": [], "ServiceAccount": []}
    for one in obj.get("subjects") or ():
        name = one.get("name", "")
        if one.get("kind") == "ServiceAccount":
            name = f"{one.get('namespace', '')}/{name}"
        subjects.setdefault(one.get("kind", ""), []).append(name)
    return [
        _name(obj),
        f"{reference.get('kind', '')}/{reference.get('name', '')}",
        _age(obj, now),
        *(", ".join(subjects[kind]) for kind in ("User", "Group", "ServiceAccount")),
    ]


def _default(obj: Json, now: float) -> Cells:
    return [_name(obj), _metadata(obj).get("creationTimestamp")]


_NAME = Column("Name", format="name", description="The object's name")
_AGE = Column("Age", description="How long ago the object was created")
_TEMPLATE = (
    Column("Containers", wide=True, description="The names of the template's containers"),
    Column("Images", wide=True, description="The images of the template's containers"),
    Column("Selector", wide=True, description="The selector of the pods"),
)
_BINDING = (
    _NAME,
    Column("Role", description="The role that is granted"),
    _AGE,
    Column("Users", wide=True, description="Users who get it"),
    Column("Groups", wide=True, description="Groups that get it"),
    Column("ServiceAccounts", wide=True, description="Service accounts that get it"),
)
_EVENT = Printer(
    _event,
    Column("Last Seen", description="How long ago it happened last"),
    Column("Type", description="Normal or Warning"),
    Column("Reason", description="Why, in one word for programs"),
    Column("Object", description="What it happened to"),
    Column("Subobject", wide=True, description="The part of the object"),
    Column("Source", wide=True, description="Who reports it"),
    Column("Message", description="What happened"),
    Column("First Seen", wide=True, description="How long ago it happened first"),
    Column("Count", wide=True, description="How often it happened"),
    Column("Name", format="name", wide=True, description="The event's name"),
)
_DEFAULT = Printer(_default, _NAME, Column("Created At", "date", description="When the object was created"))

PRINTERS: dict[tuple[str, str], Printer] = {
    ("", "Pod"): Printer(
        pod_cells,
        _NAME,
        Column("Ready", description="How many of the containers are ready"),
        Column("Status", description="What the containers do, in one word"),
        Column("Restarts", description="How often containers were restarted, and when last"),
        _AGE,
        Column("IP", wide=True, description="The pod's address"),
        Column("Node", wide=True, description="The node it runs on"),
        Column("Nominated Node", wide=True, description="The node that makes room for it"),
        Column("Readiness Gates", wide=True, description="How many further conditions of readiness are met"),
    ),
    ("", "Namespace"): Printer(_namespace, _NAME, Column("Status", description="Active or Terminating"), _AGE),
    ("", "Node"): Printer(
        _node,
        _NAME,
        Column("Status", description="Whether the node is ready"),
        Column("Roles", description="What its labels say it is for"),
        _AGE,
        Column("Version", description="The kubelet's version"),
        Column("Internal-IP", wide=True, description="Its address within the cluster"),
        Column("External-IP", wide=True, description="Its address outside"),
        Column("OS-Image", wide=True, description="Its operating system"),
        Column("Kernel-Version", wide=True, description="Its kernel"),
        Column("Container-Runtime", wide=True, description="What runs its containers"),
    ),
    ("", "Service"): Printer(
        _service,
        _NAME,
        Column("Type", description="How the service is exposed"),
        Column("Cluster-IP", description="Its address within the cluster"),
        Column("External-IP", description="Its addresses outside"),
        Column("Port(s)", description="Its ports, with the nodes' ports"),
        _AGE,
        Column("Selector", wide=True, description="The labels of its pods"),
    ),
    ("", "Endpoints"): Printer(_endpoints, _NAME, Column("Endpoints", description="Addresses and ports"), _AGE),
    ("discovery.k8s.io", "EndpointSlice"): Printer(
        _endpoint_slice,
        _NAME,
        Column("AddressType", description="IPv4, IPv6 or FQDN"),
        Column("Ports", description="The ports of each endpoint"),
        Column("Endpoints", description="The endpoints' addresses"),
        _AGE,
    ),
    ("apps", "Deployment"): Printer(
        _deployment,
        _NAME,
        Column("Ready", description="How many of the wanted pods are ready"),
        Column("Up-to-date", description="How many have the current template"),
        Column("Available", description="How many have been ready for long enough"),
        _AGE,
        *_TEMPLATE,
    ),
    ("apps", "ReplicaSet"): Printer(
        _replica_set,
        _NAME,
        Column("Desired", "integer", description="How many pods are wanted"),
        Column("Current", "integer", description="How many there are"),
        Column("Ready", "integer", description="How many are ready"),
        _AGE,
        *_TEMPLATE,
    ),
    ("", "ConfigMap"): Printer(_config_map, _NAME, Column("Data", description="How many keys it has"), _AGE),
    ("", "Secret"): Printer(
        _secret,
        _NAME,
        Column("Type", description="What kind of secret it is"),
        Column("Data", description="How many keys it has"),
        _AGE,
    ),
    ("", "ServiceAccount"): Printer(_service_account, _NAME, _AGE),
    ("", "Event"): _EVENT,
    ("events.k8s.io", "Event"): _EVENT,
    ("coordination.k8s.io", "Lease"): Printer(_lease, _NAME, Column("Holder", description="Who holds the lease"), _AGE),
    ("rbac.authorization.k8s.io", "RoleBinding"): Printer(_role_binding, *_BINDING),
    ("rbac.authorization.k8s.io", "ClusterRoleBinding"): Printer(_role_binding, *_BINDING),
}
