"""Make images of directories and of Python wheels, without running anything. The same input gives the same digests.

    image = build_from_directory(store, path, ImageSettings(entrypoint=("/bin/web",)), name=parse("web:1"))

The base of an image is another image in the store, a directory with a root file system, or nothing.
"""

from __future__ import annotations

import json
import tarfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from hatchway.images.building.layersources import MADE_TEXT, LayerSource, directory_sources, moved, write_layer
from hatchway.images.building.wheels import PROGRAMS, SITE, find_wheels, wheel_sources
from hatchway.images.contents import BadImage, Image
from hatchway.images.documents import (
    CONFIG_LIMIT,
    MANIFEST_LIMIT,
    OCI_CONFIG,
    OCI_LAYER,
    OCI_MANIFEST,
    parse_manifest,
)
from hatchway.images.platforms import this_machine
from hatchway.images.reference import Reference
from hatchway.images.store.store import ImageStore

# The directory of wheels in an image.
WHEELS_PLACE = "/opt/wheels"
_DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


@dataclass(frozen=True, slots=True)
class ImageSettings:
    """The settings of a new image's configuration; None keeps the base's value.

    entrypoint, cmd: as in a Dockerfile; Kubernetes' `command` and `args` replace them. A new entrypoint removes the
    base's cmd. env: added to the base's variables. working_dir: a path. user: a name or number, also with a
    group (`USER:GROUP`). ports: such as "8080/tcp". stop_signal: a name or a number.
    """

    entrypoint: Sequence[str] | None = None
    cmd: Sequence[str] | None = None
    env: Mapping[str, str] = field(default_factory=dict)
    working_dir: str | None = None
    user: str | None = None
    ports: Sequence[str] = ()
    labels: Mapping[str, str] = field(default_factory=dict)
    stop_signal: str | None = None


def build_from_directory(
    store: ImageStore,
    directory: Path,
    settings: ImageSettings,
    *,
    base: Image | Path | None = None,
    place: str = "/",
    ignore: Sequence[str] = (),
    owner: tuple[int, int] = (0, 0),
    name: Reference | None = None,
) -> Image:
    """Make an image from the files of a directory.

    Args:
        base: the base image, or a directory with a root file system; None for an image of these files alone.
        place: the path of the files in the image.
        ignore: patterns of files to leave out (`directory_sources`).
        owner: the numbers of the user and the group that own the files.

    Raises:
        BadImage: a file cannot be in an image (a socket, a device), or the base is damaged.
        OSError: a file cannot be read or written.
    """
    with store.keep():
        return _build(store, base, moved(directory_sources(directory, ignore), place), owner, settings, name)


def build_from_wheels(
    store: ImageStore,
    wheels: Sequence[Path],
    settings: ImageSettings,
    *,
    base: Image | Path,
    python: str = "python3",
    name: Reference | None = None,
) -> Image:
    """Make an image from Python wheels and a base image that has Python. Nothing is downloaded or compiled.

    The packages are in /opt/wheels/site, which is in $PYTHONPATH, and their programs in /opt/wheels/bin, which is in
    $PATH.

    Args:
        wheels: wheel files, or directories of them, including the wheels of all dependencies.
        base: an image, or a directory with a root file system, that has the Python for which the wheels are made.
        python: the interpreter of the programs: `python3`, which is looked up in the container's $PATH, or a path.

    Raises:
        BadImage: a wheel is damaged, two wheels are of one project, or the base is damaged.
        OSError: something cannot be read or written.
    """
    found = find_wheels(wheels)
    with store.keep():
        env = _base_env(store, base)
        path = f"{WHEELS_PLACE}/{PROGRAMS}:{env.get('PATH') or _DEFAULT_PATH}"
        site = ":".join(filter(None, (f"{WHEELS_PLACE}/{SITE}", env.get("PYTHONPATH"))))
        settings = _with_env(settings, {"PATH": path, "PYTHONPATH": site})
        return _build(store, base, moved(wheel_sources(found, python), WHEELS_PLACE), (0, 0), settings, name)


