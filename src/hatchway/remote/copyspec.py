"""The paths of `hatchway cp`: of this machine, or in a pod. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from hatchway.errors import HatchwayError
from hatchway.kube.workload import KINDS


@dataclass(frozen=True, slots=True)
class RemotePath:
    """A path in a pod.

    target: what the pod is found by, an argument as `kube/workload.py` takes it.
    namespace: "" where none was written with it.
    """

    target: str
    path: str
    namespace: str = ""


def parse_path(text: str) -> RemotePath | str:
    """Return a path in a pod (`web-0:/srv`, `deploy/web:/srv`, `shop/web-0:/srv`), or one of this machine as it is.

    What begins with a slash or a dot is of this machine, also with a colon in it.

    Raises:
        HatchwayError: it names a pod and no path, or a path and no pod.
    """
    if not text:
        raise HatchwayError("the path is empty")
    target, colon, path = text.partition(":")
    if not colon or text[0] in "/.":
        return text
    if not target or not path:
        raise HatchwayError(f'"{text}" is not TARGET:PATH', "a path of this machine with a colon begins with ./")
    first, slash, rest = target.partition("/")
    if slash and first.lower() not in KINDS:
        return RemotePath(f"pod/{rest}", path, first)
    return RemotePath(target, path)
