"""Serves `GET /api/v1/namespaces/NS/pods/NAME/log`: relays a container's log from the kubelet of the pod's node.

The behaviour is that of Kubernetes' `LogLocation` (`pkg/registry/core/pod/strategy.go`), `ValidatePodLogOptions` and
`LocationStreamer` with its response checker (apiserver `pkg/registry/generic/rest`). The kubelet's certificate is
always verified: `insecureSkipTLSVerifyBackend` is accepted and ignored. Over a WebSocket, the log comes as messages
(`responsewriters.StreamObject`); requests for other upgrades are answered without an upgrade.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from urllib.parse import parse_qs, quote, urlencode

from hatchway.cluster.api.connect.answers import dial_message, status_response
from hatchway.cluster.api.connect.forwardedapp import ForwardedApp
from hatchway.cluster.api.connect.handler import Backend, ConnectRequest
from hatchway.cluster.api.connect.resourcelocation import BackendEndpoint, CommittedObjects, Locator
from hatchway.errors import ApiError, Cause, bad_request, internal, invalid, not_found
from hatchway.kube.http import HttpClient
from hatchway.proxy.routing import App, Forward, Headers, ProxyError, RequestHead, Respond, ResponseHead, Transform

_INT64 = re.compile(r"[+-]?[0-9]+\Z")
_RFC3339 = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]+)?(Z|[+-][0-9]{2}:[0-9]{2})\Z")
_FLAGS = ("follow", "previous", "timestamps", "insecureSkipTLSVerifyBackend")
# The maximum number of bytes of a kubelet's error text, which normally is one line. The rest is cut off.
_ERROR_LIMIT = 2048


@dataclass(frozen=True, slots=True)
class PodLogOptions:
    """The fields of core/v1 PodLogOptions; None for an option that is not in the query."""

    container: str = ""
    follow: bool = False
    previous: bool = False
    timestamps: bool = False
    since_seconds: int | None = None
    since_time: str | None = None
    tail_lines: int | None = None
    limit_bytes: int | None = None

    @classmethod
    def parse(cls, query: bytes | None, pod: str) -> PodLogOptions:
        """Parse a query string. Other parameters (`pretty`) are ignored.

        pod: the pod's name, for messages.

        Raises ApiError 400 (not a number, not a time) or 422 (out of range, contradictory).
        """
        given = {
            key: values[0] for key, values in parse_qs((query or b"").decode("latin-1"), keep_blank_values=True).items()
        }
        flags = {name: given.get(name, "false").lower() not in ("0", "false") for name in _FLAGS}
        since_time = given.get("sinceTime") or None
        if since_time is not None:
            _check_time(since_time)
        options = cls(
            container=given.get("container", ""),
            follow=flags["follow"],
            previous=flags["previous"],
            timestamps=flags["timestamps"],
            since_seconds=_integer(given, "sinceSeconds"),
            since_time=since_time,
            tail_lines=_integer(given, "tailLines"),
            limit_bytes=_integer(given, "limitBytes"),
        )
        options._validate(pod)
        return options

    def _validate(self, pod: str) -> None:
        causes: list[Cause] = []

        def at_least(least: int, field: str, value: int | None) -> None:
            if value is not None and value < least:
                wanted = "must be greater than or equal to 0" if least == 0 else "must be greater than 0"
                causes.append(Cause("FieldValueInvalid", f"Invalid value: {value}: {wanted}", field))

        at_least(0, "tailLines", self.tail_lines)
        at_least(1, "limitBytes", self.limit_bytes)
        if self.since_seconds is not None and self.since_time is not None:
            why = "Forbidden: at most one of `sinceTime` or `sinceSeconds` may be specified"
            causes.append(Cause("FieldValueForbidden", why))
        else:
            at_least(1, "sinceSeconds", self.since_seconds)
        if causes:
            raise invalid("PodLogOptions", pod, causes)

    def query(self) -> str:
        """Return the query of the kubelet's `/containerLogs`."""
        said: dict[str, Any] = {
            "follow": self.follow and "true",
            "limitBytes": self.limit_bytes,
            "previous": self.previous and "true",
            "sinceSeconds": self.since_seconds,
            "sinceTime": self.since_time,
            "tailLines": self.tail_lines,
            "timestamps": self.timestamps and "true",
        }
        return urlencode({key: value for key, value in said.items() if value is not None and value is not False})


