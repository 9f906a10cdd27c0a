"""A pod's volumes: directories of the node agent's, and where containers see them.

`pods/UID/volumes/NAME` of the state directory is an emptyDir or a ConfigMap's files; whatever may hold a secret lies
below a directory in memory of the same shape. What a container can change is never resolved by its path: see
`cluster/beneath.py`, and `open_source` in `cluster/network/rootfs.py`, which does it again when a volume is mounted.
"""

from __future__ import annotations

import errno
import os
import re
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from hatchway.cluster import beneath
from hatchway.cluster.node import hostpath
from hatchway.cluster.node.atomic import write_payload
from hatchway.cluster.node.env import ConfigError, expand
from hatchway.cluster.node.hostpath import HostPathError
from hatchway.cluster.node.projections import PodFacts, ProjectionError, Projector
from hatchway.cluster.node.quantity import parse_quantity
from hatchway.cluster.node.runtime import Mount, NodeFiles
from hatchway.errors import ApiError
from hatchway.kube.api import Object

_PROJECTED = ("configMap", "secret", "downwardAPI", "projected")
_SAFE = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?\Z")
_UID = re.compile(r"[A-Za-z0-9][-A-Za-z0-9_]*\Z")
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_TERMINATION_LOG = "termination-log"


class MountError(Exception):
    """A volume cannot be set up; the message is that of a FailedMount event."""


def pod_directory(pods: Path, uid: str) -> Path:
    """Where a pod's files are. Raises ValueError for a uid that cannot be a directory's name."""
    if not _UID.match(uid):
        raise ValueError(f"{uid!r} is no pod's uid")
    return pods / uid


def remove_files(directory: Path, files: NodeFiles) -> None:
    """Delete a pod's directory, and unmount what is mounted in it. Raises OSError."""
    try:
        with os.scandir(directory / "volumes") as volumes:
            for volume in volumes:
                if volume.is_dir(follow_symlinks=False):
                    files.unmount(volume.path)
    except FileNotFoundError:
        # It has no volumes, or is gone.
        pass
    try:
        with beneath.opened(beneath.open_directory(directory.parent)) as parent:
            beneath.remove_tree(parent, directory.name)
    except FileNotFoundError:
        return


