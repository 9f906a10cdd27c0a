"""`python -m hatchway.addons.logging`: collect log lines, index them, serve Elasticsearch's API and the log explorer.

The API answers by HTTP and HTTPS on one port, the explorer by HTTP on another.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import signal
import sys
from concurrent.futures import ThreadPoolExecutor

import uvloop

from hatchway.addons.logging.app import make_app
from hatchway.addons.logging.arenas import limit_arenas
from hatchway.addons.logging.collector import LogCollector
from hatchway.addons.logging.documentstore import LoggingStore
from hatchway.addons.logging.explorer.site import ExplorerSite
from hatchway.addons.logging.settings import LoggingSettings
from hatchway.addons.logging.tls import server_context
from hatchway.errors import HatchwayError
from hatchway.proxy.routing import App, Respond
from hatchway.proxy.server import serve

logger = logging.getLogger(__name__)


def error_body(status: int, message: str) -> Respond:
    """Return an error of the HTTP engine in the form of Elasticsearch's errors."""
    error = {"type": "illegal_argument_exception", "reason": message}
    body = {"error": {"root_cause": [error], **error}, "status": status}
    return Respond(status, [(b"Content-Type", b"application/json; charset=UTF-8")], json.dumps(body).encode())


async def run(settings: LoggingSettings) -> None:
    """Serve until SIGTERM or SIGINT, then commit indexed documents. Raises OSError; ValueError for tantivy's errors."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    with ThreadPoolExecutor(1, "index") as executor:
        store = await loop.run_in_executor(executor, LoggingStore, settings.data, settings.limit)
        positions = settings.data / "positions.json"
        collector = LogCollector(store, executor, directory=settings.logs, positions=positions, host=settings.host)
        api = make_app(store, executor)
        decision = App(api)
        tls = await asyncio.to_thread(server_context, settings.data)
        server = await serve(
            lambda head: decision,
            host=settings.address,
            port=settings.port,
            ssl=tls,
            sniff_tls=True,
            error_body=error_body,
        )
        explorer = await serve(ExplorerSite(api).route, host=settings.address, port=settings.explorer_port)
        logger.info("ready on port %d, explorer on port %d, logs from %s", server.port, explorer.port, settings.logs)
        collecting = asyncio.create_task(collector.run(), name="collector")
        stopping = asyncio.create_task(stop.wait(), name="stop")
        try:
            await asyncio.wait((collecting, stopping), return_when=asyncio.FIRST_COMPLETED)
        finally:
            stopping.cancel()
            collecting.cancel()
            await asyncio.gather(server.close(grace=2.0), explorer.close(grace=2.0))
            # Raise an error of the collector here, so that the program ends and the kubelet restarts its container.
            with contextlib.suppress(asyncio.CancelledError):
                await collecting
            await loop.run_in_executor(executor, collector.commit)
            await loop.run_in_executor(executor, collector.close)
            await loop.run_in_executor(executor, store.close)


def main() -> int:
    """Serve with the settings of the environment. Return the exit code: 0, or 1 after an error, which is logged."""
    limit_arenas()
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s", stream=sys.stderr)
    try:
        uvloop.run(run(LoggingSettings.from_environment()))
    except HatchwayError as error:
        logger.error("%s", error.message)
        return 1
    except (OSError, ValueError) as error:  # tantivy raises ValueError, for example when the disk is full
        logger.error("cannot go on: %s", error)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
