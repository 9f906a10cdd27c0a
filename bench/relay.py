"""The bare engine beside one nginx worker: `.venv/bin/python bench/relay.py [--plain] [--rounds N] [--seconds S]`.

Both do TLS towards the client (or not, with --plain) and proxy to the same backend with upstream keep-alive, one after
the other in interleaved rounds, under wrk with 32 keep-alive connections. The engine's routing function is trivial.
"""

from __future__ import annotations

import argparse
import asyncio
import socket
import ssl
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from bench import peers
from bench.compare import compare


async def _engine(port: int, backend_port: int, certificate: tuple[str, str] | None) -> None:
    from hatchway.proxy.routing import Forward, ProxyError, RequestHead, Respond, Upstream
    from hatchway.proxy.server import serve

    async def connect() -> socket.socket:
        sock = socket.socket()
        sock.setblocking(False)
        await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", backend_port))
        return sock

    upstream = Upstream(backend_port, connect)

    def refuse(error: ProxyError) -> Respond:
        return Respond(503, [], error.message.encode())

    def route(head: RequestHead) -> Forward:
        found: Forward | None = head.memo.value
        if found is None:
            found = head.memo.value = Forward(upstream, head.target, head.headers, refuse)
        return found

    context = None
    if certificate is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*certificate)
    await serve(route, host="127.0.0.1", port=port, ssl=context)
    await asyncio.Event().wait()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--plain", action="store_true", help="no TLS towards the client")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=3)
    parser.add_argument("--connections", type=int, default=32)
    parser.add_argument("--size", type=int, default=512, help="bytes of the backend's answer")
    parser.add_argument("--serve", nargs="+", metavar="ARG", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.serve:
        import uvloop

        port, backend_port, *certificate = args.serve
        uvloop.run(_engine(int(port), int(backend_port), (certificate[0], certificate[1]) if certificate else None))
        return
    with tempfile.TemporaryDirectory(prefix="hatchway-bench-") as temporary:
        directory = Path(temporary)
        certificate = None if args.plain else peers.make_certificate(directory)
        scheme = "http" if args.plain else "https"
        backend_port, nginx_port, engine_port = peers.free_port(), peers.free_port(), peers.free_port()
        files = [str(file) for file in certificate or ()]
        engine = [sys.executable, __file__, "--serve", str(engine_port), str(backend_port), *files]
        with (
            peers.running(peers.backend(directory, backend_port, args.size), backend_port),
            peers.running(peers.nginx_proxy(directory, nginx_port, backend_port, certificate), nginx_port) as nginx,
            peers.running(engine, engine_port) as server,
        ):
            print(
                f"{scheme}, {args.connections} connections, {args.size} bytes, {args.rounds} rounds of {args.seconds} s"
            )
            compare(
                {
                    "nginx, one worker": lambda: peers.wrk(
                        f"{scheme}://127.0.0.1:{nginx_port}/", args.connections, args.seconds, nginx.pid
                    ),
                    "hatchway's engine": lambda: peers.wrk(
                        f"{scheme}://127.0.0.1:{engine_port}/", args.connections, args.seconds, server.pid
                    ),
                },
                args.rounds,
                "nginx, one worker",
            )


if __name__ == "__main__":
    main()
