"""The pods behind `proxy.jsonl` as processes, a kubelet, and how to dial them."""

from __future__ import annotations

import asyncio
import random
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from hatchway.proxy.routing import Decision, RequestHead, Respond
from tests.conformance.tls import self_signed


@dataclass
class Backends:
    b10: str
    b11: str
    node: str
    kubelet_port: int
    cert: Path
    key: Path


def _listening(address: str, port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex((address, port)) == 0


@contextmanager
def running_backends(directory: Path) -> Iterator[Backends]:
    """Run the pods b10 and b11 as processes at the recorded ports; each run uses other loopback addresses."""
    net = f"127.{random.randint(130, 250)}.{random.randint(1, 250)}"
    cert, key = self_signed(directory, [f"{net}.1"])
    found = Backends(f"{net}.10", f"{net}.11", f"{net}.1", 10250, cert, key)
    wanted = [
        ("b10", found.b10, 8080),
        ("b10alt", found.b10, 8081),
        ("b11", found.b11, 8080),
        ("b10tls", found.b10, 8443),
    ]
    script = str(Path(__file__).with_name("backend.py"))
    processes = []
    try:
        for name, address, port in wanted:
            more = [str(cert), str(key)] if port == 8443 else []
            command = [sys.executable, script, name, address, str(port), *more]
            processes.append(subprocess.Popen(command, stderr=subprocess.DEVNULL))
        for name, address, port in wanted:
            for _ in range(500):
                if _listening(address, port):
                    break
                assert all(process.poll() is None for process in processes), f"{name} ended"
                time.sleep(0.02)
            else:
                raise AssertionError(f"{name} does not listen on {address}:{port}")
        yield found
    finally:
        for process in processes:
            process.terminate()
        for process in processes:
            process.wait(10)


async def dial(address: str, port: int) -> socket.socket:
    sock = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET)
    sock.setblocking(False)
    try:
        await asyncio.get_running_loop().sock_connect(sock, (address, port))
    except BaseException:
        sock.close()
        raise
    return sock


def kubelet(head: RequestHead) -> Decision:
    plain = [(b"Content-Type", b"text/plain; charset=utf-8"), (b"X-Content-Type-Options", b"nosniff")]
    if head.path == b"/healthz":
        return Respond(200, plain, b"ok")
    if head.path == b"/pods":
        return Respond(
            200, [(b"Content-Type", b"application/json")], b'{"kind":"PodList","apiVersion":"v1","items":[]}'
        )
    return Respond(404, plain, b"404 page not found\n")
