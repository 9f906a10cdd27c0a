"""What a port speaks: a guess from `appProtocol`, its name and its number, without a connection. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable

from hatchway.kube.api import Object

_HTTP_PROTOCOLS = frozenset({"http", "https", "ws", "wss", "kubernetes.io/ws", "kubernetes.io/wss"})
# Words of port names, between hyphens: `tcp-postgres`, `grpc-otlp`, `http-metrics`.
_HTTP_WORDS = frozenset({"http", "https", "web", "www", "ui", "ws", "wss", "webui", "dashboard", "console", "rest"})
_PROGRAMS_WORDS = frozenset({"metrics", "telemetry", "health", "healthz", "probe", "admin", "debug", "pprof"})
_OTHER_WORDS = frozenset(
    {
        *("amqp", "amqps", "bolt", "cassandra", "client", "cql", "dns", "etcd", "gossip", "grpc", "h2c", "imap"),
        *("kafka", "ldap", "ldaps", "memcached", "mongo", "mongodb", "mqtt", "mssql", "mysql", "nats", "nfs", "peer"),
        *("pg", "pgsql", "postgres", "postgresql", "raft", "redis", "rtmp", "sentinel", "sftp", "smtp", "smtps"),
        *("ssh", "tcp", "thrift", "transport", "udp", "zk", "zookeeper"),
    }
)
# Well-known ports of protocols that are not HTTP, for ports whose name says nothing.
_OTHER_NUMBERS = frozenset(
    {
        *(21, 22, 23, 25, 53, 88, 110, 111, 143, 389, 445, 465, 587, 636, 873, 993, 995),
        *(1433, 1521, 1883, 2049, 2181, 2379, 2380, 2888, 3306, 3868, 3888, 4222, 4317, 5432, 5671, 5672, 6379, 6380),
        *(6432, 7000, 7001, 7687, 8883, 9042, 9092, 9094, 9300, 11211, 26257, 26379, 27017, 27018, 50051),
    }
)
_TLS_NUMBERS = frozenset({443, 6443, 8443, 9443, 10250, 10257, 10259})


def is_http(port: Object) -> bool:
    """Whether a service's or container's port speaks HTTP. What nothing is known of is taken for HTTP."""
    if port.get("protocol", "TCP") != "TCP":
        return False
    if protocol := port.get("appProtocol"):
        return protocol.lower() in _HTTP_PROTOCOLS
    words = _words(port)
    if words & _HTTP_WORDS:
        return True
    if words & _OTHER_WORDS:
        return False
    return number_of(port) not in _OTHER_NUMBERS


def scheme_of(port: Object) -> str:
    """ "https" or "http" of a port that speaks HTTP; "" of others."""
    if not is_http(port):
        return ""
    if protocol := port.get("appProtocol"):
        return "https" if protocol.lower() in ("https", "wss", "kubernetes.io/wss") else "http"
    words = _words(port)
    if words & {"https", "wss"}:
        return "https"
    return "https" if "http" not in words and number_of(port) in _TLS_NUMBERS else "http"


def number_of(port: Object) -> int:
    """The number of a service's port (`port`) or of a container's (`containerPort`)."""
    return int(port.get("port") or port.get("containerPort") or 0)


def default_port(ports: Iterable[Object]) -> Object | None:
    """The port that a host name without a port label means: the first that speaks HTTP, those for programs last."""
    http = [port for port in ports if is_http(port)]
    return next((port for port in http if not _words(port) & _PROGRAMS_WORDS), None) or next(iter(http), None)


def _words(port: Object) -> frozenset[str]:
    return frozenset(re.split(r"[-_]", (port.get("name") or "").lower()))
