"""The usage of processes, read from /proc."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from hatchway.cluster.node.processusage import Snapshot, Usage, parse_network

DEVICES = """Inter-|   Receive                                                |  Transmit
 face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed
    lo: 10 1 0 0 0 0 0 0 10 1 0 0 0 0 0 0
  eth0: 1000 20 3 4 0 0 0 0 5000 60 7 8 0 0 0 0
"""
# Neither process writes to this memory after the fork, so the two processes share it.
SHARING = """
import os, sys
held = bytearray(os.urandom(1 << 20)) * 64
child = os.fork()
if child == 0:
    sys.stdin.read()
    os._exit(0)
print("ready", flush=True)
sys.stdin.read()
"""


def test_counters_of_network_interfaces() -> None:
    (found,) = parse_network(DEVICES)
    assert (found.name, found.received, found.received_packets, found.receive_errors) == ("eth0", 1000, 20, 3)
    assert (found.receive_drops, found.sent, found.sent_packets, found.send_errors) == (4, 5000, 60, 7)
    assert found.send_drops == 8


def test_counters_do_not_decrease() -> None:
    found = Usage(cpu=1.0, memory=5, written=3).at_least(Usage(cpu=2.0, memory=9, written=1))
    assert found == Usage(cpu=2.0, memory=5, written=3)


@pytest.mark.skipif(not os.path.exists("/proc/self/smaps_rollup"), reason="this platform does not tell it")
def test_shared_memory_counts_once() -> None:
    command = [sys.executable, "-c", SHARING]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True) as process:
        assert process.stdin is not None and process.stdout is not None
        process.stdout.readline()
        found = Snapshot.take().of(process.pid)
        process.stdin.close()
    assert found.processes == 2
    assert 64 << 20 < found.memory < 120 << 20
    assert 64 << 20 < found.anonymous <= found.memory
