"""Makes a pod's volumes in directories of the node agent, and the mounts for its containers.

`pods/UID/volumes/NAME` in the state directory contains an emptyDir or a ConfigMap's files. Volumes that may contain
secrets have the same layout below a second directory, which is in memory (on loopback addresses: on disk). Paths that a
container can change are opened with directory descriptors (`beneath.py`); `open_source` in
`cluster/network/volumemounts.py` opens them in this way again at mount time.
"""

from __future__ import annotations

import asyncio
import errno
import os
import re
import stat
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from hatchway import beneath, trees
from hatchway.cluster.node import hostpath
from hatchway.cluster.node.atomic import write_payload
from hatchway.cluster.node.claimvolumes import ClaimError, ReadObject, find_volume, is_claim
from hatchway.cluster.node.env import ConfigError, expand
from hatchway.cluster.node.hostpath import HostPathError
from hatchway.cluster.node.projections import PodFacts, ProjectionError, Projector
from hatchway.cluster.node.resourcelimits import memory_limit
from hatchway.cluster.node.unknownowners import MESSAGE, has_unknown_owner
from hatchway.cluster.node.volumeownership import VolumeOwnership
from hatchway.cluster.runtime import Mount, NodeFiles, Users
from hatchway.errors import ApiError
from hatchway.kube.api import Object

# The kinds of volumes whose files the node agent makes from objects of the API.
_RENDERED = ("configMap", "secret", "downwardAPI", "projected")
_SAFE = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?\Z")
_UID = re.compile(r"[A-Za-z0-9][-A-Za-z0-9_]*\Z")
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_TERMINATION_LOG = "termination-log"
_CHANGES = "changes"


class MountError(Exception):
    """A volume cannot be set up. The message becomes the text of a FailedMount event."""


def pod_directory(pods: Path, uid: str) -> Path:
    """Return the directory of a pod's files. Raises ValueError for a uid that cannot be a directory's name."""
    if not _UID.match(uid):
        raise ValueError(f"{uid!r} is not a pod's uid")
    return pods / uid


def remove_files(directory: Path, node_files: NodeFiles) -> None:
    """Unmount the volumes in a pod's directory, then delete the directory. Raises OSError."""
    try:
        with os.scandir(directory / "volumes") as volumes:
            for volume in volumes:
                if volume.is_dir(follow_symlinks=False):
                    node_files.unmount(volume.path)
    except FileNotFoundError:
        # The pod has no volumes, or the directory was already deleted.
        pass
    try:
        with beneath.opened(beneath.open_directory(directory.parent)) as parent:
            trees.remove_tree(parent, directory.name)
    except FileNotFoundError:
        return


