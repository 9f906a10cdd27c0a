"""Download one blob into the store: verify it while it streams, and resume it after an interruption."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from weakref import WeakValueDictionary

from hatchway.images.contents import BadImage, Descriptor
from hatchway.images.pulling.pullerror import PullError
from hatchway.images.pulling.registryclient import RepositoryClient
from hatchway.images.pulling.registryhttp import PATIENCE, delay_before
from hatchway.images.store.blobs import BlobWriter
from hatchway.images.store.store import BlobOrigin, ImageStore
from hatchway.kube.http import HttpAnswer
from hatchway.proxy.routing import ProxyError

# Bytes that one call in a thread hashes and writes.
_BATCH = 1 << 20
# A download fails at this many interruptions in a row, if fewer than `_PROGRESS` bytes arrived between them.
_INTERRUPTIONS = 5
_PROGRESS = 1 << 20
# A download that receives fewer bytes than this in PATIENCE seconds counts as interrupted.
_SLOWEST = 16 * 1024
# A download fails when it receives fewer bytes than `_LEAST` in `_SPAN` seconds (about 1.2 kB/s), interruptions
# included. Otherwise a registry that sends few bytes could occupy one of its parallel pulls for days. The received
# bytes are kept. So over a slow connection, several pulls together still download the whole blob.
_LEAST = 1 << 20
_SPAN = 15 * 60.0
_CONTENT_RANGE = re.compile(rb"bytes (\d{1,18})-(\d{1,18})/(\d{1,18}|\*)")

# The locks of this process's downloads, by store, digest and registry: a layer that two images of a registry share is
# downloaded once. A download from another registry does not wait, because a hostile registry could delay it without
# limit.
_locks: WeakValueDictionary[tuple[str, str, str], asyncio.Lock] = WeakValueDictionary()

# Called with the number of bytes present, and the reason of an interruption ("" for none).
Report = Callable[[int, str], None]


async def download(
    store: ImageStore, client: RepositoryClient, blob: Descriptor, report: Report, origin: BlobOrigin
) -> bool:
    """Download a blob into the store.

    Continues an earlier, incomplete download from the same repository. When cancelled, keeps the bytes received so far
    for the next call.

    origin: the image's repository. A blob in the store is downloaded again if it belongs only to private images of
    other repositories.

    Returns:
        False when the store already had the blob.

    Raises:
        PullError: the registry does not serve the blob, or serves other content.
        OSError: the store cannot be written.
    """
    registry = origin.repository.partition("/")[0]
    lock = _locks.setdefault((str(store.path), blob.digest, registry), asyncio.Lock())
    async with lock:
        if await asyncio.to_thread(store.has_blob_for, blob.digest, origin.repository):
            return False
        for is_last in (False, True):
            async with _writer(store, blob, origin) as writer:
                began_at = writer.offset
                await _fill(client, writer, blob, report)
                try:
                    await asyncio.to_thread(writer.commit)
                except BadImage as error:
                    # The part of an earlier download may be damaged, so download the whole blob once more.
                    if is_last or not began_at:
                        raise PullError("invalid", str(error)) from error
                else:
                    return True
    raise AssertionError("the last attempt returns or raises")


@asynccontextmanager
async def _writer(store: ImageStore, blob: Descriptor, origin: BlobOrigin) -> AsyncIterator[BlobWriter]:
    """Open the blob's writer. On every exit, close the writer, but do not delete the written part.

    The writer is opened in a thread, because it hashes the existing part. If the task is cancelled meanwhile, the
    writer is closed when the thread has ended.
    """
    opening = asyncio.create_task(asyncio.to_thread(store.begin_blob, blob.digest, blob.size, origin))
    try:
        writer = await asyncio.shield(opening)
    except asyncio.CancelledError:
        opening.add_done_callback(_close_late)
        raise
    try:
        yield writer
    finally:
        # Close the writer here, not in a thread: closing is quick, and a thread would only delay a cancelled task.
        writer.abandon()


def _close_late(opening: asyncio.Task[BlobWriter]) -> None:
    if not opening.cancelled() and opening.exception() is None:
        opening.result().abandon()


class _Average:
    """Checks the average speed of a download over long spans."""

    def __init__(self) -> None:
        self._began = time.monotonic()
        self._received = 0

    def add(self, received: int) -> None:
        """Count bytes. Raises PullError when too few have arrived in the present span."""
        self._received += received
        if (now := time.monotonic()) - self._began > _SPAN:
            if self._received < _LEAST:
                said = f"failed to copy: the registry has sent {self._received} bytes in {now - self._began:.0f} s"
                raise PullError("unavailable", said, "try again: the next pull continues the download")
            self._began, self._received = now, 0


async def _fill(client: RepositoryClient, writer: BlobWriter, blob: Descriptor, report: Report) -> None:
    """Download the missing bytes; after an interruption, send another request."""
    interruptions = 0
    before = writer.offset
    average = _Average()
    while writer.offset < blob.size:
        report(writer.offset, "")
        try:
            async with client.open_blob(blob.digest, writer.offset) as answer:
                await _position(answer, writer)
                await _copy(answer, writer, blob, report, average)
                if writer.offset < blob.size:
                    raise ProxyError("read", "unexpected EOF")
        except ProxyError as error:
            interruptions = 1 if writer.offset - before >= _PROGRESS else interruptions + 1
            before = writer.offset
            if interruptions >= _INTERRUPTIONS:
                raise PullError("unavailable", f"failed to copy: {error.message}", "try again") from error
            average.add(0)
            report(writer.offset, error.message)
            await asyncio.sleep(delay_before(interruptions) or 0)


async def _position(answer: HttpAnswer, writer: BlobWriter) -> None:
    """Restart the writer at the first byte, unless the answer continues at the writer's offset."""
    if not writer.offset:
        if answer.status != 200:
            raise ProxyError("protocol", f"unexpected status {answer.status} for a blob")
        return
    match = _CONTENT_RANGE.fullmatch((answer.field(b"content-range") or b"").strip())
    if answer.status == 206 and match is not None and int(match[1]) == writer.offset:
        return
    await asyncio.to_thread(writer.restart)
    if answer.status != 200:
        raise ProxyError("protocol", f"the server cannot continue a download (status {answer.status})")


