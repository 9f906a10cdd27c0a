"""A pod's volumes: directories below `pods/UID/volumes` of the state directory, and where containers see them."""

from __future__ import annotations

import os
import re
import shutil
import stat
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from hatchway.cluster.node.atomic import write_payload
from hatchway.cluster.node.env import ConfigError, expand
from hatchway.cluster.node.projections import PodFacts, ProjectionError, Projector
from hatchway.cluster.node.runtime import Mount
from hatchway.errors import ApiError
from hatchway.kube.api import Object

_PROJECTED = ("configMap", "secret", "downwardAPI", "projected")
_SAFE = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?\Z")
_UID = re.compile(r"[A-Za-z0-9][-A-Za-z0-9_]*\Z")


class MountError(Exception):
    """A volume cannot be set up; the message is that of a FailedMount event."""


def pod_directory(pods: Path, uid: str) -> Path:
    """Where a pod's files are. Raises ValueError for a uid that cannot be a directory's name."""
    if not _UID.match(uid):
        raise ValueError(f"{uid!r} is no pod's uid")
    return pods / uid


class Volumes:
    """The volumes of one pod. directory: the pod's own (`pod_directory`)."""

    def __init__(self, directory: Path, projector: Projector) -> None:
        self._directory = directory
        self._projector = projector
        self._paths: dict[str, Path] = {}

    async def set_up(self, pod: Object, facts: PodFacts) -> None:
        """Make every volume. Idempotent. Raises MountError."""
        for volume in pod["spec"].get("volumes") or ():
            name = volume["name"]
            try:
                self._paths[name] = await self._make(pod, volume, facts)
            except (ProjectionError, ApiError, OSError, ValueError) as error:
                raise MountError(f'MountVolume.SetUp failed for volume "{name}" : {_message(error)}') from error

    async def refresh(self, pod: Object, facts: PodFacts) -> None:
        """Bring the files of ConfigMaps, Secrets, tokens and the downward API up to date. Raises MountError."""
        for volume in pod["spec"].get("volumes") or ():
            path = self._paths.get(volume["name"])
            if path is None or not any(kind in volume for kind in _PROJECTED):
                continue
            try:
                write_payload(path, await self._projector.render(pod, volume, facts))
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
            path = self._paths.get(mount["name"])
            if path is None:
                raise ConfigError(f'cannot find volume "{mount["name"]}" to mount into container "{container["name"]}"')
            below = mount.get("subPath") or ""
            if mount.get("subPathExpr"):
                below = _expand_strictly(mount["subPathExpr"], environment)
            if below:
                path = _below(path, below, mount["name"])
            where = mount["mountPath"]
            found.append(Mount(str(path), where if where.startswith("/") else f"/{where}", bool(mount.get("readOnly"))))
        return found

    def termination_log(self, container: str, path: str) -> Mount:
        """An empty file for the container's last words, to be shown at `path`. Raises ConfigError."""
        file = self._directory / "containers" / container / "termination-log"
        try:
            file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            file.write_bytes(b"")
            file.chmod(0o666)
        except OSError as error:
            raise ConfigError(f"cannot make the termination log: {error.strerror}") from error
        return Mount(str(file), path)

    def last_words(self, container: str, limit: int = 4096) -> str:
        """What the container has written to its termination log, its end when that is long."""
        try:
            with open(self._directory / "containers" / container / "termination-log", "rb") as file:
                size = file.seek(0, os.SEEK_END)
                file.seek(max(0, size - limit))
                return file.read(limit).decode("utf-8", "replace")
        except OSError:
            # The file is a courtesy; a container that has replaced it by something else has said nothing.
            return ""

    def remove(self) -> None:
        """Delete the pod's files. What cannot be deleted now is tried again by the agent's clean-up."""
        shutil.rmtree(self._directory, onerror=_make_removable)

    async def _make(self, pod: Object, volume: Object, facts: PodFacts) -> Path:
        name = volume["name"]
        if "hostPath" in volume:
            return _host_path(volume["hostPath"] or {})
        kind: str = next((key for key in volume if key != "name"), "emptyDir")
        if kind not in ("emptyDir", *_PROJECTED):
            raise MountError(
                f'volume "{name}" : {kind} volumes are not supported by Hatchway: it has emptyDir, hostPath, '
                "configMap, secret, downwardAPI and projected volumes"
            )
        if not _SAFE.match(name):
            raise ProjectionError(f"invalid volume name {name!r}")
        path: Path = self._directory / "volumes" / name
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        if kind == "emptyDir":
            path.chmod(0o777)
        else:
            path.chmod(0o755)
            write_payload(path, await self._projector.render(pod, volume, facts))
        return path


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


def _below(volume: Path, below: str, name: str) -> Path:
    """A path inside the volume, made when it is missing; links may not lead out of it (pkg/volume/util/subpath)."""
    failure = f'failed to prepare subPath for volumeMount "{name}"'
    if below.startswith("/") or ".." in below.split("/"):
        raise ConfigError(f"{failure}: {below!r} must be relative and must not contain ..")
    root = Path(os.path.realpath(volume))
    path = Path(os.path.realpath(root / below))
    if path != root and root not in path.parents:
        raise ConfigError(f"{failure}: {below!r} leads out of the volume")
    try:
        if not path.exists():
            path.mkdir(mode=0o755, parents=True)
    except OSError as error:
        raise ConfigError(f"{failure}: {error.strerror}") from error
    return path


_HOST_PATH_CHECKS: dict[str, Callable[[int], bool]] = {
    "Directory": stat.S_ISDIR,
    "File": stat.S_ISREG,
    "Socket": stat.S_ISSOCK,
    "CharDevice": stat.S_ISCHR,
    "BlockDevice": stat.S_ISBLK,
}


def _host_path(source: Mapping[str, str]) -> Path:
    """A path of this machine, with the rights of whoever runs the cluster (`pkg/volume/hostpath`)."""
    path, kind = Path(source.get("path", "")), source.get("type") or ""
    if not path.is_absolute() or ".." in path.parts:
        raise ProjectionError(f"hostPath {str(path)!r} must be absolute and must not contain ..")
    if kind == "DirectoryOrCreate":
        path.mkdir(mode=0o755, parents=True, exist_ok=True)
        kind = "Directory"
    elif kind == "FileOrCreate":
        if not path.exists():
            path.touch(mode=0o644)
        kind = "File"
    try:
        mode = path.stat().st_mode
    except FileNotFoundError as error:
        if kind:
            raise ProjectionError(f"hostPath type check failed: {path} is not a {kind.lower()}") from error
        # Without a type a container engine makes the directory.
        path.mkdir(mode=0o755, parents=True)
        return path
    check = _HOST_PATH_CHECKS.get(kind)
    if check is not None and not check(mode):
        raise ProjectionError(f"hostPath type check failed: {path} is not a {kind.lower()}")
    return path


def _make_removable(function: Callable[..., object], path: str, _: object) -> None:
    """rmtree's error handler: programs leave directories behind that their owner may not write to."""
    try:
        os.chmod(os.path.dirname(path), 0o700)
        if not os.path.islink(path):
            os.chmod(path, 0o700)
        if function in (os.rmdir, os.unlink, os.remove):
            function(path)
        else:
            shutil.rmtree(path, ignore_errors=True)
    except OSError:
        # It may be gone by now; if not, the clean-up meets it again.
        return
