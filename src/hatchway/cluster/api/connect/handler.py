"""The contract of connecting subresources: their requests, their handlers, and their part of a registry row."""

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

    resource: the plural of the type. namespace: "" for types without namespaces. name: the name's segment as it was
    spelled, percent-decoded. prefix: the path up to and including the subresource. path: what follows, byte for byte;
    b"" for nothing, and for subresources without a path. query: the query without "?"; None without a query.
    """

    resource: str
    namespace: str
    name: str
    prefix: bytes
    path: bytes
    method: str
    query: bytes | None


class RepeatableForward(Protocol):
    """A decision that holds for the same head of the same client until an object of the cluster changes."""

    def forward(self) -> Forward:
        """Return the decision for one more request."""
        ...


class ConnectHandler(Protocol):
    """Decides on the authorized requests of one subresource."""

    def prepare(
        self, head: RequestHead, request: ConnectRequest
    ) -> RepeatableForward | Forward | AcceptUpgrade | App | Respond:
        """Return the decision about a request. Raises nothing: errors are answers.

        When the request asks for a WebSocket, the body of an App's answer becomes its messages.
        """
        ...


@dataclass(frozen=True, slots=True)
class Backend:
    """The objects that handlers need.

    objects: the cluster's objects. locator: finds the addresses of services, pods and nodes. rewriting: `full`,
    `kubernetes` or `off`: how the proxy verb rewrites answers, unless a request chooses another way. pod_networks:
    networks of pods; None: only kubelets reach them. http: asks kubelets for answers that are not relayed as bytes;
    whoever makes the Backend closes it.
    """

    objects: CommittedObjects
    locator: Locator
    rewriting: str = "full"
    pod_networks: PodNetworks | None = None
    http: HttpClient = field(default_factory=HttpClient)


@dataclass(frozen=True, slots=True)
class Connect:
    """The part of a registry row that describes a connecting subresource.

    make: makes the handler. takes_path: whether a path may follow the subresource's name; the handler then decides
    which methods it serves. upgrade_verb: the verb that an upgrade needs instead of its method's verb; "" for its
    method's. also_verb: the verb that every request needs in addition to its method's; "" for none.
    """

    make: Callable[[Backend], ConnectHandler]
    takes_path: bool = False
    upgrade_verb: str = ""
    also_verb: str = ""
