"""The door beside `kubectl proxy` and nginx: `.venv/bin/python bench/door.py [--rounds N] [--seconds S] [--only NAME]`.

All stand in front of the same TLS server: nginx in place of an API server, so that the server limits none of them. Each
gets requests for the same path on 32 keep-alive connections over plain HTTP, in interleaved rounds of one run:

    hatchway proxy   with its default options; the raw API, and a target under its host name
    kubectl proxy    from the package on PyPI
    nginx            one worker, configured like kubectl proxy: its hosts and paths, a token, TLS verified
"""

from __future__ import annotations

import argparse
import contextlib
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from bench import doors, peers
from bench.compare import compare
from tests.freeports import free_port


@dataclass
class Peer:
    """A proxy under load. url: the URL to request. pid: the process whose CPU time and memory count."""

    url: str
    pid: int
    headers: dict[str, str]


@contextlib.contextmanager
def standing(directory: Path, size: int) -> Iterator[dict[str, Peer]]:
    """Run all proxies in front of one TLS server that answers with `size` bytes."""
    certificate = peers.make_certificate(directory)
    server, nginx, kubectl, hatchway = (free_port() for _ in range(4))
    config = doors.kubeconfig(directory, server, certificate)
    with contextlib.ExitStack() as stack:
        stack.enter_context(peers.running(peers.backend(directory, server, size, certificate), server))
        started = {
            name: stack.enter_context(peers.running(command, port))
            for name, (command, port) in {
                "nginx": (peers.nginx_door(directory, nginx, server, certificate[0], doors.TOKEN), nginx),
                **doors.commands(config, kubectl, hatchway),
            }.items()
        }
        yield {
            "nginx, one worker": Peer(f"http://127.0.0.1:{nginx}{doors.PREFIX}", started["nginx"].pid, {}),
            "kubectl proxy": Peer(f"http://127.0.0.1:{kubectl}{doors.PREFIX}", started["kubectl proxy"].pid, {}),
            "hatchway proxy, API": Peer(
                f"http://127.0.0.1:{hatchway}{doors.PREFIX}", started["hatchway proxy"].pid, {}
            ),
            "hatchway proxy, host name": Peer(
                f"http://127.0.0.1:{hatchway}/",
                started["hatchway proxy"].pid,
                {"Host": f"bench.default.svc.localhost:{hatchway}"},
            ),
        }


def main() -> None:
    """Measure with the options of the command line, and print the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--seconds", type=float, default=2)
    parser.add_argument("--connections", type=int, default=32)
    parser.add_argument("--size", type=int, default=512, help="bytes of the server's answer")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="hatchway-bench-") as temporary:
        directory = Path(temporary)
        with standing(directory, args.size) as found:
            print(f"{args.connections} connections, {args.size} bytes, {args.rounds} rounds of {args.seconds} s")
            contenders = {}
            for number, (name, peer) in enumerate(found.items()):
                script = directory / f"headers-{number}.lua"
                script.write_text("".join(f'wrk.headers["{key}"] = "{value}"\n' for key, value in peer.headers.items()))
                contenders[name] = lambda peer=peer, script=script: peers.wrk(
                    peer.url, args.connections, args.seconds, peer.pid, script
                )
            rounds = compare(contenders, args.rounds, "kubectl proxy")
            ours, kubectl, nginx = "hatchway proxy, API", "kubectl proxy", "nginx, one worker"
            rate = rounds.rate(ours, kubectl)
            doors.goal("requests/s beside kubectl proxy, at least 2.5", rate, rate >= 2.5)
            for name in (ours, "hatchway proxy, host name"):
                rate = rounds.rate(name, nginx)
                doors.goal(f"{name}: requests/s beside one nginx worker, at least 1.0", rate, rate >= 1)
            p99, cpu = rounds.p99(ours, kubectl), rounds.cpu(ours, kubectl)
            doors.goal("p99 beside kubectl proxy's, at most 0.6", p99, p99 <= 0.6)
            doors.goal("CPU per request beside kubectl proxy's, at most 1.0", cpu, cpu <= 1)


if __name__ == "__main__":
    main()
