"""Port-forward as a route: any protocol over TCP, byte for byte, to a ready pod of the target.

New connections are spread over all ready pods. If a connection fails, or if the pod refuses it before any program has
read a byte, another pod is tried.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from typing import Final

from hatchway.errors import ApiError, HatchwayError
from hatchway.kube import access
from hatchway.kube.connection import Connection
from hatchway.proxy.routing import ProxyError
from hatchway.proxy.socketerrors import describe
from hatchway.route.byteroute import ANY_PROTOCOL, AnyProtocolRoute
from hatchway.route.contract import Refusal, RouteCapabilities, TargetUnreached, Unreached
from hatchway.route.podfinder import PodFinder
from hatchway.route.podport import PodPort, ReadyPods
from hatchway.route.podsessions import OpenSession, SessionPool
from hatchway.route.podstream import PodStream, StreamEndpoint, is_refusal, shorten
from hatchway.target import Target, format_argument, format_proxy_path

# If a pod does not answer in this time (seconds), another ready pod is tried.
_HEDGE: Final = 1.0
# How long to wait for the API server or for the last untried pod, in seconds.
_LONGEST: Final = 15.0
# Seconds to wait for the pods of a Service that has started on first use to appear in the view.
_SEEN_SECONDS: Final = 5.0
# Pauses between attempts, in seconds.
_FIRST_PAUSE, _LAST_PAUSE = 0.05, 0.5
# How long a positive rights check is remembered, in seconds.
_RIGHTS_SECONDS: Final = 30.0
# The maximum number of pods that one connection tries.
_MOST_PODS: Final = 5


class PortForwardRoute(AnyProtocolRoute):
    """The route by `pods/portforward` of one API server, with one user's credentials.

    `run` follows the pods and the credentials.

    name: the route's name, as `--via` spells it.
    """

    name = "forward"

    def __init__(self, connection: Connection, open_session: OpenSession) -> None:
        """Make the route. open_session: opens a session with the pod of a namespace and a name."""
        super().__init__(connection)
        self._pool = SessionPool(open_session)
        self._finder = PodFinder(connection, self._pool.drop)
        self._allowed: dict[str, tuple[float, object]] = {}
        self._chosen: dict[Target, PodPort] = {}
        self._seen = connection.identity, connection.fields(), connection.upstream.key

    async def run(self) -> None:
        """Follow the pods and the credentials until cancelled; then end all connections."""
        stop = self._connection.subscribe(self._connection_changed)
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._finder.run(), name="pods")
                group.create_task(self._pool.run(), name="port-forward sessions")
        finally:
            stop()
            self._pool.close()

    def _connection_changed(self) -> None:
        seen = self._connection.identity, self._connection.fields(), self._connection.upstream.key
        if seen != self._seen:
            self._seen = seen
            self._allowed = {}
            self._chosen.clear()
            self._pool.retire()

    async def prepare(self, target: Target) -> RouteCapabilities | Refusal:
        """Return the route's capabilities for a target, or a Refusal.

        Raises:
            HatchwayError: the answer cannot be found out now; ApiError 503 when the API server cannot be reached.
        """
        if target.kind in ("nodes", "hosts"):
            return Refusal(f"a port-forward leads to pods, not to {target.kind}")
        refusal = await self._missing_right(target)
        if refusal is not None:
            return refusal
        try:
            found = await self._finder.find(target)
        except ApiError as error:
            if error.code != 403:
                raise
            return await self._unseen(error, target)
        if found.out_of_reach:
            return Refusal(found.why)
        return ANY_PROTOCOL

    async def _missing_right(self, target: Target) -> Refusal | None:
        """Return the Refusal for a user without the right to open a port-forward; None for a user with that right."""
        await self._connection.ready()
        space, identity = target.namespace, self._connection.identity
        known = self._allowed.get(space)
        if known is not None and known[0] > time.monotonic() and known[1] == identity:
            return None
        client = self._connection.client
        cache = self._allowed  # if the cache is replaced during the review, the new one stays empty
        allowed, _ = await access.may(
            client, verb="create", resource="pods", subresource="portforward", namespace=space
        )
        if allowed:
            cache[space] = time.monotonic() + _RIGHTS_SECONDS, identity
            return None
        # A WebSocket begins with a GET request; API servers before Kubernetes 1.35 authorize it as `get`.
        rule = access.missing_rule(
            verb=("create", "get"),
            resource="pods",
            subresource="portforward",
            namespace=space,
            user=await access.user_name(client),
        )
        why = f'you may not create pods/portforward in namespace "{space}"'
        return Refusal(why, rule, ("create", "pods/portforward", space))

    async def _unseen(self, error: ApiError, target: Target) -> Refusal:
        """Return the Refusal for a user without the right to see pods."""
        wanted = ["pods"] if target.kind == "pods" else [target.kind, "pods"]
        user = await access.user_name(self._connection.client)
        rule = access.missing_rule(
            verb=("get", "list", "watch"), resource=wanted, namespace=target.namespace, user=user
        )
        why = f"cannot list the ready pods: {error.message}"
        return Refusal(why, rule, ("get", wanted[0], target.namespace))

    async def ready_pods(self, target: Target) -> ReadyPods:
        """Return the ready pods of a target.

        Raises:
            TargetUnreached: the pods cannot be listed.
        """
        try:
            return await self._finder.find(target)
        except HatchwayError as error:
            raise await self._translate_error(error, target) from error

    def connect_now(self, target: Target) -> PodStream | None:
        """Open a connection over an open session, or return None (`contract.ByteRoute.connect_now`)."""
        found = self._finder.find_now(target)
        if found is None or not found.pods:
            return None
        pod = self._choose(target, found, list(found.pods))
        pooled = self._pool.session_now(pod)
        if pooled is None:
            return None
        try:
            inner = pooled.session.connect(pod.port)
        except ConnectionError:
            return None
        self._pool.take_turn()
        stream = PodStream(self, target)
        stream.attach(inner, StreamEndpoint(pooled, pod))
        if found.sticky:
            self._chosen[target] = pod
        return stream

    def _choose(self, target: Target, found: ReadyPods, left: list[PodPort]) -> PodPort:
        """Return the pod to try next. left: the untried pods."""
        kept = self._chosen.get(target) if found.sticky else None
        return kept if kept is not None and kept in left else self._pool.choose(left)

    async def connect(self, target: Target, patience: float = 0.0) -> PodStream:
        """Open a connection to a ready pod (`contract.ByteRoute.connect`).

        Raises:
            TargetUnreached: there is no connection.
        """
        stream = PodStream(self, target)
        await self._open(stream, patience)
        return stream

    async def reopen(self, stream: PodStream, error: Exception) -> None:
        """Open a connection again after its pod refused it (`podstream.Opener`).

        Raises:
            TargetUnreached: no other pod accepts the connection.
        """
        endpoint = stream.detach()
        stream.tried[endpoint.pod] = error
        self._pool.avoid(endpoint.pod)
        self._finder.forget()
        if len(stream.tried) >= _MOST_PODS:
            raise _failed(stream)
        await self._open(stream, 0.0)

    async def _open(self, stream: PodStream, patience: float) -> None:
        """Attach a stream to a ready pod of its target that the stream has not tried yet.

        Raises:
            TargetUnreached: there is no such pod.
        """
        until = time.monotonic() + min(patience, _LONGEST)
        pause = _FIRST_PAUSE
        started = False
        while True:
            problem = await self._try_pods(stream)
            if problem is None:
                return
            if problem.cause is Unreached.NO_PODS and not started and await self._start(stream.target):
                # The view shows the new pods in a moment.
                started, until = True, max(until, time.monotonic() + _SEEN_SECONDS)
            left = until - time.monotonic()
            if problem.cause in _FINAL or left <= 0:
                raise problem
            await self._finder.wait_for_change(stream.target, min(pause, left))
            pause = min(pause * 2, _LAST_PAUSE)
            stream.tried.clear()

    async def _start(self, target: Target) -> bool:
        """Start a Service that starts on first use. Return True if it is ready now; False if not, or for other targets.

        A request by the proxy verb starts the Service, and is answered when the Service is ready.
        """
        try:
            found = await self._finder.find(target)
            if not found.starts:
                return False
            path = format_proxy_path(replace(target, scheme=""))
            status, _ = await self._connection.client.exchange("GET", f"{path}?")
        except HatchwayError:
            return False
        self._finder.forget()
        # 403 (no right) and 503 (not ready) are the API server's own answers; all others come from the Service.
        return status not in (403, 503)

    async def _try_pods(self, stream: PodStream) -> TargetUnreached | None:
        """Try the ready pods one after the other. Return None when the stream is attached to a pod, else the error."""
        target, tried = stream.target, stream.tried
        try:
            found = await self._finder.find(target)
        except HatchwayError as error:
            return await self._translate_error(error, target)
        left = [pod for pod in found.pods if pod not in tried]
        if not found.pods:
            return _no_pods(target, found)
        while left:
            pod = self._choose(target, found, left)
            self._pool.take_turn()  # now, so that connections that begin during the attempt choose another pod
            left.remove(pod)
            try:
                await self._attempt(stream, pod, _HEDGE if left else _LONGEST)
            except (HatchwayError, ProxyError, OSError) as error:
                if self._connection.trouble is not None or (isinstance(error, ApiError) and error.code in (401, 403)):
                    return await self._translate_error(error, target)
                tried[pod] = error
                self._pool.avoid(pod)
                self._finder.forget()
            else:
                if found.sticky:
                    self._chosen[target] = pod
                return None
        return _failed(stream)

    async def _attempt(self, stream: PodStream, pod: PodPort, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                pooled = await self._pool.session(pod)
            stream.attach(pooled.session.connect(pod.port), StreamEndpoint(pooled, pod))
        except TimeoutError as error:
            raise TimeoutError(f"no answer in {seconds:g} s") from error

    async def _translate_error(self, error: Exception, target: Target) -> TargetUnreached:
        """Turn an API server error into TargetUnreached; on 401, renew the credentials; on 403, forget the rights."""
        if self._connection.trouble is None and isinstance(error, ApiError) and error.code == 403:
            self._allowed = {}
            access.forget(self._connection.client)
            refusal = await self._explain_refusal(error, target)
            return TargetUnreached(
                Unreached.FORBIDDEN, refusal.why, "an administrator of the cluster can allow it", refusal.missing_rule
            )
        return await self._translate_api_error(error)

    async def _explain_refusal(self, error: ApiError, target: Target) -> Refusal:
        try:
            return await self._missing_right(target) or await self._unseen(error, target)
        except HatchwayError:
            return Refusal(error.message)


# Errors that waiting cannot fix.
_FINAL: Final = (Unreached.FORBIDDEN, Unreached.OUT_OF_REACH, Unreached.NO_CREDENTIALS, Unreached.CREDENTIALS)


def _no_pods(target: Target, found: ReadyPods) -> TargetUnreached:
    message = found.why if found.absent else f"{format_argument(target)}: {found.why}"
    if found.out_of_reach:
        return TargetUnreached(Unreached.OUT_OF_REACH, message)
    return TargetUnreached(Unreached.MISSING if found.missing else Unreached.NO_PODS, message)


def _failed(stream: PodStream) -> TargetUnreached:
    """Return an error that says for each pod why it could not be reached."""
    target, tried = stream.target, stream.tried
    refused = all(is_refusal(error) for error in tried.values())
    told = "; ".join(f"pod {pod.name}, port {pod.port}: {_describe(error)}" for pod, error in tried.items())
    hint = "does the program in the pod listen on this port, on 127.0.0.1 or on all addresses?" if refused else ""
    return TargetUnreached(
        Unreached.REFUSED if refused else Unreached.FAILED, f"{format_argument(target)}: {told}", hint
    )


def _describe(error: Exception) -> str:
    if isinstance(error, (HatchwayError, ProxyError)):
        return error.message
    return shorten(describe(error))
