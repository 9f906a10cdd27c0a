"""Pull an image: from one of its registry's servers into the store."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Literal

from hatchway.errors import HatchwayError
from hatchway.images.contents import BadImage, Descriptor, Image
from hatchway.images.documents import (
    CONFIG_LIMIT,
    MANIFEST_LIMIT,
    Manifest,
    is_index,
    parse_config,
    parse_index,
    parse_manifest,
    read_json,
)
from hatchway.images.platforms import Platform, choose, this_machine
from hatchway.images.pulling.credentials import Credential, matching
from hatchway.images.pulling.download import download
from hatchway.images.pulling.manifestchecks import check_config, check_manifest, check_shape
from hatchway.images.pulling.pullerror import PullError
from hatchway.images.pulling.registries import Registries, RegistryServer
from hatchway.images.pulling.registryclient import ManifestDocument, RepositoryClient
from hatchway.images.pulling.registryhttp import RegistryHttp
from hatchway.images.reference import Reference
from hatchway.images.store.store import BlobOrigin, ImageStore

__all__ = ["Progress", "PullError", "pull"]

# The most layers that are downloaded at a time. Docker and containerd have the same limit.
_AT_ONCE = 3
# The most nested indexes above a manifest.
_DEEPEST = 4
# The most credentials that are tried for one image.
_MOST_CREDENTIALS = 10

State = Literal["waiting", "downloading", "retrying", "complete", "exists"]


@dataclass(frozen=True, slots=True)
class Progress:
    """The progress of one blob.

    digest: the blob's digest; "" while the manifest is fetched, with `state` "waiting". done, total: bytes.
    note: with `state` "retrying", why the download was interrupted; with `digest` "", the name of the server.
    """

    digest: str
    state: State
    done: int = 0
    total: int = 0
    note: str = ""


async def pull(
    store: ImageStore,
    reference: Reference,
    *,
    credentials: Sequence[Credential] = (),
    registries: Registries,
    platform: Platform | None = None,
    progress: Callable[[Progress], None] | None = None,
    environment: Mapping[str, str] | None = None,
) -> Image:
    """Pull an image into the store: download what is missing, and return the image.

    A cancelled or failed pull leaves whole blobs and parts of blobs, which the next pull uses. If no pull uses these
    blobs and parts, the store deletes them later.

    Args:
        store: the store to pull into.
        reference: the image's name. A tag is looked up at the registry even when the store has it.
        credentials: all available credentials; matching credentials are tried in turn (`credentials.matching`).
        registries: mirrors, certificates and the like.
        platform: the image's platform; None for this machine's. An image for another platform is refused.
        progress: called on the event loop for each change; it must return quickly.
        environment: environment variables, for HTTPS_PROXY and the like; None for this process's.

    Raises:
        PullError: the image cannot be pulled; the message has the registry's own reason.
    """
    report = progress or (lambda _: None)
    http = RegistryHttp(registries, environment)
    failures: list[tuple[RegistryServer, PullError]] = []
    try:
        for endpoint in registries.endpoints(reference.registry):
            report(Progress("", "waiting", note=endpoint.shown))
            one = _Pull(store, reference, platform, report, http, endpoint)
            try:
                return await one.try_credentials(credentials)
            except PullError as error:
                if error.kind == "storage" or not endpoint.mirror_of:
                    raise _with_mirrors(error, failures) from None
                failures.append((endpoint, error))
    finally:
        await http.aclose()
    raise AssertionError("the last endpoint is the registry itself")


def _with_mirrors(error: PullError, failures: Sequence[tuple[RegistryServer, PullError]]) -> PullError:
    """Return the registry's error, with the errors of its mirrors."""
    if not failures:
        return error
    lines = [f"mirror {endpoint.shown}: {failure.reason}" for endpoint, failure in failures]
    found = PullError(error.kind, error.reason, "\n  ".join([error.hint, *lines] if error.hint else lines))
    found.message = error.message
    found.of_mirrors = tuple(lines)
    return found


