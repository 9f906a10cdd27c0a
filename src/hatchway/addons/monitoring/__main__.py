"""`python -m hatchway.addons.monitoring`: scrape the cluster, keep the samples, answer Prometheus' HTTP API.

The API answers on one port, the dashboards on another.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import ssl
import sys
import time
from collections.abc import Iterable

import uvloop

from hatchway import __version__
from hatchway.addons.monitoring.dashboards.site import DashboardSite
from hatchway.addons.monitoring.httpapi.app import make_app
from hatchway.addons.monitoring.httpapi.encoding import failure
from hatchway.addons.monitoring.httpapi.workers import QueryWorkers
from hatchway.addons.monitoring.scrape.discovery import TargetDiscovery
from hatchway.addons.monitoring.scrape.pool import ScrapePool
from hatchway.addons.monitoring.scrape.target import HttpSource, ScrapeTarget
from hatchway.addons.monitoring.settings import MonitoringSettings, StaticTarget
from hatchway.addons.monitoring.tsdb.labels import make_labels
from hatchway.addons.monitoring.tsdb.store import TimeSeriesStore
from hatchway.errors import HatchwayError
from hatchway.kube.connection import Connection
from hatchway.kube.contexts import from_service_account
from hatchway.kube.http import HttpClient
from hatchway.kube.paths import SERVICE_ACCOUNT
from hatchway.proxy.routing import App, Respond
from hatchway.proxy.server import serve

log = logging.getLogger("hatchway.monitoring")

# Seconds between two checks whether the newest samples should become a block.
_UPKEEP = 10.0


def error_body(status: int, message: str) -> Respond:
    """Return an error of the HTTP engine in the form of the API's errors."""
    kind = "bad_data" if status < 500 else "internal"
    return Respond(status, [(b"Content-Type", b"application/json")], failure(kind, message))


def static_targets(targets: Iterable[StaticTarget], http: HttpClient) -> list[ScrapeTarget]:
    """Return the targets that the settings name."""
    found = []
    for one in targets:
        instance = f"[{one.host}]:{one.port}" if ":" in one.host else f"{one.host}:{one.port}"
        url = f"{'https' if one.https else 'http'}://{instance}{one.path}"
        tls = ssl.create_default_context() if one.https else None
        labels = make_labels([("job", one.job), ("instance", instance)])
        found.append(ScrapeTarget(one.job, url, labels, HttpSource(http, one.host, one.port, one.path, tls), labels))
    return found


def own_metrics(store: TimeSeriesStore) -> str:
    """Return this program's own metrics in the text format."""
    rows = (
        ("hatchway_monitoring_series", "gauge", "Series in the store.", len(store.index)),
        ("hatchway_monitoring_store_bytes", "gauge", "Bytes of all samples and series.", store.size),
        ("hatchway_monitoring_blocks", "gauge", "Blocks of compressed samples.", len(store.blocks)),
        ("hatchway_monitoring_head_samples", "gauge", "Samples that are not in a block yet.", store.head_samples),
        ("hatchway_monitoring_out_of_order_samples_total", "counter", "Refused samples.", store.out_of_order),
        ("hatchway_monitoring_dropped_series_total", "counter", "Refused series.", store.dropped_series),
    )
    lines = [f'hatchway_monitoring_build_info{{version="{__version__}"}} 1']
    for name, kind, text, value in rows:
        lines += [f"# HELP {name} {text}", f"# TYPE {name} {kind}", f"{name} {value}"]
    return "\n".join(lines) + "\n"


async def keep_up(store: TimeSeriesStore) -> None:
    """Make blocks of the newest samples when it is time, until cancelled."""
    while True:
        await asyncio.sleep(_UPKEEP)
        if store.is_due(round(time.time() * 1000)):
            for _ in store.compact():
                await asyncio.sleep(0)


async def run(settings: MonitoringSettings) -> None:
    """Serve until SIGTERM or SIGINT. Raises HatchwayError, OSError."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    store = await asyncio.to_thread(TimeSeriesStore, settings.store, settings.data)
    async with contextlib.AsyncExitStack() as stack:
        stack.callback(store.close)
        http = HttpClient()
        stack.push_async_callback(http.aclose)
        pool = ScrapePool(store, settings.scrape)
        stack.push_async_callback(pool.close)
        fixed = static_targets(settings.targets, http)
        pool.update(fixed)
        discovery: TargetDiscovery | None = None
        if settings.in_cluster:
            account = settings.root / SERVICE_ACCOUNT.relative_to("/")
            connection = Connection.fixed(from_service_account(account=account))
            client = await stack.enter_async_context(connection.client)
            discovery = TargetDiscovery(client, http, lambda found: pool.update([*fixed, *found]))
        workers = QueryWorkers()
        stack.callback(workers.close)
        api = make_app(
            store,
            workers,
            targets=pool.reports,
            metadata=pool.metadata,
            is_ready=lambda: discovery is None or discovery.synced,
            own_metrics=lambda: own_metrics(store),
        )
        app = App(api)
        server = await serve(lambda head: app, host=settings.address, port=settings.port, error_body=error_body)
        stack.push_async_callback(server.close, grace=2.0)
        known = {"interval": settings.scrape.interval, "started": int(time.time() * 1000), "pod": settings.pod}
        site = DashboardSite(api, lambda: {**known, "oldest": store.begin})
        dashboards = await serve(site.route, host=settings.address, port=settings.dashboards_port)
        stack.push_async_callback(dashboards.close, grace=2.0)
        message = "serving on %s:%d, dashboards on port %d, samples in %s"
        log.info(message, settings.address, server.port, dashboards.port, settings.data)
        tasks = [asyncio.create_task(keep_up(store), name="upkeep"), asyncio.create_task(stop.wait(), name="stop")]
        if discovery is not None:
            tasks.append(asyncio.create_task(discovery.run(), name="discovery"))
        done, waiting = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
        for task in done:
            task.result()


def main() -> int:
    """Serve with the settings of the environment; return the exit code: 0, or 1 after an error, which is logged."""
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s", stream=sys.stderr)
    try:
        uvloop.run(run(MonitoringSettings.from_environment()))
    except* HatchwayError as group:
        _report(group)
        return_code = 1
    except* OSError as group:
        _report(group)
        return_code = 1
    else:
        return_code = 0
    return return_code


def _report(group: BaseExceptionGroup[BaseException]) -> None:
    for error in group.exceptions:
        if isinstance(error, BaseExceptionGroup):
            _report(error)
        else:
            log.error("%s", error.message if isinstance(error, HatchwayError) else f"cannot go on: {error}")


if __name__ == "__main__":
    sys.exit(main())
