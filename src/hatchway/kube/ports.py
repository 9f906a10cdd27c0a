"""The ports of services and pods: what is spoken there and which one is meant, without a connection. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from hatchway.kube.api import Object
from hatchway.numerals import is_digits

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
    *("pg", "zk", "native"),
}
_HTTPS_NUMBERS = {443, 8443, 9443, 6443, 4443, 10250, 10257, 10259, 5443, 7443}
_HTTP_NUMBERS = {
    *(80, 81, 591, 2368, 3000, 3001, 3100, 4000, 4040, 4200, 5000, 5173, 5601, 7474, 7860, 8000, 8001, 8008, 8010),
    *(8050, 8080, 8081, 8082, 8086, 8088, 8089, 8090, 8096, 8123, 8200, 8265, 8384, 8500, 8501, 8787, 8888, 8889),
    *(8983, 9000, 9001, 9080, 9090, 9091, 9093, 9100, 9115, 9187, 9200, 9411, 15672, 16686, 19999, 20000, 50070),
}
_OTHER_NUMBERS = {
    *(20, 21, 22, 23, 25, 53, 88, 110, 111, 123, 135, 139, 143, 161, 179, 194, 389, 445, 465, 514, 587, 636, 853, 873),
    *(990, 993, 995, 1433, 1521, 1883, 2049, 2181, 2380, 2888, 3306, 3389, 3868, 3888, 4222, 4317, 4369, 5222, 5432),
    *(5433, 5671),
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
    """The ports of a Service, or those that a Pod's containers declare, sidecars' last; in their order."""
    spec = obj.get("spec") or {}
    if "containers" in spec:
        # Sidecars are init containers that go on running (KEP-753).
        sidecars = [found for found in spec.get("initContainers") or () if found.get("restartPolicy") == "Always"]
        declared = [port for found in [*spec["containers"], *sidecars] for port in found.get("ports") or ()]
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
    for text in (port.name, port.target if not is_digits(port.target) else ""):
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
