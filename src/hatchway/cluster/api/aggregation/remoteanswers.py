"""The types of the answers of remote APIs that this server reads. Answers of other shapes are refused.

The fields are those of apidiscovery.k8s.io/v2, metav1 `APIResourceList` and metrics.k8s.io/v1beta1; other fields are
ignored. A list or an object may be null, because Go writes null for an empty one.
"""

from __future__ import annotations

from typing import TypeVar

import msgspec

from hatchway.cluster.api.aggregation.remoteclient import RemoteError

__all__ = [
    "DocumentList",
    "GroupList",
    "KindDiscovery",
    "MetricValueList",
    "PodMetricsList",
    "RemoteStatus",
    "ResourceDiscovery",
    "ResourceList",
    "SubresourceDiscovery",
    "decode",
]

_Answer = TypeVar("_Answer")


class ObjectName(msgspec.Struct, gc=False):
    """The part of an object's metadata that is read."""

    name: str = ""


class KindDiscovery(msgspec.Struct, gc=False):
    """A group, version and kind."""

    group: str = ""
    version: str = ""
    kind: str = ""


class SubresourceDiscovery(msgspec.Struct, omit_defaults=True):
    """`APISubresourceDiscovery`."""

    subresource: str
    responseKind: KindDiscovery | None = None
    verbs: list[str] | None = None
    acceptedTypes: list[KindDiscovery] | None = None


class ResourceDiscovery(msgspec.Struct, omit_defaults=True):
    """`APIResourceDiscovery`."""

    resource: str
    responseKind: KindDiscovery | None = None
    scope: str = ""
    singularResource: str = ""
    verbs: list[str] | None = None
    shortNames: list[str] | None = None
    categories: list[str] | None = None
    subresources: list[SubresourceDiscovery] | None = None


class VersionDiscovery(msgspec.Struct):
    """`APIVersionDiscovery`."""

    version: str = ""
    resources: list[ResourceDiscovery] | None = None


class GroupDiscovery(msgspec.Struct):
    """`APIGroupDiscovery`."""

    metadata: ObjectName | None = None
    versions: list[VersionDiscovery] | None = None


class GroupList(msgspec.Struct):
    """`APIGroupDiscoveryList`."""

    items: list[GroupDiscovery] | None = None


class ListedResource(msgspec.Struct):
    """metav1 `APIResource`."""

    name: str = ""
    singularName: str = ""
    namespaced: bool = False
    group: str = ""
    version: str = ""
    kind: str = ""
    verbs: list[str] | None = None
    shortNames: list[str] | None = None
    categories: list[str] | None = None

    def response_kind(self) -> KindDiscovery:
        """Return the kind of the objects that the resource has."""
        return KindDiscovery(self.group, self.version, self.kind)


class ResourceList(msgspec.Struct):
    """metav1 `APIResourceList`."""

    resources: list[ListedResource] | None = None


class OpenApiDocument(msgspec.Struct, gc=False):
    """An entry of `/openapi/v3`."""

    serverRelativeURL: str = ""


class DocumentList(msgspec.Struct):
    """The documents of `/openapi/v3`, by path."""

    paths: dict[str, OpenApiDocument] | None = None


class ContainerMetrics(msgspec.Struct):
    """`ContainerMetrics`."""

    name: str = ""
    usage: dict[str, str] | None = None


class PodMetrics(msgspec.Struct):
    """`PodMetrics`."""

    metadata: ObjectName | None = None
    timestamp: str | None = None
    window: str | None = None
    containers: list[ContainerMetrics] | None = None


class PodMetricsList(msgspec.Struct):
    """`PodMetricsList`."""

    items: list[PodMetrics] | None = None


class DescribedObject(msgspec.Struct):
    """The object to which a metric belongs."""

    name: str = ""


class MetricValue(msgspec.Struct, omit_defaults=True):
    """An item of a list of custom.metrics.k8s.io or external.metrics.k8s.io."""

    value: str
    describedObject: DescribedObject | None = None
    timestamp: str | None = None
    window: int | None = None
    windowSeconds: int | None = None


class MetricValueList(msgspec.Struct):
    """`MetricValueList`, and `ExternalMetricValueList`."""

    items: list[MetricValue] | None = None


class RemoteStatus(msgspec.Struct):
    """A `Status`."""

    reason: str = ""
    message: str = ""


def decode(body: bytes, kind: type[_Answer]) -> _Answer:
    """Return an answer as a value of a type of this file. Raises RemoteError."""
    try:
        return msgspec.json.decode(body, type=kind)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise RemoteError(f"the answer cannot be read: {error}") from error
