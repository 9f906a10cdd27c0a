"""Finds the volume of a pod's PersistentVolumeClaim, and checks that the pod may use it on this node.

Source: the kubelet's `volumemanager/populator/desired_state_of_world_populator.go`. Normally the scheduler binds claims
before it assigns a node to the pod. A pod whose nodeName was set by a user waits here until its claims are bound.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from hatchway.errors import ApiError
from hatchway.kube.api import Object
from hatchway.kube.nodeselectors import volume_fits_node
from hatchway.kube.volumeclaims import claims_of, is_claim_of_pod

# read(resource, namespace, name): returns the object, None when it does not exist. Raises ApiError.
ReadObject = Callable[[str, str, str], Awaitable["Object | None"]]


class ClaimError(Exception):
    """A claim cannot be mounted now. The message becomes the text of a FailedMount event."""


@dataclass(frozen=True, slots=True)
class ClaimedVolume:
    """The volume to which a pod's claim is bound.

    host_path: the path, in the form of a hostPath source.
    exists: True when the path must already exist (a `local` source).
    read_only: True when pods may only read it.
    """

    host_path: Object
    exists: bool
    read_only: bool


def is_claim(volume: Object) -> bool:
    """Return True for a pod's volume that is a claim."""
    return "persistentVolumeClaim" in volume or "ephemeral" in volume


async def find_volume(read: ReadObject, pod: Object, volume: Object, node: str) -> ClaimedVolume:
    """Return the volume of a pod's claim. node: the node's name. Raises ClaimError, ApiError."""
    name, namespace = volume["name"], pod["metadata"]["namespace"]
    claim_name = next(one.name for one in claims_of(pod) if one.volume == name)
    try:
        found = await _bound_volume(read, pod, namespace, claim_name, "ephemeral" in volume)
    except (ApiError, ClaimError) as error:
        why = f"error processing PVC {namespace}/{claim_name}: {error}"
        raise ClaimError(
            f"Unable to attach or mount volumes: unmounted volumes=[{name}], unattached volumes=[{name}], failed to "
            f"process volumes=[{name}]: {why}"
        ) from error
    spec, shown = found["spec"], found["metadata"]["name"]
    if spec.get("nodeAffinity") is not None:
        known = await read("nodes", "", node)
        if known is None or not volume_fits_node(found, known):
            raise ClaimError(
                f'MountVolume.NodeAffinity check failed for volume "{shown}" : no matching NodeSelectorTerms'
            )
    if spec.get("volumeMode") == "Block":
        raise ClaimError(f'MapVolume.SetUpDevice failed for volume "{shown}" : Hatchway has no block volumes')
    read_only = bool((volume.get("persistentVolumeClaim") or {}).get("readOnly"))
    if "hostPath" in spec:
        return ClaimedVolume(spec["hostPath"] or {}, False, read_only)
    if "local" in spec:
        return ClaimedVolume({"path": (spec["local"] or {}).get("path") or ""}, True, read_only)
    what = f'MountVolume.SetUp failed for volume "{shown}"'
    raise ClaimError(f"{what} : Hatchway mounts PersistentVolumes with hostPath and local only")


async def _bound_volume(read: ReadObject, pod: Object, namespace: str, name: str, ephemeral: bool) -> Object:
    claim = await read("persistentvolumeclaims", namespace, name)
    if claim is None:
        raise ClaimError(f'failed to fetch PVC from API server: persistentvolumeclaims "{name}" not found')
    if ephemeral and not is_claim_of_pod(claim, pod):
        pod_name = pod["metadata"]["name"]
        raise ClaimError(
            f'PVC "{namespace}/{name}" was not created for pod "{namespace}/{pod_name}" (pod is not owner)'
        )
    if claim["metadata"].get("deletionTimestamp"):
        raise ClaimError("PVC is being deleted")
    bound = claim["spec"].get("volumeName")
    if (claim.get("status") or {}).get("phase") != "Bound" or not bound:
        raise ClaimError("PVC is not bound")
    volume = await read("persistentvolumes", "", bound)
    if volume is None:
        raise ClaimError(f'failed to fetch PV {bound} from API server: persistentvolumes "{bound}" not found')
    reference = volume["spec"].get("claimRef")
    if reference is None:
        raise ClaimError(
            f'found PV object "{bound}" with nil pv.Spec.ClaimRef indicating it is not yet bound to the claim'
        )
    if reference.get("uid") != claim["metadata"].get("uid"):
        raise ClaimError(f'found PV object "{bound}" with a pv.Spec.ClaimRef.UID that is not that of the claim')
    return volume
