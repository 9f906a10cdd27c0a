"""The bare engine beside one nginx worker: `.venv/bin/python bench/relay.py [--plain] [--rounds N] [--seconds S]`.

Both serve TLS to the client (without TLS if --plain is given), and proxy to the same backend with upstream keep-alive,
in interleaved rounds under wrk with 32 keep-alive connections. The engine's routing function always returns the same
decision.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
import sys
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from bench.besidenginx import ServeRequest, beside_nginx, make_parser, serve_request


async def _engine(request: ServeRequest) -> None:
    from hatchway.proxy.routing import CachedDecision, Forward, ProxyError, RequestHead, Respond, Upstream
    from hatchway.proxy.server import serve

    async def connect() -> socket.socket:
        sock = socket.socket()
        sock.setblocking(False)
        await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", request.backend_port))
        return sock

    upstream = Upstream(request.backend_port, connect)

    def refuse(error: ProxyError) -> Respond:
        return Respond(503, [], error.message.encode())

    class Kept(CachedDecision):
        def __init__(self, forward: Forward) -> None:
            self._forward = forward

        def is_valid(self) -> bool:
            return True

        def begin(self, make_head: Callable[[], RequestHead]) -> Forward:
            return self._forward

    def route(head: RequestHead) -> Forward:
        found = Forward(upstream, head.target, head.headers, refuse)
        head.cached = Kept(found)
        return found

    context = None
    if request.certificate is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*request.certificate)
    await serve(route, host="127.0.0.1", port=request.port, ssl=context)
    await asyncio.Event().wait()


def main() -> None:
    """Measure with the options of the command line, and print the results."""
    args = make_parser(__doc__).parse_args()
    if (request := serve_request(args)) is not None:
        import uvloop

        uvloop.run(_engine(request))
        return
    with beside_nginx(args, __file__) as servers:
        print(
            f"{servers.scheme}, {args.connections} connections, {args.size} bytes, "
            f"{args.rounds} rounds of {args.seconds} s"
        )
        servers.compare("hatchway's engine", "/")


if __name__ == "__main__":
    main()