async def _copy(answer: HttpAnswer, writer: BlobWriter, blob: Descriptor, report: Report, average: _Average) -> None:
    """Write the body. Hashing and writing happen in a thread, with at most 2 MiB in memory."""
    encoding = (answer.field(b"content-encoding") or b"identity").strip().lower()
    if encoding != b"identity":
        raise PullError("invalid", f"the blob is sent with the content coding {encoding.decode('latin-1')[:40]}")
    window, window_bytes = time.monotonic(), 0
    batch = bytearray()
    while True:
        try:
            piece = await answer.read(PATIENCE)
            average.add(len(piece))
        except (ProxyError, PullError):
            await _write(writer, batch, blob)
            raise
        batch += piece
        window_bytes += len(piece)
        if writer.offset + len(batch) > blob.size:
            raise PullError("invalid", f"the blob {blob.digest} is longer than the {blob.size} bytes of its manifest")
        if len(batch) >= _BATCH or not piece:
            await _write(writer, batch, blob)
            batch = bytearray()
        report(writer.offset + len(batch), "")
        if not piece:
            return
        if (now := time.monotonic()) - window > PATIENCE:
            if window_bytes < _SLOWEST:
                await _write(writer, batch, blob)
                raise ProxyError("read", f"less than {_SLOWEST} bytes in {PATIENCE:g} s", silent=PATIENCE)
            window, window_bytes = now, 0


async def _write(writer: BlobWriter, batch: bytearray, blob: Descriptor) -> None:
    if not batch:
        return
    # Wait for the thread even when this task is cancelled, because the thread uses the writer.
    writing = asyncio.create_task(asyncio.to_thread(writer.write, batch))
    try:
        await asyncio.shield(writing)
    except asyncio.CancelledError:
        await asyncio.wait([writing])
        writing.exception()  # The cancellation is raised instead; retrieving this exception avoids asyncio's warning.
        raise
    except BadImage as error:
        raise PullError("invalid", str(error)) from error