class _Pull:
    """One pull from one server."""

    def __init__(
        self,
        store: ImageStore,
        reference: Reference,
        platform: Platform | None,
        report: Callable[[Progress], None],
        http: RegistryHttp,
        endpoint: RegistryServer,
    ) -> None:
        self._store = store
        self._reference = reference
        self._platform = platform or this_machine()
        self._report = report
        self._http = http
        self._endpoint = endpoint
        self._slots = asyncio.Semaphore(_AT_ONCE)

    async def try_credentials(self, credentials: Sequence[Credential]) -> Image:
        """Pull with each matching credential in turn, as the kubelet does; without credentials when none matches."""
        name = f"{self._endpoint.name}/{self._endpoint.prefix}{self._reference.repository}"
        # Match in a thread, because the many patterns of an untrusted Secret may take long.
        found = await asyncio.to_thread(matching, credentials, name)
        chosen: list[Credential | None] = [*found[:_MOST_CREDENTIALS]]
        refused: PullError | None = None
        for credential in chosen or [None]:
            client = RepositoryClient(self._http, self._endpoint, self._reference.repository, credential)
            try:
                return await self._pull(client)
            except PullError as error:
                if error.kind != "denied":
                    raise
                refused = error
        assert refused is not None
        raise refused

    async def _pull(self, client: RepositoryClient) -> Image:
        try:
            async with _keeping(self._store):
                return await self._into_store(client)
        except BadImage as error:
            raise PullError("unsupported", str(error), doing=f'failed to pull image "{self._reference}"') from error
        except OSError as error:
            full = error.errno in (errno.ENOSPC, errno.EDQUOT)
            hint = "free some space there, or choose another directory with --state-dir" if full else ""
            words = f"write {error.filename or self._store.path}: {(error.strerror or str(error)).lower()}"
            raise PullError("storage", words, hint, doing=f'failed to store image "{self._reference}"') from error
        except PullError:
            raise
        except HatchwayError as error:
            raise PullError("storage", error.message, error.hint) from error

    async def _into_store(self, client: RepositoryClient) -> Image:
        doing = f'failed to resolve reference "{self._reference}"'
        try:
            await client.connect()
            root = await self._find_root(client)
            index, found = await self._find_manifest(client, root)
        except PullError as error:
            raise error.while_doing(doing) from None
        manifest = parse_manifest(found.content)
        check_manifest(manifest)
        # The limit: a hostile manifest may name a blob of many gigabytes as its configuration.
        await asyncio.to_thread(self._store.delete_if_damaged, manifest.config.digest, CONFIG_LIMIT)
        await self._fetch(client, manifest.config)
        config = parse_config(await asyncio.to_thread(self._store.read_blob, manifest.config.digest, CONFIG_LIMIT))
        check_config(config, manifest, self._platform)
        await self._fetch_layers(client, manifest)
        for document in [found] if index is None else [index, found]:
            if document.is_served:
                # Record this registry as an origin only if it has sent the document itself.
                algorithm = document.digest.partition(":")[0]
                await asyncio.to_thread(self._store.put_blob, document.content, self._origin(client), algorithm)
        return await asyncio.to_thread(
            self._store.add, self._reference, found.digest, "" if index is None else index.digest, client.grant
        )

    async def _find_root(self, client: RepositoryClient) -> ManifestDocument:
        """Return the manifest or index that the name refers to now. Download it only if the store lacks it.

        Registries count each download of a manifest as a pull. The registry is always asked by HEAD, for two reasons: a
        user without the right to pull must not get an image that another user has pulled; and a registry must not
        serve under its own name an image that was pulled from another registry.
        """
        reference = self._reference
        wanted = reference.digest or reference.tag
        known = self._store.find(reference)
        if known is not None:
            try:
                digest = await client.find_digest(wanted)
            except PullError as error:
                if error.retryable:
                    raise
                # Only the answer to a GET contains the reason of the error, and some servers do not support HEAD.
                digest = ""
            if digest and f"{reference.name}@{digest}" in known.digests:
                document = await self._read_from_store(digest)
                if document is not None:
                    return document
        return await client.fetch_manifest(wanted)

    async def _find_manifest(
        self, client: RepositoryClient, root: ManifestDocument
    ) -> tuple[ManifestDocument | None, ManifestDocument]:
        """Return (the index that the name refers to, or None; the manifest for the platform)."""
        found = root
        for _ in range(_DEEPEST):
            document = read_json(found.content, "the manifest")
            check_shape(document)
            if not is_index(document):
                return (None if found is root else root), found
            entry = choose(parse_index(found.content), self._platform)
            found = await self._find_or_fetch(client, entry.manifest.digest)
            if len(found.content) != entry.manifest.size:
                raise PullError("invalid", f"the manifest {found.digest} has another size than its index says")
        raise PullError("unsupported", f"more than {_DEEPEST} indexes lead to the manifest")

    async def _find_or_fetch(self, client: RepositoryClient, digest: str) -> ManifestDocument:
        return await self._read_from_store(digest) or await client.fetch_manifest(digest)

    async def _read_from_store(self, digest: str) -> ManifestDocument | None:
        if not await asyncio.to_thread(self._store.has_blob_for, digest, self._reference.name):
            return None
        try:
            content = await asyncio.to_thread(self._store.read_blob, digest, MANIFEST_LIMIT)
        except BadImage:
            return None  # The blob is damaged: download it again.
        return ManifestDocument(content, digest, is_served=False)

    def _origin(self, client: RepositoryClient) -> BlobOrigin:
        return BlobOrigin(self._reference.name, client.grant is not None)

    async def _fetch_layers(self, client: RepositoryClient, manifest: Manifest) -> None:
        """Fetch all layers, several at a time. The first failure cancels the other downloads."""
        layers = list({layer.digest: layer for layer in manifest.layers}.values())
        for layer in layers:
            self._report(Progress(layer.digest, "waiting", 0, layer.size))
        try:
            async with asyncio.TaskGroup() as group:
                for layer in layers:
                    group.create_task(self._fetch(client, layer))
        except BaseExceptionGroup as failures:
            raise failures.exceptions[0] from failures

    async def _fetch(self, client: RepositoryClient, blob: Descriptor) -> None:
        def report(done: int, note: str) -> None:
            self._report(Progress(blob.digest, "retrying" if note else "downloading", done, blob.size, note))

        async with self._slots:
            try:
                is_new = await download(self._store, client, blob, report, self._origin(client))
            except PullError as error:
                raise error.while_doing(f'failed to copy {blob.digest} of "{self._reference}"') from None
        self._report(Progress(blob.digest, "complete" if is_new else "exists", blob.size, blob.size))


@asynccontextmanager
async def _keeping(store: ImageStore) -> AsyncIterator[None]:
    """Keep the blobs of a pull from being deleted as garbage (`ImageStore.keep`).

    `keep` is entered in a thread, because it may wait for a process that deletes garbage.
    """
    keep = store.keep()
    entering = asyncio.create_task(asyncio.to_thread(keep.__enter__))
    try:
        await asyncio.shield(entering)
    except asyncio.CancelledError:
        entering.add_done_callback(lambda done: done.exception() or keep.__exit__(None, None, None))
        raise
    try:
        yield
    finally:
        keep.__exit__(None, None, None)
