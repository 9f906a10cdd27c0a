"""One API server as a context of the kubeconfig reaches it, kept up to date while kubeconfig and credentials change.

The door's hot path reads attributes of it; whatever takes time (exec plugins, files) happens beside.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import math
import os
import socket
import time
from base64 import b64encode
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

from hatchway.errors import HatchwayError
from hatchway.kube import execplugin, kubeconfig, oidc, settings
from hatchway.kube.dial import Dialer, keep_alive
from hatchway.kube.envproxy import from_environment
from hatchway.kube.settings import Settings
from hatchway.kube.tls import client_context
from hatchway.proxy.routing import ProxyError, Upstream
from hatchway.proxy.upstream import describe

if TYPE_CHECKING:
    from hatchway.kube.client import ConnectionClient

log = logging.getLogger(__name__)

# How often files are looked at.
_POLL = 1.0
# A plugin is asked again so many seconds before its credentials end, and not more often than this.
_NEAR_END = 10.0
_PAUSE = 3.0
# The clock on the wall has gone so much further than the process's: the machine has slept.
_SLEPT = 5.0

_keys = itertools.count()
_wall_clock = time.time


@dataclass(frozen=True, slots=True)
class Trouble:
    """Why the API server cannot be reached now. since: seconds since the epoch. error: how the last attempt ended."""

    reason: str
    hint: str
    since: float
    error: ProxyError


@dataclass(frozen=True, slots=True)
class _Files:
    """What the files that the settings name hold."""

    ca: bytes | None
    certificate: bytes | None
    key: bytes | None
    token: str


class Connection:
    """server, context, namespace, host, base_path, upstream, generation: see the class's attributes below.

    server: URL without a slash at its end. context: its name, "" in a pod. namespace: the context's. user: the
    kubeconfig's name of the credentials. host: the `Host` field for the API server. base_path: the path of the
    server's URL, without a slash at its end. upstream: for the proxy engine; another object with another key after
    the address, TLS settings or the client certificate have changed. generation: another number after any change.
    problem: why the kubeconfig or the credentials could not be renewed, or None; what was good before stays in use.
    trouble: why the server cannot be reached now, or None.
    keepalive: seconds of silence before and between TCP keep-alive probes on connections that are made from now on;
    0 for `kube/dial.py`'s own. May be set.
    """

    server: str
    context: str
    namespace: str
    user: str
    host: bytes
    base_path: bytes
    upstream: Upstream
    generation: int
    problem: HatchwayError | None
    trouble: Trouble | None
    keepalive: float

    def __init__(self, found: Settings, kubeconfig: str | None = None, context: str | None = None) -> None:
        """Prefer `load`. Raises HatchwayError when certificates, keys or tokens cannot be read or used."""
        self._kubeconfig = kubeconfig
        self._pinned = context
        self._credential: execplugin.Credential | None = None
        self._fields: list[tuple[bytes, bytes]] = []
        self._tls: tuple[object, ...] = ()
        self._client: ConnectionClient | None = None
        self._subscribers: list[Callable[[], None]] = []
        self._running: asyncio.Task[None] | None = None
        self._ran = -_PAUSE
        self._renewing: asyncio.Task[bool] | None = None
        self._renewed_at = -_PAUSE
        self._renewed = False
        self.generation = 0
        self.problem = None
        self.trouble = None
        self.keepalive = 0.0
        self._seen = _stat([*self._sources(), *found.files])
        self._apply(found, None)

    @classmethod
    def load(cls, kubeconfig: str | None = None, context: str | None = None) -> Connection:
        """The connection of a context (the current one unless said), or of the pod's own account.

        Raises HatchwayError. Nothing is sent and no plugin runs yet.
        """
        return cls(settings.load(kubeconfig, context), kubeconfig, context)

    @property
    def label(self) -> str:
        """Context and server, as errors name them."""
        return self._settings.label

    @property
    def identity(self) -> tuple[str, str, str, str]:
        """(server, context, user, authority): when it changes, what was seen through this connection is another's.

        authority: a digest of the CA: a cluster that was made anew under the same name has a new one.
        """
        return self.server, self.context, self.user, self._authority

    @property
    def client(self) -> ConnectionClient:
        """A client with these credentials; the same object as long as the connection lives."""
        if self._client is None:
            from hatchway.kube.client import ConnectionClient

            self._client = ConnectionClient(self)
        return self._client

    def fields(self) -> list[tuple[bytes, bytes]]:
        """The credentials as request header fields: the same list until something changes. Do not change it."""
        return self._fields

    def subscribe(self, callback: Callable[[], None]) -> Callable[[], None]:
        """Call `callback` after each change of `generation`, `problem` or `trouble`. Returns what ends that."""
        self._subscribers.append(callback)
        return lambda: self._subscribers.remove(callback)

    @property
    def fresh(self) -> bool:
        """Whether `fields()` are good as they are, so that `ready` need not be awaited."""
        if not self._settings.asks:
            return True
        credential = self._credential
        return credential is not None and (credential.expires is None or time.time() < credential.expires - _NEAR_END)

    async def ready(self) -> None:
        """Get credentials where a plugin has to be asked: the first time, and before they end.

        Raises HatchwayError when there are none, with what the plugin said.
        """
        if self.fresh:
            return
        # Plugins may hand out the last minute of what they keep, and may fail: neither is a reason to run them for ever.
        if self._running is None and time.monotonic() - self._ran >= _PAUSE:
            self._start_plugin()
        if self._usable():
            # What is good for some seconds more need not wait for what comes.
            return
        if self._running is not None:
            await asyncio.shield(self._running)
        if self.problem is not None and not self._usable():
            raise HatchwayError(self.problem.message, self.problem.hint)

    def _usable(self) -> bool:
        credential = self._credential
        return credential is not None and (credential.expires is None or time.time() < credential.expires)

    async def renew(self) -> bool:
        """The server answered 401: ask the plugin again, read kubeconfig and token file again.

        True when the credentials have changed since, so that the request is worth another try. Callers share a run,
        and those that come within a few seconds after it its outcome. Never raises HatchwayError: see `problem`.
        """
        if self._renewing is None:
            if time.monotonic() - self._renewed_at < _PAUSE:
                return self._renewed
            self._renewing = asyncio.get_running_loop().create_task(self._renew(), name="renew credentials")
        return await asyncio.shield(self._renewing)

    async def _renew(self) -> bool:
        before = self.generation
        credential = self._credential
        try:
            self._reload()
            if self._settings.plugin is not None and self._credential is credential:
                await asyncio.shield(self._start_plugin())
            self._renewed = self.generation != before
            return self._renewed
        finally:
            self._renewed_at = time.monotonic()
            self._renewing = None

    def _start_plugin(self) -> asyncio.Task[None]:
        if self._running is None:
            self._running = asyncio.get_running_loop().create_task(self._ask_plugin(), name="credential plugin")
        return self._running

    async def _ask_plugin(self) -> None:
        try:
            while True:
                asked = self._settings
                if not asked.asks:
                    return
                credential = await (oidc.obtain(asked) if asked.oidc is not None else execplugin.run(asked))
                # An edit of the kubeconfig while the plugin ran makes its answer somebody else's.
                if _same_source(self._settings, asked):
                    self._apply(self._settings, credential)
                    self._say(None)
                    return
        except HatchwayError as error:
            self._say(error)
        finally:
            self._ran = time.monotonic()
            self._running = None

    def note(self, error: ProxyError | None) -> Trouble | None:
        """Tell how an attempt to speak to the server ended: with an error, or (None) with an answer of its."""
        before = self.trouble
        if error is None:
            self.trouble = None
        else:
            reason = f"cannot reach {self.label}: {error.message}"
            since = before.since if before else time.time()
            self.trouble = Trouble(reason, self._advice(error), since, error)
        if (before is None) != (self.trouble is None):
            self._tell()
        return self.trouble

    def _advice(self, error: ProxyError) -> str:
        if error.stage == "tls" and "certificate" in error.message:
            return (
                "the kubeconfig's certificate-authority, server and tls-server-name have to fit the server; "
                "was the cluster made anew?"
            )
        if "lookup failed" in error.message:
            return "is the VPN up? the name of the server is not known here"
        if error.stage == "dial":
            return "is the cluster up, is the VPN? it is tried again by itself"
        return "it is tried again by itself"

    async def watch_files(self) -> None:
        """Until cancelled: apply edits of the kubeconfig, token file and certificates within about a second.

        Without an explicit context the current one is followed. An edit that cannot be used changes nothing but
        `problem`. After the machine has slept, connections of before are given up.
        """
        wall, steady = _wall_clock(), time.monotonic()
        while True:
            await asyncio.sleep(_POLL)
            if _stat(self._seen) != self._seen:
                self._reload()
            now_wall, now_steady = _wall_clock(), time.monotonic()
            if (now_wall - wall) - (now_steady - steady) > _SLEPT:
                log.info("the machine has slept; connecting anew")
                self._replace_connections()
            wall, steady = now_wall, now_steady

    async def aclose(self) -> None:
        """Close the client's connections; end a plugin that runs."""
        tasks = [task for task in (self._renewing, self._running) if task is not None]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        if self._client is not None:
            await self._client.aclose()

    def _sources(self) -> list[Path]:
        return kubeconfig.sources(self._kubeconfig)

    def _reload(self) -> None:
        """Read everything again. What cannot be used leaves everything as it was, and becomes `problem`."""
        # Looked at before it is read: what changes in between is seen as another change.
        self._seen = _stat([*self._sources(), *self._settings.files])
        try:
            found = settings.load(self._kubeconfig, self._pinned)
            self._seen |= _stat(found.files)
            same = _same_source(found, self._settings) and found.server == self._settings.server
            self._apply(found, self._credential if same else None)
            self._say(None)
        except HatchwayError as error:
            self._say(error)

    def _say(self, problem: HatchwayError | None) -> None:
        if problem is not None or self.problem is not None:
            self.problem = problem
            self._tell()

    def _apply(self, found: Settings, credential: execplugin.Credential | None) -> None:
        """Take over settings and a plugin's credential; all of it or, with a HatchwayError, nothing."""
        files = _read(found)
        if found.oidc is not None:
            # Another program may have written a newer one.
            credential = oidc.held(found.oidc) or credential
        certificate, key = files.certificate, files.key
        if credential is not None and credential.certificate is not None:
            certificate, key = credential.certificate, credential.key
        url = found.url
        assert url.hostname is not None
        proxy = found.proxy or from_environment(url, os.environ)
        port = url.port or (443 if url.scheme == "https" else 80)
        tls = (url.scheme, url.hostname, port, proxy, found.insecure, found.tls_server_name, files.ca, certificate, key)
        upstream = self.upstream if tls == self._tls else None
        if upstream is None:
            context = None
            if url.scheme == "https":
                try:
                    context = client_context(files.ca, certificate, key, insecure=found.insecure)
                except (OSError, ValueError) as error:
                    why = getattr(error, "reason", None) or error
                    raise HatchwayError(
                        f"{found.label}: its certificates or key cannot be used: {why}",
                        "the kubeconfig, or the files it names, hold something else than PEM, or a key of another pair",
                    ) from error
            dialer = Dialer(url.hostname, port, proxy)
            upstream = Upstream(
                _key(found), self._noting(dialer), context, (found.tls_server_name or url.hostname).rstrip(".")
            )
        fields = _fields(found, files, credential)
        described = (found.server, found.context, found.namespace, found.user)
        changed = (
            self.generation == 0
            or tls != self._tls
            or fields != self._fields
            or described != (self.server, self.context, self.namespace, self.user)
        )
        self._settings, self._credential = found, credential
        if not changed:
            return
        self._tls = tls
        self._authority = sha256(files.ca).hexdigest() if files.ca is not None else ""
        self.upstream = upstream
        self.server, self.context, self.namespace, self.user = described
        self.host = url.netloc.encode("idna" if not url.netloc.isascii() else "ascii")
        self.base_path = url.path.encode()
        if fields != self._fields:
            self._fields = fields
        self.generation += 1
        self._tell()

    def _noting(self, dialer: Dialer) -> Callable[[], Awaitable[socket.socket]]:
        async def connect() -> socket.socket:
            try:
                sock = await dialer()
            except OSError as error:
                self.note(ProxyError("dial", describe(error)))
                raise
            # Only what was wrong with dialling is over now; TLS and HTTP are the client's to judge.
            if self.trouble is not None and self.trouble.error.stage == "dial":
                self.note(None)
            if self.keepalive:
                # Go's net.Dialer, which kubectl uses, takes one period for both and rounds it up to seconds.
                period = math.ceil(self.keepalive)
                keep_alive(sock, period, period)
            return sock

        return connect

    def _replace_connections(self) -> None:
        self.upstream = replace(self.upstream, key=_key(self._settings))
        self.generation += 1
        if self._client is not None:
            self._client.reset()
        self._tell()

    def _tell(self) -> None:
        for callback in list(self._subscribers):
            callback()


