"""A server of Hatchway beside one nginx worker, both in front of the same backend, in interleaved rounds under wrk.

It is for benchmarks that are run as `bench/NAME.py [--plain] [--rounds N] ...`, and that start themselves
with `--serve` as the server.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench import peers
from bench.compare import compare
from tests.freeports import free_port

_NGINX = "nginx, one worker"


@dataclass(frozen=True, slots=True)
class ServeRequest:
    """The arguments of `--serve`. certificate: the files of the certificate and the key; None without TLS."""

    port: int
    backend_port: int
    certificate: tuple[str, str] | None


def make_parser(description: str | None) -> argparse.ArgumentParser:
    """Return a parser with the options that these benchmarks share."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--plain", action="store_true", help="no TLS towards the client")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=3)
    parser.add_argument("--connections", type=int, default=32)
    parser.add_argument("--size", type=int, default=512, help="bytes of the backend's answer")
    parser.add_argument("--serve", nargs="+", metavar="ARG", help=argparse.SUPPRESS)
    return parser


def serve_request(args: argparse.Namespace) -> ServeRequest | None:
    """Return the arguments of `--serve`; None in the process that measures."""
    if not args.serve:
        return None
    port, backend_port, *files = args.serve
    return ServeRequest(int(port), int(backend_port), (files[0], files[1]) if files else None)


class BesideNginx:
    """The two servers. directory: a temporary directory for files of the benchmark."""

    def __init__(self, args: argparse.Namespace, directory: Path, nginx: tuple[int, int], own: tuple[int, int]) -> None:
        self.directory = directory
        self.scheme = "http" if args.plain else "https"
        self._args = args
        # Port and process id.
        self._nginx, self._own = nginx, own

    def compare(self, name: str, path: str, script: Path | None = None) -> None:
        """Measure both in turn, and print the results. name: the name of Hatchway's server. script: see `peers.wrk`."""

        def load(port: int, pid: int) -> peers.Load:
            url = f"{self.scheme}://localhost:{port}{path}"
            return peers.wrk(url, self._args.connections, self._args.seconds, pid, script)

        compare({_NGINX: lambda: load(*self._nginx), name: lambda: load(*self._own)}, self._args.rounds, _NGINX)


@contextmanager
def beside_nginx(args: argparse.Namespace, program: str, options: Sequence[str] = ()) -> Iterator[BesideNginx]:
    """Run the backend, nginx and `program OPTIONS --serve ...`."""
    with tempfile.TemporaryDirectory(prefix="hatchway-bench-") as temporary:
        directory = Path(temporary)
        certificate = None if args.plain else peers.make_certificate(directory)
        backend_port, nginx_port, own_port = free_port(), free_port(), free_port()
        files = [str(file) for file in certificate or ()]
        own = [sys.executable, program, *options, "--serve", str(own_port), str(backend_port), *files]
        with (
            peers.running(peers.backend(directory, backend_port, args.size), backend_port),
            peers.running(peers.nginx_proxy(directory, nginx_port, backend_port, certificate), nginx_port) as nginx,
            peers.running(own, own_port) as server,
        ):
            yield BesideNginx(args, directory, (nginx_port, nginx.pid), (own_port, server.pid))
