"""The ingress controller's process: `python -m hatchway.addons.ingress`, in a pod with a service account.

Environment:
    KUBERNETES_SERVICE_HOST, KUBERNETES_SERVICE_PORT: the API server.
    HATCHWAY_POD_IP: the address to serve on; all addresses when it is not set.
    HATCHWAY_ROOT: the directory that contains the pod's volumes, on machines that cannot mount them.
    HATCHWAY_INGRESS_SERVICE: `namespace/name` of the Service whose addresses are published in Ingresses.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import sys
from functools import partial
from pathlib import Path

import uvloop

from hatchway.addons.ingress.answers import engine_error
from hatchway.addons.ingress.certificates import make_default_context
from hatchway.addons.ingress.controller import IngressController
from hatchway.addons.program import run_program
from hatchway.errors import HatchwayError
from hatchway.kube.connection import Connection
from hatchway.kube.contexts import from_service_account
from hatchway.kube.paths import SERVICE_ACCOUNT
from hatchway.proxy.limits import Limits
from hatchway.proxy.pool import Pool
from hatchway.proxy.routing import RequestHead, Respond
from hatchway.proxy.server import serve

log = logging.getLogger("hatchway.ingress")

HTTP_PORT, HTTPS_PORT, PROBE_PORT = 8080, 8443, 10254
_SERVICE = "kube-system/hatchway-ingress"
# Heads of requests must not be larger than this: the time to route a request grows with the length of its path.
_LIMITS = Limits(head=64 * 1024, fields=500)
# Seconds after SIGTERM in which open exchanges may end.
_GRACE = 5.0


def main() -> int:
    """Serve until SIGTERM or SIGINT. Return the exit code: 0, or 1 after an error, which is logged."""
    return run_program(_run, log, uvloop.new_event_loop)


async def _run() -> None:
    if not os.environ.get("KUBERNETES_SERVICE_HOST"):
        raise HatchwayError("KUBERNETES_SERVICE_HOST is not set", "this program runs in a pod")
    account = Path(os.environ.get("HATCHWAY_ROOT") or "/") / SERVICE_ACCOUNT.relative_to("/")
    address = os.environ.get("HATCHWAY_POD_IP") or "0.0.0.0"
    namespace, _, name = (os.environ.get("HATCHWAY_INGRESS_SERVICE") or _SERVICE).partition("/")
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    async with contextlib.AsyncExitStack() as stack:
        client = await stack.enter_async_context(Connection.fixed(from_service_account(account=account)).client)
        default_tls = await asyncio.to_thread(make_default_context)
        controller = IngressController(client, (namespace, name), default_tls)
        async with asyncio.TaskGroup() as group:
            working = group.create_task(controller.run())
            await controller.synced.wait()
            pool = Pool(_LIMITS)
            stack.callback(pool.close)
            route, choose = controller.router.route, controller.certificates.choose
            listen = partial(serve, host=address, limits=_LIMITS, pool=pool, error_body=engine_error)
            servers = [
                await listen(route, port=HTTP_PORT),
                await listen(route, port=HTTPS_PORT, ssl=choose),
                await listen(_answer_probe, port=PROBE_PORT),
            ]
            log.info("serving on %s:%d and %d", address, HTTP_PORT, HTTPS_PORT)
            await stop.wait()
            await asyncio.gather(*(server.close(_GRACE) for server in servers))
            working.cancel()


def _answer_probe(head: RequestHead) -> Respond:
    """Answer the readiness probe. This listener exists only while requests can be routed, so the answer is 200."""
    if head.path == b"/readyz":
        return Respond(200, [(b"Content-Type", b"text/plain")], b"ok")
    return engine_error(404, "only /readyz is served here")


if __name__ == "__main__":
    sys.exit(main())
