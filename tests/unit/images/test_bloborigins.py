"""The repositories that have served private blobs, and may use these blobs of the store without a new download."""

from __future__ import annotations

import os
import random
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hatchway.images.contents import BadImage, PullGrant
from hatchway.images.reference import parse
from hatchway.images.store import bloborigins
from hatchway.images.store.blobs import BlobWriter
from hatchway.images.store.store import BlobOrigin, ImageStore, ImageUse
from tests.images.making import built, digest_of

_ANN = BlobOrigin("registry.example/team/web", is_private=True)
_EVE = BlobOrigin("evil.example/web", is_private=True)
_PUBLIC = BlobOrigin("registry.example/public", is_private=False)
_DATA = bytes(range(200))
_DIGEST = digest_of(_DATA)


@pytest.fixture
def store(tmp_path: Path) -> ImageStore:
    return ImageStore(tmp_path / "images")


def serve(store: ImageStore, origin: BlobOrigin | None, data: bytes = _DATA) -> None:
    """Download the whole blob from a repository."""
    with store.begin_blob(digest_of(data), len(data), origin) as writer:
        writer.write(data[writer.offset :])
        writer.commit()


def begin(store: ImageStore, origin: BlobOrigin, size: int) -> None:
    """Download the first `size` bytes of the blob from a repository, and leave this part."""
    with store.begin_blob(_DIGEST, len(_DATA), origin) as writer:
        writer.write(_DATA[writer.offset : size])


def users(store: ImageStore) -> list[str]:
    """Return the users who may use the blob without serving it."""
    names = {"ann": _ANN.repository, "eve": _EVE.repository, "other": "registry.example/other", "archive": ""}
    return [who for who, name in names.items() if store.has_blob_for(_DIGEST, name)]


def test_only_a_repository_that_has_served_the_whole_blob_is_its_origin(store: ImageStore) -> None:
    begin(store, _EVE, 0)
    begin(store, _EVE, 100)
    with store.begin_blob(_DIGEST, len(_DATA), _EVE) as writer:
        writer.restart()
        writer.write(bytes(len(_DATA)))
        with pytest.raises(BadImage, match="another content"):
            writer.commit()
    serve(store, _ANN)
    assert users(store) == ["ann"]
    serve(store, _EVE)
    assert users(store) == ["ann", "eve"]
    serve(store, _PUBLIC)
    assert users(store) == ["ann", "eve", "other", "archive"]
    # A blob that a public repository has served stays public.
    serve(store, _ANN)
    assert users(store) == ["ann", "eve", "other", "archive"]


def test_a_partial_download_is_continued_only_by_its_repository(store: ImageStore) -> None:
    begin(store, _ANN, 120)
    for origin, offset in ((_EVE, 0), (_PUBLIC, 0), (None, 0), (_ANN, 120)):
        with ImageStore(store.path).begin_blob(_DIGEST, len(_DATA), origin) as writer:
            assert writer.offset == offset
    # The same is true while the repository itself continues the download.
    with store.begin_blob(_DIGEST, len(_DATA), _ANN) as first:
        for origin in (_EVE, _PUBLIC, None):
            with store.begin_blob(_DIGEST, len(_DATA), origin) as writer:
                assert writer.offset == 0
        first.write(_DATA[120:])
        first.commit()
    assert users(store) == ["ann"]


@pytest.mark.parametrize("how", ["put", "load"])
def test_blobs_added_by_the_user_may_be_used_by_everyone(store: ImageStore, how: str) -> None:
    serve(store, _ANN)
    if how == "put":
        store.put_blob(_DATA)
    else:
        with store.begin_new_blob(len(_DATA)) as writer:
            writer.write(_DATA)
            writer.commit()
    assert users(store) == ["ann", "eve", "other", "archive"]


def test_a_record_ends_with_its_blob(store: ImageStore) -> None:
    with store.keep():
        serve(store, _ANN)
        serve(store, _EVE)
        store.collect_garbage()
        assert users(store) == ["ann", "eve"]
    store.collect_garbage()
    assert list((store.path / "origins").iterdir()) == []
    serve(store, _ANN)
    assert users(store) == ["ann"]
    # When a damaged blob is deleted, its record is deleted, too. The next repository that serves it is its only origin.
    serve(store, _EVE)
    (store.path / "blobs/sha256" / _DIGEST[7:]).write_bytes(b"damaged")
    assert store.delete_if_damaged(_DIGEST)
    serve(store, _EVE)
    assert users(store) == ["eve"]


