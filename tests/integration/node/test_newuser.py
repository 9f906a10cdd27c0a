"""A container whose start script switches to another user, in a cluster with one user only."""

from __future__ import annotations

from pathlib import Path

import pytest

from hatchway.cluster.network.loopback import LoopbackSandbox
from hatchway.cluster.runtime import ContainerConfig, ContainerProcess
from tests.integration.node.test_kubelet import SERVE
from tests.integration.node.world import container, open_world, ready


async def test_a_container_begins_again_as_the_user_that_it_wants(
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
