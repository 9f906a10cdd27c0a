"""Printers of the remaining types (Kubernetes' `pkg/printers/internalversion/printers.go`)."""

from __future__ import annotations

from typing import Any

from hatchway.cluster.api.registry.printers.base import (
    AGE,
    NAME,
    Cells,
    Column,
    Json,
    Printer,
    age_of,
    metadata_of,
    name_of,
)
from hatchway.cluster.api.registry.printers.humanize import NONE, age

__all__ = [
    "BINDING",
    "COMPONENT_STATUS",
    "CONFIG_MAP",
    "EVENT",
    "LEASE",
    "NAMESPACE",
    "NODE",
    "PRIORITY_CLASS",
    "RUNTIME_CLASS",
    "SECRET",
    "SERVICE_ACCOUNT",
]

_ROLE_PREFIX = "node-role.kubernetes.io/"


def _namespace(obj: Json, now: float) -> Cells:
    return [name_of(obj), obj.get("status", {}).get("phase", ""), age_of(obj, now)]


def _node(obj: Json, now: float) -> Cells:
    status = obj.get("status", {})
    ready = next((one for one in status.get("conditions") or () if one.get("type") == "Ready"), None)
    words = ["Unknown" if ready is None else "Ready" if ready.get("status") == "True" else "NotReady"]
    if obj.get("spec", {}).get("unschedulable"):
        words.append("SchedulingDisabled")
    roles = set()
    for key, value in (metadata_of(obj).get("labels") or {}).items():
        if key.startswith(_ROLE_PREFIX) and key != _ROLE_PREFIX:
            roles.add(key.removeprefix(_ROLE_PREFIX))
        elif key == "kubernetes.io/role" and value:
            roles.add(value)
    addresses: dict[str, str] = {}
    for one in status.get("addresses") or ():
        addresses.setdefault(one.get("type", ""), one.get("address", ""))
    info = status.get("nodeInfo", {})
    return [
        name_of(obj),
        ",".join(words),
        ",".join(sorted(roles)) or NONE,
        age_of(obj, now),
        info.get("kubeletVersion", ""),
        addresses.get("InternalIP", NONE),
        addresses.get("ExternalIP", NONE),
        info.get("osImage") or "<unknown>",
        info.get("kernelVersion") or "<unknown>",
        info.get("containerRuntimeVersion") or "<unknown>",
    ]


def _config_map(obj: Json, now: float) -> Cells:
    return [name_of(obj), len(obj.get("data") or ()) + len(obj.get("binaryData") or ()), age_of(obj, now)]


def _secret(obj: Json, now: float) -> Cells:
    return [name_of(obj), obj.get("type", ""), len(obj.get("data") or ()), age_of(obj, now)]


def _service_account(obj: Json, now: float) -> Cells:
    return [name_of(obj), age_of(obj, now)]


def _lease(obj: Json, now: float) -> Cells:
    return [name_of(obj), obj.get("spec", {}).get("holderIdentity") or "", age_of(obj, now)]


def _event(obj: Json, now: float) -> Cells:
    """Return the cells of an event of core/v1 or events.k8s.io/v1. The two APIs have different names for its fields."""

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
        name_of(obj),
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
        name_of(obj),
        f"{reference.get('kind', '')}/{reference.get('name', '')}",
        age_of(obj, now),
        *(", ".join(subjects[kind]) for kind in ("User", "Group", "ServiceAccount")),
    ]


def _api_service(obj: Json, now: float) -> Cells:
    service = (obj.get("spec") or {}).get("service")
    where = f"{service.get('namespace', '')}/{service.get('name', '')}" if service else "Local"
    conditions = (obj.get("status") or {}).get("conditions") or ()
    found = next((one for one in conditions if one.get("type") == "Available"), None)
    available = "Unknown"
    if found is not None:
        available = "True" if found.get("status") == "True" else f"{found.get('status')} ({found.get('reason', '')})"
    return [name_of(obj), where, available, age_of(obj, now)]


def _priority_class(obj: Json, now: float) -> Cells:
    return [
        name_of(obj),
        obj.get("value", 0),
        bool(obj.get("globalDefault")),
        age_of(obj, now),
        obj.get("preemptionPolicy") or "",
    ]