def test_with_a_damaged_record_nobody_may_use_the_blob(store: ImageStore) -> None:
    serve(store, _ANN)
    for path in (store.path / "origins").iterdir():
        path.write_bytes(b"[")
    assert users(store) == []
    serve(store, _PUBLIC)
    assert users(store) == ["ann", "eve", "other", "archive"]


def test_the_list_of_a_blobs_repositories_has_a_limit(store: ImageStore) -> None:
    serve(store, _ANN)
    for number in range(100):
        serve(store, BlobOrigin(f"evil.example/{number:03}", is_private=True))
    assert users(store) == ["ann"]
    assert store.has_blob_for(_DIGEST, "evil.example/098") and not store.has_blob_for(_DIGEST, "evil.example/099")


class _Killed(BaseException):
    """Stands for the death of the process at this place."""


class _World:
    """Random steps on one store, and an independent record of the repositories that have served each blob.

    sent: the size of each part of a download, by digest and repository. proven: the repositories that have served a
    blob since its file was last absent; None stands for everyone.
    """

    ORIGINS = (_ANN, _EVE, BlobOrigin(_EVE.repository, is_private=False), _PUBLIC, None)

    def __init__(self, path: Path, random: random.Random) -> None:
        self.path, self.random = path, random
        self.store = ImageStore(path)
        self.images = [
            built("", {"a": "secret"}, {"b": "shared"}, Cmd=["/a"]),
            built("", {"b": "shared"}, {"c": "other"}, Cmd=["/c"]),
        ]
        self.blobs = {digest: data for image in self.images for digest, data in image.blobs.items()}
        self.sent: dict[tuple[str, str], int] = {}
        self.proven: dict[str, set[str | None]] = {}
        self.uses: list[ImageUse] = []

    def play(self, steps: int) -> None:
        for _ in range(steps):
            self.random.choice([self.download, self.download, self.pull, self.pull, self.delete, self.end_use])()
            for digest in self.blobs:
                for origin in self.ORIGINS:
                    self.may_use(digest, _owner(origin))
        for use in self.uses:
            use.close()

    def may_use(self, digest: str, owner: str) -> bool:
        """Return True if the store lets a repository use the blob; check this against `proven`."""
        given = self.store.has_blob_for(digest, owner)
        assert not given or not self.proven[digest].isdisjoint([None, owner])
        return given

    def download(self) -> None:
        """Download a random blob from a random origin; possibly not to its end, damaged, or killed on the way."""
        digest, origin = self.random.choice(sorted(self.blobs)), self.random.choice(self.ORIGINS)
        end = self.random.choice(["commit", "abandon", "damage", "kill before record", "kill before blob"])
        writer = self._begin(digest, origin)
        data, part = self.blobs[digest], (digest, _owner(origin))
        if end == "damage":
            writer.restart()
            writer.write(bytes(len(data)))
            with pytest.raises(BadImage):
                writer.commit()
            self.sent.pop(part, None)
        elif end == "abandon":
            size = self.random.randint(writer.offset, len(data))
            writer.write(data[writer.offset : size])
            writer.abandon()
            self.sent[part] = size
        else:
            with pytest.MonkeyPatch.context() as patch:
                if end == "kill before record":
                    patch.setattr(bloborigins, "write_private", _kill)
                elif end == "kill before blob":
                    patch.setattr("os.replace", _replace_until(self.path / "blobs"))
                self._finish(writer, digest, origin)

    def _begin(self, digest: str, origin: BlobOrigin | None) -> BlobWriter:
        writer = self.store.begin_blob(digest, len(self.blobs[digest]), origin)
        assert writer.offset == self.sent.get((digest, _owner(origin)), 0)
        return writer

    def _finish(self, writer: BlobWriter, digest: str, origin: BlobOrigin | None) -> None:
        data, part = self.blobs[digest], (digest, _owner(origin))
        proof = origin.repository if origin is not None and origin.is_private else None
        self.proven[digest] = {proof, *(self.proven.get(digest, ()) if self.store.has_blob(digest) else ())}
        writer.write(data[writer.offset :])
        try:
            writer.commit()
            self.sent.pop(part, None)
        except _Killed:
            self.sent[part] = len(data)
            self.store = ImageStore(self.path)

    def pull(self) -> None:
        """Pull an image, possibly not to its end. Only blobs that the origin may not use yet are downloaded."""
        image, origin = self.random.choice(self.images), self.random.choice(self.ORIGINS)
        with self.store.keep():
            for digest in image.blobs:
                if self.random.random() < 0.05:
                    return
                if not self.may_use(digest, _owner(origin)):
                    self._finish(self._begin(digest, origin), digest, origin)
                    # While the index has an image with the blob, the names of such images decide instead of the record.
                    assert self.may_use(digest, _owner(origin)) or self.is_in_index(digest)
            grant = PullGrant("uid", origin.repository) if origin is not None and origin.is_private else None
            name = parse(f"{_owner(origin) or 'mine'}:{self.random.choice('12')}")
            found = self.store.add(name, image.manifest, grant=grant)
            if grant is None:
                for digest in image.blobs:
                    self.proven[digest].add(None)
            if self.random.random() < 0.7:
                self.uses.append(self.store.use(found, "pod default/web"))

    def is_in_index(self, digest: str) -> bool:
        return any(
            digest in (one.manifest_digest, one.image_id, *(layer.digest for layer in one.layers))
            for one in self.store.images()
        )

    def delete(self) -> None:
        images = self.store.images()
        how = self.random.choice(["remove", "remove", "remove unused", "prune", "prune every", "collect"])
        if how == "remove" and images:
            self.store.remove(self.random.choice(images))
        elif how == "remove unused" and images:
            self.store.remove_unused(self.random.choice(images))
        elif how == "collect":
            self.store.collect_garbage()
        else:
            self.store.prune(every=how == "prune every")

    def end_use(self) -> None:
        if self.uses:
            self.uses.pop(self.random.randrange(len(self.uses))).close()


