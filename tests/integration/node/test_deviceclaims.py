"""A pod with ResourceClaims on a real kubelet, which supports no device drivers."""

from __future__ import annotations

from pathlib import Path

from hatchway.kube.api import Object
from tests.integration.node.test_kubelet import SERVE
from tests.integration.node.world import container, open_world, ready


def is_waiting(pod: Object) -> bool:
    return bool((pod.get("status") or {}).get("containerStatuses")) and "waiting" in container(pod)["state"]


async def test_the_containers_of_a_pod_with_a_claim_do_not_start(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world, world.node():
        await world.create("p", *SERVE, resourceClaims=[{"name": "one", "resourceClaimName": "mine"}])
        # The status of this pod says that it needs no claim from the template.
        await world.create("q", *SERVE, resourceClaims=[{"name": "one", "resourceClaimTemplateName": "t"}])
        status = {"status": {"resourceClaimStatuses": [{"name": "one"}]}}
        await world.client.patch("pods", "q", status, "default", subresource="status")
        (event,) = await world.events("p", 1, "FailedPrepareDynamicResources")
        assert event[1].startswith("Failed to prepare dynamic resources: ResourceClaim default/mine: no DRA driver is")
        await world.pod("p", is_waiting)
        await world.pod("q", ready)
        await world.client.delete("pods", "p", "default")
        await world.gone("p")
