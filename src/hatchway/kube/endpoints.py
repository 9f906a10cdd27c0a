"""What services and pods say about how they can be reached: ports, schemes, endpoints and why some are not ready. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from hatchway.kube.api import Object

SERVICE_NAME = "kubernetes.io/service-name"

# `appProtocol` values: Kubernetes' own, and what Istio, Gateway API and service meshes use.
_APP_HTTP = {"http", "http1", "ws", "kubernetes.io/ws", "http2", "kubernetes.io/h2c", "grpc-web"}
_APP_HTTPS = {"https", "wss", "kubernetes.io/wss"}

_HTTPS_WORDS = {"https", "wss", "websecure", "https2"}
_HTTP_WORDS = {"http", "http1", "http2", "ws", "websocket"}
# Names that people give to HTTP ports, whatever the number says about TLS.
_WEB_WORDS = {"web", "webui", "ui", "www", "dashboard", "console", "portal", "frontend", "rest", "api", "metrics"}
_OTHER_WORDS = {
    *("grpc", "grpcs", "tcp", "udp", "dns", "dot", "domain", "ssh", "sftp", "ftp", "smtp", "smtps", "imap", "pop3"),
    *("postgres", "postgresql", "pgsql", "psql", "mysql", "mariadb", "mongo", "mongodb", "redis", "sentinel", "amqp"),
    *("amqps", "mqtt", "kafka", "broker", "zookeeper", "nats", "memcached", "memcache", "cassandra", "cql", "thrift"),
    *("ldap", "ldaps", "rtmp", "sip", "epmd", "gossip", "raft", "transport", "peer", "peers", "jmx", "rpc", "tds"),
    *("mssql", "oracle", "bolt", "etcd-peer", "syslog", "nfs", "smb", "iscsi", "rsync", "telnet", "vnc", "rdp"),
}
_HTTPS_NUMBERS = {443, 8443, 9443, 6443, 4443, 10250, 10257, 10259, 5443, 7443}
_HTTP_NUMBERS = {
    *(80, 81, 591, 2368, 3000, 3001, 3100, 4000, 4040, 4200, 5000, 5173, 5601, 7474, 7860, 8000, 8001, 8008, 8010),
    *(8050, 8080, 8081, 8082, 8086, 8088, 8089, 8090, 8096, 8123, 8200, 8265, 8384, 8500, 8501, 8787, 8888, 8889),
    *(8983, 9000, 9001, 9080, 9090, 9091, 9093, 9100, 9115, 9187, 9200, 9411, 15672, 16686, 19999, 20000, 50070),
}
_OTHER_NUMBERS = {
    *(20, 21, 22, 23, 25, 53, 88, 110, 111, 123, 135, 139, 143, 161, 179, 194, 389, 445, 465, 514, 587, 636, 853, 873),
    *(990, 993, 995, 1433, 1521, 1883, 2049, 2181, 2380, 2888, 3306, 3389, 3888, 4222, 4369, 5222, 5432, 5433, 5671),
    *(5672, 5900, 6379, 6380, 7000, 7001, 7199, 7687, 8883, 9042, 9092, 9094, 9160, 9300, 11211, 25672, 26257),
    *(26379, 27017, 27018, 27019, 33060, 50051, 61613, 61616),
}


@dataclass(frozen=True, slots=True)
class Port:
    """A port of a service, or of a pod's container.

    number: the service's (not the target's) port. target: a service's targetPort as text ("" when it says none).
    """

    name: str
    number: int
    protocol: str = "TCP"
    app_protocol: str = ""
    target: str = ""


def ports(obj: Object) -> list[Port]:
    """The ports of a Service, or those that a Pod's containers declare, in their order."""
    spec = obj.get("spec") or {}
    if "containers" in spec:
        declared = [port for container in spec["containers"] for port in container.get("ports") or ()]
        return [Port(port.get("name") or "", port["containerPort"], port.get("protocol") or "TCP") for port in declared]
    return [
        Port(
            port.get("name") or "",
            port["port"],
            port.get("protocol") or "TCP",
            port.get("appProtocol") or "",
            str(port.get("targetPort") or ""),
        )
        for port in spec.get("ports") or ()
    ]


