"""`--keepalive` reaches the sockets to the API server."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from hatchway.door.door import Door
from hatchway.door.dooroptions import DoorOptions
from hatchway.kube.connection import Connection
from hatchway.proxy.limits import Limits
from hatchway.proxy.pool import Pool
from tests.integration.kube.world import ApiServer, write_kubeconfig


@pytest.mark.skipif(not hasattr(socket, "TCP_KEEPIDLE"), reason="this system has no TCP_KEEPIDLE")
@pytest.mark.parametrize(("asked", "idle", "interval"), [(0.0, 15, 5), (6.2, 7, 7), (90.0, 90, 90)])
async def test_the_period_of_probes(tmp_path: Path, asked: float, idle: int, interval: int) -> None:
    api = ApiServer()
    await api.start(None)
    write_kubeconfig(tmp_path / "config", {"server": f"http://127.0.0.1:{api.port}"}, {})
    connection = Connection.load(str(tmp_path / "config"))
    Door(connection, DoorOptions(port=0, keepalive=asked))
    pool = Pool(Limits())
    opened = await pool.connect(connection.upstream)
    sock = opened.transport.get_extra_info("socket")
    assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
    assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == idle
    assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL) == interval
    # The time after which TCP gives up must be long enough for all probes.
    assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) >= (idle + 3 * interval) * 1000
    opened.transport.abort()
    pool.close()
    await connection.aclose()
    await api.stop()