class PodLog:
    """Routes authorized requests for logs (`ConnectHandler`).

    objects: the cluster's pods and nodes.
    locator: finds the nodes' kubelets.
    http: sends the request to the kubelet when the client asks for an upgrade.
    """

    def __init__(self, objects: CommittedObjects, locator: Locator, http: HttpClient) -> None:
        self._lookup = objects
        self._locator = locator
        self._http = http

    @classmethod
    def of(cls, backend: Backend) -> PodLog:
        """Return the handler that uses the objects of the API server."""
        return cls(backend.objects, backend.locator, backend.http)

    def prepare(self, head: RequestHead, request: ConnectRequest) -> Forward | App | Respond:
        """Return a Forward to the kubelet, an App for an upgrade, or a `Status`. It never raises.

        A pod without a node has an empty log.
        """
        try:
            decision = self._route(head, request.namespace, request.name)
        except ApiError as error:
            return status_response(error)
        if head.upgrade is None or isinstance(decision, Respond):
            return decision
        return App(ForwardedApp(self._http, decision))

    def _route(self, head: RequestHead, namespace: str, name: str) -> Forward | Respond:
        options = PodLogOptions.parse(head.query, name)
        pod = self._lookup.get("pods", namespace, name)
        if pod is None:
            raise not_found("pods", name)
        container = container_of(pod, options.container)
        node_name = pod.get("spec", {}).get("nodeName")
        if not node_name:
            return Respond(204, [(b"Cache-Control", b"no-cache, private")])
        node = self._lookup.get("nodes", "", node_name)
        if node is None:
            raise not_found("nodes", node_name)
        kubelet = self._locator.kubelet(node)
        path = "/containerLogs/" + "/".join(quote(part, safe="") for part in (namespace, name, container))
        query = options.query()
        target = f"{path}?{query}" if query else path
        exchange = _LogExchange(kubelet, name, target)
        return Forward(
            upstream=kubelet.upstream,
            target=target.encode(),
            headers=[(b"Host", kubelet.host), (b"Accept", b"*/*")],
            error_response=exchange.error_response,
            edit_response=exchange.edit_response,
        )


class _LogExchange:
    __slots__ = ("_kubelet", "_pod", "_target")

    def __init__(self, kubelet: BackendEndpoint, pod: str, target: str) -> None:
        self._kubelet = kubelet
        self._pod = pod
        self._target = target

    def error_response(self, error: ProxyError) -> Respond:
        url = f"https://{self._kubelet.dialed}{self._target}"
        return status_response(ApiError(500, "", f'Get "{url}": {dial_message(error, self._kubelet)}'))

    def edit_response(self, head: ResponseHead) -> Transform | None:
        if 200 <= head.status <= 206:
            head.headers = _headers("text/plain")
            return None
        head.headers = _headers("application/json")
        return _StatusForText(head.status, self._pod)


class _StatusForText:
    """A body transform that turns the kubelet's error text into a `Status`."""

    def __init__(self, code: int, pod: str) -> None:
        self._code = code
        self._pod = pod
        self._text = b""

    def feed(self, data: bytes) -> bytes:
        self._text = (self._text + data)[:_ERROR_LIMIT]
        return b""

    def finish(self) -> bytes:
        text = self._text.decode("utf-8", "replace").strip()
        if self._code == 400:
            error = bad_request(text)
        elif self._code == 500:
            error = internal(text)
        elif self._code == 404:
            details = {"name": self._pod, "kind": "pods/log"}
            message = f"the server could not find the requested resource ( pods/log {self._pod})"
            error = ApiError(404, "NotFound", message, details)
        else:
            error = ApiError(self._code, "", f"the kubelet answered {self._code}: {text}")
        return status_response(error).body


def _headers(content_type: str) -> Headers:
    return [(b"Cache-Control", b"no-cache, private"), (b"Content-Type", content_type.encode())]


def _integer(given: dict[str, str], name: str) -> int | None:
    text = given.get(name)
    if text is None:
        return None
    if not _INT64.match(text):
        raise bad_request(f'{name}: parsing "{text[:64]}": invalid syntax')
    if len(text) > 20 or not -(2**63) <= int(text) < 2**63:
        raise bad_request(f'{name}: parsing "{text[:64]}": value out of range')
    return int(text)


def _check_time(text: str) -> None:
    match = _RFC3339.match(text)
    try:
        if match is None:
            raise ValueError("its form is 2006-01-02T15:04:05Z")
        datetime.fromisoformat(text[:19])
    except ValueError as error:
        raise bad_request(f'sinceTime: parsing time "{text[:64]}": {error}') from error


def container_of(pod: dict[str, Any], wanted: str) -> str:
    """Return the container whose log is read: `wanted`, or for "" the only container. Raises ApiError 400."""
    spec = pod.get("spec", {})
    name = pod["metadata"]["name"]
    containers = [container["name"] for container in spec.get("containers") or ()]
    init = [container["name"] for container in spec.get("initContainers") or ()]
    ephemeral = [container["name"] for container in spec.get("ephemeralContainers") or ()]
    if wanted:
        if wanted not in (*containers, *init, *ephemeral):
            raise bad_request(f"container {wanted} is not valid for pod {name}")
        return wanted
    if len(containers) == 1:
        return str(containers[0])
    containers += ephemeral
    message = f"a container name must be specified for pod {name}"
    if containers:
        message += f", choose one of: [{' '.join(containers)}]"
    if init:
        message += f" or one of the init containers: [{' '.join(init)}]"
    raise bad_request(message)
