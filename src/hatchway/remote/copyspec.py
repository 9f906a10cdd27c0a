"""Parses the arguments of `hatchway cp`, which are local paths or paths in a pod. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from hatchway.errors import HatchwayError
from hatchway.kube.workload import KINDS


@dataclass(frozen=True, slots=True)
class RemotePath:
    """A path in a pod.

    target: the argument that names the pod, for `kube/workload.py`.
    namespace: the namespace in the argument; "" for none.
    """

    target: str
    path: str
    namespace: str = ""


def parse_path(text: str) -> RemotePath | str:
    """Return a RemotePath for `web-0:/srv`, `deploy/web:/srv` or `shop/web-0:/srv`; a local path unchanged.

    Text that begins with a slash or a dot is a local path, even with a colon in it.

    Raises:
        HatchwayError: the pod or the path is missing.
    """
    if not text:
        raise HatchwayError("the path is empty")
    target, colon, path = text.partition(":")
    if not colon or text[0] in "/.":
        return text
    if not target or not path:
        raise HatchwayError(f'"{text}" is not TARGET:PATH', "write ./ before a path of this machine that has a colon")
    first, slash, rest = target.partition("/")
    if slash and first.lower() not in KINDS:
        return RemotePath(f"pod/{rest}", path, first)
    return RemotePath(target, path)
