"""The connection of the tests to one cluster: its client, its types, and the local ports that lead into it."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
from collections.abc import AsyncGenerator, Awaitable, Coroutine
from concurrent.futures import Future
from pathlib import Path
from typing import Any, TypeVar

from hatchway.errors import ApiError, HatchwayError
from hatchway.kube.api import Object, WatchEvent
from hatchway.kube.client import ConnectionClient
from hatchway.kube.connection import Connection
from hatchway.testing.loopthread import LoopThread
from hatchway.testing.ports import LocalPorts
from hatchway.testing.problems import ClusterError, WaitTimeout
from hatchway.testing.resources import Resources, ResourceType

T = TypeVar("T")
# Seconds that the requests of `run_behind` may take after the session has ended.
_LAST_SECONDS = 10.0


class ClusterSession:
    """Runs everything that talks to one cluster on an event loop of its own.

    kubeconfig: the file; its current context is used.
    """

    def __init__(self, kubeconfig: Path) -> None:
        """Connect. Nothing is sent yet. Raises ClusterError when the kubeconfig cannot be used."""
        self.thread = LoopThread()
        try:
            self.connection = self.run(_connect(str(kubeconfig)))
        except BaseException:
            self.thread.close()
            raise
        self.client: ConnectionClient = self.connection.client
        self.resources = Resources(self.client)
        self.ports = LocalPorts(self.connection)
        self._behind: set[Future[Any]] = set()

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine and return its result. HatchwayErrors, except ApiErrors, become ClusterErrors.

        These errors are raised without the frames of this package, so that pytest shows the test's line.
        """
        __tracebackhide__ = True
        try:
            return self.thread.call(coroutine)
        except (ApiError, ClusterError, WaitTimeout) as error:
            raise error.with_traceback(None) from None
        except HatchwayError as error:
            raise ClusterError(error.message, error.hint) from None

    def run_behind(self, coroutine: Coroutine[Any, Any, Any]) -> None:
        """Start a coroutine without waiting for it. Its errors are ignored; `close` waits a while for its end."""
        future = self.thread.submit(coroutine)
        self._behind.add(future)
        future.add_done_callback(self._behind.discard)

    def close(self, *, wait: bool) -> None:
        """Close everything. wait: True to wait for the requests of `run_behind` first."""
        for future in list(self._behind):
            if not wait:
                future.cancel()
            with contextlib.suppress(Exception, concurrent.futures.CancelledError):
                future.result(_LAST_SECONDS)
        self.thread.call(self._close())
        self.thread.close()

    async def _close(self) -> None:
        await self.ports.close()
        await self.connection.aclose()

    async def watch_one(self, resource: ResourceType, namespace: str, name: str) -> AsyncGenerator[WatchEvent, None]:
        """Yield the events of one object, as `kube.api.Client.watch` does."""
        events = self.client.watch(
            resource.spelled, namespace if resource.namespaced else None, field_selector=f"metadata.name={name}"
        )
        async for event in events:
            yield event

    async def find(self, word: str, namespace: str) -> tuple[ResourceType, str, str]:
        """Return (type, namespace, name) of `deploy/web` or `node/n`. Raises ClusterError."""
        kind, slash, name = word.partition("/")
        if not slash or not kind or not name or "/" in name:
            raise ClusterError(f'"{word}" names no object', "write KIND/NAME, such as deploy/web, or pass the object")
        found = await self.resources.of_word(kind)
        return found, namespace if found.namespaced else "", name

    async def locate(self, obj: str | Object, namespace: str) -> tuple[ResourceType, str, str]:
        """Return (type, namespace, name) of an object, or of a word for one. Raises ClusterError."""
        if isinstance(obj, str):
            return await self.find(obj, namespace)
        try:
            metadata = obj["metadata"]
            name, own = metadata["name"], metadata.get("namespace")
            found = await self.resources.of_object(obj)
        except (KeyError, TypeError):
            raise ClusterError("the object has no apiVersion, kind or metadata.name") from None
        return found, (own or namespace) if found.namespaced else "", name

    async def within(self, what: Awaitable[T], seconds: float) -> T | None:
        """Await a result for some seconds; return None when it does not arrive in time."""
        try:
            async with asyncio.timeout(seconds):
                return await what
        except TimeoutError:
            return None


async def _connect(kubeconfig: str) -> Connection:
    return Connection.load(kubeconfig)
