"""Parses the log files of containers: their paths, and their entries in the CRI's format. Pure.

LOGS/NAMESPACE_POD_UID/CONTAINER/ATTEMPT.log      being written; rotated: ATTEMPT.log.1, ATTEMPT.log.2 ...
2026-01-01T00:00:00.000000000Z stdout F message

F: this entry ends a line that the container wrote. P: the line continues in a later entry.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from hatchway.addons.logging.level import level_of

_FILE = re.compile(r"[0-9]+\.log(?:\.[0-9]+)?\Z")
_LINE = re.compile(
    rb"(\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}(?:\.\d{1,9})?(?:Z|[+-]\d{2}:\d{2})) (stdout|stderr) ([FP]\S*) ?"
)

# The types of a document's fields. They are declared, not taken from the first document: if its line were a date, `log`
# would become a date field, and other lines could not be indexed.
FIELDS = {
    "@timestamp": "date",
    "log": "text",
    "message": "text",
    "stream": "text",
    "level": "text",
    "kubernetes": "object",
    "kubernetes.namespace_name": "text",
    "kubernetes.pod_name": "text",
    "kubernetes.container_name": "text",
    "kubernetes.pod_id": "text",
    "kubernetes.host": "text",
    "tag": "text",
}


@dataclass(frozen=True, slots=True)
class LoggedContainer:
    """The container that a log file belongs to.

    Attributes:
        namespace: the pod's namespace.
        pod: the pod's name.
        uid: the pod's UID.
        container: the container's name.
        node: the name of the node that runs the pod.
    """

    namespace: str
    pod: str
    uid: str
    container: str
    node: str

    def to_document(self, line: LogLine) -> dict[str, Any]:
        """Return the document that is indexed for a line.

        The fields are those of Kubernetes' fluentd-elasticsearch addon, and two more: `message` with the same text as
        `log`, and `level` when the line contains its level.
        """
        level = level_of(line.text)
        return {
            "@timestamp": line.time,
            "log": line.text,
            "message": line.text,
            "stream": line.stream,
            **({"level": level} if level else {}),
            "kubernetes": {
                "namespace_name": self.namespace,
                "pod_name": self.pod,
                "container_name": self.container,
                "pod_id": self.uid,
                "host": self.node,
            },
            "tag": f"kubernetes.var.log.containers.{self.pod}_{self.namespace}_{self.container}.log",
        }


@dataclass(frozen=True, slots=True)
class LogLine:
    """One line of a log file.

    Attributes:
        time: the time at which it was written, in the RFC 3339 form of the file.
        stream: stdout or stderr.
        text: the text that the container wrote, without the newline.
        partial: True if the line continues in the next entry of the same stream.
    """

    time: str
    stream: str
    text: str
    partial: bool

    @property
    def day(self) -> str:
        """Return the line's date in the form that index names contain: `2026.01.31`."""
        return self.time[:10].replace("-", ".")


def source_of(directory: str, container: str, node: str) -> LoggedContainer | None:
    """Return the container that wrote a log file; None when `directory` is not the name of a pod's directory.

    Args:
        directory: name of the pod's directory, NAMESPACE_POD_UID.
        container: name of the container's directory.
        node: the node's name.
    """
    parts = directory.split("_")
    if len(parts) != 3 or not all(parts):
        return None
    namespace, pod, uid = parts
    return LoggedContainer(namespace, pod, uid, container, node)


def is_log(name: str) -> bool:
    """Return True for the name of a log file, also of a rotated one."""
    return _FILE.match(name) is not None


def parse_line(data: bytes) -> LogLine | None:
    """Parse an entry; return None when it is not in the CRI's format. data: the entry without its newline.

    Bytes that are not UTF-8 are replaced.
    """
    match = _LINE.match(data)
    if match is None:
        return None
    time, stream, tag = (part.decode() for part in match.groups())
    return LogLine(time, stream, data[match.end() :].decode("utf-8", "replace"), tag[0] == "P")
