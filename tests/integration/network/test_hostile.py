"""A hostile container: as root of its pod, and in its own user namespace."""

from __future__ import annotations

import json
import os
import socket
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.integration.network.conftest import Run

MakeRun = Callable[..., Run]

_PATHS = (
    *("/etc/gshadow", "/etc/sudoers", "/etc/ssh", "/root/.ssh", "/root/.kube", "/root/.local/state", "/boot"),
    *("/proc/kcore", "/proc/kmsg", "/dev/kmsg", "/dev/mem", "/dev/vda", "/dev/sda", "/proc/1/root/.host", "/.host"),
)
_WRITTEN = (
    *("/usr/bin/env", "/etc/passwd", "/proc/sys/kernel/core_pattern", "/proc/sys/net/ipv4/ip_forward"),
    *("/proc/sysrq-trigger", "/sys/kernel/uevent_helper", "/sys/power/state"),
)


def test_a_container_cannot_escape(make_run: MakeRun) -> None:
    name = f"hatchway-test-{os.getpid()}"
    with (
        tempfile.TemporaryDirectory() as outside,
        socket.create_server(("0.0.0.0", 0)) as server,
        socket.socket(socket.AF_UNIX) as abstract,
        socket.socket(socket.AF_UNIX) as named,
    ):
        path = Path(outside, "socket")
        os.chmod(outside, 0o777)
        for sock, address in ((abstract, "\0" + name), (named, str(path))):
            sock.bind(address)
            sock.listen()
        path.chmod(0o777)
        facts = {
            "hosts": ["127.0.0.1", "172.18.0.2", "172.18.0.3", "10.244.0.1", "10.96.0.1"],
            "port": server.getsockname()[1],
            "abstract": name,
            "socket": str(path),
            "pid": os.getpid(),
            "paths": [*_PATHS, outside, str(Path.home() / ".ssh"), str(Path.home() / ".kube")],
            "written": list(_WRITTEN),
        }
        run = make_run("private", "hostile", {"facts.json": json.dumps(facts)})
        found = run.result()
    assert found["victim"] == 0
    for how, processes in (("started", 1), ("joined", 2), ("on node", 4)):
        result = found[how]
        assert result.pop("descriptors") == [0, 1, 2]
        # "on node" sees four processes: the reaper of the namespace, two containers and itself.
        assert len(result.pop("processes")) <= processes
        assert result.pop("variables") == []
        assert len(result) > 50
        assert {what: outcome for what, outcome in result.items() if outcome == "yes"} == {}
        # An outcome with an error other than a refusal would show a mistake in the attempt itself.
        assert not any("Error(" in outcome for outcome in result.values()), result


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_on_loopback_a_process_inherits_no_descriptors(make_run: MakeRun) -> None:
    assert make_run("loopback", "inherited").result() == []
