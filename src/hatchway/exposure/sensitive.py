"""The ports of programs that nobody should reach from outside: databases, and interfaces for administrators. Pure.

Many of these programs ask for no password unless one is set. The others are attacked as soon as they can be reached.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

_PROGRAMS: Final[dict[str, tuple[int, ...]]] = {
    "Telnet": (23,),
    "RPC": (111, 135),
    "SMB": (139, 445),
    "LDAP": (389,),
    "rsync": (873,),
    "SQL Server": (1433,),
    "Oracle": (1521,),
    "NFS": (2049,),
    "ZooKeeper": (2181,),
    "Docker": (2375, 2376),
    "etcd": (2379, 2380),
    "MySQL": (3306, 33060),
    "RDP": (3389,),
    "Spark": (4040,),
    "cAdvisor": (4194,),
    "PostgreSQL": (5432, 5433),
    "Kibana": (5601,),
    "VNC": (5900,),
    "CouchDB": (5984,),
    "Redis": (6379, 26379),
    "Neo4j": (7474, 7687),
    "kubectl proxy": (8001,),
    "InfluxDB": (8086,),
    "YARN": (8088,),
    "Ray": (8265,),
    "Consul": (8500,),
    "Jupyter": (8888,),
    "Cassandra": (9042, 9160),
    "Prometheus": (9090,),
    "Kafka": (9092,),
    "Alertmanager": (9093,),
    "node exporter": (9100,),
    "Elasticsearch": (9200, 9300),
    "the kubelet": (10250, 10255),
    "memcached": (11211,),
    "RabbitMQ's management": (15672,),
    "CockroachDB": (26257,),
    "MongoDB": (27017, 27018, 27019),
    "HDFS": (50070,),
    "ActiveMQ": (61616,),
}
_BY_NUMBER: Final = {number: program for program, numbers in _PROGRAMS.items() for number in numbers}


@dataclass(frozen=True, slots=True)
class SensitiveProgram:
    """A program that nobody should reach from outside, guessed by its port."""

    name: str
    port: int

    def __str__(self) -> str:
        return f"{self.name} (port {self.port})"


def sensitive_program(*numbers: int) -> SensitiveProgram | None:
    """Return the program that usually uses one of these ports, if nobody should reach it from outside; else None."""
    return next((SensitiveProgram(_BY_NUMBER[number], number) for number in numbers if number in _BY_NUMBER), None)
