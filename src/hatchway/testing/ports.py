"""Local ports that lead to services and pods, by port-forward."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from dataclasses import replace

from hatchway.errors import HatchwayError
from hatchway.forward.forwarder import Forwarder, LocalForward
from hatchway.forward.localports import plan_forwards
from hatchway.forward.specs import parse_words
from hatchway.kube.connection import Connection
from hatchway.kube.lookup import ObjectLookup
from hatchway.kube.streams.portforwardsession import PortForwardSession
from hatchway.route.contract import Refusal
from hatchway.route.portforward import PortForwardRoute
from hatchway.testing.problems import ClusterError, WaitTimeout

_POLL_SECONDS = 0.05


class _TargetAbsent(HatchwayError):
    """The target does not exist (yet)."""


# A request that every HTTP server answers, perhaps with an error, and that applications do not see (RFC 9110, 9.3.7).
_QUESTION = b"OPTIONS * HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
# Seconds to wait for the answer to one such request.
_ANSWER_SECONDS = 5.0


class LocalPorts:
    """The local ports of one cluster's services and pods. They are made on first use, and stay until `close`."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._route = PortForwardRoute(connection, self._open_session)
        self._sessions: set[PortForwardSession] = set()
        self._forwarder: Forwarder | None = None
        self._stack = contextlib.AsyncExitStack()
        self._known: dict[tuple[str, str], LocalForward] = {}
        self._opening = asyncio.Lock()
        self._running: asyncio.Task[None] | None = None

    async def address(self, target: str, namespace: str, seconds: float) -> tuple[str, int]:
        """Return (host, port) on this machine that lead to one port of a target, such as `svc/web:http`.

        seconds: how long to wait for the target and for a ready pod.

        Raises:
            ClusterError: the target has no such port, or has several ports and none was named.
            WaitTimeout: the target does not exist, or has no ready pod, in time.
        """
        until = asyncio.get_running_loop().time() + seconds
        while True:
            try:
                async with self._opening:
                    forward = await self._open(target, namespace)
                found = await self._forwarder_of().ready_pods(forward)
                if found.reachable:
                    return forward.listen.address, forward.listen.port
                why = found.why
            except _TargetAbsent as error:
                why = error.message
            if asyncio.get_running_loop().time() > until:
                raise WaitTimeout(f"{target} in namespace {namespace} was not ready in {seconds:g} s: {why}")
            await asyncio.sleep(_POLL_SECONDS)

    def _forwarder_of(self) -> Forwarder:
        assert self._forwarder is not None
        return self._forwarder

    async def _open(self, target: str, namespace: str) -> LocalForward:
        """Return the forward of a target, and open it if there is none. Raises _TargetAbsent for an unknown target."""
        if self._forwarder is None:
            await self._begin()
        forwarder = self._forwarder_of()
        if known := self._known.get((namespace, target)):
            return known
        spec = parse_words([target], None, namespace)[0]
        found = await ObjectLookup(self._connection).get(spec.target.kind, spec.target.namespace, spec.target.name)
        if found.readable and found.object is None:
            raise _TargetAbsent(f"there is no {target}")
        planned = [one for one in plan_forwards(spec, found.object) if one.protocol == "TCP"]
        if len(planned) != 1:
            names = ", ".join(one.label for one in planned) or "none"
            raise ClusterError(f"{target} has more than one port: {names}", "choose one: svc/web:http")
        answer = await forwarder.route.prepare(planned[0].target)
        if isinstance(answer, Refusal):
            raise ClusterError(f"{target}: {answer.why}", answer.missing_rule)
        # Use any free port, because tests that run at the same time must not use the same one.
        forward = await forwarder.open(replace(planned[0], local=0, exact=False))
        self._known[namespace, target] = forward
        return forward

    async def _begin(self) -> None:
        self._running = asyncio.create_task(self._route.run(), name="port-forward")
        forwarder = Forwarder(self._route, lambda *_: None)
        await self._route.begin()
        await self._stack.enter_async_context(forwarder.listening([], lambda planned: "127.0.0.1"))
        self._forwarder = forwarder

    async def _open_session(self, namespace: str, pod: str) -> PortForwardSession:
        session = await PortForwardSession.open(self._connection, namespace, pod)
        self._sessions.add(session)
        session.closed.add_done_callback(lambda _: self._sessions.discard(session))
        return session

    def close_namespace(self, namespace: str) -> None:
        """Stop listening for the targets of a namespace."""
        for key in [key for key in self._known if key[0] == namespace]:
            forward = self._known.pop(key)
            self._forwarder_of().close(forward)
            for connection in list(forward.connections):
                connection.abort()

    async def close(self) -> None:
        """End all forwards, and wait until their connections are closed."""
        await self._stack.aclose()
        if self._running is not None:
            self._running.cancel()
            await asyncio.wait([self._running])
        await asyncio.gather(*(session.aclose() for session in self._sessions))


async def await_answer(address: tuple[str, int], secure: bool, seconds: float, what: str) -> None:
    """Wait until the program behind a local port speaks HTTP; with TLS, until it accepts a handshake.

    A pod without a readiness probe counts as ready before its program listens.

    Raises:
        WaitTimeout: the program does not answer in time.
    """
    until = asyncio.get_running_loop().time() + seconds
    while not await _answers(address, secure, min(_ANSWER_SECONDS, seconds)):
        if asyncio.get_running_loop().time() > until:
            raise WaitTimeout(f"{what}: its pod is ready, but the program has not answered in {seconds:g} s")
        await asyncio.sleep(_POLL_SECONDS)


async def _answers(address: tuple[str, int], secure: bool, seconds: float) -> bool:
    trust = None
    if secure:
        # The certificate is not verified here: only the test's own client must trust the program.
        trust = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        trust.check_hostname, trust.verify_mode = False, ssl.CERT_NONE
    try:
        async with asyncio.timeout(seconds):
            reader, writer = await asyncio.open_connection(*address, ssl=trust)
            try:
                if secure:
                    return True
                writer.write(_QUESTION)
                return bool(await reader.read(1))
            finally:
                writer.close()
                with contextlib.suppress(OSError):
                    await writer.wait_closed()
    except (OSError, TimeoutError):
        return False
