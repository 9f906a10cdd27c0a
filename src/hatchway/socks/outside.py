"""Connections to hosts outside the cluster, from this machine (`--allow-outside`)."""

from __future__ import annotations

import asyncio
from typing import Final

from hatchway.proxy.join import EarlyReceiver

# How long connecting may take (seconds).
_SECONDS: Final = 15.0


async def connect_outside(host: str, port: int) -> EarlyReceiver:
    """Return a connection to a host whose name this machine resolves. Raises OSError."""
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(_SECONDS):
            _, found = await loop.create_connection(EarlyReceiver, host, port)
    except TimeoutError as error:
        raise TimeoutError(f"no answer in {_SECONDS:g} s") from error
    except UnicodeError as error:
        raise OSError("this is no host name") from error
    return found
