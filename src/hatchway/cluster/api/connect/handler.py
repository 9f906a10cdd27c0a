"""The contract of connecting subresources: requests, handlers, and the part of a registry row that describes them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from hatchway.cluster.api.connect.resourcelocation import CommittedObjects, Locator
from hatchway.cluster.sockets import PodNetworks
from hatchway.kube.http import HttpClient
from hatchway.proxy.routing import AcceptUpgrade, App, Forward, RequestHead, Respond

__all__ = ["Backend", "Connect", "ConnectHandler", "ConnectRequest", "RepeatableForward"]


@dataclass(frozen=True, slots=True)
class ConnectRequest:
    """The parts of the request-target of a connecting subresource.

    resource: the plural of the type.
    namespace: the namespace; "" for cluster-scoped types.
    name: the segment of the name, percent-decoded (`https:web:443`).
    prefix: the path up to and including the subresource.
    path: the bytes after the prefix; b"" for none, and for subresources without a path.
    query: the query without "?"; None without a query.
    """

    resource: str
    namespace: str
    name: str
    prefix: bytes
    path: bytes
    method: str
    query: bytes | None


class RepeatableForward(Protocol):
    """A decision that can be repeated for the same client and head until an object of the cluster changes."""

    def forward(self) -> Forward:
        """Return the decision for one more request."""
        ...


class ConnectHandler(Protocol):
    """Decides on the authorized requests of one subresource."""

    def prepare(
        self, head: RequestHead, request: ConnectRequest
    ) -> RepeatableForward | Forward | AcceptUpgrade | App | Respond:
        """Return the decision about a request. It never raises; errors are returned as answers.

        When the request asks for a WebSocket, the parts of an App's answer are sent as WebSocket messages.
        """
        ...


@dataclass(frozen=True, slots=True)
class Backend:
    """The objects that handlers need.

    objects: the cluster's objects.
    locator: finds the addresses of services, pods and nodes.
    rewriting: the default mode in which the proxy verb rewrites answers: `full`, `kubernetes` or `off`.
    pod_networks: the networks of pods; None when only kubelets can reach pods.
    http: sends requests to kubelets when the answer cannot be relayed as bytes. The caller closes it.
    """

    objects: CommittedObjects
    locator: Locator
    rewriting: str = "full"
    pod_networks: PodNetworks | None = None
    http: HttpClient = field(default_factory=HttpClient)


@dataclass(frozen=True, slots=True)
class Connect:
    """The part of a registry row that describes a connecting subresource.

    make: makes the handler.
    takes_path: True if a path may follow the subresource's name. The handler then decides which methods it serves.
    upgrade_verb: the verb that an upgrade needs in place of its method's verb; "" to use its method's verb.
    also_verb: the verb that every request needs in addition to its method's verb; "" for none.
    """

    make: Callable[[Backend], ConnectHandler]
    takes_path: bool = False
    upgrade_verb: str = ""
    also_verb: str = ""
