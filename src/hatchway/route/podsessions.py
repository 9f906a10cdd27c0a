"""The sessions of port-forward with pods, which connections share, and the choice of a session for a new connection.

A session is one connection through the API server to the kubelet of a pod, and carries many streams. Kubelets have no
flow control for single streams: a stream whose reader is slow may hold up all others of its session. So when a stream
has moved much data, new streams use other sessions, as long as the pod may have more sessions.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Protocol

from hatchway.route.podport import PodPort

# The maximum number of streams of a session without flow control for single streams; the maximum number of streams of a
# session with such flow control; the maximum number of sessions with one pod.
_STREAMS, _CONTROLLED_STREAMS, _SESSIONS = 64, 1024, 64
# A session that has carried this many streams gets no new streams, because the numbers of streams are limited.
_LIFETIME = 100_000
# A session without streams is closed after this many seconds.
_IDLE_SECONDS = 60.0
_SWEEP_SECONDS = 5.0
# A pod that could not be reached comes last for this many seconds.
_AVOIDED_SECONDS = 5.0
# A session that was silent for this many seconds is pinged before it gets a new stream.
_TRUSTED_SECONDS = 2.0
# A new stream waits this many seconds for the answer to the ping; then it uses another session.
_SIGN_SECONDS = 0.5
# When a pod is gone, its sessions end after this many seconds. Until then the pod's last refusals can still arrive.
# This matters because a refused connection is tried on another pod, but a connection whose session has ended is not.
_LAST_SECONDS = 1.0
# A session that has not answered the ping after this many seconds is closed.
_DEAD_SECONDS = 10.0

# (namespace, name, uid) of a pod.
PodKey = tuple[str, str, str]


class Session(Protocol):
    """The part of `kube.streams.portforwardsession.PortForwardSession` that this file uses."""

    @property
    def closed(self) -> asyncio.Future[Exception | None]:
        """Return a future that is done when the session ends."""
        ...

    @property
    def can_connect(self) -> bool:
        """Return True while the session takes new connections."""
        ...

    @property
    def stalled(self) -> bool:
        """Return True while a connection whose data is not read holds up all other connections."""
        ...

    @property
    def has_flow_control(self) -> bool:
        """Return True when no connection can hold up other connections."""
        ...

    def connect(self, port: int) -> asyncio.Transport:
        """Open a connection to a port of the pod; it does not read yet. Raises ConnectionError."""
        ...

    async def check(self, patience: float) -> bool:
        """Send a ping. Return False, and abort the session, if no answer comes within `patience` seconds."""
        ...

    def close(self) -> None:
        """End the session and all its connections."""
        ...


# Opens a session with the pod of this namespace and name.
OpenSession = Callable[[str, str], Awaitable[Session]]


class PooledStream(Protocol):
    """A connection on a session, as the pool sees it.

    busy: True when it has moved so much data that new streams should not share its session.
    """

    @property
    def busy(self) -> bool: ...  # noqa: D102

    def abort(self) -> None: ...  # noqa: D102


class PooledSession:
    """A session and its streams.

    retired: True when it gets no new streams.
    idle_since: the time at which its last stream ended, by the monotonic clock.
    heard_at: the last time at which data arrived from the other end, by the same clock; streams keep it up to date.
    """

    __slots__ = ("_check", "_doubtful", "heard_at", "idle_since", "opened", "retired", "session", "streams")

    def __init__(self, session: Session) -> None:
        self.session = session
        self.streams: set[PooledStream] = set()
        self.opened = 0
        self.retired = False
        self.idle_since = self.heard_at = time.monotonic()
        self._check: asyncio.Task[bool] | None = None
        self._doubtful = False

    @property
    def load(self) -> int:
        """Return the number of streams on the session."""
        return len(self.streams)

    @property
    def busy(self) -> bool:
        """Return True when a stream that moves much data might hold up a new stream."""
        return not self.session.has_flow_control and any(stream.busy for stream in self.streams)

    def usable(self) -> bool:
        """Return True if the session takes another stream."""
        session = self.session
        if self.retired or self._doubtful or self.opened >= _LIFETIME or not session.can_connect or session.stalled:
            return False
        return len(self.streams) < (_CONTROLLED_STREAMS if session.has_flow_control else _STREAMS)

    async def is_alive(self) -> bool:
        """Return True if data has arrived a short while ago; if not, send a ping and wait for the answer.

        A session that does not answer in time gets no new streams until it answers. The session is closed only after
        a longer silence, because this also ends its streams.
        """
        if time.monotonic() - self.heard_at < _TRUSTED_SECONDS:
            return True
        if self._check is None:
            self._check = asyncio.get_running_loop().create_task(self.session.check(_DEAD_SECONDS), name="ping")
            self._check.add_done_callback(self._checked)
        try:
            async with asyncio.timeout(_SIGN_SECONDS):
                return await asyncio.shield(self._check)
        except TimeoutError:
            self._doubtful = True
            return False

    def _checked(self, task: asyncio.Task[bool]) -> None:
        self._check = None
        self._doubtful = False
        if not task.cancelled() and task.exception() is None and task.result():
            self.heard_at = time.monotonic()
        else:
            self.retired = True

    def add(self, stream: PooledStream) -> None:
        """Count a stream until `remove`."""
        self.streams.add(stream)
        self.opened += 1

    def remove(self, stream: PooledStream) -> None:
        """Stop counting a stream, because it has ended."""
        self.streams.discard(stream)
        if not self.streams:
            self.idle_since = time.monotonic()
            if self.retired:
                self.session.close()


class SessionPool:
    """The sessions with all pods."""

    def __init__(self, open_session: OpenSession) -> None:
        self._open_session = open_session
        self._sessions: dict[PodKey, list[PooledSession]] = {}
        # The sessions that are being opened, by pod and by the number of earlier calls of `retire`.
        self._opening: dict[tuple[PodKey, int], asyncio.Task[PooledSession]] = {}
        self._retirements = 0
        self._avoided: dict[PodKey, float] = {}
        self._ending: dict[PooledSession, asyncio.TimerHandle] = {}
        self._turn = 0

    def choose(self, pods: list[PodPort]) -> PodPort:
        """Return the pod with the fewest connections for the next connection; equal pods take turns.

        Pods that could not be reached a short while ago come last. The same pod is returned until `take_turn`.
        """
        now = time.monotonic()
        count = len(pods)
        first = self._turn % count
        rotated = pods[first:] + pods[:first]
        return min(rotated, key=lambda pod: (self._avoided.get(key_of(pod), 0.0) > now, self._load(pod)))

    def take_turn(self) -> None:
        """Note that a pod is used now: the next choice among equal pods prefers another one."""
        self._turn += 1

    def _load(self, pod: PodPort) -> int:
        return sum(session.load for session in self._sessions.get(key_of(pod), ()))

    def avoid(self, pod: PodPort) -> None:
        """Prefer all other pods for some seconds, because this pod could not be reached."""
        now = time.monotonic()
        self._avoided = {key: until for key, until in self._avoided.items() if until > now}
        self._avoided[key_of(pod)] = now + _AVOIDED_SECONDS

    def session_now(self, pod: PodPort) -> PooledSession | None:
        """Do what `session` does if that is possible without waiting; otherwise return None.

        The returned session has received data a short while ago, so no ping is needed.
        """
        found = self._open_one(pod)
        if found is None or time.monotonic() - found.heard_at >= _TRUSTED_SECONDS:
            return None
        return found

    async def session(self, pod: PodPort) -> PooledSession:
        """Return a session that takes one more stream, which the caller opens at once.

        Raises:
            OSError, HatchwayError: no session can be opened.
        """
        while True:
            found = self._open_one(pod) or await self._another(pod)
            if await found.is_alive() and found.usable():
                return found

    def _open_one(self, pod: PodPort) -> PooledSession | None:
        """Return the open session for the next stream; None when a new session should be opened."""
        known = self._sessions.get(key_of(pod), [])
        usable = [session for session in known if session.usable()]
        quiet = [session for session in usable if not session.busy]
        if quiet:
            # Take the fullest session, so that the others become idle and are closed.
            return max(quiet, key=lambda session: session.load)
        if usable and len(known) >= _SESSIONS:
            return min(usable, key=lambda session: session.load)
        return None

    async def _another(self, pod: PodPort) -> PooledSession:
        """Open a session. Connections that are requested meanwhile share this session."""
        key = key_of(pod), self._retirements
        task = self._opening.get(key)
        if task is None:
            task = asyncio.get_running_loop().create_task(self._open(key[0]), name=f"port-forward session {pod.name}")
            self._opening[key] = task
            task.add_done_callback(lambda done: self._opened(key, done))
        return await asyncio.shield(task)

    async def _open(self, key: PodKey) -> PooledSession:
        retirements = self._retirements
        found = PooledSession(await self._open_session(key[0], key[1]))
        if retirements != self._retirements:
            # The session has the former credentials. The callers that wait for this session open another one.
            found.retired = True
            found.session.close()
            return found
        self._sessions.setdefault(key, []).append(found)
        found.session.closed.add_done_callback(lambda _: self._forget(key, found))
        return found

    def _opened(self, key: tuple[PodKey, int], task: asyncio.Task[PooledSession]) -> None:
        self._opening.pop(key, None)
        if not task.cancelled():
            task.exception()  # retrieve it: if the caller was cancelled, asyncio would log "never retrieved"

    def _forget(self, key: PodKey, session: PooledSession) -> None:
        session.retired = True
        known = self._sessions.get(key)
        if known is not None and session in known:
            known.remove(session)
            if not known:
                del self._sessions[key]

    def drop(self, namespace: str, name: str) -> None:
        """End the sessions with a pod that is gone, and their streams, after `_LAST_SECONDS`."""
        loop = asyncio.get_running_loop()
        for key in [key for key in self._sessions if key[:2] == (namespace, name)]:
            for session in list(self._sessions.get(key, ())):
                self._forget(key, session)
                if session.load:
                    self._ending[session] = loop.call_later(_LAST_SECONDS, self._end, session)
                else:
                    session.session.close()

    def _end(self, session: PooledSession) -> None:
        del self._ending[session]
        session.session.close()

    def retire(self) -> None:
        """Use no existing session for new connections, because the credentials have changed. Open streams continue.

        Sessions that are being opened are not used, either.
        """
        self._retirements += 1
        for sessions in self._sessions.values():
            for session in sessions:
                session.retired = True
                if not session.load:
                    session.session.close()

    def close(self) -> None:
        """End all sessions, and all streams on them."""
        for task in self._opening.values():
            task.cancel()
        for sessions in list(self._sessions.values()):
            for session in list(sessions):
                session.session.close()
        self._sessions.clear()
        for session, timer in self._ending.items():
            timer.cancel()
            session.session.close()
        self._ending.clear()

    async def run(self) -> None:
        """Close unused sessions until cancelled; then close all sessions."""
        try:
            while True:
                await asyncio.sleep(_SWEEP_SECONDS)
                limit = time.monotonic() - _IDLE_SECONDS
                for sessions in list(self._sessions.values()):
                    for session in list(sessions):
                        if not session.load and session.idle_since < limit:
                            session.session.close()
        finally:
            self.close()


def key_of(pod: PodPort) -> PodKey:
    """Return a key that differs for each pod, even for an earlier pod of the same name."""
    return pod.namespace, pod.name, pod.uid
