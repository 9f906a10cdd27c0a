"""`python -m hatchway.cluster.addons.logging`: collect, index, answer on one port by HTTP and HTTPS alike."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import signal
import sys
from concurrent.futures import ThreadPoolExecutor

import uvloop

from hatchway.cluster.addons.logging.app import make_app
from hatchway.cluster.addons.logging.collector import Collector
from hatchway.cluster.addons.logging.memory import few_arenas
from hatchway.cluster.addons.logging.settings import Settings
from hatchway.cluster.addons.logging.store import Store
from hatchway.cluster.addons.logging.tls import server_context
from hatchway.errors import HatchwayError
from hatchway.proxy.routing import App, Respond
from hatchway.proxy.server import serve

logger = logging.getLogger(__name__)


def error_body(status: int, message: str) -> Respond:
    """What the engine itself refuses, in Elasticsearch's shape."""
    error = {"type": "illegal_argument_exception", "reason": message}
    body = {"error": {"root_cause": [error], **error}, "status": status}
    return Respond(status, [(b"Content-Type", b"application/json; charset=UTF-8")], json.dumps(body).encode())


async def run(settings: Settings) -> None:
    """Serve until SIGTERM or SIGINT; then make everything durable."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    with ThreadPoolExecutor(1, "index") as executor:
        store = await loop.run_in_executor(executor, Store, settings.data, settings.limit)
        positions = settings.data / "positions.json"
        collector = Collector(store, executor, directory=settings.logs, positions=positions, host=settings.host)
        decision = App(make_app(store, executor))
        tls = await asyncio.to_thread(server_context, settings.data)
        server = await serve(
            lambda head: decision,
            host=settings.address,
            port=settings.port,
            ssl=tls,
            sniff_tls=True,
            error_body=error_body,
        )
        logger.info("ready on port %d, logs from %s", server.port, settings.logs)
        collecting = asyncio.create_task(collector.run(), name="collector")
        stopping = asyncio.create_task(stop.wait(), name="stop")
        try:
            await asyncio.wait((collecting, stopping), return_when=asyncio.FIRST_COMPLETED)
        finally:
            stopping.cancel()
            collecting.cancel()
            await server.close(grace=2.0)
            # An error of the collector is not lost: it ends the program, which its pod starts again.
            with contextlib.suppress(asyncio.CancelledError):
                await collecting
            await loop.run_in_executor(executor, collector.commit)
            await loop.run_in_executor(executor, collector.close)
            await loop.run_in_executor(executor, store.close)


def main() -> int:
    few_arenas()
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s", stream=sys.stderr)
    try:
        uvloop.run(run(Settings.from_environment()))
    except HatchwayError as error:
        logger.error("%s", error.message)
        return 1
    except (OSError, ValueError) as error:  # ValueError: tantivy's own, a full disk for example
        logger.error("cannot go on: %s", error)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
