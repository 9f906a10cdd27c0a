"""Targets: the places of metrics, and the labels that their series get."""

from __future__ import annotations

import ssl
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Protocol

from hatchway import __version__
from hatchway.addons.monitoring.tsdb.labels import Labels
from hatchway.errors import ApiError
from hatchway.kube.client import ConnectionClient
from hatchway.kube.dial import Dialer
from hatchway.kube.http import HttpClient
from hatchway.proxy.routing import ProxyError, Upstream

_ACCEPT = b"application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5,*/*;q=0.1"
_READ = 64 * 1024


class ScrapeError(Exception):
    """A scrape has failed. The message says why."""


class Source(Protocol):
    """Fetches a target's metrics."""

    def fetch(self, seconds: float) -> AsyncGenerator[tuple[str, bytes], None]:
        """Yield (content type, piece of the metrics) until the end of the metrics. Raises ScrapeError.

        seconds: the longest time without a piece.
        """
        ...


@dataclass(frozen=True, slots=True)
class ScrapeTarget:
    """A target.

    job: the name of the group of targets.
    url: the URL that is shown to people.
    labels: the labels of its series, with `job` and `instance`.
    source: where its metrics are fetched.
    discovered: the facts about it that are shown to people.
    honor_labels: True if a series keeps its own labels where the target has labels of the same names.
    """

    job: str
    url: str
    labels: Labels
    source: Source = field(compare=False)
    discovered: Labels = ()
    honor_labels: bool = False

    @property
    def key(self) -> tuple[str, str, Labels, bool]:
        """Return the values that identify the target."""
        return (self.job, self.url, self.labels, self.honor_labels)


class HttpSource:
    """Fetches metrics from an address.

    Args:
        client: keeps the connections.
        host, port: the address.
        path: the path with its query.
        tls: the context for HTTPS; None for HTTP.
    """

    def __init__(self, client: HttpClient, host: str, port: int, path: str, tls: ssl.SSLContext | None = None) -> None:
        self._client = client
        dialer = Dialer(host, port)
        self._upstream = Upstream((host, port, tls is not None), dialer, tls)
        shown = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        self._head = b"".join(
            [
                b"GET %b HTTP/1.1\r\nHost: %b\r\n" % (path.encode(), shown.encode()),
                b"Accept: %b\r\nAccept-Encoding: identity\r\n" % _ACCEPT,
                b"User-Agent: hatchway-monitoring/%b\r\n\r\n" % __version__.encode(),
            ]
        )

    async def fetch(self, seconds: float) -> AsyncGenerator[tuple[str, bytes], None]:
        """Yield the pieces of the metrics (`Source.fetch`)."""
        try:
            answer = await self._client.ask(self._upstream, "GET", self._head, b"", seconds)
            try:
                if answer.status != 200:
                    raise ScrapeError(f"server returned HTTP status {answer.status}")
                kind = (answer.field(b"content-type") or b"").decode("latin-1")
                async with aclosing(answer.pieces(seconds)) as pieces:  # type: ignore[type-var]
                    async for piece in pieces:
                        yield kind, piece
            finally:
                answer.leave()
        except ProxyError as error:
            raise ScrapeError(error.message) from error


class ApiSource:
    """Fetches metrics from the API server or through it, with this program's own credentials.

    Args:
        client: the API server's client.
        path: a path of the API server itself, or of its proxy verb.
    """

    def __init__(self, client: ConnectionClient, path: str) -> None:
        self._client = client
        self._path = path

    async def fetch(self, seconds: float) -> AsyncGenerator[tuple[str, bytes], None]:
        """Yield the pieces of the metrics (`Source.fetch`)."""
        try:
            async with aclosing(self._client.pieces(self._path, seconds)) as pieces:
                async for piece in pieces:
                    yield "text/plain", piece
        except ApiError as error:
            raise ScrapeError(f"{error.code} {error.message}") from error
