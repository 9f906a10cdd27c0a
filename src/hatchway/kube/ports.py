"""Lists the ports of services and pods, guesses their protocols, and chooses the default port. Pure: never connects."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from hatchway.kube.api import Object
from hatchway.numerals import is_digits

# Values of `appProtocol` that Kubernetes defines, and values that Istio, Gateway API and service meshes use.
_APP_HTTP = {"http", "http1", "ws", "kubernetes.io/ws", "http2", "kubernetes.io/h2c", "grpc-web"}
_APP_HTTPS = {"https", "wss", "kubernetes.io/wss"}

_HTTPS_WORDS = {"https", "wss", "websecure", "https2"}
_HTTP_WORDS = {"http", "http1", "http2", "ws", "websocket"}
# Common names of HTTP ports, with or without TLS; the port's number may show which.
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
# Port numbers of protocols other than HTTP, by protocol (IANA's registry, defaults of projects).
_OTHER_NUMBERS = {
    number: what
    for what, numbers in {
        "FTP": (20, 21, 990),
        "SSH": (22,),
        "Telnet": (23,),
        "mail": (25, 110, 143, 465, 587, 993, 995),
        "DNS": (53, 853),
        "Kerberos": (88,),
        "RPC": (111, 135),
        "NTP": (123,),
        "SMB": (139, 445),
        "SNMP": (161,),
        "BGP": (179,),
        "IRC": (194,),
        "LDAP": (389, 636),
        "syslog": (514,),
        "rsync": (873,),
        "SQL Server": (1433,),
        "Oracle": (1521,),
        "MQTT": (1883, 8883),
        "NFS": (2049,),
        "ZooKeeper": (2181, 2888, 3888),
        "etcd's peers": (2380,),
        "MySQL": (3306, 33060),
        "RDP": (3389,),
        "Diameter": (3868,),
        "NATS": (4222,),
        "OpenTelemetry's gRPC": (4317,),
        "Erlang": (4369, 25672),
        "XMPP": (5222,),
        "PostgreSQL": (5432, 5433),
        "AMQP": (5671, 5672),
        "VNC": (5900,),
        "Redis": (6379, 6380, 26379),
        "Cassandra": (7000, 7001, 7199, 9042, 9160),
        "Neo4j": (7687,),
        "Kafka": (9092, 9094),
        "Elasticsearch's nodes": (9300,),
        "memcached": (11211,),
        "CockroachDB": (26257,),
        "MongoDB": (27017, 27018, 27019),
        "gRPC": (50051,),
        "ActiveMQ": (61613, 61616),
    }.items()
    for number in numbers
}


@dataclass(frozen=True, slots=True)
class Port:
    """A port of a service, or of a pod's container.

    number: the service's `port` (not its `targetPort`), or the containerPort.
    target: the service's `targetPort` as text; "" without one.
    """

    name: str
    number: int
    protocol: str = "TCP"
    app_protocol: str = ""
    target: str = ""


def ports(obj: Object) -> list[Port]:
    """Return the ports of a Service, or of a Pod's containers (sidecars last), in the order of declaration.

    The ports of a workload are those of its pod template.
    """
    spec = obj.get("spec") or {}
    if "template" in spec:
        spec = spec["template"].get("spec") or {}
    if "containers" in spec:
        # Sidecars are init containers that continue to run (KEP-753).
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
    """Guess the scheme of a port from its appProtocol, its name and well-known numbers.

    Returns "" when none of these shows the scheme, or when the port does not speak HTTP.
    """
    if why_no_http(port):
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
    """Return True when the port speaks HTTP, False when not (a database, DNS, UDP ...), None when it is not known."""
    if why_no_http(port):
        return False
    return True if scheme_of(port) else None


def why_no_http(port: Port) -> str:
    """Return why a port most likely does not speak HTTP, as a sentence without a full stop; "" when it may be HTTP.

    The name takes precedence over the number: a port `http` with the number 5432 counts as HTTP.
    """
    return declared_other(port) or _usually_other(port)


def declared_other(port: Port) -> str:
    """Return why the port's protocol, appProtocol or name shows that it does not speak HTTP; "" when none shows it.

    The number is not considered.
    """
    if port.protocol not in ("", "TCP"):
        return f"it is a port for {port.protocol}"
    app = port.app_protocol.lower()
    if app:
        other = app not in _APP_HTTP and app not in _APP_HTTPS and set(app.split("/")[-1].split("-")) & _OTHER_WORDS
        return f'its appProtocol is "{port.app_protocol}"' if other else ""
    words = _words(port)
    if words & (_HTTP_WORDS | _HTTPS_WORDS) or not words & _OTHER_WORDS:
        return ""
    named = port.name if _split(port.name) & _OTHER_WORDS else port.target
    return f'its name, "{named}", is that of another protocol'


def _usually_other(port: Port) -> str:
    """Return a sentence that names the usual protocol of a port number; "" when it may be HTTP."""
    what = _OTHER_NUMBERS.get(port.number)
    if what is None or port.app_protocol or _words(port) & (_HTTP_WORDS | _HTTPS_WORDS):
        return ""
    return f"{port.number} is usually a port of {what}"


def _words(port: Port) -> set[str]:
    """Return a port's name, its targetPort's name, and the words in both."""
    return _split(port.name) | (_split(port.target) if not is_digits(port.target) else set())


def _split(name: str) -> set[str]:
    return {name.lower(), *name.lower().replace("_", "-").split("-")} - {""}


def default_port(found: list[Port]) -> Port | None:
    """Return the default port: the first HTTP port, else the first that may speak HTTP, else None.

    HTTP ports for programs, such as `metrics`, come after the other HTTP ports.
    """
    http = [port for port in found if is_http(port)]
    for port in http:
        if not _words(port) & {"metrics", "telemetry", "health", "healthz", "probe", "admin", "debug", "pprof"}:
            return port
    return next(iter(http), None) or next((port for port in found if is_http(port) is None), None)
