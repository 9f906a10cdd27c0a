"""The control plane of the network tests, a separate process: python outside.py MODE SCENARIO DIRECTORY.

It starts the network with `inside.py` as the node agent, waits until the network ends, and writes its observations to
DIRECTORY/outside.json. The directory may contain two files of settings: `start_seconds`, the timeout of the start; and
`egress`, the name of a program in DIRECTORY/bin that connects pods to other networks, followed by `to-host` if they may
reach this machine. When egress becomes available or unavailable for the Nth time, the file `up N` or `down N` is
written.
"""

# ruff: noqa: ASYNC110  conditions change in other processes

from __future__ import annotations

import asyncio
import dataclasses
import json
import socket
import sys
import time
from pathlib import Path
from typing import Any

import hatchway
from hatchway.cluster import plan
from hatchway.cluster.network import launcher
from hatchway.cluster.network.egress.egresslink import EgressSettings
from hatchway.cluster.network.egress.tools import EgressTool

# A directory that is hidden from containers, although they see its parent directory.
HIDDEN = Path(hatchway.__file__).with_name("rewrite")
INSIDE = Path(__file__).with_name("inside.py")


async def main() -> None:
    mode, scenario, directory = sys.argv[1], sys.argv[2], Path(sys.argv[3])
    (directory / "network").mkdir(mode=0o700)
    settings = launcher.NetworkSettings(
        nodes=3,
        agent=[sys.executable, str(INSIDE), scenario, str(directory)],
        directory=directory / "network",
        log=directory / "node.log",
        hidden=[HIDDEN],
        published=[plan.HOST_IP],
    )
    if (directory / "start_seconds").exists():
        settings = dataclasses.replace(settings, start_seconds=float((directory / "start_seconds").read_text()))
    if (directory / "egress").exists():
        settings = dataclasses.replace(settings, egress=_egress(directory))
    if mode == "private":
        network: launcher.ClusterNetwork = await launcher.start_private_network(settings)
    else:
        network = await launcher.start_loopback_network(settings, "no private network was asked for")
    (directory / "pid").write_text(str(network.pid))
    (directory / "started").touch()
    found: dict[str, Any] = {"isolation": network.isolation, "limits": network.limits, "pid": network.pid}
    if scenario == "two_pods":
        found |= await two_pods(network, directory)
    found["closed"] = await network.closed
    await network.stop()
    (directory / "outside.json").write_text(json.dumps(found))


def _egress(directory: Path) -> EgressSettings:
    name, *to_host = (directory / "egress").read_text().split()
    counts = {True: 0, False: 0}

    def changed(up: bool, why: str) -> None:
        counts[up] += 1
        (directory / f"{'up' if up else 'down'} {counts[up]}").write_text(why)

    return EgressSettings(EgressTool(name, str(directory / "bin" / name)), bool(to_host), changed)


async def two_pods(network: launcher.ClusterNetwork, directory: Path) -> dict[str, Any]:
    while not (directory / "ready").exists() and not network.closed.done():
        await asyncio.sleep(0.01)
    ips = json.loads((directory / "ready").read_text())
    found: dict[str, Any] = {"routed": [_greeting(ip) for ip in ips]}
    found["dialed"] = [await _read(network, ip) for ip in ips]
    found["many"] = len(set(await asyncio.gather(*(_read(network, ips[0]) for _ in range(50)))))
    found["errors"] = [await _error(network, ip, port) for ip, port in ((ips[0], 81), (_absent(ips[0]), 8080))]
    waiting = asyncio.ensure_future(network.dialer.connect(ips[0], 8080))
    await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    found["after cancelling"] = await _read(network, ips[0])
    api = await network.dialer.listen(ips[0] if network.isolation == "loopback" else "10.96.0.1", 4430)
    found["listening"] = api.getsockname()[1], api.gettimeout()
    api.close()
    try:
        await network.dialer.listen("192.0.2.1", 1)
    except OSError as error:
        found["listen error"] = error.errno
    (directory / "done").touch()
    return found


def _absent(ip: str) -> str:
    return ip.rsplit(".", 1)[0] + ".250"


def _greeting(ip: str) -> str:
    """Return the greeting at an address, read by the host itself; "" if there is none.

    A connection alone proves nothing: the gateways of some networks accept every connection.
    """
    try:
        with socket.create_connection((ip, 8080), timeout=0.3) as sock:
            return sock.recv(100).decode()
    except OSError:
        return ""


async def _read(network: launcher.ClusterNetwork, ip: str) -> str:
    sock = await network.dialer.connect(ip, 8080)
    reader, writer = await asyncio.open_connection(sock=sock)
    try:
        return (await reader.read()).decode()
    finally:
        writer.close()


async def _error(network: launcher.ClusterNetwork, ip: str, port: int) -> int | None:
    started = time.monotonic()
    try:
        (await network.dialer.connect(ip, port, timeout=1)).close()
    except OSError as error:
        assert time.monotonic() - started < 30
        return error.errno
    return None


if __name__ == "__main__":
    import uvloop

    uvloop.run(main())
