"""Finds out, by access reviews, which services, EndpointSlices, pods and nodes this user may list and watch."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from hatchway.errors import ApiError
from hatchway.kube import access
from hatchway.kube.api import Client
from hatchway.kube.wellknown import ENDPOINT_SLICES

ViewKind = Literal["services", "slices", "pods", "nodes"]
KINDS: tuple[ViewKind, ...] = ("services", "slices", "pods", "nodes")
RESOURCES: dict[ViewKind, str] = {
    "services": "services",
    "slices": ENDPOINT_SLICES,
    "pods": "pods",
    "nodes": "nodes",
}
_VERBS = ("list", "watch")
# The maximum number of namespaces that are reviewed at the same time. Each needs one or a few requests.
_AT_ONCE = 8


@dataclass(frozen=True, slots=True)
class ViewScope:
    """The namespaces in which the user may read objects of one kind.

    namespaces: None for all namespaces; () for none.
    reason: why the user may not read all namespaces; "" when `namespaces` is None.
    missing_rule: YAML with the RBAC rules that grant all missing rights, for an administrator.
    """

    namespaces: tuple[str, ...] | None
    reason: str = ""
    missing_rule: str = ""

    def covers(self, namespace: str) -> bool:
        """Return True when the user may read the objects in a namespace."""
        return self.namespaces is None or namespace in self.namespaces


async def find_scopes(
    client: Client, own_namespace: str, only: Sequence[str] | None = None, kinds: Sequence[ViewKind] = KINDS
) -> dict[ViewKind, ViewScope]:
    """Return the scope of each kind.

    Args:
        own_namespace: the context's namespace, which is checked when the user may not list namespaces.
        only: check only these namespaces, and no nodes; None for all.
        kinds: the kinds whose scopes are returned.

    Raises:
        ApiError: the server cannot answer now.
    """
    wanted = [kind for kind in kinds if only is None or kind != "nodes"]
    scopes: dict[ViewKind, ViewScope] = {}
    if only is None:
        everywhere = await asyncio.gather(*(_may_follow(client, RESOURCES[kind]) for kind in wanted))
        scopes |= {kind: ViewScope(None) for kind, may in zip(wanted, everywhere, strict=True) if may}
    rest = [kind for kind in wanted if kind not in scopes]
    if not rest:
        return scopes
    user = await access.user_name(client)
    namespaced = [kind for kind in rest if kind != "nodes"]
    listed = True
    namespaces = list(only or ())
    if only is None and namespaced:
        listed, _ = await access.may(client, verb="list", resource="namespaces")
        namespaces = (
            sorted(found["metadata"]["name"] for found in await client.list("namespaces"))
            if listed
            else [own_namespace]
        )
    gate = asyncio.Semaphore(_AT_ONCE)
    allowed = await asyncio.gather(*(_in_namespace(client, gate, space, namespaced) for space in namespaces))
    reached = {
        kind: tuple(space for space, kinds in zip(namespaces, allowed, strict=True) if kind in kinds) for kind in rest
    }
    short = [kind for kind in rest if only is None or len(reached[kind]) < len(namespaces)]
    rule = ""
    if short:
        where = namespaces[0] if only is not None and len(namespaces) == 1 else ""
        rule = access.missing_rule(
            verb=_VERBS, resource=[RESOURCES[kind] for kind in short], namespace=where, user=user
        )
    for kind in rest:
        if kind in short:
            reason = _reason(kind, reached[kind], namespaces, listed, only is not None)
            scopes[kind] = ViewScope(reached[kind], reason, rule)
        else:
            scopes[kind] = ViewScope(reached[kind])
    return {kind: scopes[kind] for kind in wanted}


def _reason(kind: ViewKind, reached: tuple[str, ...], namespaces: list[str], listed: bool, chosen: bool) -> str:
    """Return why not all objects of a kind are shown.

    listed: True when `namespaces` are all namespaces of the cluster.
    chosen: True when the user has named the namespaces.
    """
    what = "endpointslices" if kind == "slices" else kind
    if kind == "nodes":
        return "you may not list and watch nodes"
    if reached and (listed or chosen):
        return f"you may list and watch {what} in {len(reached)} of {len(namespaces)} namespaces"
    if reached:
        return f'you may not list namespaces, so only the context\'s namespace, "{namespaces[0]}", is shown'
    reason = f"you may not list and watch {what}"
    if chosen:
        return f"{reason} in {', '.join(namespaces)}"
    return reason if listed else f'{reason}, neither everywhere nor in the context\'s namespace "{namespaces[0]}"'


async def _may_follow(client: Client, resource: str, namespace: str = "") -> bool:
    answers = await asyncio.gather(
        *(access.may(client, verb=verb, resource=resource, namespace=namespace) for verb in _VERBS)
    )
    return all(allowed for allowed, _ in answers)


async def _in_namespace(
    client: Client, gate: asyncio.Semaphore, namespace: str, kinds: Sequence[ViewKind]
) -> set[ViewKind]:
    """Return the kinds among `kinds` that the user may list and watch in a namespace.

    This sends one rules review. If its answer is incomplete, access reviews for `list` and `watch` follow for each kind
    that it did not allow.
    """
    async with gate:
        try:
            rules = await access.rules(client, namespace)
        except ApiError as error:
            if error.code not in (403, 404):
                raise
            rules = access.Rules((), True)
        found = {kind for kind in kinds if all(rules.allow(verb, RESOURCES[kind]) for verb in _VERBS)}
        if rules.incomplete:
            for kind in kinds:
                if kind not in found and await _may_follow(client, RESOURCES[kind], namespace):
                    found.add(kind)
    return found
