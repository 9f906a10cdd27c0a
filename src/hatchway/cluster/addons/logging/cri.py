"""Log files of containers: where they lie, and the lines of the CRI's format. Pure.

LOGS/NAMESPACE_POD_UID/CONTAINER/ATTEMPT.log      what is being written; rotated: ATTEMPT.log.1, ATTEMPT.log.2 ...
2026-01-01T00:00:00.000000000Z stdout F message   F ends a line of the container, P does not
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

_FILE = re.compile(r"[0-9]+\.log(?:\.[0-9]+)?\Z")
_LINE = re.compile(
    rb"(\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}(?:\.\d{1,9})?(?:Z|[+-]\d{2}:\d{2})) (stdout|stderr) ([FP]\S*) ?"
)


@dataclass(frozen=True, slots=True)
class Source:
    """The container that a file belongs to. host: the node that runs it."""

    namespace: str
    pod: str
    uid: str
    container: str
    host: str

    def document(self, line: Line) -> dict[str, Any]:
        """What is indexed of a line: the fields of the fluentd-elasticsearch addon, `message` beside its older `log`."""
        return {
            "@timestamp": line.time,
            "log": line.text,
            "message": line.text,
            "stream": line.stream,
            "kubernetes": {
                "namespace_name": self.namespace,
                "pod_name": self.pod,
                "container_name": self.container,
                "pod_id": self.uid,
                "host": self.host,
            },
            "tag": f"kubernetes.var.log.containers.{self.pod}_{self.namespace}_{self.container}.log",
        }


@dataclass(frozen=True, slots=True)
class Line:
    """time: RFC 3339, as it stood in the file. partial: the container's line goes on in the next one."""

    time: str
    stream: str
    text: str
    partial: bool

    @property
    def day(self) -> str:
        """`2026.01.31`, as index names have it."""
        return self.time[:10].replace("-", ".")


def source_of(directory: str, container: str, host: str) -> Source | None:
    """From the names of a pod's and a container's directory; None when the first is no pod's."""
    parts = directory.split("_")
    if len(parts) != 3 or not all(parts):
        return None
    namespace, pod, uid = parts
    return Source(namespace, pod, uid, container, host)


def is_log(name: str) -> bool:
    return _FILE.match(name) is not None


def parse_line(data: bytes) -> Line | None:
    """One line, without its newline; None when it has not this format. Bytes that are not UTF-8 are replaced."""
    match = _LINE.match(data)
    if match is None:
        return None
    time, stream, tag = (part.decode() for part in match.groups())
    return Line(time, stream, data[match.end() :].decode("utf-8", "replace"), tag[0] == "P")