def scheme_of(port: Port) -> Literal["http", "https", ""]:
    """What is spoken there, as far as appProtocol, names and well-known numbers tell; "" when they do not, or when it
    is no HTTP."""
    if _other(port):
        return ""
    app = port.app_protocol.lower()
    if app in _APP_HTTP:
        return "http"
    if app in _APP_HTTPS:
        return "https"
    words = _words(port)
    if words & _HTTPS_WORDS:
        return "https"
    if words & _HTTP_WORDS:
        return "http"
    if port.number in _HTTPS_NUMBERS:
        return "https"
    if port.number in _HTTP_NUMBERS or words & _WEB_WORDS:
        return "http"
    return ""


def is_http(port: Port) -> bool | None:
    """Whether a browser can speak to it: True, False (a database, DNS, UDP ...), or None when nothing tells."""
    if _other(port):
        return False
    return True if scheme_of(port) else None


def _other(port: Port) -> bool:
    """Whether it is known to be no HTTP. A clear name wins over a number: `http` on 5432 is HTTP."""
    if port.protocol not in ("", "TCP"):
        return True
    app = port.app_protocol.lower()
    if app:
        return (
            app not in _APP_HTTP and app not in _APP_HTTPS and bool(set(app.split("/")[-1].split("-")) & _OTHER_WORDS)
        )
    words = _words(port)
    if words & (_HTTP_WORDS | _HTTPS_WORDS):
        return False
    return bool(words & _OTHER_WORDS) or port.number in _OTHER_NUMBERS


def _words(port: Port) -> set[str]:
    """The words of its name, of its target's name, and both as a whole."""
    found: set[str] = set()
    for text in (port.name, port.target if not port.target.isdecimal() else ""):
        found |= {text.lower(), *text.lower().replace("_", "-").split("-")}
    return found - {""}


def default_port(found: list[Port]) -> Port | None:
    """The port that is meant when none is said: the first that is HTTP, else the first that may be, else None.

    Among HTTP ports one for people comes before `metrics` and the like.
    """
    http = [port for port in found if is_http(port)]
    for port in http:
        if not _words(port) & {"metrics", "telemetry", "health", "healthz", "probe", "admin", "debug", "pprof"}:
            return port
    return next(iter(http), None) or next((port for port in found if is_http(port) is None), None)


@dataclass(frozen=True, slots=True)
class NotReady:
    """An endpoint that gets no requests: the pod's name (or its address), and why."""

    name: str
    why: str


@dataclass(frozen=True, slots=True)
class Endpoints:
    """ready of total endpoints. why: one sentence when there is none at all, "" otherwise."""

    ready: int
    total: int
    waiting: tuple[NotReady, ...] = ()
    why: str = ""


def ready_endpoints(service: Object, slices: Iterable[Object], pods: Iterable[Object]) -> Endpoints:
    """How many endpoints of a Service are ready, and why the others are not.

    slices: EndpointSlices (others are passed over). pods: what is known of the namespace's pods; may be empty for
    users who may not list them, then reasons are less exact.
    """
    metadata, spec = service["metadata"], service.get("spec") or {}
    namespace, name = metadata.get("namespace", ""), metadata["name"]
    if spec.get("type") == "ExternalName":
        return Endpoints(0, 0, why=f"it is a name for {spec.get('externalName', 'something')} outside the cluster")
    selector = spec.get("selector") or {}
    selected = {
        pod["metadata"]["name"]: pod
        for pod in pods
        if selector
        and pod["metadata"].get("namespace", "") == namespace
        and not is_finished(pod)
        and selector.items() <= (pod["metadata"].get("labels") or {}).items()
    }
    ready: set[str] = set()
    waiting: dict[str, str] = {}
    for found in slices:
        labels = found["metadata"].get("labels") or {}
        if labels.get(SERVICE_NAME) != name or found["metadata"].get("namespace", "") != namespace:
            continue
        for endpoint in found.get("endpoints") or ():
            reference = endpoint.get("targetRef") or {}
            who = reference.get("name") or ", ".join(endpoint.get("addresses") or ()) or "?"
            conditions = endpoint.get("conditions") or {}
            # A missing condition means ready (discovery/v1 EndpointConditions).
            if conditions.get("ready", True) is not False:
                ready.add(who)
            elif who not in ready:
                waiting[who] = "Terminating" if conditions.get("terminating") else "not ready"
    for who in ready:
        waiting.pop(who, None)
    for who, pod in selected.items():
        if who not in ready:
            waiting[who] = why_not_ready(pod) or waiting.get(who) or "not yet among the endpoints"
    total = len(ready) + len(waiting)
    return Endpoints(
        len(ready),
        total,
        tuple(NotReady(who, why) for who, why in sorted(waiting.items())),
        "" if total else _why_none(selector),
    )