class Volumes:
    """The volumes of one pod. directory: the pod's own (`pod_directory`); memory: another one, in memory.

    files, node_index: the node's own file system, and which node it is.
    """

    def __init__(
        self, directory: Path, projector: Projector, *, memory: Path, files: NodeFiles, node_index: int
    ) -> None:
        self._directory = directory
        self._memory = memory
        self._projector = projector
        self._files = files
        self._node_index = node_index
        self._sources: dict[str, _Source] = {}

    async def set_up(self, pod: Object, facts: PodFacts) -> None:
        """Make every volume. Idempotent. Raises MountError."""
        for volume in pod["spec"].get("volumes") or ():
            name = volume["name"]
            try:
                self._sources[name] = await self._make(pod, volume, facts)
            except (ProjectionError, HostPathError, ApiError, OSError, ValueError) as error:
                raise MountError(f'MountVolume.SetUp failed for volume "{name}" : {_message(error)}') from error

    async def refresh(self, pod: Object, facts: PodFacts) -> None:
        """Bring the files of ConfigMaps, Secrets, tokens and the downward API up to date. Raises MountError."""
        for volume in pod["spec"].get("volumes") or ():
            if volume["name"] not in self._sources or not any(kind in volume for kind in _PROJECTED):
                continue
            try:
                await self._write(pod, volume, facts)
            except (ProjectionError, ApiError, OSError, ValueError) as error:
                raise MountError(
                    f'MountVolume.SetUp failed for volume "{volume["name"]}" : {_message(error)}'
                ) from error

    def next_refresh(self) -> float | None:
        """Seconds until a token must be renewed; None when there are no tokens."""
        renew = self._projector.renew
        return None if renew is None else max(1.0, renew - time.time())

    def mounts(self, container: Object, environment: Mapping[str, str]) -> list[Mount]:
        """What a container sees of the volumes. Raises ConfigError."""
        found = []
        for mount in container.get("volumeMounts") or ():
            source = self._sources.get(mount["name"])
            if source is None:
                raise ConfigError(f'cannot find volume "{mount["name"]}" to mount into container "{container["name"]}"')
            below = mount.get("subPath") or ""
            if mount.get("subPathExpr"):
                below = _expand_strictly(mount["subPathExpr"], environment)
            if below:
                _make_sub_path(source, below, mount["name"])
            where = mount["mountPath"]
            found.append(
                Mount(
                    str(source.path),
                    where if where.startswith("/") else f"/{where}",
                    read_only=source.read_only or bool(mount.get("readOnly")),
                    inside=source.inside,
                    sub_path=below,
                )
            )
        return found

    def termination_log(self, container: str, path: str) -> Mount:
        """An empty file for the container's last words, to be shown at `path`. Raises ConfigError."""
        directory = self._directory / "containers" / container
        try:
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            with beneath.opened(os.open(directory, _DIRECTORY)) as parent:
                beneath.remove_tree(parent, _TERMINATION_LOG)
                flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
                with beneath.opened(os.open(_TERMINATION_LOG, flags, 0o600, dir_fd=parent)) as file:
                    os.fchmod(file, 0o666)
        except OSError as error:
            raise ConfigError(f"cannot make the termination log: {error.strerror}") from error
        return Mount(str(directory / _TERMINATION_LOG), path)

    def last_words(self, container: str, limit: int = 4096) -> str:
        """What the container has written to its termination log, its end when that is long."""
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        try:
            with open(os.open(self._directory / "containers" / container / _TERMINATION_LOG, flags), "rb") as file:
                size = file.seek(0, os.SEEK_END)
                file.seek(max(0, size - limit))
                return file.read(limit).decode("utf-8", "replace")
        except OSError:
            # The file is a courtesy; a container that has replaced it by something else has said nothing.
            return ""

    def remove(self) -> None:
        """Delete the pod's files. Raises OSError; the agent's clean-up then tries it again."""
        for directory in (self._memory, self._directory):
            remove_files(directory, self._files)

    async def _make(self, pod: Object, volume: Object, facts: PodFacts) -> _Source:
        name = volume["name"]
        if "hostPath" in volume:
            source = volume["hostPath"] or {}
            root, inside = self._files.locate(self._node_index, hostpath.check(source))
            with beneath.opened(beneath.open_directory(root)) as top:
                hostpath.prepare(top, inside, source)
            return _Source(Path(root), inside=inside)
        kind: str = next((key for key in volume if key != "name"), "emptyDir")
        if kind not in ("emptyDir", *_PROJECTED):
            raise MountError(
                f'volume "{name}" : {kind} volumes are not supported by Hatchway: it has emptyDir, hostPath, '
                "configMap, secret, downwardAPI and projected volumes"
            )
        if not _SAFE.match(name):
            raise ProjectionError(f"invalid volume name {name!r}")
        if kind != "emptyDir":
            return _Source(await self._write(pod, volume, facts), read_only=True)
        path = self._directory / "volumes" / name
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        source = volume["emptyDir"] or {}
        if source.get("medium") == "Memory":
            self._files.mount_memory(str(path), memory_limit(pod, source.get("sizeLimit"), facts.allocatable))
        with beneath.opened(os.open(path, _DIRECTORY)) as directory:
            os.fchmod(directory, 0o777)
        return _Source(path)

    async def _write(self, pod: Object, volume: Object, facts: PodFacts) -> Path:
        """Bring the files of a projected volume up to date; returns its directory."""
        name = volume["name"]
        payload = await self._projector.render(pod, volume, facts)
        # Kubernetes keeps all of these but ConfigMaps in memory (each plugin's wrappedVolumeSpec).
        base = self._directory if "configMap" in volume else self._memory
        path: Path = base / "volumes" / name
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        with beneath.opened(os.open(path, _DIRECTORY)) as directory:
            os.fchmod(directory, 0o755)
            for nested in _nested_mount_points(pod, name):
                os.close(beneath.open_beneath(directory, nested, "directory"))
        write_payload(path, payload, staging=base / "staging")
        return path


