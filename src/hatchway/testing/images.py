"""Images for tests, made from a directory or from Python wheels, without registry, Dockerfile or container engine.

image = cluster.load_image(from_directory("app", entrypoint=["/app/run"], place="/app", base="debian:12-slim"))
image = cluster.load_image(from_wheels("dist", base="python:3.12-slim", cmd=["kopf", "run", "-m", "operator"]))
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path

from hatchway.images.archives.loading import load_archive, load_directory
from hatchway.images.building.building import ImageSettings, build_from_directory, build_from_wheels
from hatchway.images.contents import BadImage, Image
from hatchway.images.reference import ImageNameError, Reference, parse
from hatchway.images.store.store import ImageStore
from hatchway.images.store.storeuses import ImageUse
from hatchway.testing.problems import ClusterError

# The registry in the names of these images; it cannot exist (RFC 6761: `.test` is for tests).
_REGISTRY = "hatchway.test"
_Path = str | PathLike[str]
# An unused image of this age (seconds) with such a name is removed: the test process that made it was killed.
_ABANDONED_SECONDS = 24 * 3600.0


@dataclass(frozen=True, slots=True)
class ImageSource:
    """An image that can be made in a store.

    title: the last part of its name. make: makes the image, with a name or without.
    """

    title: str
    make: Callable[[ImageStore, Reference | None], Image]


def from_directory(
    directory: _Path,
    *,
    base: _Path | None = None,
    place: str = "/",
    entrypoint: Sequence[str] | None = None,
    cmd: Sequence[str] | None = None,
    env: Mapping[str, str] | None = None,
    user: str | None = None,
    working_dir: str | None = None,
    owner: tuple[int, int] = (0, 0),
    ignore: Sequence[str] = ("__pycache__", "*.pyc", ".git"),
) -> ImageSource:
    """Return an image of a directory's files.

    Args:
        directory: the files; they are read when the image is loaded.
        base: the name of an image in the store (`hatchway image ls`), or the path of a directory with a root file
            system; None for an image of these files alone.
        place: where the files are in the image.
        entrypoint, cmd, env, user, working_dir: as in a Dockerfile; without a value, the base's value.
        owner: the numbers of the user and the group that own the files.
        ignore: patterns of names that are left out.
    """
    path = Path(directory)
    settings = ImageSettings(entrypoint, cmd, env or {}, working_dir, user)

    def make(store: ImageStore, name: Reference | None) -> Image:
        found = None if base is None else _base(store, base)
        return build_from_directory(
            store, path, settings, base=found, place=place, ignore=ignore, owner=owner, name=name
        )

    return ImageSource(path.absolute().name, make)


def from_wheels(
    *wheels: _Path,
    base: _Path,
    python: str = "python3",
    entrypoint: Sequence[str] | None = None,
    cmd: Sequence[str] | None = None,
    env: Mapping[str, str] | None = None,
    user: str | None = None,
    working_dir: str | None = None,
) -> ImageSource:
    """Return an image of Python wheels on an image that has a Python.

    Nothing is resolved or downloaded, so `wheels` must include all dependencies. `pip wheel . --wheel-dir DIRECTORY`
    writes the wheels for the Python that runs pip. If one of them is compiled, the base's Python must have the same
    minor version.

    Args:
        wheels: files, or directories of them.
        base: the name of an image in the store (`hatchway image ls`), or the path of a directory with a root file
            system.
        python: the interpreter of the wheels' programs: `python3`, which is found in $PATH, or a path in the image.
        entrypoint, cmd, env, user, working_dir: as in a Dockerfile; without a value, the base's value. The wheels'
            programs are in $PATH.
    """
    paths = [Path(wheel) for wheel in wheels]
    settings = ImageSettings(entrypoint, cmd, env or {}, working_dir, user)

    def make(store: ImageStore, name: Reference | None) -> Image:
        return build_from_wheels(store, paths, settings, base=_base(store, base), python=python, name=name)

    return ImageSource(paths[0].absolute().name.partition("-")[0] if paths else "wheels", make)


def _base(store: ImageStore, base: _Path) -> Image | Path:
    """Return the base: a directory for a `Path` or a text that begins with `.` or `/`, else an image of the store."""
    if not isinstance(base, str) or base.startswith((".", "/")):
        return Path(base)
    try:
        found = store.find(parse(base))
    except ImageNameError as error:
        raise ClusterError(f'the base "{base}" is not the name of an image: {error}') from error
    if found is None:
        raise ClusterError(
            f'there is no image "{base}" in {store.path}',
            "`hatchway image pull` or `load` brings it there; the path of a directory begins with ./ or /",
        )
    return found


class LoadedImages:
    """The images that a test process has loaded. `close` removes the images whose names this class has chosen."""

    def __init__(self, store: ImageStore, user: str) -> None:
        """Load into `store`. user: the user of the images, for messages."""
        self._store = store
        self._user = user
        self._uses: list[ImageUse] = []
        self._own: list[Image] = []
        self._remove_abandoned()

    def load(self, source: ImageSource | _Path, name: str = "") -> str:
        """Bring an image into the store; return its name for a manifest.

        Args:
            source: the image's source, or the path of an archive or of a directory with an OCI image layout.
            name: the image's name; "" for the archive's name, or a name that is made from the content.

        Raises:
            ClusterError: the image cannot be made or loaded.
        """
        try:
            reference = parse(name) if name else None
            if isinstance(source, ImageSource):
                return self._make(source, reference)
            return self._load(Path(source), reference)
        except (BadImage, ImageNameError, OSError) as error:
            raise ClusterError(f"the image cannot be loaded: {error}") from error

    def close(self) -> None:
        """End the use of the images. Remove images that no other process uses and whose names this class has chosen."""
        for use in self._uses:
            use.close()
        for image in self._own:
            self._store.remove_unused(image)
        self._uses, self._own = [], []

    def _remove_abandoned(self) -> None:
        for image in self._store.images():
            is_own = image.tags and all(tag.startswith(f"{_REGISTRY}/") for tag in image.tags)
            if is_own and time.time() - self._store.added_at(image) > _ABANDONED_SECONDS:
                self._store.remove_unused(image)

    def _make(self, source: ImageSource, reference: Reference | None) -> str:
        with self._store.keep():
            image = source.make(self._store, reference)
            self._uses.append(self._store.use(image, self._user))
            if reference is not None:
                return reference.familiar
            # The name depends on the content, so tests that run at the same time do not replace each other's images.
            title = re.sub(r"[^a-z0-9]+", "-", source.title.lower()).strip("-") or "image"
            reference = Reference(_REGISTRY, title[:100], image.image_id.partition(":")[2][:16])
            self._own.append(self._store.tag(image, reference))
        return str(reference)

    def _load(self, path: Path, reference: Reference | None) -> str:
        if path.is_dir():
            loaded = load_directory(self._store, path, name=reference)
        else:
            with path.open("rb") as archive:
                loaded = load_archive(self._store, archive, name=reference)
        for one in loaded:
            self._uses.append(self._store.use(one.image, self._user))
        if not loaded[0].names:
            return self._make(ImageSource(path.stem, lambda *_: loaded[0].image), None)
        return loaded[0].names[0].familiar
