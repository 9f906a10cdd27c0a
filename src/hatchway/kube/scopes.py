"""Which services, EndpointSlices, pods and nodes this user may list and watch: asked by reviews, never by trial."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from hatchway.errors import ApiError
from hatchway.kube import access
from hatchway.kube.api import Client

Kind = Literal["services", "slices", "pods", "nodes"]
KINDS: tuple[Kind, ...] = ("services", "slices", "pods", "nodes")
RESOURCES: dict[Kind, str] = {
    "services": "services",
    "slices": "endpointslices.discovery.k8s.io",
    "pods": "pods",
    "nodes": "nodes",
}
_VERBS = ("list", "watch")
# Questions on their way at one time: a user with rights in many namespaces must not flood the API server.
_AT_ONCE = 8


@dataclass(frozen=True, slots=True)
class Scope:
    """What may be seen of one kind.

    namespaces: None: all of it; else only in these, () is nothing; then `reason` says why, and `missing_rule` is YAML
    for an administrator that would allow this and whatever else is missing.
    """

    namespaces: tuple[str, ...] | None
    reason: str = ""
    missing_rule: str = ""

    def covers(self, namespace: str) -> bool:
        """Whether what is in a namespace may be seen."""
        return self.namespaces is None or namespace in self.namespaces


async def find_scopes(client: Client, own_namespace: str, only: Sequence[str] | None = None) -> dict[Kind, Scope]:
    """The scope of each kind. own_namespace: the context's, looked at where namespaces cannot be listed.
    only: look at these namespaces, whatever else may be seen; nodes are left out.

    Raises ApiError when the server cannot be asked.
    """
    wanted = KINDS if only is None else ("services", "slices", "pods")
    scopes: dict[Kind, Scope] = {}
    if only is None:
        everywhere = await asyncio.gather(*(_may_follow(client, RESOURCES[kind]) for kind in wanted))
        scopes |= {kind: Scope(None) for kind, may in zip(wanted, everywhere, strict=True) if may}
    rest = [kind for kind in wanted if kind not in scopes]
    if not rest:
        return scopes
    user = await access.who(client)
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
            scopes[kind] = Scope(reached[kind], reason, rule)
        else:
            scopes[kind] = Scope(reached[kind])
    return {kind: scopes[kind] for kind in wanted}


def _reason(kind: Kind, reached: tuple[str, ...], namespaces: list[str], listed: bool, chosen: bool) -> str:
    """Why not all of a kind is seen. listed: `namespaces` are all there are. chosen: they are those asked for."""
    what = "endpointslices" if kind == "slices" else kind
    if kind == "nodes":
        return "you may not list and watch nodes"
    if reached and (listed or chosen):
        return f"you may list and watch {what} in {len(reached)} of {len(namespaces)} namespaces"
    if reached:
        return f'you may not list namespaces, so only the context\'s, "{namespaces[0]}", is looked at'
    reason = f"you may not list and watch {what}"
    if chosen:
        return f"{reason} in {', '.join(namespaces)}"
    return reason if listed else f'{reason}, neither everywhere nor in the context\'s namespace "{namespaces[0]}"'


async def _may_follow(client: Client, resource: str, namespace: str = "") -> bool:
    answers = await asyncio.gather(
        *(access.may(client, verb=verb, resource=resource, namespace=namespace) for verb in _VERBS)
    )
    return all(allowed for allowed, _ in answers)


async def _in_namespace(client: Client, gate: asyncio.Semaphore, namespace: str, kinds: Sequence[Kind]) -> set[Kind]:
    """Those of `kinds` that may be followed in a namespace: one rules review, more only where that cannot tell all."""
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