class Volumes:
    """The volumes of one pod.

    directory: the pod's directory (`pod_directory`).
    memory: the pod's second directory, for secrets.
    files: access to the node's file system.
    node_index, node_name: the node's number and name.
    read: reads claims and their volumes.
    users: the users that containers have (`Runtime.users`).
    warn: reports a warning about a volume that is used all the same.
    """

    def __init__(
        self,
        directory: Path,
        projector: Projector,
        *,
        memory: Path,
        files: NodeFiles,
        node_index: int,
        node_name: str,
        read: ReadObject,
        users: Users = "one",
        warn: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._directory = directory
        self._memory = memory
        self._projector = projector
        self._files = files
        self._node_index = node_index
        self._node_name = node_name
        self._read = read
        self._users = users
        self._warn = warn
        self._warned: set[str] = set()
        self._sources: dict[str, _MountSource] = {}
        self._images: dict[str, str] = {}

    async def set_up(self, pod: Object, facts: PodFacts) -> None:
        """Make all volumes. Idempotent. Raises MountError."""
        for volume in pod["spec"].get("volumes") or ():
            name = volume["name"]
            try:
                self._sources[name] = await self._make(pod, volume, facts)
            except ClaimError as error:
                raise MountError(str(error)) from error
            except (ProjectionError, HostPathError, ApiError, OSError, ValueError) as error:
                raise MountError(f'MountVolume.SetUp failed for volume "{name}" : {_message(error)}') from error

    async def refresh(self, pod: Object, facts: PodFacts) -> None:
        """Update the files of ConfigMaps, Secrets, tokens and the downward API. Raises MountError."""
        for volume in pod["spec"].get("volumes") or ():
            if volume["name"] not in self._sources or not any(kind in volume for kind in _RENDERED):
                continue
            try:
                await self._write(pod, volume, facts)
            except (ProjectionError, ApiError, OSError, ValueError) as error:
                raise MountError(
                    f'MountVolume.SetUp failed for volume "{volume["name"]}" : {_message(error)}'
                ) from error

    def next_refresh(self) -> float | None:
        """Return the seconds until a token must be renewed; None when there are no tokens."""
        renewal_time = self._projector.renewal_time
        return None if renewal_time is None else max(1.0, renewal_time - time.time())

    def prepare_mounts(self, container: Object, environment: Mapping[str, str]) -> list[Mount]:
        """Create missing subPath directories and return the container's mounts. Raises ConfigError."""
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

    def make_termination_log(self, container: str, path: str) -> Mount:
        """Replace the termination log with an empty file; return its mount at `path`. Raises ConfigError."""
        directory = self._directory / "containers" / container
        try:
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            with beneath.opened(os.open(directory, _DIRECTORY)) as parent:
                trees.remove_tree(parent, _TERMINATION_LOG)
                flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
                with beneath.opened(os.open(_TERMINATION_LOG, flags, 0o600, dir_fd=parent)) as file:
                    os.fchmod(file, 0o666)
        except OSError as error:
            raise ConfigError(f"cannot make the termination log: {error.strerror}") from error
        return Mount(str(directory / _TERMINATION_LOG), path)

    def read_termination_log(self, container: str, limit: int = 4096) -> str:
        """Return the text of the container's termination log, at most its last `limit` bytes."""
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        try:
            with open(os.open(self._directory / "containers" / container / _TERMINATION_LOG, flags), "rb") as file:
                size = file.seek(0, os.SEEK_END)
                file.seek(max(0, size - limit))
                return file.read(limit).decode("utf-8", "replace")
        except OSError:
            # The container has removed or replaced the file.
            return ""

    def make_changes(self, container: str) -> str:
        """Make an empty directory for the files that a container's next attempt writes to its root; return its path.

        Files of the previous attempt are deleted. Blocks. Raises ConfigError.
        """
        directory = self._directory / "containers" / container
        try:
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            with beneath.opened(os.open(directory, _DIRECTORY)) as parent:
                trees.remove_tree(parent, _CHANGES)
                os.mkdir(_CHANGES, 0o700, dir_fd=parent)
        except OSError as error:
            raise ConfigError(f"cannot make the container's directory: {error.strerror}") from error
        return str(directory / _CHANGES)

    def make_image_places(self, name: str) -> tuple[str, str]:
        """Make the directories of a volume with an image; return `ImageRoot.changes` and the place of its files.

        Blocks. Raises OSError.
        """
        if not _SAFE.match(name):
            raise OSError(errno.EINVAL, f"invalid volume name {name!r}")
        changes, place = self._directory / "images" / name, self._directory / "volumes" / name
        changes.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        place.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not place.is_mount():
            # An earlier agent, or a failed attempt, may have left files there.
            with beneath.opened(os.open(changes.parent, _DIRECTORY)) as parent:
                trees.remove_tree(parent, name)
        changes.mkdir(mode=0o700, exist_ok=True)
        return str(changes), str(place)

    def add_image(self, name: str, directory: str) -> None:
        """Record that the volume `name` has the files of an image, which are in `directory`."""
        self._images[name] = directory

    def measure(self, name: str) -> int:
        """Return how many bytes an emptyDir uses on disk; 0 when it does not exist. Blocks. Raises OSError."""
        return _measure(self._directory / "volumes" / name)

    def measure_termination_logs(self) -> int:
        """Return how many bytes the containers' termination logs use on disk. Blocks. Raises OSError."""
        return _measure(self._directory / "containers")

    def remove(self) -> None:
        """Delete the pod's files. Raises OSError; the node agent's clean-up will then try again."""
        for directory in (self._memory, self._directory):
            remove_files(directory, self._files)

    async def _make(self, pod: Object, volume: Object, facts: PodFacts) -> _MountSource:
        name = volume["name"]
        if "hostPath" in volume:
            return self._locate(volume["hostPath"] or {})
        if is_claim(volume):
            found = await find_volume(self._read, pod, volume, self._node_name)
            located = self._locate(found.host_path, exists=found.exists, read_only=found.read_only)
            if name not in self._warned and await asyncio.to_thread(_has_unknown_owner, located):
                self._warned.add(name)
                self._warn(f'volume "{name}": {MESSAGE}')
            # As in Kubernetes, a PersistentVolume with a `local` source gets the pod's fsGroup, and one with `hostPath`
            # does not.
            if found.exists and not found.read_only:
                await asyncio.to_thread(self._give, pod, located)
            return located
        if name in self._images:
            return _MountSource(Path(self._images[name]), read_only=True, is_image=True)
        kind: str = next((key for key in volume if key != "name"), "emptyDir")
        if kind not in ("emptyDir", *_RENDERED):
            raise MountError(
                f'volume "{name}" : {kind} volumes are not supported by Hatchway: it has emptyDir, hostPath, '
                "configMap, secret, downwardAPI, projected, image, persistentVolumeClaim and ephemeral volumes"
            )
        if not _SAFE.match(name):
            raise ProjectionError(f"invalid volume name {name!r}")
        if kind != "emptyDir":
            return _MountSource(await self._write(pod, volume, facts), read_only=True)
        path = self._directory / "volumes" / name
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        source = volume["emptyDir"] or {}
        if source.get("medium") == "Memory":
            self._files.mount_memory(str(path), memory_limit(pod, source.get("sizeLimit"), facts.allocatable))
        with beneath.opened(os.open(path, _DIRECTORY)) as directory:
            os.fchmod(directory, 0o777)
        made = _MountSource(path)
        await asyncio.to_thread(self._give, pod, made, fresh=True)
        return made

    def _give(self, pod: Object, source: _MountSource, *, fresh: bool = False) -> None:
        """Give a volume to the pod's fsGroup. Blocks. Raises OSError.

        fresh: True to ignore fsGroupChangePolicy.
        """
        owner = self._owner(pod)
        with source.opened() as directory:
            (replace(owner, on_mismatch=False) if fresh else owner).apply(directory)

    def _owner(self, pod: Object) -> VolumeOwnership:
        return VolumeOwnership.of(pod, has_groups=self._users != "one")

    def _locate(self, source: Mapping[str, str], *, exists: bool = False, read_only: bool = False) -> _MountSource:
        """Return the path of a hostPath on the node. Raises HostPathError, OSError.

        exists: True when the path must exist, so that it is not created.
        """
        root, inside = self._files.locate(self._node_index, hostpath.check(source))
        with beneath.opened(beneath.open_directory(root)) as top:
            if exists:
                hostpath.find(top, inside)
            else:
                hostpath.prepare(top, inside, source)
        return _MountSource(Path(root), inside=inside, read_only=read_only)

    async def _write(self, pod: Object, volume: Object, facts: PodFacts) -> Path:
        """Write the current files of a `_RENDERED` volume and return its directory."""
        name = volume["name"]
        owner = self._owner(pod)
        payload = await self._projector.render(pod, volume, facts, owner)
        # As in Kubernetes, only ConfigMaps are on disk. Secret, downwardAPI and projected volumes are in memory (each
        # plugin's wrappedVolumeSpec).
        base = self._directory if "configMap" in volume else self._memory
        path: Path = base / "volumes" / name
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        with beneath.opened(os.open(path, _DIRECTORY)) as directory:
            if owner.payload_group is not None:
                os.fchown(directory, -1, owner.payload_group)
            os.fchmod(directory, owner.directory_mode(0o755))
            for nested in _nested_mount_points(pod, name):
                os.close(beneath.open_beneath(directory, nested, "directory"))
        write_payload(path, payload, staging=base / "staging", owner=owner)
        return path


class _MountSource:
    """The source of a `Mount`.

    path: a directory.
    inside: the path inside it.
    read_only: True for a read-only mount.
    is_image: True for an image's files, which are not changed.
    """

    def __init__(self, path: Path, *, inside: str = "", read_only: bool = False, is_image: bool = False) -> None:
        self.path = path
        self.inside = inside
        self.read_only = read_only
        self.is_image = is_image

    @contextmanager
    def opened(self) -> Iterator[int]:
        with beneath.opened(os.open(self.path, _DIRECTORY)) as directory:
            if not self.inside:
                yield directory
                return
            with beneath.opened(beneath.open_in_root(directory, self.inside)) as found:
                yield found


def _has_unknown_owner(source: _MountSource) -> bool:
    with source.opened() as volume:
        return has_unknown_owner(volume)


def _nested_mount_points(pod: Object, name: str) -> set[str]:
    """Return the mount points of other volumes inside this volume (MakeNestedMountpoints).

    The volume is read-only in containers, so these directories must be created before it is mounted.
    """
    found: set[str] = set()
    for container in [*(pod["spec"].get("initContainers") or ()), *(pod["spec"].get("containers") or ())]:
        mounts = container.get("volumeMounts") or ()
        paths = {os.path.normpath("/" + mount["mountPath"]) for mount in mounts}
        for mount in mounts:
            if mount["name"] != name or mount.get("subPath") or mount.get("subPathExpr"):
                continue
            own = os.path.normpath("/" + mount["mountPath"]) + "/"
            inner = {path for path in paths if path.startswith(own)}
            # Take only the outermost mount points, because deeper ones are inside the nested volume.
            found |= {
                path.removeprefix(own)
                for path in inner
                if not any(path.startswith(other + "/") for other in inner) and not path[len(own) :].startswith("..")
            }
    return found


def _measure(path: Path) -> int:
    try:
        with beneath.opened(os.open(path, _DIRECTORY)) as directory:
            return trees.measure_tree(directory)
    except FileNotFoundError:
        return 0


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


def _make_sub_path(source: _MountSource, below: str, name: str) -> None:
    """Make a directory below a volume unless it exists (pkg/volume/util/subpath). Raises ConfigError."""
    failure = f'failed to prepare subPath for volumeMount "{name}"'
    if below.startswith("/") or ".." in below.split("/"):
        raise ConfigError(f"{failure}: {below!r} must be relative and must not contain ..")
    try:
        with source.opened() as volume:
            if source.is_image:
                os.close(beneath.open_beneath(volume, below))
            else:
                _make_like(volume, below)
    except OSError as error:
        if error.errno == errno.EXDEV:
            raise ConfigError(f"{failure}: {below!r} leads out of the volume") from error
        raise ConfigError(f"{failure}: {(error.strerror or str(error)).lower()}") from error


def _make_like(volume: int, below: str) -> None:
    """Make the missing directories of a path, with the mode of the volume's own directory (SafeMakeDir)."""
    mode = stat.S_IMODE(os.fstat(volume).st_mode)
    parts = [part for part in below.split("/") if part not in ("", ".")]
    for count in range(1, len(parts) + 1):
        path = "/".join(parts[:count])
        try:
            os.close(beneath.open_beneath(volume, path))
        except FileNotFoundError:
            with beneath.opened(beneath.open_beneath(volume, path, "directory")) as made:
                os.chmod(f"/proc/self/fd/{made}", mode)
