"""A real kubelet with simulated control groups, which only record their limits."""

from __future__ import annotations

import asyncio
import errno
from pathlib import Path

from hatchway.cluster.node.measures import Measures
from hatchway.cluster.node.processusage import Meter
from hatchway.cluster.runtime import GroupLimits, GroupUsage, QosClass
from tests.integration.node.test_kubelet import SERVE
from tests.integration.node.test_resizing import conditions, is_resized, resize
from tests.integration.node.world import container, open_world, ready


class Notes:
    """Simulated control groups. They record limits by the groups' names.

    refusing: whether a container uses more memory than each new limit, which is then refused.
    """

    def __init__(self) -> None:
        self.pods: dict[str, tuple[QosClass, list[GroupLimits]]] = {}
        self.containers: dict[str, list[GroupLimits]] = {}
        self.removed: list[str] = []
        self.refusing = False
        self.out_of_memory = False

    def make_pod(self, uid: str, qos: QosClass, resources: GroupLimits) -> None:
        self.pods.setdefault(uid, (qos, []))[1].append(resources)

    def make_container(self, uid: str, name: str, resources: GroupLimits) -> str:
        assert uid in self.pods
        group = f"/groups/{uid}/{name}"
        assert group not in self.containers, "each attempt has a group of its own"
        self.containers[group] = [resources]
        return group

    def update_container(self, group: str, resources: GroupLimits) -> None:
        if self.refusing:
            raise OSError(errno.EBUSY, "it uses more memory than the new limit")
        self.containers[group].append(resources)

    def was_out_of_memory(self, group: str) -> bool:
        return self.out_of_memory

    def usage(self, group: str) -> GroupUsage | None:
        return GroupUsage(12.5, 2.5, 123456789, 1000)

    def remove_container(self, group: str) -> None:
        self.removed.append(group)

    def remove_pod(self, uid: str) -> None:
        self.removed.append(uid)


async def test_a_pods_groups_from_its_start_to_its_end(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world:
        world.runtime.control_groups = notes = Notes()
        async with world.node() as kubelet:
            resources = {"requests": {"cpu": "100m", "memory": "16Mi"}, "limits": {"cpu": "1", "memory": "64Mi"}}
            pod = await world.create("web", *SERVE, resources=resources)
            uid = pod["metadata"]["uid"]
            running = container(await world.pod("web", ready))
            small = GroupLimits(102, 100_000, 64 << 20)
            assert notes.pods == {uid: ("Burstable", [small])}
            (group,) = notes.containers
            assert group == f"/groups/{uid}/{running['containerID'].removeprefix('hatchway://')}"
            assert notes.containers[group] == [small]
            # The measured usage is that of the control group.
            measures = Measures(Meter(), kubelet.workers, kubelet.shared.logs)
            (measured,) = (await asyncio.to_thread(measures.take)).pods[0].containers
            assert (measured.usage.cpu, measured.usage.memory) == (12.5, 123456789)
            # A larger limit is set on the pod's group first, then on the container's; a smaller one in the reverse
            # order.
            changed = await resize(world, "web", requests={"cpu": "200m", "memory": "16Mi"},
                                   limits={"cpu": "2", "memory": "32Mi"})  # fmt: skip
            await world.pod("web", is_resized(changed["metadata"]["generation"]))
            large = GroupLimits(204, 200_000, 32 << 20)
            assert notes.containers[group] == [small, large]
            assert notes.pods[uid][1] == [small, GroupLimits(204, 200_000, 64 << 20), large]
            notes.out_of_memory = True
            await world.client.delete("pods", "web", "default")
            await world.gone("web")
        assert notes.removed == [group, uid]


async def test_a_container_that_needed_too_much_memory(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world:
        world.runtime.control_groups = notes = Notes()
        notes.out_of_memory = True
        async with world.node():
            await world.create("big", "sh", "-c", "kill -KILL $$$$", restartPolicy="Never")
            found = container(await world.pod("big", lambda pod: (pod.get("status") or {}).get("phase") == "Failed"))
            ended = found["state"]["terminated"]
            assert (ended["reason"], ended["exitCode"]) == ("OOMKilled", 137)
            assert [limits for _, limits in notes.pods.values()] == [[GroupLimits()]]


async def test_a_lower_limit_waits_until_the_container_uses_less(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world:
        world.runtime.control_groups = notes = Notes()
        async with world.node():
            resources = {"requests": {"memory": "16Mi"}, "limits": {"memory": "64Mi"}}
            await world.create("web", *SERVE, resources=resources)
            await world.pod("web", ready)
            notes.refusing = True
            changed = await resize(world, "web", requests={"memory": "16Mi"}, limits={"memory": "32Mi"})
            found = await world.pod("web", lambda pod: "PodResizeInProgress" in conditions(pod))
            assert container(found)["resources"]["limits"] == {"memory": "64Mi"}
            (limits,) = notes.containers.values()
            assert len(limits) == 1
            # The pod's own limit is not changed either, because a lower limit would kill the container.
            ((_, of_pod),) = notes.pods.values()
            assert [one.memory for one in of_pod] == [64 << 20] * len(of_pod)
            notes.refusing = False
            await world.pod("web", is_resized(changed["metadata"]["generation"]))
            assert limits == [GroupLimits(2, None, 64 << 20), GroupLimits(2, None, 32 << 20)]
            assert [one.memory for one in of_pod] == [64 << 20, 32 << 20]
