"""Finds the container in which `quickexec.py` runs a command, when the pod has several and the user has named none.

The API server chooses no default container, so kubectl reads the pod before each command. Hatchway requests the
command at once. It reads the pod only after the server has refused the command because no container is named. Both
requests use the same connection if the server keeps it open.
"""

from __future__ import annotations

import json
import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

# The maximum number of bytes of a body that is read. Pods have at most about 1.5 MB (etcd's limit).
_LARGEST = 4 << 20
# The maximum number of bytes of a chunk's size line.
_LONGEST_LINE = 4096
# The same annotation as in `kube/workload.py` (kubectl `pkg/cmd/util/podcmd/podcmd.go`).
_DEFAULT_CONTAINER = "kubectl.kubernetes.io/default-container"


class Incomplete(Exception):
    """The body cannot be read completely."""


def read_body(read: Callable[[], bytes], fields: dict[str, str], data: bytes) -> bytes:
    """Return a response's body (RFC 9112 section 6).

    Args:
        read: returns more bytes; b"" at the end.
        fields: the response's fields, with names in lower case.
        data: the part of the body that has arrived.
    Raises:
        Incomplete: the body is cut off, too large or malformed.
        OSError: the connection failed.
    """
    if fields.get("transfer-encoding", "").lower() == "chunked":
        return _read_chunks(read, data)
    length = fields.get("content-length", "")
    if not (length.isascii() and length.isdigit()) or int(length) > _LARGEST:
        raise Incomplete
    while len(data) < int(length):
        data += _more(read)
    if len(data) > int(length):
        raise Incomplete
    return data


def _read_chunks(read: Callable[[], bytes], data: bytes) -> bytes:
    body = b""
    while True:
        while (end := data.find(b"\r\n")) < 0:
            if len(data) > _LONGEST_LINE:
                raise Incomplete
            data += _more(read)
        try:
            size = int(data[:end].partition(b";")[0], 16)
        except ValueError:
            raise Incomplete from None
        if size < 0 or len(body) + size > _LARGEST:
            raise Incomplete
        data = data[end + 2 :]
        while len(data) < size + 2:
            data += _more(read)
        if data[size : size + 2] != b"\r\n":
            raise Incomplete
        body, data = body + data[:size], data[size + 2 :]
        if not size:
            if data:
                raise Incomplete
            return body


def _more(read: Callable[[], bytes]) -> bytes:
    data = read()
    if not data:
        raise Incomplete
    return data


def default_container(body: bytes) -> str | None:
    """Return the name of a pod's default container; None when the pod has ended, or the body is not a pod.

    On a terminal, print a note with the names of the other containers.

    body: the pod as JSON.
    """
    try:
        pod = json.loads(body)
        if not isinstance(pod, dict) or (pod.get("status") or {}).get("phase") in ("Succeeded", "Failed"):
            return None
        spec = pod["spec"]
        keys = ("initContainers", "containers", "ephemeralContainers")
        names = [one["name"] for key in keys for one in spec.get(key) or ()]
        chosen = (pod["metadata"].get("annotations") or {}).get(_DEFAULT_CONTAINER)
        if chosen not in names:
            chosen = spec["containers"][0]["name"]
        if not isinstance(chosen, str):
            return None
    except (ValueError, KeyError, IndexError, TypeError, AttributeError):
        return None
    if os.isatty(2):
        from hatchway.printable import printable

        others = ", ".join(str(one) for one in names if one != chosen)
        print(f"note: {printable(f'container {chosen} (-c takes {others} too)')}", file=sys.stderr)
    return chosen
