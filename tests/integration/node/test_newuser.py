"""A container whose start script switches to another user, in a cluster with one user only."""

from __future__ import annotations

from pathlib import Path

import pytest

from hatchway.cluster.network.loopback import LoopbackSandbox
from hatchway.cluster.node import container as container_module
from hatchway.cluster.runtime import ContainerConfig, ContainerProcess
from hatchway.kube.api import Object
from tests.integration.node.test_kubelet import SERVE
from tests.integration.node.world import container, open_world, ready


async def test_a_container_is_restarted_as_the_user_that_it_switches_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    users: list[str] = []
    start = LoopbackSandbox.start

    async def noting(self: LoopbackSandbox, config: ContainerConfig) -> ContainerProcess:
        users.append(config.privileges.user)
        return await start(self, config)

    monkeypatch.setattr(LoopbackSandbox, "start", noting)
    async with open_world(tmp_path) as world, world.node() as kubelet:
        pod = await world.create("db", *SERVE, restartPolicy="OnFailure")
        await world.pod("db", ready)
        (worker,) = kubelet.workers[pod["metadata"]["uid"]].containers.main
        assert worker.process is not None
        worker.process.new_user.set_result("999:998")
        found = await world.pod("db", lambda now: ready(now) and container(now)["restartCount"] == 1)
        assert container(found)["lastState"]["terminated"]["exitCode"] == 137
        message = "Container c goes on as user 999:998, will be restarted as this user"
        assert ("Killing", message) in await world.events("db", 1, "Killing")
        assert users == ["", "999:998"]


async def test_after_a_restart_of_the_cluster_the_container_keeps_this_user(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    users: list[str] = []
    start = LoopbackSandbox.start

    async def noting(self: LoopbackSandbox, config: ContainerConfig) -> ContainerProcess:
        users.append(config.privileges.user)
        return await start(self, config)

    def user_of_last(*_: object) -> Object:
        uid, _, gid = (users[-1] or "0:0").partition(":")
        return {"linux": {"uid": int(uid), "gid": int(gid), "supplementalGroups": [int(gid)]}}

    monkeypatch.setattr(LoopbackSandbox, "start", noting)
    monkeypatch.setattr(container_module, "container_user", user_of_last)
    async with open_world(tmp_path) as world:
        async with world.node() as kubelet:
            pod = await world.create("db", *SERVE)
            await world.pod("db", ready)
            (worker,) = kubelet.workers[pod["metadata"]["uid"]].containers.main
            assert worker.process is not None
            worker.process.new_user.set_result("999:998")
            await world.pod("db", lambda now: ready(now) and container(now)["restartCount"] == 1)
        async with world.node():
            found = await world.pod("db", lambda now: ready(now) and container(now)["restartCount"] >= 2)
    assert users == ["", "999:998", "999:998"]
    assert container(found)["restartCount"] == 2 and container(found)["user"]["linux"]["uid"] == 999
