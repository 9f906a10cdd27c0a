"""The fallback without namespaces, at loopback addresses."""

from __future__ import annotations

import errno
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from hatchway.cluster.network.loopback import LoopbackRuntime, LoopbackSandbox
from hatchway.cluster.runtime import SandboxConfig
from tests.integration.network.conftest import Run
from tests.integration.network.test_private import _running

MakeRun = Callable[..., Run]


def test_two_pods_on_one_port_have_an_address_each(make_run: MakeRun) -> None:
    run = make_run("loopback", "two_pods")
    # Other clusters on this machine may have taken the first addresses.
    one, two = run.result()
    assert one != two
    assert all(ip.startswith("127.66.0.") for ip in (one, two))
    found = run.outside()
    assert found["isolation"] == "loopback"
    assert found["limits"].startswith("no private network was asked for; isolation is off: pods are")
    assert found["dialed"] == ["one", "two"]
    assert found["errors"] == [errno.ECONNREFUSED, errno.ECONNREFUSED]
    assert found["listen error"] == errno.EHOSTUNREACH


def test_two_clusters_share_the_addresses(make_run: MakeRun) -> None:
    first = make_run("loopback", "for_ever_in_one_session")
    first.wait_for("ready")
    second = make_run("loopback", "two_pods")
    assert (first.directory / "ip").read_text() not in second.result()
    assert second.outside()["dialed"] == ["one", "two"]


def test_the_environment_of_a_process_on_loopback(make_run: MakeRun) -> None:
    run = make_run("loopback", "loopback_surroundings")
    found = run.result()
    assert found["volume"] == [0, "content"]
    assert found["cwd"] == [0, "file\n"]
    assert found["default cwd"]
    assert found["host cwd"] == [0, "/tmp\n"]
    assert found["ip"].startswith("127.66.0.")
    assert "isolation is off" in found["limits"]
    assert "no volume can be inside another" in found["nested"]
    assert "absolute path" in found["relative"]
    assert found["gone"]


def test_errors_of_the_start_of_a_process(make_run: MakeRun) -> None:
    found = make_run("loopback", "loopback_errors").result()
    assert found["no such program"] == 'exec: "no-such-program": executable file not found in $PATH'
    assert found["not executable"] == 'exec: "/etc/passwd": permission denied'
    assert found["bad cwd"] == 'chdir to cwd ("/etc/passwd") set in config.json failed: not a directory'
    assert found["nothing"] == "no command specified"
    assert found["image"].startswith("containers of images need user namespaces, which this machine does not allow")


def test_exit_codes_and_signals(make_run: MakeRun) -> None:
    found = make_run("loopback", "processes").result()
    assert found["exit 3"] == 3
    assert found["exec"] == [4, "x\n/tmp\n"]
    assert found["shared"] == "shared\n"
    assert found["exec killed"] == [143, 15]
    assert found["terminated"] == [7, 0]
    assert found["killed"] == [137, 9]
    assert found["after removal"] == "the sandbox is gone"


def test_nothing_outlives_a_killed_control_plane(make_run: MakeRun) -> None:
    run = make_run("loopback", "for_ever_in_one_session")
    run.wait_for("ready")
    assert _running(run.directory.name)
    run.process.kill()
    deadline = time.monotonic() + 10
    while found := _running(run.directory.name):
        assert time.monotonic() < deadline, found
        time.sleep(0.01)


async def test_two_clusters_have_no_address_in_common(tmp_path: Path) -> None:
    runtimes = [LoopbackRuntime(tmp_path / name) for name in ("one", "two")]

    async def create(runtime: LoopbackRuntime, name: str) -> LoopbackSandbox:
        return await runtime.create_sandbox(
            SandboxConfig(
                node_index=90,
                uid=f"uid-{name}",
                hostname=name,
                etc=lambda _: {},
            )
        )

    sandboxes = [await create(runtime, f"{number}") for number in range(100) for runtime in runtimes]
    assert len({sandbox.ip for sandbox in sandboxes}) == 200
    # The second runtime can take the addresses that the first has released.
    await runtimes[0].close()
    more = [await create(runtimes[1], f"more-{number}") for number in range(153)]
    with pytest.raises(OSError, match="no addresses available"):
        await create(runtimes[1], "too many")
    await more[0].remove()
    assert (await create(runtimes[1], "again")).ip == more[0].ip
    await runtimes[1].close()
