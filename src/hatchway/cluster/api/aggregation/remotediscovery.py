"""Reads the resources of a remote API from its discovery documents, and finds its OpenAPI document.

A server offers aggregated discovery, or only the older list of one version's resources.

The answers become part of this server's discovery. A single field of a wrong type would break discovery for every
client, so such an answer is refused as a whole.

Source: kube-aggregator `apiserver/handler_discovery.go` and apiserver `endpoints/discovery/aggregated`.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import msgspec

from hatchway.cluster.api.aggregation.remoteanswers import (
    DocumentList,
    GroupList,
    KindDiscovery,
    ResourceDiscovery,
    ResourceList,
    SubresourceDiscovery,
    decode,
)
from hatchway.cluster.api.aggregation.remoteapis import RemoteApi
from hatchway.cluster.api.aggregation.remoteclient import RemoteClient, RemoteError
from hatchway.cluster.api.aggregation.remoteopenapi import read_openapi_v2
from hatchway.cluster.api.describe.remoteversions import RemoteVersion

__all__ = ["read_discovery", "unread_version"]

Json = dict[str, Any]

_AGGREGATED = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"
# The maximum number of resources of one version, and the maximum number of bytes of an answer.
_MOST = 2000
_LIMIT = 1024 * 1024


def unread_version(api: RemoteApi, before: RemoteVersion | None) -> RemoteVersion:
    """Return the version when its server did not answer: the resources of its last answer, marked as stale."""
    resources = before.resources if before is not None else ()
    found = RemoteVersion(api.group, api.version, api.group_priority, api.version_priority, resources)
    return found if before is None else replace(found, openapi=before.openapi, document=before.document)


async def read_discovery(client: RemoteClient, api: RemoteApi, before: RemoteVersion | None = None) -> RemoteVersion:
    """Read the server's discovery, and its OpenAPI document unless `before` has it already. Raises RemoteError."""
    resources = await _read_aggregated(client, api)
    if resources is None:
        resources = await _read_legacy(client, api)
    openapi, kept = await _find_openapi(client, api), tuple(resources[:_MOST])
    version = RemoteVersion(api.group, api.version, api.group_priority, api.version_priority, kept, True, openapi)
    if before is not None and before.document is not None and (before.openapi, before.resources) == (openapi, kept):
        # The URL of the OpenAPI document contains a hash of its contents, so an equal URL means an equal document.
        return replace(version, document=before.document)
    return replace(version, document=await read_openapi_v2(client, api))


async def _read_aggregated(client: RemoteClient, api: RemoteApi) -> list[Json] | None:
    """Return the resources in aggregated discovery; None when the server has no such document."""
    answer = await client.get(api, "/apis", accept=f"{_AGGREGATED},application/json;q=0.9", limit=_LIMIT)
    if answer.status == 503:
        raise RemoteError(f"the server answers {answer.status}")
    if answer.status != 200 or "apidiscovery.k8s.io" not in answer.content_type:
        return None
    for group in decode(answer.body, GroupList).items or ():
        if group.metadata is None or group.metadata.name != api.group:
            continue
        for version in group.versions or ():
            if version.version == api.version:
                return [_plain(one) for one in version.resources or () if one.resource]
    return []


async def _read_legacy(client: RemoteClient, api: RemoteApi) -> list[Json]:
    """Return the resources of an APIResourceList in the form of aggregated discovery."""
    answer = await client.get(api, api.root, limit=_LIMIT)
    if answer.status != 200:
        raise RemoteError(f"failed to download legacy discovery for {api.root}: status {answer.status}")
    found: dict[str, ResourceDiscovery] = {}
    resources = decode(answer.body, ResourceList).resources or ()
    for one in resources:
        if one.name and "/" not in one.name:
            found[one.name] = ResourceDiscovery(
                one.name,
                one.response_kind(),
                "Namespaced" if one.namespaced else "Cluster",
                one.singularName,
                one.verbs or [],
                one.shortNames,
                one.categories,
            )
    for one in resources:
        parent, slash, name = one.name.partition("/")
        if slash and parent in found:
            resource = found[parent]
            subresource = SubresourceDiscovery(name, one.response_kind(), one.verbs or [])
            resource.subresources = [*(resource.subresources or ()), subresource]
    return [_plain(one) for one in found.values()]


async def _find_openapi(client: RemoteClient, api: RemoteApi) -> str:
    """Return the URL of the version's OpenAPI v3 document; "" when the server has none."""
    try:
        answer = await client.get(api, "/openapi/v3", limit=_LIMIT)
        paths = decode(answer.body, DocumentList).paths if answer.status == 200 else None
    except RemoteError:
        return ""
    entry = (paths or {}).get(api.root.strip("/"))
    url = entry.serverRelativeURL if entry is not None else ""
    prefix = f"/openapi/v3{api.root}"
    # A server may refer only to its own documents, not to those of other servers.
    return url if url == prefix or url.startswith(f"{prefix}?") else ""


def _plain(resource: ResourceDiscovery) -> Json:
    """Return a resource as a JSON object. The kinds are always included, because old clients crash without them.

    Source: kubernetes/kubernetes issue 118361.
    """
    for one in (resource, *(resource.subresources or ())):
        one.responseKind = one.responseKind or KindDiscovery()
    found: Json = msgspec.to_builtins(resource)
    return found
