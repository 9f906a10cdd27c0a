"""From the objects of a live view to what the portal shows. Pure: values in, JSON values out.

An item, one for each service, pod and node (fields that are empty are left out):

    key         "services/NAMESPACE/NAME"
    kind, namespace, name, created
    title, about    what its labels and annotations call it
    state       "ready" | "partly" | "down" | "empty": the colour of its dot
    lacking     true where pods are selected and there is not one: a service that should have endpoints and has none
    summary     "2/3 ready"
    reasons     [{"name": pod, "text": why it is not ready}]; name "" for what is said of the item itself
    endpoints   [{"name", "address", "ready"}], services only, at most MAX_ENDPOINTS
    ports       [{"name", "number", "protocol", "scheme" ("" when not HTTP), "url", "path", "forward", "needs",
                "barred", "note"}]
                url: its host name's. path: its proxy path. forward: the command line for what is not HTTP, and
                for what the route cannot carry. needs: why it needs that; shown as "needs forward".
                barred: true where forward does not help either; shown as "out of reach". note: what else to know.
    url         the first port's that has one
    facts       [[label, text]]: type, addresses, route, Host header ...
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Protocol

from hatchway.door.portal.index import Index
from hatchway.door.problems import forward_line
from hatchway.kube.api import Object
from hatchway.kube.endpoints import (
    NOT_SEEN,
    Endpoint,
    endpoints_of,
    format_selector,
    restarts,
    selector_of,
    why_node_not_ready,
    why_none,
    why_not_ready,
    why_out_of_reach,
)
from hatchway.kube.links import Link, links
from hatchway.kube.relist import Key, key_of
from hatchway.target import Target, TargetError

Item = dict[str, Any]
Callback = Callable[[str, str, Object], None]

MAX_ENDPOINTS = 50
MAX_REASONS = 20
MAX_TEXT = 600
MAX_RULE = 4000

_TITLES = ("hatchway.dev/title", "kubernetes.io/name", "app.kubernetes.io/name")
_ABOUT = ("hatchway.dev/description", "kubernetes.io/description", "description")
KINDS = ("services", "pods", "nodes")


class View(Protocol):
    """A live view of the cluster; objects are plain JSON dictionaries by (namespace, name), shared: never changed here.

    scopes: what this user may list, by kind: see `scope_json`; empty until it is known. state: see `state_json`.
    subscribe: from now on, and at once for what is known already, ("services" | "slices" | "pods" | "nodes",
    "ADDED" | "MODIFIED" | "DELETED", object), or ("state", its name, {}) when `state` or `scopes` has changed.
    """

    @property
    def services(self) -> Mapping[Key, Object]: ...
    @property
    def slices(self) -> Mapping[Key, Object]: ...
    @property
    def pods(self) -> Mapping[Key, Object]: ...
    @property
    def nodes(self) -> Mapping[Key, Object]: ...
    @property
    def scopes(self) -> Mapping[Any, Any]: ...
    @property
    def state(self) -> Any: ...
    def subscribe(self, callback: Callback) -> object: ...


@dataclass(frozen=True, slots=True)
class Facts:
    """What the door has learned of a target.

    host_header: what it sends as Host, and why; "" when nothing was tried yet. route: how bytes get there.
    needs_forward: why the route cannot carry all that the application asks for; "" when it can.
    """

    host_header: str = ""
    route: str = ""
    needs_forward: str = ""


class Door(Protocol):
    """What the portal asks of the door. host_url may raise TargetError for names that no host name can carry."""

    @property
    def context(self) -> str: ...
    @property
    def server(self) -> str: ...
    def host_url(self, target: Target) -> str: ...
    def facts(self, target: Target) -> Facts: ...


def service_item(service: Object, index: Index, pods: Mapping[Key, Object], door: Door) -> Item:
    """The item of a service. index: its slices and pods; pods: what is known of pods, for the reasons."""
    metadata, spec = service["metadata"], service.get("spec") or {}
    namespace, name = key_of(service)
    item = _head("services", service)
    endpoints = _endpoints(service, index, pods)
    slices = index.slices(key_of(service))
    _judge(item, endpoints, service, known=slices is not None or index.sees_pods(namespace))
    item["lacking"] = not endpoints and bool(selector_of(service)) and slices is not None
    facts = door.facts(Target("services", name, namespace))
    barred = _sentence(why_out_of_reach(service, slices))
    needs = barred or facts.needs_forward
    item["ports"] = [_port_item(link, door, needs, barred=bool(barred)) for link in links("services", service)]
    kind = spec.get("type") or "ClusterIP"
    rows = [
        ("Type", "Headless" if spec.get("clusterIP") == "None" else kind),
        ("Points to", spec.get("externalName") or ""),
        ("Cluster IP", "" if spec.get("clusterIP") in (None, "None") else spec["clusterIP"]),
        ("Selector", format_selector(selector_of(service))),
        ("External", ", ".join(_ingress(service))),
        *_door_rows(facts),
        ("Version", (metadata.get("labels") or {}).get("app.kubernetes.io/version") or ""),
    ]
    return _finish(item, rows)


def pod_item(pod: Object, door: Door) -> Item:
    namespace, name = key_of(pod)
    status, spec = pod.get("status") or {}, pod.get("spec") or {}
    item = _head("pods", pod)
    why = why_not_ready(pod)
    phase = status.get("phase") or "Pending"
    containers = status.get("containerStatuses") or ()
    total = len(spec.get("containers") or ())
    ready = sum(1 for found in containers if found.get("ready"))
    if phase == "Succeeded":
        item["state"], item["summary"] = "empty", "Completed"
    else:
        item["state"] = (
            "ready" if not why else "partly" if phase in ("Pending", "Running") and not _failing(pod) else "down"
        )
        item["summary"] = f"{ready}/{total} ready"
        if why:
            item["reasons"] = [_reason("", why)]
    facts = door.facts(Target("pods", name, namespace))
    item["ports"] = [_port_item(link, door, facts.needs_forward) for link in links("pods", pod)]
    count = restarts(pod)
    rows = [
        ("Phase", phase),
        ("Node", spec.get("nodeName") or ""),
        ("Pod IP", status.get("podIP") or ""),
        ("Restarts", str(count) if count else ""),
        ("Containers", ", ".join(c["name"] for c in spec.get("containers") or ())),
        ("Image", ", ".join(c.get("image") or "" for c in spec.get("containers") or ())),
        *_door_rows(facts),
    ]
    return _finish(item, rows)


def node_item(node: Object, door: Door) -> Item:
    name = node["metadata"]["name"]
    status, labels = node.get("status") or {}, node["metadata"].get("labels") or {}
    item = _head("nodes", node)
    why = why_node_not_ready(node)
    cordoned = bool((node.get("spec") or {}).get("unschedulable"))
    item["state"] = "down" if why else "ready"
    item["summary"] = "Not ready" if why else "Ready, cordoned" if cordoned else "Ready"
    if why:
        item["reasons"] = [_reason("", why)]
    facts = door.facts(Target("nodes", name))
    item["ports"] = [
        {**_port_item(link, door, facts.needs_forward), "name": "kubelet"} for link in links("nodes", node)
    ]
    prefix = "node-role.kubernetes.io/"
    info = status.get("nodeInfo") or {}
    rows = [
        ("Roles", ", ".join(sorted(label.removeprefix(prefix) for label in labels if label.startswith(prefix)))),
        ("Kubelet", info.get("kubeletVersion") or ""),
        ("System", " · ".join(x for x in (info.get("osImage"), info.get("architecture")) if x)),
        *((found.get("type", ""), found.get("address", "")) for found in status.get("addresses") or ()),
        *_door_rows(facts),
    ]
    return _finish(item, rows)


def scope_json(scopes: Mapping[Any, Any], kind: str) -> Item:
    """What a user may list of one kind: {"mode": "all" | "some" | "none", "namespaces", "reason", "rule"}.

    scopes: by kind, with `namespaces` (None: in all; () nothing), `reason` and `missing_rule`. A kind that is left out
    of scopes that are known is not looked at.
    """
    if not scopes:
        return {"mode": "all"}
    scope = scopes.get(kind)
    if scope is None:
        return {"mode": "none", "reason": f"{kind} are left out while only some namespaces are looked at"}
    if scope.namespaces is None:
        return {"mode": "all"}
    names = sorted(scope.namespaces)
    reason, rule = _text(scope.reason), _text(scope.missing_rule, MAX_RULE)
    return {"mode": "some" if names else "none", "namespaces": names, "reason": reason, "rule": rule}


def state_json(state: Any) -> Item:
    """{"phase": "connecting" | "live" | "away", "reason", "hint", "since"} of a view's state (`name` there).

    since: seconds since the epoch.
    """
    return {"phase": state.name, "reason": _text(state.reason), "hint": _text(state.hint), "since": state.since}


def _text(value: Any, limit: int = MAX_TEXT) -> str:
    text = "" if value is None else str(value)
    return text if len(text) <= limit else text[: limit - 1] + "…"


def _head(kind: str, obj: Object) -> Item:
    metadata = obj["metadata"]
    namespace, name = key_of(obj)
    item: Item = {"key": f"{kind}/{namespace}/{name}", "kind": kind, "namespace": namespace, "name": name}
    said = {**(metadata.get("labels") or {}), **(metadata.get("annotations") or {})}
    title = next((said[key] for key in _TITLES if said.get(key)), "")
    if title.lower() != name.lower():
        item["title"] = _text(title, 120)
    item["about"] = _text(next((said[key] for key in _ABOUT if said.get(key)), ""))
    item["created"] = metadata.get("creationTimestamp") or ""
    return item


def _finish(item: Item, rows: list[tuple[str, str]]) -> Item:
    item["facts"] = [[label, _text(text)] for label, text in rows if text]
    item["url"] = next((port["url"] for port in item["ports"] if port.get("url")), "")
    return {key: value for key, value in item.items() if value or key in ("key", "kind", "namespace", "name", "ports")}


def _port_item(link: Link, door: Door, needs: str, *, barred: bool = False) -> Item:
    port, target = link.port, link.target
    out: Item = {"name": port.name, "number": port.number, "protocol": port.protocol, "scheme": ""}
    if link.http is not False:
        # What nothing tells of is tried, as the door does: with HTTP first.
        out["scheme"] = link.scheme or "http"
        try:
            out["url"] = door.host_url(target)
        except TargetError as error:
            out["note"] = f"{error.message}; {error.hint}"
        out["path"] = link.path
        out["needs"] = needs
    elif port.protocol == "TCP":
        out["needs"] = "It does not speak HTTP, so the API server's proxy cannot carry it."
    else:
        out["note"] = f"{port.protocol}: no way through the API server carries it."
    if barred:
        out["needs"], out["barred"] = needs, True
    elif target.kind != "nodes" and port.protocol == "TCP":
        out["forward"] = forward_line(replace(target, port=str(port.number)))
    return {key: value for key, value in out.items() if value or key in ("number", "scheme")}


def _sentence(text: str) -> str:
    return f"{text[0].upper()}{text[1:]}." if text else ""


def _door_rows(facts: Facts) -> list[tuple[str, str]]:
    return [("Host header", facts.host_header), ("Route", facts.route)]


def _ingress(service: Object) -> list[str]:
    found = ((service.get("status") or {}).get("loadBalancer") or {}).get("ingress") or []
    return [entry.get("ip") or entry.get("hostname") or "" for entry in found]


def _failing(pod: Object) -> bool:
    """Whether a pod is past waiting: a container crashed, or cannot be started."""
    status = pod.get("status") or {}
    for found in [*(status.get("initContainerStatuses") or ()), *(status.get("containerStatuses") or ())]:
        state = found.get("state") or {}
        if (state.get("waiting") or {}).get("reason") not in (None, "ContainerCreating", "PodInitializing"):
            return True
        if (state.get("terminated") or {}).get("exitCode"):
            return True
    return False


def _endpoints(service: Object, index: Index, pods: Mapping[Key, Object]) -> list[Endpoint]:
    slices, namespace = index.slices(key_of(service)), key_of(service)[0]
    entries = [entry for found in slices or () for entry in found.get("endpoints") or ()]
    behind = {(namespace, (entry.get("targetRef") or {}).get("name", "")) for entry in entries}
    return endpoints_of(service, slices, [pods[key] for key in behind.union(index.selected(service)) if key in pods])


def _judge(item: Item, endpoints: list[Endpoint], service: Object, *, known: bool) -> None:
    """Fill state, summary, reasons and endpoints. known: what would tell may be seen."""
    spec = service.get("spec") or {}
    if spec.get("type") == "ExternalName":
        item["state"], item["summary"] = "empty", "External name"
        return
    total = len(endpoints)
    if not known:
        item["state"], item["summary"] = "empty", "Not known"
        item["reasons"] = [_reason("", NOT_SEEN)]
        return
    if not total:
        item["state"], item["summary"] = "empty", "No endpoints"
        item["reasons"] = [_reason("", why_none(service))]
        return
    waiting = [entry for entry in endpoints if not entry.ready]
    ready = total - len(waiting)
    item["state"] = "ready" if ready == total else "partly" if ready else "down"
    item["summary"] = f"{ready}/{total} ready"
    item["reasons"] = [_reason(entry.name or entry.address, entry.why) for entry in waiting[:MAX_REASONS]]
    if len(waiting) > MAX_REASONS:
        item["reasons"].append(_reason("", f"and {len(waiting) - MAX_REASONS} more"))
    item["endpoints"] = [
        {"name": entry.name, "address": entry.address, "ready": entry.ready} for entry in endpoints[:MAX_ENDPOINTS]
    ]
    if total > MAX_ENDPOINTS:
        item["more"] = total - MAX_ENDPOINTS


def _reason(name: str, text: str) -> Item:
    return {"name": name, "text": _text(text)}