def _runtime_class(obj: Json, now: float) -> Cells:
    return [name_of(obj), obj.get("handler", ""), age_of(obj, now)]


PRIORITY_CLASS = Printer(
    _priority_class,
    NAME,
    Column("Value", "integer", description="The priority of the class's pods"),
    Column("Global-Default", "boolean", description="Whether pods that name no class get this class"),
    AGE,
    Column("PreemptionPolicy", description="Whether the class's pods may preempt pods of lower priority"),
)
RUNTIME_CLASS = Printer(
    _runtime_class, NAME, Column("Handler", description="The handler on the nodes that runs the class's pods"), AGE
)
BINDING = Printer(
    _role_binding,
    NAME,
    Column("Role", description="The role that is granted"),
    AGE,
    Column("Users", wide=True, description="The users who get the role"),
    Column("Groups", wide=True, description="The groups that get the role"),
    Column("ServiceAccounts", wide=True, description="The service accounts that get the role"),
)
EVENT = Printer(
    _event,
    Column("Last Seen", description="Time since the event last happened"),
    Column("Type", description="Normal or Warning"),
    Column("Reason", description="The reason, in one word"),
    Column("Object", description="The object that the event is about"),
    Column("Subobject", wide=True, description="The part of the object"),
    Column("Source", wide=True, description="The component that reports the event"),
    Column("Message", description="What happened"),
    Column("First Seen", wide=True, description="Time since the event first happened"),
    Column("Count", wide=True, description="How often the event happened"),
    Column("Name", format="name", wide=True, description="The event's name"),
)
NAMESPACE = Printer(_namespace, NAME, Column("Status", description="Active or Terminating"), AGE)
NODE = Printer(
    _node,
    NAME,
    Column("Status", description="Whether the node is ready"),
    Column("Roles", description="The node's roles, from its labels"),
    AGE,
    Column("Version", description="The kubelet's version"),
    Column("Internal-IP", wide=True, description="The node's address within the cluster"),
    Column("External-IP", wide=True, description="The node's address outside the cluster"),
    Column("OS-Image", wide=True, description="The node's operating system"),
    Column("Kernel-Version", wide=True, description="The node's kernel"),
    Column("Container-Runtime", wide=True, description="The program that runs the node's containers"),
)
CONFIG_MAP = Printer(_config_map, NAME, Column("Data", description="The number of keys"), AGE)
SECRET = Printer(
    _secret,
    NAME,
    Column("Type", description="The type of the secret"),
    Column("Data", description="The number of keys"),
    AGE,
)
SERVICE_ACCOUNT = Printer(_service_account, NAME, AGE)
API_SERVICE = Printer(
    _api_service,
    NAME,
    Column("Service", description="The service that serves the API"),
    Column("Available", description="Whether the service is available"),
    AGE,
)
LEASE = Printer(_lease, NAME, Column("Holder", description="Who holds the lease"), AGE)


def _disruption_budget(obj: Json, now: float) -> Cells:
    spec, status = obj.get("spec", {}), obj.get("status", {})
    limits = [str(spec[key]) if spec.get(key) is not None else "N/A" for key in ("minAvailable", "maxUnavailable")]
    return [name_of(obj), *limits, status.get("disruptionsAllowed", 0), age_of(obj, now)]


DISRUPTION_BUDGET = Printer(
    _disruption_budget,
    NAME,
    Column("Min Available", description="How many pods must stay available"),
    Column("Max Unavailable", description="How many pods may be unavailable"),
    Column("Allowed Disruptions", "integer", description="How many pods may be evicted now"),
    AGE,
)


def _component_status(obj: Json, now: float) -> Cells:
    for condition in obj.get("conditions") or ():
        if condition.get("type") == "Healthy":
            health = "Healthy" if condition.get("status") == "True" else "Unhealthy"
            return [name_of(obj), health, condition.get("message", ""), condition.get("error", "")]
    return [name_of(obj), "Unknown", "", ""]


COMPONENT_STATUS = Printer(
    _component_status,
    NAME,
    Column("Status", description="Whether the component works"),
    Column("Message", description="The component's own message"),
    Column("Error", description="The error, if the component does not work"),
)
