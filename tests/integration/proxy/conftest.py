"""Every test of the data path runs on asyncio's own loop and on uvloop's: transports differ between them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
import uvloop

from tests.integration.proxy.wire import World


@pytest.fixture(params=["asyncio", "uvloop"])
def event_loop_policy(request: pytest.FixtureRequest) -> asyncio.AbstractEventLoopPolicy:
    return uvloop.EventLoopPolicy() if request.param == "uvloop" else asyncio.DefaultEventLoopPolicy()


@pytest.fixture
async def world() -> AsyncIterator[World]:
    """Backends, listeners and clients of one test, all closed at its end."""
    world = World()
    yield world
    await world.close()