class _Source:
    """A volume as mounts name it; see `Mount`."""

    def __init__(self, path: Path, *, inside: str = "", read_only: bool = False) -> None:
        self.path = path
        self.inside = inside
        self.read_only = read_only

    @contextmanager
    def opened(self) -> Iterator[int]:
        with beneath.opened(os.open(self.path, _DIRECTORY)) as directory:
            if not self.inside:
                yield directory
                return
            with beneath.opened(beneath.open_in_root(directory, self.inside)) as found:
                yield found


def memory_limit(pod: Object, size_limit: str | None, allocatable: Mapping[str, str]) -> int | None:
    """Bytes that an emptyDir in memory may hold (emptydir.calculateEmptyDirMemorySize); None where nothing limits it.

    The least of its sizeLimit, of the containers' memory limits (when all have one), and of the node's memory.
    """
    limits = [size_limit, allocatable.get("memory")]
    containers = pod["spec"].get("containers") or ()
    own = [((container.get("resources") or {}).get("limits") or {}).get("memory") for container in containers]
    sizes = [int(parse_quantity(limit)) for limit in limits if limit]
    if own and all(own):
        sizes.append(sum(int(parse_quantity(str(limit))) for limit in own))
    # A file system of size 0 would be one without a limit.
    return min((size for size in sizes if size > 0), default=None)


def _nested_mount_points(pod: Object, name: str) -> set[str]:
    """Where other volumes are mounted in this one, which is read-only to those who mount them (MakeNestedMountpoints)."""
    found: set[str] = set()
    for container in [*(pod["spec"].get("initContainers") or ()), *(pod["spec"].get("containers") or ())]:
        mounts = container.get("volumeMounts") or ()
        paths = {os.path.normpath("/" + mount["mountPath"]) for mount in mounts}
        for mount in mounts:
            if mount["name"] != name or mount.get("subPath") or mount.get("subPathExpr"):
                continue
            own = os.path.normpath("/" + mount["mountPath"]) + "/"
            inner = {path for path in paths if path.startswith(own)}
            # What lies in a nested volume is a matter of that one.
            found |= {
                path.removeprefix(own)
                for path in inner
                if not any(path.startswith(other + "/") for other in inner) and not path[len(own) :].startswith("..")
            }
    return found


def _message(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror.lower()}" if error.filename else error.strerror.lower()
    return error.message if isinstance(error, ApiError) else str(error)


def _expand_strictly(expression: str, environment: Mapping[str, str]) -> str:
    missing: list[str] = []

    class Strict(dict[str, str]):
        def get(self, key: str, default: str | None = None) -> str | None:  # type: ignore[override]
            if key not in self:
                missing.append(key)
            return super().get(key, default)

    expanded = expand(expression, Strict(environment))
    if missing:
        raise ConfigError(f"missing value for {missing[0]!r} in subPathExpr {expression!r}")
    return expanded


def _make_sub_path(source: _Source, below: str, name: str) -> None:
    """See that a path is inside a volume, and make it when it is missing (pkg/volume/util/subpath). Raises ConfigError."""
    failure = f'failed to prepare subPath for volumeMount "{name}"'
    if below.startswith("/") or ".." in below.split("/"):
        raise ConfigError(f"{failure}: {below!r} must be relative and must not contain ..")
    try:
        with source.opened() as volume:
            os.close(beneath.open_beneath(volume, below, "directory"))
    except OSError as error:
        if error.errno == errno.EXDEV:
            raise ConfigError(f"{failure}: {below!r} leads out of the volume") from error
        raise ConfigError(f"{failure}: {(error.strerror or str(error)).lower()}") from error