def _with_env(settings: ImageSettings, env: Mapping[str, str]) -> ImageSettings:
    return replace(settings, env={**env, **settings.env})


def _base_env(store: ImageStore, base: Image | Path) -> dict[str, str]:
    if isinstance(base, Path):
        return {}
    return dict(entry.split("=", 1) for entry in base.config.env if "=" in entry)


def _build(
    store: ImageStore,
    base: Image | Path | None,
    sources: Iterable[LayerSource],
    owner: tuple[int, int],
    settings: ImageSettings,
    name: Reference | None,
) -> Image:
    """Write the base's layers, the new layer and the documents. Call it within the store's `keep`."""
    layers: list[dict[str, Any]] = []
    document: dict[str, Any] = {"created": MADE_TEXT, "os": "linux", "architecture": this_machine().architecture}
    if this_machine().variant not in ("", "v1"):
        document["variant"] = this_machine().variant
    diff_ids: list[str] = []
    if isinstance(base, Image):
        document, layers, diff_ids = _base_documents(store, base)
    elif base is not None:
        _append(layers, diff_ids, write_layer(store, directory_sources(base, exact=True)))
    entries = list(sources)
    if any(entry.kind != tarfile.DIRTYPE for entry in entries) or not layers:
        _append(layers, diff_ids, write_layer(store, entries, owner))
    document["config"] = _configured(document.get("config") or {}, settings)
    document["rootfs"] = {"type": "layers", "diff_ids": diff_ids}
    # A history must have an entry for each layer, so an incomplete history is dropped.
    document.pop("history", None)
    config = json.dumps(document, separators=(",", ":"), sort_keys=True).encode()
    manifest = {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": {"mediaType": OCI_CONFIG, "digest": store.put_blob(config), "size": len(config)},
        "layers": layers,
    }
    return store.add(name, store.put_blob(json.dumps(manifest, separators=(",", ":")).encode()))


def _append(layers: list[dict[str, Any]], diff_ids: list[str], written: tuple[str, int]) -> None:
    digest, size = written
    layers.append({"mediaType": OCI_LAYER, "digest": digest, "size": size})
    diff_ids.append(digest)


def _base_documents(store: ImageStore, base: Image) -> tuple[dict[str, Any], list[dict[str, Any]], list[str]]:
    """Return configuration, layers and diff ids of an image in the store; protect its blobs from deletion."""
    manifest = parse_manifest(store.read_blob(base.manifest_digest, MANIFEST_LIMIT))
    for layer in manifest.layers:
        if not store.has_blob(layer.digest):
            raise BadImage(f"the base has lost the blob {layer.digest}; pull or load it again")
    document = json.loads(store.read_blob(base.image_id, CONFIG_LIMIT))
    layers = [{"mediaType": layer.media_type, "digest": layer.digest, "size": layer.size} for layer in manifest.layers]
    return document, layers, list(base.config.diff_ids)


def _configured(config: dict[str, Any], settings: ImageSettings) -> dict[str, Any]:
    """Return a copy of the base's `config`, changed by the settings."""
    config = dict(config)
    if settings.entrypoint is not None:
        config["Entrypoint"] = list(settings.entrypoint)
        config.pop("Cmd", None)
    if settings.cmd is not None:
        config["Cmd"] = list(settings.cmd)
    if settings.env:
        kept = [entry for entry in config.get("Env") or [] if entry.partition("=")[0] not in settings.env]
        config["Env"] = [*kept, *(f"{key}={value}" for key, value in settings.env.items())]
    for key, value in (
        ("WorkingDir", settings.working_dir),
        ("User", settings.user),
        ("StopSignal", settings.stop_signal),
    ):
        if value is not None:
            config[key] = value
    if settings.ports:
        ports = [port if "/" in port else f"{port}/tcp" for port in settings.ports]
        config["ExposedPorts"] = {**(config.get("ExposedPorts") or {}), **{port: {} for port in ports}}
    if settings.labels:
        config["Labels"] = {**(config.get("Labels") or {}), **settings.labels}
    return config
