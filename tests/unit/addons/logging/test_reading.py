"""A search is not run after its client has disconnected."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from starlette.requests import ClientDisconnect, Request

from hatchway.addons.logging.documentstore import LoggingStore
from hatchway.addons.logging.esapi import EsApi
from hatchway.addons.logging.problems import EsProblem, illegal


async def test_a_search_that_waits_is_dropped(tmp_path: Path) -> None:
    async def disconnected() -> Any:
        return {"type": "http.disconnect"}

    ran: list[int] = []
    free = threading.Event()
    store = LoggingStore(tmp_path, 10**9)
    with ThreadPoolExecutor(1) as executor:
        busy = executor.submit(free.wait, 30)
        api = EsApi(store, executor)
        request = Request({"type": "http", "method": "GET", "headers": []}, disconnected)
        with pytest.raises(ClientDisconnect):
            await api.read_on_store_thread(request, lambda: ran.append(1))
        for _ in range(5):  # The cancellation reaches the executor after some turns of the event loop.
            await asyncio.sleep(0)
        free.set()
        assert busy.result()
        executor.submit(int).result()
    assert ran == []
    store.close()


async def test_what_a_search_returns_and_raises(tmp_path: Path) -> None:
    async def connected() -> Any:
        await hanging.wait()

    hanging = asyncio.Event()

    def fail() -> int:
        raise illegal("so it is")

    store = LoggingStore(tmp_path, 10**9)
    with ThreadPoolExecutor(1) as executor:
        api = EsApi(store, executor)
        request = Request({"type": "http", "method": "GET", "headers": []}, connected)
        assert await api.read_on_store_thread(request, lambda: 7) == 7
        with pytest.raises(EsProblem):
            await api.read_on_store_thread(request, fail)
    store.close()
