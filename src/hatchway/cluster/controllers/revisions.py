"""The ControllerRevisions of StatefulSets and DaemonSets: one for each pod template that they have had.

The rules come from kube-controller-manager's `history/controller_history.go`. `kubectl rollout history` and
`kubectl rollout undo` read the revisions.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from hatchway.cluster.controllers.indexes import claimable
from hatchway.cluster.controllers.objectcache import ObjectCache
from hatchway.cluster.controllers.objectfields import (
    annotations_of,
    clone,
    controlled_by,
    controller_reference,
    labels_of,
)
from hatchway.cluster.controllers.ownership import claim
from hatchway.cluster.controllers.rollout import same_template, template_hash
from hatchway.cluster.controllers.writes import delete_unless_gone
from hatchway.errors import ApiError
from hatchway.kube.api import Client, Object
from hatchway.kube.objects import key_of
from hatchway.kube.wellknown import LAST_APPLIED

RESOURCE = "controllerrevisions.apps"
# HASH: a label of StatefulSets' revisions; its value is the hash of the template.
# POD_HASH: a label of StatefulSets' pods; its value is the name of the pod's revision. DaemonSets' pods and revisions
# have this label, too; its value is then the hash of the template.
HASH = "controller.kubernetes.io/hash"
POD_HASH = "controller-revision-hash"
# A revision's name begins with at most this many characters of its owner's name (`ControllerRevisionName`).
_MAX_PREFIX = 223


def revision_number(revision: Object) -> int:
    """Return the number of a revision. Later revisions have higher numbers."""
    found: int = revision.get("revision", 0)
    return found


def template_of(revision: Object) -> Object:
    """Return the pod template that a revision stores."""
    template = dict(revision["data"]["spec"]["template"])
    template.pop("$patch", None)
    return template


def surplus_revisions(revisions: Iterable[Object], live: set[str], limit: int) -> list[Object]:
    """Return the oldest unused revisions beyond the limit. live: names or hashes of the revisions that are in use."""
    old = [one for one in revisions if not {one["metadata"]["name"], labels_of(one).get(POD_HASH)} & live]
    return old[: max(0, len(old) - limit)]


class RevisionHistory:
    """The revisions of the objects of one resource.

    owners: the resource of the objects.
    hash_label: the revisions' label whose value is the hash of their template.
    """

    def __init__(self, client: Client, cache: ObjectCache, owners: str, hash_label: str) -> None:
        self._client = client
        self._cache = cache
        self._owners = owners
        self._hash_label = hash_label

    async def revisions(self, owner: Object) -> list[Object]:
        """Adopt revisions that have no owner, and return the object's revisions, oldest first. Raises ApiError."""
        selector = owner["spec"]["selector"]
        candidates = claimable(self._cache, owner, selector)
        found = await claim(self._client, owner, self._owners, selector, candidates, self._cache)
        return sorted(found, key=lambda one: (revision_number(one), one["metadata"]["name"]))

    async def current(self, owner: Object, revisions: list[Object]) -> tuple[Object, int]:
        """Return the revision of the object's template, and the new collision count.

        If necessary, the revision is created, or an existing revision gets the highest number. Raises ApiError.
        revisions: the present revisions, oldest first. The returned revision is moved or added to the end of this list.
        """
        template = owner["spec"]["template"]
        collisions = (owner.get("status") or {}).get("collisionCount", 0)
        number = revision_number(revisions[-1]) + 1 if revisions else 1
        equal = next((one for one in reversed(revisions) if same_template(template_of(one), template)), None)
        if equal is not None:
            if equal is revisions[-1]:
                return equal, collisions
            namespace, name = key_of(equal)
            patch = {
                "metadata": {"resourceVersion": equal["metadata"]["resourceVersion"]},
                "revision": number,
            }
            written = await self._client.patch(RESOURCE, name, patch, namespace)
            await self._cache.wait_for_write(written)
            revisions.remove(equal)
            revisions.append(written)
            return written, collisions
        while True:
            wanted = self._new(owner, template_hash(template, collisions or None), number)
            try:
                made = await self._client.create(RESOURCE, wanted, owner["metadata"]["namespace"])
            except ApiError as error:
                if error.reason != "AlreadyExists":
                    raise
                namespace, name = key_of(wanted)
                made = await self._client.get(RESOURCE, name, namespace)
                if not controlled_by(made, owner) or not same_template(template_of(made), template):
                    collisions += 1
                    continue
            await self._cache.wait_for_write(made)
            revisions.append(made)
            return made, collisions

    def _new(self, owner: Object, label: str, number: int) -> Object:
        metadata = owner["metadata"]
        template = clone(owner["spec"]["template"])
        labels = dict((template.get("metadata") or {}).get("labels") or {})
        annotations = {key: value for key, value in annotations_of(owner).items() if key != LAST_APPLIED}
        return {
            "apiVersion": "apps/v1",
            "kind": "ControllerRevision",
            "metadata": {
                "name": f"{metadata['name'][:_MAX_PREFIX]}-{label}",
                "namespace": metadata["namespace"],
                "labels": {**labels, self._hash_label: label},
                "annotations": annotations,
                "ownerReferences": [controller_reference(owner)],
            },
            "data": _sorted_keys({"spec": {"template": {"$patch": "replace", **template}}}),
            "revision": number,
        }

    async def truncate(self, owner: Object, revisions: list[Object], live: set[str]) -> None:
        """Delete the oldest revisions beyond the object's limit. live: names or hashes of the revisions in use."""
        for one in surplus_revisions(revisions, live, owner["spec"].get("revisionHistoryLimit", 10)):
            await delete_unless_gone(self._client, RESOURCE, one)
            await self._cache.wait_for_deletion(one)


def _sorted_keys(value: Any) -> Any:
    """Return a JSON value with sorted keys. Clients compare a revision's data byte for byte with Go's encoding."""
    if isinstance(value, dict):
        return {key: _sorted_keys(value[key]) for key in sorted(value)}
    return [_sorted_keys(one) for one in value] if isinstance(value, list) else value
