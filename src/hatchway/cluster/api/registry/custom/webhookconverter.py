"""The strategy Webhook: a webhook converts objects (apiextensions' `conversion/webhook_converter.go`).

The objects of a list that have the same stored version are sent together. Converted objects are cached, and several
readers of one object wait for the same call. In Kubernetes, the watch caches make this unnecessary.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import Any

import msgspec

from hatchway.cluster.api.connect.webhookclient import WebhookPostFailed, WebhookTarget
from hatchway.cluster.api.registry.custom.conversionreview import (
    CALL_FAILURE,
    INVALID,
    REVIEW_VERSIONS,
    ConversionFailed,
    converted_objects,
    review_body,
)
from hatchway.cluster.api.registry.custom.conversionwebhooks import ConversionWebhooks
from hatchway.cluster.api.registry.custom.typeversions import TypeVersions
from hatchway.cluster.api.registry.objectnames import new_uid
from hatchway.cluster.api.work import Pace, run_sized
from hatchway.errors import ApiError, out_of_time
from hatchway.kube.api import Object

__all__ = ["WebhookConverter"]

# How many seconds a call may take (the default of client-go's webhooks).
CALL_SECONDS = 30
# How many seconds all conversions of one read or write may take together (apiserver's `--request-timeout`).
_LONGEST = 60.0
# How many calls of one webhook may run at the same time.
_AT_ONCE = 8
# How many objects of one read are converted at a time.
_STEP = 500
# The limits of one call: objects, bytes of JSON, JSON values. An object above the limits is sent alone.
_MOST_OBJECTS, _MOST_BYTES, _MOST_VALUES = 100, 1024 * 1024, 10_000
_encode = msgspec.json.Encoder().encode

_Waiting = tuple[Object, "asyncio.Future[Object]"]
_Encoded = tuple[Object, bytes]


class WebhookConverter:
    """Converts the objects of one custom type by its webhook.

    versions: the versions of the type.
    conversion: a valid `spec.conversion` of a definition.
    webhooks: calls the webhook.
    """

    may_wait = True

    def __init__(self, versions: TypeVersions, conversion: dict[str, Any], webhooks: ConversionWebhooks) -> None:
        self._versions = versions
        self._webhooks = webhooks
        hook = conversion.get("webhook") or {}
        self._target = WebhookTarget.of(hook.get("clientConfig") or {}, CALL_SECONDS)
        named = hook.get("conversionReviewVersions") or ()
        self._review_version = next((one for one in named if one in REVIEW_VERSIONS), "")
        self._turns = asyncio.Semaphore(_AT_ONCE)
        # The conversions in progress, by the `id` of the stored object and the wanted version. An entry keeps its
        # object alive, so that no other object gets the same `id`.
        self._pending: dict[tuple[int, str], _Waiting] = {}

    async def from_storage(self, objects: Sequence[Object], api_version: str) -> list[Object]:
        """Convert stored objects. Raises ApiError 500, 504."""
        converted: list[Object] = []
        try:
            async with asyncio.timeout(_LONGEST):
                for start in range(0, len(objects), _STEP):
                    if start:
                        await Pace().rest()
                    converted += await self._convert_step(objects[start : start + _STEP], api_version)
        except TimeoutError:
            raise out_of_time() from None
        return converted

    async def _convert_step(self, objects: Sequence[Object], api_version: str) -> list[Object]:
        """Convert at most `_STEP` stored objects."""
        kept, loop = self._webhooks.kept, asyncio.get_running_loop()
        found: list[Object | None] = [kept.get(self, one, api_version) for one in objects]
        waiting: dict[int, asyncio.Future[Object]] = {}
        missing: dict[str, list[_Waiting]] = {}
        for index, (one, known) in enumerate(zip(objects, found, strict=True)):
            if known is not None:
                continue
            key = id(one), api_version
            pending = self._pending.get(key)
            if pending is None:
                pending = self._pending[key] = one, loop.create_future()
                pending[1].add_done_callback(self._forget(key))
                missing.setdefault(one["apiVersion"], []).append(pending)
            waiting[index] = pending[1]
        for version, some in missing.items():
            self._webhooks.start(self._convert_all(some, version, api_version))
        if waiting:
            done, _ = await asyncio.wait(waiting.values(), return_when=asyncio.FIRST_EXCEPTION)
            for future in done:
                future.result()
        return [waiting[index].result() if one is None else one for index, one in enumerate(found)]

    def _forget(self, key: tuple[int, str]) -> Any:
        def done(future: asyncio.Future[Object]) -> None:
            del self._pending[key]
            # Retrieve the exception: asyncio logs exceptions that are never retrieved, and all readers may have been
            # cancelled.
            if not future.cancelled():
                future.exception()

        return done

    async def _convert_all(self, objects: list[_Waiting], version: str, api_version: str) -> None:
        """Convert stored objects of one version, in as many calls as necessary."""
        try:
            async with asyncio.timeout(_LONGEST):
                await self._convert_batches(objects, version, api_version)
        except TimeoutError:
            self._fail(objects, out_of_time())
        except ApiError as error:
            self._fail(objects, error)
        except BaseException:
            self._fail(objects, ApiError(500, "", f"{self._head(version)} failed"))
            raise

    async def _convert_batches(self, objects: list[_Waiting], version: str, api_version: str) -> None:
        batch: list[_Encoded] = []
        waiting: list[_Waiting] = []
        size = values = 0
        pace = Pace()
        for one, future in objects:
            if pace.due():
                await pace.rest()
            read = await self._versions.read(one)
            data = _encode(read)
            more = data.count(b",") + data.count(b"[") + data.count(b"{")
            is_full = len(batch) == _MOST_OBJECTS or size + len(data) > _MOST_BYTES or values + more > _MOST_VALUES
            if batch and is_full:
                await self._convert_batch(batch, waiting, version, api_version)
                batch, waiting, size, values = [], [], 0, 0
                pace.begin()
            batch.append((read, data))
            waiting.append((one, future))
            size, values = size + len(data), values + more
        await self._convert_batch(batch, waiting, version, api_version)

    def _fail(self, objects: list[_Waiting], error: Exception) -> None:
        for _, future in objects:
            if not future.done():
                future.set_exception(error)

    async def _convert_batch(
        self, batch: list[_Encoded], waiting: list[_Waiting], version: str, api_version: str
    ) -> None:
        converted, size = await self._call(batch, version, api_version)
        # A webhook may return larger objects than it gets. The cache counts at least an object's share of the response.
        share = size // len(batch)
        for (stored, future), (_, data), one in zip(waiting, batch, converted, strict=True):
            self._webhooks.kept.keep(self, stored, api_version, one, max(len(data), share))
            if not future.done():
                future.set_result(one)

    async def convert(self, obj: Object, api_version: str) -> Object:
        """Convert one object. Raises ApiError 500, 504."""
        self._versions.schema(api_version, "to")
        (converted,), _ = await self._call([(obj, _encode(obj))], obj["apiVersion"], api_version)
        return converted

    def _head(self, version: str) -> str:
        """Return the beginning of an error message."""
        return f"conversion webhook for {version}, Kind={self._versions.kind}"

    async def _call(self, batch: list[_Encoded], version: str, api_version: str) -> tuple[list[Object], int]:
        """Send objects of one version to the webhook. Return the converted objects, and the response's size in bytes.

        Raises ApiError 500, 504.
        """
        if not self._review_version:
            raise ApiError(500, "", "no supported conversion review versions")
        try:
            async with asyncio.timeout(_LONGEST):
                await self._turns.acquire()
        except TimeoutError:
            why = f'Post "{self._target.where}": context deadline exceeded'
            raise ApiError(500, "", f"{self._head(version)} failed: {why}") from None
        began = time.perf_counter()
        failure = CALL_FAILURE
        try:
            found = await self._converted(batch, version, api_version)
            failure = ""
            return found
        except ConversionFailed as error:
            failure = error.failure
            raise ApiError(500, "", str(error)) from None
        except WebhookPostFailed as error:
            raise ApiError(500, "", f"{self._head(version)} failed: {error}") from None
        finally:
            self._turns.release()
            versions = version.rpartition("/")[2], api_version.rpartition("/")[2]
            self._webhooks.metrics.observe(self._versions.name, versions, time.perf_counter() - began, failure)

    async def _converted(self, batch: list[_Encoded], version: str, api_version: str) -> tuple[list[Object], int]:
        uid, originals = new_uid(), [one for one, _ in batch]
        size = sum(len(data) for _, data in batch)
        body = await run_sized(size, review_body, self._review_version, uid, api_version, [data for _, data in batch])
        answer = await self._webhooks.post(self._target, body)
        head = self._head(version)
        found = await run_sized(
            len(answer), converted_objects, answer, self._review_version, uid, api_version, originals, head
        )
        schema = self._versions.schema(api_version, "to")

        def fitting() -> list[Object]:
            try:
                return [schema.as_converted(one) for one in found]
            except ValueError as error:
                raise ConversionFailed(str(error), INVALID) from None

        return await run_sized(len(answer), fitting), len(answer)
