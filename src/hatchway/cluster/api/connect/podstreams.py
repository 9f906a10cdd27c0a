"""Checks `exec`, `attach` and `portforward` of pods, and forwards them to the kubelet of the pod's node.

The checks are those of Kubernetes' `ExecLocation`, `AttachLocation` and `PortForwardLocation`
(`pkg/registry/core/pod/strategy.go`). The kubelet itself supports WebSocket and SPDY, so bytes are passed on unchanged.
The kubelet's refusals are passed on, too.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final
from urllib.parse import parse_qs, quote, urlencode

from hatchway.cluster.api.connect.answers import dial_error, dial_message, status_response
from hatchway.cluster.api.connect.handler import ConnectRequest
from hatchway.cluster.api.connect.podforward import ForwardLimits, PodForwarding, is_offered
from hatchway.cluster.api.connect.podlog import container_of
from hatchway.cluster.api.connect.resourcelocation import BackendEndpoint, CommittedObjects, Locator
from hatchway.cluster.api.connect.websocketfields import without_bearer
from hatchway.cluster.sockets import PodNetworks
from hatchway.errors import ApiError, bad_request, not_found
from hatchway.kube.api import Object
from hatchway.proxy.routing import AcceptUpgrade, Forward, Headers, ProxyError, RequestHead, Respond
from hatchway.wire.portforwardstreams import SINGLE_STREAM_PROTOCOL

# The names of query parameters: in the API, and in the kubelet's API.
_FLAGS: Final = (("stdin", "input"), ("stdout", "output"), ("stderr", "error"), ("tty", "tty"))
_PASSED: Final = frozenset((b"sec-websocket-key", b"sec-websocket-version", b"x-stream-protocol-version"))
_METHODS: Final = ("GET", "POST")

StreamQuery = dict[str, list[str]]


class PodStreams:
    """The handler of authorized requests for one kind of stream (`ConnectHandler`).

    objects: the cluster's pods and nodes.
    locator: finds the nodes' kubelets.
    location: makes the kubelet's path and query from a pod and a request's query. Raises ApiError.
    networks: the networks of pods, for Hatchway's own port-forwards (`podforward.py`); None when only kubelets can
        reach pods.
    """

    def __init__(
        self,
        objects: CommittedObjects,
        locator: Locator,
        location: Callable[[Object, StreamQuery], str],
        networks: PodNetworks | None = None,
    ) -> None:
        self._objects = objects
        self._locator = locator
        self._location = location
        self._networks = networks
        self._limits = ForwardLimits()

    def prepare(self, head: RequestHead, request: ConnectRequest) -> Forward | AcceptUpgrade | Respond:
        """Return a Forward to the kubelet, an AcceptUpgrade for Hatchway's own port-forwards, or a `Status`.

        It never raises.
        """
        try:
            return self._route(head, request)
        except ApiError as error:
            return status_response(error)

    def _route(self, head: RequestHead, request: ConnectRequest) -> Forward | AcceptUpgrade:
        if request.method not in _METHODS:
            message = "the server does not allow this method on the requested resource"
            raise ApiError(405, "MethodNotAllowed", message, {})
        pod = self._objects.get("pods", request.namespace, request.name)
        if pod is None:
            raise not_found("pods", request.name)
        query = parse_qs((request.query or b"").decode("latin-1"), keep_blank_values=True, encoding="latin-1")
        target = self._location(pod, query)
        node_name = pod["spec"].get("nodeName")
        if not node_name:
            raise bad_request(f"pod {request.name} does not have a host assigned")
        node = self._objects.get("nodes", "", node_name)
        if node is None:
            raise not_found("nodes", node_name)
        kubelet = self._locator.kubelet(node)
        if head.upgrade is None:
            raise bad_request("Upgrade request required")
        if self._networks is not None and is_offered(head) and _is_running(pod):
            metadata = pod["metadata"]
            forwarding = PodForwarding(self._networks, self._limits, metadata)
            fields = [(b"X-Stream-Protocol-Version", SINGLE_STREAM_PROTOCOL.encode())]
            return AcceptUpgrade(b"SPDY/3.1", fields, forwarding.make_protocol)
        return Forward(
            upstream=kubelet.upstream,
            target=target.encode(),
            headers=[(b"Host", kubelet.host), *_fields(head)],
            error_response=_Errors(kubelet).response,
        )


def _is_running(pod: Object) -> bool:
    """Return True for a running pod. Requests for other pods go to the kubelet, which knows why they do not run."""
    return pod.get("status", {}).get("phase") == "Running" and "deletionTimestamp" not in pod["metadata"]


class _Errors:
    __slots__ = ("_kubelet",)

    def __init__(self, kubelet: BackendEndpoint) -> None:
        self._kubelet = kubelet

    def response(self, error: ProxyError) -> Respond:
        if error.stage == "upgrade":
            return status_response(ApiError(500, "", f"invalid upgrade response: status code {error.status}"))
        return status_response(dial_error(dial_message(error, self._kubelet), upgrade=True))


def exec_location(pod: Object, query: StreamQuery) -> str:
    """Return the kubelet's path and query for `exec`. Raises ApiError."""
    command = query.get("command", [])
    if not any(command):
        raise bad_request("you must specify at least one command for the container")
    return _command_location("exec", pod, query, [("command", part) for part in command])


def attach_location(pod: Object, query: StreamQuery) -> str:
    """Return the kubelet's path and query for `attach`. Raises ApiError."""
    return _command_location("attach", pod, query, [])


def _command_location(kind: str, pod: Object, query: StreamQuery, more: list[tuple[str, str]]) -> str:
    container = container_of(pod, query.get("container", [""])[0])
    flags = [(inner, "1") for name, inner in _FLAGS if _flag(query, name)]
    if not any(inner != "tty" for inner, _ in flags):
        raise bad_request("you must specify at least 1 of stdin, stdout, stderr")
    return f"{_path(kind, pod, container)}?{urlencode([*more, *flags], encoding='latin-1')}"


def forward_location(pod: Object, query: StreamQuery) -> str:
    """Return the kubelet's path and query for `portforward`. Raises ApiError."""
    ports = [port for value in query.get("ports", ()) for port in value.split(",")]
    for port in ports:
        if not (port.isascii() and port.isdigit() and len(port) <= 5 and 0 < int(port) < 65536):
            raise bad_request(f'ports: parsing "{port[:64]}": a port is a number from 1 to 65535')
    path = _path("portForward", pod)
    return f"{path}?port={','.join(ports)}" if ports else path


def _path(kind: str, pod: Object, *more: str) -> str:
    metadata = pod["metadata"]
    # Because of the UID, the kubelet uses the pod that was checked here, and not a later pod with the same name.
    parts = (metadata["namespace"], metadata["name"], metadata["uid"], *more)
    return "/".join(("", kind, *(quote(part, safe="") for part in parts)))


def _flag(query: StreamQuery, name: str) -> bool:
    """Parse a boolean parameter like apimachinery: all values except `0` and `false` are True."""
    return query.get(name, ["false"])[0].lower() not in ("0", "false")


def _fields(head: RequestHead) -> Headers:
    """Return the header fields for the kubelet, without the client's credentials and WebSocket extensions."""
    fields: Headers = []
    for name, value in head.headers:
        lower = name.lower()
        if lower == b"sec-websocket-protocol":
            if value := without_bearer(value):
                fields.append((name, value))
        elif lower in _PASSED:
            fields.append((name, value))
    return fields
