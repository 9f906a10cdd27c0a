"""Finds out by discovery which resource an object or a word such as `deploy/web` means."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

import msgspec

from hatchway.errors import ApiError
from hatchway.kube.api import Object
from hatchway.kube.client import ConnectionClient
from hatchway.kube.paths import ResourceName
from hatchway.kube.restclient import answer_error
from hatchway.testing.problems import ClusterError

# Seconds for which a newly defined type may be missing in the discovery.
_DEFINED_SECONDS = 10.0
_POLL_SECONDS = 0.05


@dataclass(frozen=True, slots=True)
class ResourceType:
    """A type of the API server. spelled: as `kube.api` spells it (`deployments.v1.apps`)."""

    name: ResourceName
    kind: str
    namespaced: bool
    words: frozenset[str]

    @property
    def spelled(self) -> str:
        """Return the resource for a `kube.api.Client`."""
        found = self.name
        return f"{found.plural}.{found.version}.{found.group}" if found.group else found.plural

    def path(self, namespace: str | None, name: str = "") -> str:
        """Return the URL path of an object or a collection."""
        return self.name.path(namespace if self.namespaced else None, name)

    def __str__(self) -> str:
        return f"{self.name.plural}.{self.name.group}" if self.name.group else self.name.plural


class Resources:
    """The types of one API server. They are requested on first use, and cached."""

    def __init__(self, client: ConnectionClient) -> None:
        self._client = client
        self._types: dict[str, list[ResourceType]] = {}

    def forget(self, api_version: str = "") -> None:
        """Forget the types of a group and version, or all types, so that they are requested again."""
        if api_version:
            self._types.pop(api_version, None)
        else:
            self._types.clear()

    async def of_object(self, obj: Object) -> ResourceType:
        """Return the type of an object by its apiVersion and kind. Raises ClusterError when the server has none."""
        version, kind = obj["apiVersion"], obj["kind"]
        for attempt in range(2):
            found = next((one for one in await self._in_version(version) if one.kind == kind), None)
            if found is not None:
                return found
            if not attempt:
                self.forget(version)
        raise ClusterError(
            f"the cluster has no type {kind} in {version}",
            "apply its CustomResourceDefinition first; docs/comparison.md lists the types of an embedded cluster",
        )

    async def of_word(self, word: str) -> ResourceType:
        """Return the type that a word means, as kubectl does: `deploy`, `Deployment`, `widgets.example.com`.

        The core group is searched first, then the groups in the server's order. Raises ClusterError.
        """
        for _ in range(2):
            found = await self._find(word.lower())
            if found is not None:
                return found
            self.forget()
        raise ClusterError(f'the cluster has no type "{word}"')

    async def _find(self, word: str) -> ResourceType | None:
        plain, _, group = word.partition(".")

        def chosen(types: list[ResourceType]) -> ResourceType | None:
            return next((one for one in types if plain in one.words and (not group or _is_in(one.name, group))), None)

        if not group and (found := chosen(await self._in_version("v1"))):
            return found
        groups = (await self._get("/apis")).get("groups") or ()
        versions = [str(one["preferredVersion"]["groupVersion"]) for one in groups]
        if group:
            versions = [str(each["groupVersion"]) for one in groups for each in one["versions"]]
        lists = await asyncio.gather(*(self._in_version(version) for version in versions))
        return next((found for types in lists if (found := chosen(types))), None)

    async def await_defined(self, definition: Object) -> None:
        """Wait until the served versions of a CustomResourceDefinition can be used. Raises ClusterError."""
        spec = definition["spec"]
        versions = [f"{spec['group']}/{one['name']}" for one in spec.get("versions") or () if one.get("served")]
        until = asyncio.get_running_loop().time() + _DEFINED_SECONDS
        for version in versions:
            while True:
                self.forget(version)
                if any(one.kind == spec["names"]["kind"] for one in await self._in_version(version)):
                    break
                if asyncio.get_running_loop().time() > until:
                    raise ClusterError(
                        f"customresourcedefinition/{definition['metadata']['name']}: the cluster did not serve"
                        f" {version} within {_DEFINED_SECONDS:.0f} s"
                    )
                await asyncio.sleep(_POLL_SECONDS)

    async def _in_version(self, api_version: str) -> list[ResourceType]:
        """Return the types of a group and version; [] when the server does not have it."""
        if api_version in self._types:
            return self._types[api_version]
        group, slash, version = api_version.rpartition("/")
        try:
            listed = await self._get(f"/apis/{api_version}" if slash else f"/api/{api_version}")
        except ApiError as error:
            # 503: the server of an aggregated API does not answer.
            if error.code in (404, 503) and not error.passing:
                return []
            raise
        found = [
            ResourceType(ResourceName(group, version, one["name"]), one["kind"], one["namespaced"], _words(one))
            for one in listed.get("resources") or ()
            if "/" not in one["name"]
        ]
        self._types[api_version] = found
        return found

    async def _get(self, path: str) -> dict[str, Any]:
        status, body = await self._client.exchange("GET", path)
        if status != 200:
            raise answer_error(status, body, path)
        found: dict[str, Any] = msgspec.json.decode(body)
        return found


def _is_in(name: ResourceName, group: str) -> bool:
    return group in (name.group, f"{name.version}.{name.group}")


def _words(listed: dict[str, Any]) -> frozenset[str]:
    words = (listed["name"], listed.get("singularName"), listed["kind"], *(listed.get("shortNames") or ()))
    return frozenset(str(word).lower() for word in words if word)
