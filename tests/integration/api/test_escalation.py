"""Users cannot gain rights by writing roles and bindings, with any verb, patch type or indirect way."""

from __future__ import annotations

import asyncio
import json
from functools import partial
from typing import Any

import pytest

from hatchway.cluster.api.admission.escalation import escalation_check
from hatchway.cluster.api.http.restapp import RestApp
from hatchway.cluster.api.operations.verbs import Api
from hatchway.cluster.auth.bootstrap import bootstrap_objects
from hatchway.cluster.auth.rbac import Authorizer
from hatchway.cluster.auth.user import UserInfo
from tests.integration.api.world import World, world

_ROLES = "/apis/rbac.authorization.k8s.io/v1/clusterroles"
_BINDINGS = "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings"
_EVE = UserInfo("eve", ("system:authenticated",))
_AGGREGATED = {"rbac.authorization.k8s.io/aggregate-to-view": "true"}
_TYPES = {
    "application/merge-patch+json": {"metadata": {"labels": _AGGREGATED}},
    "application/strategic-merge-patch+json": {"metadata": {"labels": _AGGREGATED}},
    "application/json-patch+json": [{"op": "add", "path": "/metadata/labels", "value": _AGGREGATED}],
}


def _bind(role: str) -> dict[str, Any]:
    return {
        "metadata": {"name": f"eve-{role}"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "eve"}],
    }


async def _guarded(found: World) -> Authorizer:
    """Give the world an authorizer, and Eve the right to write roles and bindings, to view and to update events."""
    authorizer = Authorizer(found.store)
    for resource, obj in bootstrap_objects():
        await found.client.create(resource, obj)
    writer = [
        {"apiGroups": ["rbac.authorization.k8s.io"], "resources": ["*"], "verbs": ["*"]},
        {"apiGroups": [""], "resources": ["events"], "verbs": ["update"]},
    ]
    # `*` includes `bind` and `escalate`, so the error names them, too.
    writer[0]["verbs"] = ["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"]
    await found.client.create(
        "clusterroles.rbac.authorization.k8s.io", {"metadata": {"name": "writer"}, "rules": writer}
    )
    for role in ("writer", "view"):
        await found.client.create("clusterrolebindings.rbac.authorization.k8s.io", _bind(role))
    found.api = Api(found.store, found.registry, partial(escalation_check, authorizer), authorizer.require)
    found.app = RestApp(found.api)
    return authorizer


@pytest.mark.parametrize("dry_run", ["", "?dryRun=All"])
@pytest.mark.parametrize("role", ["cluster-admin", "system:kube-controller-manager", "edit"])
def test_labels_do_not_carry_rights_into_an_aggregated_role(role: str, dry_run: str) -> None:
    async def run() -> None:
        async with world() as found:
            authorizer = await _guarded(found)
            before = authorizer.rules_for(_EVE, "")[0]
            target = f"{_ROLES}/{role}"
            current = (await found.send("GET", target)).json
            changed = {**current, "metadata": {**current["metadata"], "labels": _AGGREGATED}}
            assert (await found.send("PUT", target + dry_run, changed, user=_EVE)).status == 403
            for kind, patch in _TYPES.items():
                reply = await found.send("PATCH", target + dry_run, patch, {"content-type": kind}, user=_EVE)
                assert reply.status == 403, kind
            # A user needs the role's rights also to create it again after a deletion, and to create a similar one by
            # generateName.
            for metadata in ({"name": "again"}, {"generateName": "again-"}):
                again = {"metadata": {**metadata, "labels": _AGGREGATED}, "rules": current["rules"]}
                assert (await found.send("POST", _ROLES + dry_run, again, user=_EVE)).status == 403
            assert authorizer.rules_for(_EVE, "")[0] == before

    asyncio.run(run())


def test_a_user_may_grant_own_rights_and_label_own_roles() -> None:
    async def run() -> None:
        async with world() as found:
            authorizer = await _guarded(found)
            rule = {"apiGroups": [""], "resources": ["events"], "verbs": ["update"]}
            assert (
                await found.send("POST", _ROLES, {"metadata": {"name": "mine"}, "rules": [rule]}, user=_EVE)
            ).status == 201
            for kind, patch in _TYPES.items():
                reply = await found.send("PATCH", f"{_ROLES}/mine", patch, {"content-type": kind}, user=_EVE)
                assert reply.status == 200
            assert (await found.send("POST", _BINDINGS, _bind("mine"), user=_EVE)).status == 201
            assert (await found.send("POST", _BINDINGS, _bind("cluster-admin"), user=_EVE)).status == 403
            assert (await found.send("POST", _BINDINGS, _bind("missing"), user=_EVE)).status == 404
            # Even an administrator cannot change the role of a binding.
            other = {"roleRef": _bind("cluster-admin")["roleRef"]}
            kind = "application/merge-patch+json"
            reply = await found.send("PATCH", f"{_BINDINGS}/eve-mine", other, {"content-type": kind})
            assert (reply.status, "cannot change roleRef" in reply.json["message"]) == (422, True)
            assert authorizer.rules_for(_EVE, "")[1] == ""

    asyncio.run(run())


def test_a_put_that_creates_needs_the_right_to_create() -> None:
    async def run() -> None:
        async with world() as found:
            await _guarded(found)
            event = {
                "metadata": {"name": "e"},
                "involvedObject": {"kind": "Pod", "namespace": "default", "name": "p"},
                "reason": "R",
                "type": "Normal",
            }
            target = "/api/v1/namespaces/default/events/e"
            reply = await found.send("PUT", target, event, user=_EVE)
            assert reply.status == 403
            assert json.loads(reply.body)["message"].startswith(
                'events "e" is forbidden: User "eve" cannot create resource "events" in API group ""'
            )
            assert (await found.send("PUT", target, event)).status == 201
            assert (await found.send("PUT", target, event, user=_EVE)).status == 200

    asyncio.run(run())
