"""The connection to one API server, kept up to date while the kubeconfig and the credentials change.

For each request the door reads only attributes of the connection; slow work (exec plugins, reading files) runs in
other tasks.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import math
import os
import socket
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

from hatchway.errors import HatchwayError, NoCredentials
from hatchway.kube import contexts, execplugin, oidc
from hatchway.kube import kubeconfig as kubeconfig_files
from hatchway.kube.credentials import (
    file_marks,
    have_same_source,
    header_fields,
    proxy_tls,
    read_files,
    server_tls,
)
from hatchway.kube.dial import Dialer, keep_alive
from hatchway.kube.envproxy import from_environment
from hatchway.kube.overrides import NONE, Overrides
from hatchway.kube.serversettings import Settings
from hatchway.kube.trouble import Trouble, advice
from hatchway.proxy.routing import ProxyError, Upstream
from hatchway.proxy.socketerrors import describe

if TYPE_CHECKING:
    from hatchway.kube.client import ConnectionClient

log = logging.getLogger(__name__)

# Seconds between two checks of the kubeconfig and credential files for edits.
_POLL = 1.0
# The plugin runs again this many seconds before the credentials expire, but at most once in `_PAUSE` seconds.
_NEAR_END = 10.0
_PAUSE = 3.0
# When the wall clock has advanced this many seconds more than the monotonic clock, the machine has slept.
_SLEPT = 5.0

_keys = itertools.count()
_wall_clock = time.time


@dataclass(frozen=True, slots=True)
class SettingsSource:
    """Where a connection reads its settings, at the start and after each change.

    load: a function that returns the settings, or raises HatchwayError.
    files: a function that returns the files that `load` reads; these are checked for edits.
    environment: the environment variables that may name a proxy.
    """

    load: Callable[[], Settings]
    files: Callable[[], list[Path]]
    environment: Mapping[str, str]


class Connection:
    """An API server and its user, as a context names them, with credentials that are renewed.

    server: the URL, without a slash at its end.
    context: the context's name; "" in a pod.
    namespace: the context's namespace.
    user: the name of the user entry in the kubeconfig.
    host: the `Host` field for the API server.
    base_path: the path of the server's URL, without a slash at its end.
    upstream: the server for the proxy engine. When the address, the TLS settings or the client certificate change, a
    new upstream with another `key` takes its place.
    generation: a number that is increased by every change of settings or credentials.
    problem: why the kubeconfig or the credentials could not be renewed, or None. If not None, the former settings and
    credentials stay in use.
    trouble: why the server cannot be reached now, or None.
    fresh_until: the time at which the credentials in `fields()` expire, in POSIX seconds; infinite if they never do.
    keepalive: seconds of silence before and between TCP keep-alive probes on new connections; 0 for the defaults of
    `kube/dial.py`. Callers may set it.
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
    fresh_until: float
    keepalive: float

    def __init__(self, source: SettingsSource, program: str = "hatchway") -> None:
        """Make a connection. Callers use `load` or `fixed` instead.

        program: the name in `User-Agent`, which the API server also uses as the field manager.
        Raises HatchwayError when certificates, keys or tokens cannot be read or used.
        """
        self.program = program
        self._source = source
        self._credential: execplugin.ApiCredential | None = None
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
        self.fresh_until = 0.0
        self.keepalive = 0.0
        found = source.load()
        self._seen = file_marks([*source.files(), *found.files])
        self._apply(found, None)

    @classmethod
    def load(cls, kubeconfig: str | None = None, context: str | None = None, overrides: Overrides = NONE) -> Connection:
        """Return a connection for a context of the kubeconfig, or for the service account of the pod.

        This sends nothing and runs no plugin.

        Args:
            kubeconfig: the file; None for $KUBECONFIG, else ~/.kube/config.
            context: the context's name; None to follow the current context when it changes.
            overrides: settings of the command line, which replace those of the kubeconfig.

        Raises:
            HatchwayError: there is no such context, or its credentials cannot be used.
        """
        return cls(
            SettingsSource(
                lambda: contexts.load(kubeconfig, context, overrides),
                lambda: kubeconfig_files.sources(kubeconfig),
                os.environ,
            )
        )

    @classmethod
    def fixed(cls, found: Settings, program: str = "hatchway") -> Connection:
        """Return a connection with these settings, for the embedded cluster's own programs.

        After a 401 the files that the settings name are read again. Proxies in the environment are ignored, because a
        proxy for the Internet cannot reach a cluster's private addresses. Raises HatchwayError.
        """
        return cls(SettingsSource(lambda: found, list, {}), program)

    @property
    def label(self) -> str:
        """Return the names of context and server for errors."""
        return self._settings.label

    @property
    def timeout(self) -> float:
        """Return the seconds that a client's request may take; 0 for the client's own limits."""
        return self._settings.timeout

    @property
    def identity(self) -> tuple[str, str, str, str]:
        """Return (server, context, user, authority).

        When this value changes, objects that were read earlier are no longer valid.

        authority: a digest of the CA. A new cluster with the name and address of an old cluster has another digest.
        """
        return self.server, self.context, self.user, self._authority

    @property
    def client(self) -> ConnectionClient:
        """Return the client of this connection; always the same object."""
        if self._client is None:
            from hatchway.kube.client import ConnectionClient

            self._client = ConnectionClient(self)
        return self._client

    def fields(self) -> list[tuple[bytes, bytes]]:
        """Return the request header fields with the credentials.

        The same list object is returned until the credentials change. Do not change the list.
        """
        return self._fields

    def subscribe(self, callback: Callable[[], None]) -> Callable[[], None]:
        """Call `callback` after each change of `generation`, `problem` or `trouble`.

        Return a function that ends the subscription.
        """
        self._subscribers.append(callback)
        return lambda: self._subscribers.remove(callback)

    @property
    def fresh(self) -> bool:
        """Return True while `fields()` are valid, so that `ready` need not be awaited."""
        return time.time() < self.fresh_until

    async def ready(self) -> None:
        """Wait until the credentials are valid. A plugin runs at first use and before its credentials expire.

        Raises NoCredentials, with the plugin's message, when the plugin gives no credentials.
        """
        if self.fresh:
            return
        # A plugin that fails, or whose credentials expire soon, must not be started for every request.
        if self._running is None and time.monotonic() - self._ran >= _PAUSE:
            self._start_plugin()
        if self._usable():
            # The present credentials are valid for some more seconds, so this request need not wait for the plugin.
            return
        if self._running is not None:
            await asyncio.shield(self._running)
        if self.problem is not None and not self._usable():
            raise NoCredentials(self.problem.message, self.problem.hint)

    def _usable(self) -> bool:
        credential = self._credential
        return credential is not None and (credential.expires is None or time.time() < credential.expires)

    async def renew(self) -> bool:
        """Renew the credentials after a 401: run the plugin again, and read kubeconfig and token file again.

        Concurrent callers share one renewal, and callers within the next few seconds get its result. A failure is
        recorded in `problem`; HatchwayError is never raised.

        Returns:
            True when the credentials have changed, so that it makes sense to send the request again.
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
                if not asked.has_issuer:
                    return
                credential = await (oidc.obtain(asked) if asked.oidc is not None else execplugin.run(asked))
                # If the kubeconfig was edited while the plugin ran, the credential may belong to another user.
                if have_same_source(self._settings, asked):
                    self._apply(self._settings, credential)
                    self._set_problem(None)
                    return
        except HatchwayError as error:
            self._set_problem(error)
        finally:
            self._ran = time.monotonic()
            self._running = None

    def note(self, error: ProxyError | None) -> Trouble | None:
        """Record the result of an attempt to reach the server.

        Args:
            error: None when the server answered.

        Returns:
            The reason why the server cannot be reached now, or None when it can be.
        """
        before = self.trouble
        if error is None:
            self.trouble = None
        else:
            reason = f"cannot reach {self.label}: {error.message}"
            since = before.since if before else time.time()
            self.trouble = Trouble(reason, advice(error, self._settings.url.hostname or ""), since, error)
        if (before is None) != (self.trouble is None):
            self._notify()
        return self.trouble

    async def watch_files(self) -> None:
        """Watch kubeconfig, token file and certificates until cancelled, and apply each edit within about a second.

        If no context was given, a change of the current context is applied, too. After an invalid edit only `problem`
        is set. After the machine has slept, existing connections are closed.
        """
        wall, steady = _wall_clock(), time.monotonic()
        while True:
            await asyncio.sleep(_POLL)
            if file_marks(self._seen) != self._seen:
                self._reload()
            now_wall, now_steady = _wall_clock(), time.monotonic()
            if (now_wall - wall) - (now_steady - steady) > _SLEPT:
                log.info("the machine has slept; connecting again")
                self._replace_connections()
            wall, steady = now_wall, now_steady

    async def aclose(self) -> None:
        """Close the client's connections, and end a running plugin."""
        tasks = [task for task in (self._renewing, self._running) if task is not None]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        if self._client is not None:
            await self._client.aclose()

    def _reload(self) -> None:
        """Read all files again. On an error the settings stay as they are, and `problem` is set to the error."""
        # `file_marks` runs before the files are read, so that an edit in between counts as a further change.
        self._seen = file_marks([*self._source.files(), *self._settings.files])
        try:
            found = self._source.load()
            self._seen |= file_marks(found.files)
            same = have_same_source(found, self._settings) and found.server == self._settings.server
            self._apply(found, self._credential if same else None)
            self._set_problem(None)
        except HatchwayError as error:
            self._set_problem(error)

    def _set_problem(self, problem: HatchwayError | None) -> None:
        if problem is not None or self.problem is not None:
            self.problem = problem
            self._notify()

    def _apply(self, found: Settings, credential: execplugin.ApiCredential | None) -> None:
        """Apply settings and a plugin's credential. When it raises HatchwayError, nothing was changed."""
        files = read_files(found)
        if found.oidc is not None:
            # Another program may have written a newer token.
            credential = oidc.valid_token(found.oidc) or credential
        certificate, key = files.certificate, files.key
        if credential is not None and credential.certificate is not None:
            certificate, key = credential.certificate, credential.key
        url = found.url
        assert url.hostname is not None
        proxy = found.proxy or from_environment(url, self._source.environment)
        port = url.port or (443 if url.scheme == "https" else 80)
        tls = (url.scheme, url.hostname, port, proxy, found.insecure, found.tls_server_name, files.ca, certificate, key)
        upstream = self.upstream if tls == self._tls else None
        if upstream is None:
            context = server_tls(found, files.ca, certificate, key) if url.scheme == "https" else None
            for_proxy = proxy_tls(found, files.ca) if proxy.startswith("https:") else None
            dialer = Dialer(url.hostname, port, proxy, proxy_tls=for_proxy)
            upstream = Upstream(
                _key(found), self._recording(dialer), context, (found.tls_server_name or url.hostname).rstrip(".")
            )
        fields = header_fields(found, files, credential)
        described = (found.server, found.context, found.namespace, found.user)
        changed = (
            self.generation == 0
            or tls != self._tls
            or fields != self._fields
            or described != (self.server, self.context, self.namespace, self.user)
        )
        self._settings, self._credential = found, credential
        self.fresh_until = _fresh_until(found, credential)
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
        self._notify()

    def _recording(self, dialer: Dialer) -> Callable[[], Awaitable[socket.socket]]:
        async def connect() -> socket.socket:
            try:
                sock = await dialer()
            except OSError as error:
                self.note(ProxyError("dial", describe(error)))
                raise
            # The new TCP connection shows only that dialling works again; TLS and HTTP may still fail.
            if self.trouble is not None and self.trouble.error.stage == "dial":
                self.note(None)
            if self.keepalive:
                # Go's net.Dialer, which kubectl uses, has one period for both times, in whole seconds.
                period = math.ceil(self.keepalive)
                keep_alive(sock, period, period)
            return sock

        return connect

    def _replace_connections(self) -> None:
        self.upstream = replace(self.upstream, key=_key(self._settings))
        self.generation += 1
        if self._client is not None:
            self._client.reset()
        self._notify()

    def _notify(self) -> None:
        for callback in list(self._subscribers):
            callback()


def _fresh_until(found: Settings, credential: execplugin.ApiCredential | None) -> float:
    if found.plugin is None and found.oidc is None:
        return math.inf
    if credential is None:
        return 0.0
    return math.inf if credential.expires is None else credential.expires - _NEAR_END


def _key(found: Settings) -> object:
    return "kube", found.server, next(_keys)
