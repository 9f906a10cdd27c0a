"""The ingress controller beside one nginx worker: `.venv/bin/python bench/ingress.py [--plain] [--rounds N]`.

Both serve TLS to the client (without TLS if --plain is given), and proxy to the same backend with upstream keep-alive,
in interleaved rounds under wrk. The controller's table has --ingresses hosts with ten paths each; nginx has one server.
In `new connections` each connection ends after one request. With TLS this measures handshakes, including the reading of
the server name that the client sends.
"""

from __future__ import annotations

import asyncio
import ssl
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from bench.besidenginx import ServeRequest, beside_nginx, make_parser, serve_request

_CLOSE = 'wrk.headers["Connection"] = "close"\n'


def _ingress(number: int) -> dict[str, Any]:
    backend = {"service": {"name": "web", "port": {"number": 80}}}
    paths = [{"path": f"/{step}", "pathType": "Prefix", "backend": backend} for step in range(9)]
    host = "localhost" if number == 0 else f"host-{number}.example"
    http = {"paths": [*paths, {"path": "/", "pathType": "Prefix", "backend": backend}]}
    return {
        "metadata": {"name": f"i{number}", "namespace": "default", "uid": str(number)},
        "spec": {"rules": [{"host": host, "http": http}]},
    }


async def _controller(request: ServeRequest, ingresses: int) -> None:
    from hatchway.addons.ingress.backends import Backends
    from hatchway.addons.ingress.certificates import CertificateStore
    from hatchway.addons.ingress.hostroutes import RouteTable
    from hatchway.addons.ingress.ingressrouter import IngressRouter
    from hatchway.addons.ingress.ingressrules import parse_ingress
    from hatchway.kube.wellknown import SERVICE_NAME
    from hatchway.proxy.server import serve

    backends = Backends({("default", "web"): {"spec": {"ports": [{"port": 80, "protocol": "TCP"}]}}})
    labels = {SERVICE_NAME: "web"}
    piece = {
        "metadata": {"name": "web-1", "namespace": "default", "labels": labels},
        "addressType": "IPv4",
        "ports": [{"name": "", "port": request.backend_port}],
        "endpoints": [{"addresses": ["127.0.0.1"]}],
    }
    backends.slice_changed("ADDED", piece)
    router, table = IngressRouter(backends), RouteTable()
    for number in range(ingresses):
        table.add(parse_ingress(_ingress(number)))
    router.use(table)
    choose = None
    if request.certificate is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*request.certificate)
        choose = CertificateStore({}, context).choose
    await serve(router.route, host="127.0.0.1", port=request.port, ssl=choose)
    await asyncio.Event().wait()


def main() -> None:
    """Measure with the options of the command line, and print the results."""
    parser = make_parser(__doc__)
    parser.add_argument("--ingresses", type=int, default=1000)
    args = parser.parse_args()
    if (request := serve_request(args)) is not None:
        import uvloop

        uvloop.run(_controller(request, args.ingresses))
        return
    with beside_nginx(args, __file__, ("--ingresses", str(args.ingresses))) as servers:
        close = servers.directory / "close.lua"
        close.write_text(_CLOSE)
        for label, script in (("kept connections", None), ("new connections", close)):
            print(
                f"{label}: {servers.scheme}, {args.connections} at once, {args.size} bytes, {args.ingresses} Ingresses"
            )
            servers.compare("ingress controller", "/5/x", script)


if __name__ == "__main__":
    main()
