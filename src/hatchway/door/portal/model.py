"""Makes the portal's content from the objects of a live view. Pure: it turns objects into JSON values.

There is an item for each service, pod and node. Empty fields are left out. The fields:

    key         "services/NAMESPACE/NAME"
    kind, namespace, name, created
    title, about    its name and description in labels and annotations
    state       "ready" | "partly" | "down" | "lacking" | "empty": the shape and colour of its mark. lacking: its
                selector matches no pod. empty: it has no state (a finished pod, an external name), or it is unknown.
    summary     "2/3 ready"
    reasons     [{"name": pod, "text": why it is not ready}]; name is "" for reasons of the item itself
    endpoints   [{"name", "address", "ready"}], services only, at most MAX_ENDPOINTS
    ports       [{"name", "number", "protocol", "scheme" ("" when not HTTP), "url", "path", "forward", "needs",
                "barred", "note"}]
                url: the URL with its host name. path: its proxy path. forward: a command line of `hatchway forward`,
                for TCP ports that a port-forward reaches. needs: why it needs port-forward (displayed as "needs
                port-forward"). barred: true when port-forward does not help, either (displayed as "out of reach").
                note: a further remark.
    url         the URL of the first port that has one
    facts       [[label, text]]: type, addresses, route, Host header ...
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Protocol

from hatchway.door.portal.serviceindex import ServiceIndex
from hatchway.door.problems.problem import forward_line
from hatchway.kube.api import Object
from hatchway.kube.firstuse import first_use_state
from hatchway.kube.objects import Key, key_of
from hatchway.kube.portlinks import PortLink, links
from hatchway.kube.ports import why_no_http
from hatchway.kube.readyendpoints import (
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
from hatchway.kube.view import ViewCallback
from hatchway.target import Target, TargetError

Item = dict[str, Any]

# The maximum number of endpoints and reasons of an item, and the maximum number of characters of a text and of RBAC
# rules.
MAX_ENDPOINTS = 50
MAX_REASONS = 20
MAX_TEXT = 600
MAX_RULE = 4000

_TITLES = ("hatchway.dev/title", "kubernetes.io/name", "app.kubernetes.io/name")
_ABOUT = ("hatchway.dev/description", "kubernetes.io/description", "description")
KINDS = ("services", "pods", "nodes")


class ClusterView(Protocol):
    """A live view of the cluster (`kube.view.View`). Its objects are shared, so never change them."""

    @property
    def services(self) -> Mapping[Key, Object]:
        """Return the services by (namespace, name)."""
        ...

    @property
    def slices(self) -> Mapping[Key, Object]:
        """Return the EndpointSlices by (namespace, name)."""
        ...

    @property
    def pods(self) -> Mapping[Key, Object]:
        """Return the pods by (namespace, name)."""
        ...

    @property
    def nodes(self) -> Mapping[Key, Object]:
        """Return the nodes by ("", name)."""
        ...

    @property
    def scopes(self) -> Mapping[Any, Any]:
        """Return the scopes that this user may list, by kind, for `scope_json`; empty while unknown."""
        ...

    @property
    def state(self) -> Any:
        """Return the state of the view, for `state_json`."""
        ...

    def subscribe(self, callback: ViewCallback) -> object:
        """Call `callback` for each known object, and after each change.

        The callback gets ("services" | "slices" | "pods" | "nodes", "ADDED" | "MODIFIED" | "DELETED", object); or, when
        `state` or `scopes` has changed, ("state", the state's name, {}).
        """


@dataclass(frozen=True, slots=True)
class TargetFacts:
    """The facts that the door has learned about a target from its answers.

    host_header: the Host that is sent to the target, and why; "" before the first attempt.
    route: the name of the route to the target.
    unmet_need: what the application needs and the route cannot carry; "" for nothing.
    """

    host_header: str = ""
    route: str = ""
    unmet_need: str = ""


class DoorInfo(Protocol):
    """The door as the portal uses it."""

    @property
    def context(self) -> str:
        """The name of the kubeconfig's context."""
        ...

    @property
    def server(self) -> str:
        """The API server's URL."""
        ...

    def host_url(self, target: Target) -> str:
        """Return the URL of a target's host name.

        Raises:
            TargetError: the target's name cannot be part of a host name.
        """
        ...

    def facts(self, target: Target) -> TargetFacts:
        """Return the facts about a target."""
        ...


def service_item(service: Object, index: ServiceIndex, pods: Mapping[Key, Object], door: DoorInfo) -> Item:
    """Return the item of a service.

    Args:
        service: the object.
        index: finds its slices and pods.
        pods: all known pods, to find out why endpoints are not ready.
        door: provides addresses and facts.
    """
    metadata, spec = service["metadata"], service.get("spec") or {}
    namespace, name = key_of(service)
    item = _head("services", service)
    endpoints = _endpoints(service, index, pods)
    slices = index.slices(key_of(service))
    _judge(item, endpoints, service, known=slices is not None or index.sees_pods(namespace))
    starts = bool(first_use_state(service))
    if item["state"] == "empty" and not endpoints and selector_of(service) and slices is not None and not starts:
        item["state"] = "lacking"
    facts = door.facts(Target("services", name, namespace))
    barred = _sentence(why_out_of_reach(service, slices))
    needs = barred or facts.unmet_need
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


def pod_item(pod: Object, door: DoorInfo) -> Item:
    """Return the item of a pod."""
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
    item["ports"] = [_port_item(link, door, facts.unmet_need) for link in links("pods", pod)]
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


def bare_item(service: Object, door: DoorInfo) -> Item:
    """Return an item with only the names and links of a service, without facts about its pods."""
    item = _head("services", service)
    item["ports"] = [_port_item(link, door, "") for link in links("services", service)]
    item["summary"] = (service.get("spec") or {}).get("type") or "ClusterIP"
    return _finish(item, [])


def node_item(node: Object, door: DoorInfo) -> Item:
    """Return the item of a node."""
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
    item["ports"] = [{**_port_item(link, door, facts.unmet_need), "name": "kubelet"} for link in links("nodes", node)]
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
    """Describe what the user may list of one kind: {"mode": "all" | "some" | "none", "namespaces", "reason", "rule"}.

    Args:
        scopes: the scopes by kind, each with `namespaces` (None for all, () for none), `reason` and `missing_rule`. A
            kind that is missing is not watched. An empty mapping means that the scopes are not known yet.
        kind: one of `KINDS`.
    """
    if not scopes:
        return {"mode": "all"}
    scope = scopes.get(kind)
    if scope is None:
        return {"mode": "none", "reason": f"{kind} are left out while only some namespaces are shown"}
    if scope.namespaces is None:
        return {"mode": "all"}
    names = sorted(scope.namespaces)
    reason, rule = _text(scope.reason), _text(scope.missing_rule, MAX_RULE)
    return {"mode": "some" if names else "none", "namespaces": names, "reason": reason, "rule": rule}


def state_json(state: Any) -> Item:
    """Return a view's state: {"phase": "connecting" | "live" | "away", "reason", "hint", "since"}.

    since: in seconds since the epoch.
    """
    hint = state.hint
    if state.name == "away":
        hint += (" " if hint.endswith(("?", ".")) else "; " if hint else "") + "the door keeps trying"
    return {"phase": state.name, "reason": _text(state.reason), "hint": _text(hint), "since": state.since}


def _text(value: Any, limit: int = MAX_TEXT) -> str:
    text = "" if value is None else str(value)
    return text if len(text) <= limit else text[: limit - 1] + "…"


def _line(text: str) -> str:
    """Return text as one line, without characters that control the display (line ends, direction marks)."""
    return " ".join("".join(one if one.isprintable() else " " for one in text).split())


def _head(kind: str, obj: Object) -> Item:
    metadata = obj["metadata"]
    namespace, name = key_of(obj)
    item: Item = {"key": f"{kind}/{namespace}/{name}", "kind": kind, "namespace": namespace, "name": name}
    texts = {**(metadata.get("labels") or {}), **(metadata.get("annotations") or {})}
    title = next((title for key in _TITLES if (title := _line(texts.get(key) or ""))), "")
    if title.lower() != name.lower():
        item["title"] = _text(title, 120)
    item["about"] = _text(next((about for key in _ABOUT if (about := _line(texts.get(key) or ""))), ""))
    item["created"] = metadata.get("creationTimestamp") or ""
    return item


def _finish(item: Item, rows: list[tuple[str, str]]) -> Item:
    item["facts"] = [[label, _text(text)] for label, text in rows if text]
    item["url"] = next((port["url"] for port in item["ports"] if port.get("url")), "")
    return {key: value for key, value in item.items() if value or key in ("key", "kind", "namespace", "name", "ports")}


def _port_item(link: PortLink, door: DoorInfo, needs: str, *, barred: bool = False) -> Item:
    port, target = link.port, link.target
    out: Item = {"name": port.name, "number": port.number, "protocol": port.protocol, "scheme": ""}
    if link.http is not False:
        # When the scheme is not known, the door tries HTTP first.
        out["scheme"] = link.scheme or "http"
        try:
            out["url"] = door.host_url(target)
        except TargetError as error:
            out["note"] = f"{error.message}; {error.hint}"
        out["path"] = link.path
        out["needs"] = needs
    elif port.protocol == "TCP":
        out["needs"] = f"{_sentence(why_no_http(port))} The API server's proxy carries HTTP only."
    else:
        out["note"] = f"{port.protocol}: no way through the API server carries it."
    if barred:
        out["needs"], out["barred"] = needs, True
    elif target.kind != "nodes" and port.protocol == "TCP":
        out["forward"] = forward_line(replace(target, port=str(port.number)))
    return {key: value for key, value in out.items() if value or key in ("number", "scheme")}


def _sentence(text: str) -> str:
    return f"{text[0].upper()}{text[1:]}." if text else ""


def _door_rows(facts: TargetFacts) -> list[tuple[str, str]]:
    return [("Host header", facts.host_header), ("Route", facts.route)]


def _ingress(service: Object) -> list[str]:
    found = ((service.get("status") or {}).get("loadBalancer") or {}).get("ingress") or []
    return [entry.get("ip") or entry.get("hostname") or "" for entry in found]


def _failing(pod: Object) -> bool:
    """Return True when a container has crashed or cannot be started, so that waiting does not help."""
    status = pod.get("status") or {}
    for found in [*(status.get("initContainerStatuses") or ()), *(status.get("containerStatuses") or ())]:
        state = found.get("state") or {}
        if (state.get("waiting") or {}).get("reason") not in (None, "ContainerCreating", "PodInitializing"):
            return True
        if (state.get("terminated") or {}).get("exitCode"):
            return True
    return False


def _endpoints(service: Object, index: ServiceIndex, pods: Mapping[Key, Object]) -> list[Endpoint]:
    slices, namespace = index.slices(key_of(service)), key_of(service)[0]
    entries = [entry for found in slices or () for entry in found.get("endpoints") or ()]
    behind = {(namespace, (entry.get("targetRef") or {}).get("name", "")) for entry in entries}
    return endpoints_of(service, slices, [pods[key] for key in behind.union(index.selected(service)) if key in pods])


def _judge(item: Item, endpoints: list[Endpoint], service: Object, *, known: bool) -> None:
    """Set state, summary, reasons and endpoints of an item.

    known: True when the user may read the objects on which these fields depend.
    """
    spec = service.get("spec") or {}
    if spec.get("type") == "ExternalName":
        item["state"], item["summary"] = "empty", "External name"
        return
    total = len(endpoints)
    if not known:
        item["state"], item["summary"] = "empty", "Not known"
        item["reasons"] = [_reason("", NOT_SEEN)]
        return
    if not total and first_use_state(service):
        item["state"], item["summary"] = "empty", "Starts on first use"
        item["reasons"] = [_reason("", "Open it, and it starts; that takes some seconds.")]
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