def _same_source(one: Settings, other: Settings) -> bool:
    """Whether credentials that were asked for by one are those of the other."""
    sources = [found.oidc.updated({}) if found.oidc is not None else found.plugin for found in (one, other)]
    return sources[0] == sources[1]


def _key(found: Settings) -> object:
    return "kube", found.server, next(_keys)


def _stat(paths: Iterable[Path]) -> dict[Path, tuple[int, ...] | None]:
    """What tells an edited file from the one before; None where there is none."""
    found: dict[Path, tuple[int, ...] | None] = {}
    for path in paths:
        found[path] = None
        with contextlib.suppress(OSError):
            status = path.stat()
            found[path] = status.st_mtime_ns, status.st_size, status.st_ino
    return found


def _read(found: Settings) -> _Files:
    def content(source: bytes | Path | None) -> bytes | None:
        if not isinstance(source, Path):
            return source
        try:
            return source.read_bytes()
        except OSError as error:
            raise HatchwayError(
                f"{found.label}: cannot read {source}: {error.strerror}", "the kubeconfig names this file"
            ) from error

    token = found.token
    if found.token_file is not None:
        token = (content(found.token_file) or b"").decode(errors="replace").strip()
        if any(character in token for character in "\r\n\0"):
            raise HatchwayError(f"{found.label}: {found.token_file} holds more than a token")
    return _Files(content(found.ca), content(found.certificate), content(found.key), token)


def _fields(found: Settings, files: _Files, credential: execplugin.Credential | None) -> list[tuple[bytes, bytes]]:
    if found.url.scheme != "https":
        # As client-go does it: whoever listens on the way would have them.
        return []
    token = files.token or (credential.token if credential is not None else "")
    fields: list[tuple[bytes, bytes]] = []
    if token:
        fields.append((b"Authorization", b"Bearer " + token.encode()))
    elif found.basic is not None:
        fields.append((b"Authorization", b"Basic " + b64encode(":".join(found.basic).encode())))
    return fields + list(found.impersonate)