def _why_none(selector: dict[str, str]) -> str:
    if not selector:
        return "it has no selector, and nobody has written endpoints for it"
    wanted = ",".join(f"{key}={value}" for key, value in sorted(selector.items()))
    return f"no pod has the labels {wanted}"


def is_finished(pod: Object) -> bool:
    """Whether all its containers have ended for good."""
    return (pod.get("status") or {}).get("phase") in ("Succeeded", "Failed")


def is_ready(pod: Object) -> bool:
    """Whether it takes requests: its condition Ready."""
    conditions = (pod.get("status") or {}).get("conditions") or ()
    return any(found.get("type") == "Ready" and found.get("status") == "True" for found in conditions)


def why_not_ready(pod: Object) -> str:
    """What keeps a pod from taking requests, in kubectl's words where it has some; "" when it is ready."""
    status = pod.get("status") or {}
    if pod["metadata"].get("deletionTimestamp"):
        return "Terminating"
    if status.get("phase") in ("Succeeded", "Failed"):
        return _with(status.get("reason") or {"Succeeded": "Completed"}.get(status["phase"], "Failed"), status)
    conditions = {found.get("type"): found for found in status.get("conditions") or ()}
    if is_ready(pod):
        return ""
    scheduled = conditions.get("PodScheduled") or {}
    if scheduled.get("status") == "False":
        return _with("Pending", scheduled)
    for container in status.get("initContainerStatuses") or ():
        state = container.get("state") or {}
        # A sidecar (an init container that goes on running) has started and is not in the way.
        if (state.get("terminated") or {}).get("exitCode") == 0 or container.get("started"):
            continue
        if problem := _container(container):
            return f"Init:{problem}"
        return f'Init: container "{container.get("name")}" has not ended yet'
    for container in status.get("containerStatuses") or ():
        if problem := _container(container):
            return problem
    for container in status.get("containerStatuses") or ():
        if not container.get("ready"):
            return f'Running, but container "{container.get("name")}" does not say that it is ready'
    gate = conditions.get("Ready") or {}
    if gate.get("status") == "Unknown":
        return _with("its node is lost", gate)
    if gate.get("reason") not in (None, "", "ContainersNotReady"):
        return _with(gate["reason"], gate)
    return str(status.get("phase") or "Pending")


def _container(container: Object) -> str:
    """What is wrong with a container, "" when it runs."""
    state = container.get("state") or {}
    if (waiting := state.get("waiting")) is not None:
        reason = waiting.get("reason") or "waiting"
        last = ((container.get("lastState") or {}).get("terminated")) or {}
        if reason == "CrashLoopBackOff" and "exitCode" in last:
            return f'{reason}: container "{container.get("name")}" ended with exit code {last["exitCode"]}'
        return _with(reason, waiting)
    if (ended := state.get("terminated")) is not None:
        reason = ended.get("reason") or "Error"
        return f'{reason}: container "{container.get("name")}" ended with exit code {ended.get("exitCode")}'
    return ""


def _with(reason: str, told: Object) -> str:
    message = " ".join(str(told.get("message") or "").split())
    return f"{reason}: {message}" if message else reason


def slice_of_endpoints(endpoints: Object) -> Object:
    """An Endpoints object as an EndpointSlice, for clusters before Kubernetes 1.21."""
    metadata = endpoints["metadata"]
    found: list[Object] = []
    listed: list[Object] = []
    for subset in endpoints.get("subsets") or ():
        for key, ready in (("addresses", True), ("notReadyAddresses", False)):
            for address in subset.get(key) or ():
                endpoint = {"addresses": [address.get("ip")], "conditions": {"ready": ready}}
                if address.get("targetRef"):
                    endpoint["targetRef"] = address["targetRef"]
                found.append(endpoint)
        listed += subset.get("ports") or ()
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {**metadata, "labels": {**(metadata.get("labels") or {}), SERVICE_NAME: metadata["name"]}},
        "addressType": "IPv4",
        "endpoints": found,
        "ports": listed,
    }