def _owner(origin: BlobOrigin | None) -> str:
    return "" if origin is None else origin.repository


def _kill(*_: object) -> None:
    raise _Killed


def _replace_until(end: Path) -> Callable[[Path, Path], None]:
    """Return an `os.replace` that kills the process instead of replacing a file below `end`."""
    replace = os.replace

    def replace_or_kill(source: Path, target: Path) -> None:
        if end in Path(target).parents:
            raise _Killed
        replace(source, target)

    return replace_or_kill


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 1 << 32))
def test_only_repositories_that_served_a_blob_may_use_it(tmp_path_factory: pytest.TempPathFactory, seed: int) -> None:
    with (
        tempfile.TemporaryDirectory(dir=tmp_path_factory.getbasetemp()) as place,
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.setattr("os.fsync", lambda _: None)  # fsync takes most of the time, and this test does not depend on it.
        _World(Path(place) / "images", random.Random(seed)).play(25)


@pytest.mark.parametrize("shared", ["", "with a private image", "with an image for everyone"])
def test_images_from_releases_without_records_stay_private(store: ImageStore, shared: str) -> None:
    image = built("", {"a": _DATA.hex()}, {"b": "shared"}, Cmd=["/a"])
    for data in image.blobs.values():
        serve(store, None, data)
    name, grant = parse(f"{_ANN.repository}:1"), PullGrant("uid", "hash")
    images = [store.add(name, image.manifest, grant=grant)]
    if shared:
        other = built("", {"b": "shared"}, Cmd=["/b"])
        is_private = shared == "with a private image"
        origin = BlobOrigin("registry.example/other", is_private)
        for digest, data in other.blobs.items():
            if not store.has_blob_for(digest, origin.repository):
                serve(store, origin, data)
        name = parse("registry.example/other:1")
        images.append(store.add(name, other.manifest, grant=grant if is_private else None))
    uses = [store.use(one, "pod default/web") for one in images]
    for one in images:
        store.remove(one)
    assert store.images() == []
    for digest in (image.manifest, image.config, image.layers[0]):
        assert store.has_blob_for(digest, _ANN.repository)
        assert not store.has_blob_for(digest, _EVE.repository)
    everyone = shared == "with an image for everyone"
    assert store.has_blob_for(image.layers[1], _EVE.repository) == everyone
    for use in uses:
        use.close()
