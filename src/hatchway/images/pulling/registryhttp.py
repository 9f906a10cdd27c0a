"""HTTP for registries: connections with each host's certificates, the environment's proxies, redirects, retries."""

from __future__ import annotations

import asyncio
import os
import random
import socket
import ssl
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC
from email.utils import parsedate_to_datetime
from pathlib import Path
from urllib.parse import SplitResult, quote, urljoin, urlsplit

from hatchway import __version__
from hatchway.errors import HatchwayError
from hatchway.images.pulling.destinations import Reach, authority_of, is_same_server, may_lead, reach_of
from hatchway.images.pulling.pullerror import PullError
from hatchway.images.pulling.registries import Registries
from hatchway.kube.dial import Dialer
from hatchway.kube.envproxy import from_environment
from hatchway.kube.http import HttpAnswer, HttpClient
from hatchway.kube.tls import client_context
from hatchway.proxy.routing import ProxyError, Upstream

# Seconds without a byte after which a registry counts as silent.
PATIENCE = 60.0
# Seconds for opening a connection, including the way through a proxy.
_CONNECTING = 20.0
# As in Go's net/http.
_REDIRECTS = 10
_REDIRECT = frozenset({301, 302, 303, 307, 308})
_PASSING = frozenset({408, 429, 500, 502, 503, 504})
# The most times that a request is sent; the seconds before the second time. Each further delay is twice as long.
ATTEMPTS = 4
FIRST_DELAY = 0.5
# The longest Retry-After, in seconds, that is obeyed; with a longer Retry-After the request fails.
LONGEST_DELAY = 30.0
# OpenSSL's messages when the server does not speak TLS.
_NO_TLS = ("wrong version number", "record layer failure", "packet length too long", "http request")
_LONGEST_URL = 16 * 1024


@dataclass(frozen=True, slots=True)
class Host:
    """A server and how to reach it. name: as in names of images. verify: True when its certificate must be valid."""

    scheme: str
    name: str
    authority: str
    verify: bool

    def url(self, path: str) -> str:
        """Return the URL of a path."""
        return f"{self.scheme}://{self.authority}{path}"


class RegistryHttp:
    """Sends requests to registries and to the hosts that they name. Must be closed (`aclose`).

    registries: certificates by host. environment: for HTTPS_PROXY and the like.
    """

    def __init__(self, registries: Registries, environment: Mapping[str, str] | None = None) -> None:
        self._registries = registries
        self._environment = os.environ if environment is None else environment
        self._http = HttpClient()
        self._contexts: dict[tuple[str, bool], asyncio.Task[ssl.SSLContext]] = {}
        # The reach of each registry by its authority. It is set after a connection, because a name does not show the
        # reach.
        self._reach: dict[str, Reach] = {}

    async def aclose(self) -> None:
        """Close all connections."""
        for task in self._contexts.values():
            task.cancel()
        await asyncio.gather(*self._contexts.values(), return_exceptions=True)
        await self._http.aclose()

    async def send(
        self,
        host: Host,
        method: str,
        url: str,
        fields: Mapping[str, str],
        body: bytes = b"",
        *,
        plain_redirects: bool = False,
    ) -> tuple[HttpAnswer, bool]:
        """Send a request once, and follow its redirects.

        Returns:
            The answer, whose `leave` the caller must call; and True when it comes from the registry itself. False
            means that redirects led to another host, which must get no credentials, even after a 401.

        Authorization is sent to the URL's own scheme, host and port only. Hosts that the registry may not name are
        refused (`destinations.py`), unless registries.toml has them in the registry's `redirects-to`.

        Args:
            host: the registry. Its `verify` applies to its own authority; other hosts are always verified.
            method: GET, HEAD or POST.
            url: absolute.
            fields: header fields.
            body: the body of a POST. Redirects of a POST are not followed.
            plain_redirects: True to follow redirects from https to http, for content whose digest is verified.

        Raises:
            ProxyError: no answer came.
            PullError: a URL or a certificate cannot be used.
        """
        first = self._parts(url)
        parts = first
        for _ in range(_REDIRECTS + 1):
            own = parts.netloc == host.authority
            upstream = await self._upstream(host, parts, verify=host.verify or not own)
            answer = await self._http.ask(upstream, method, _head(method, parts, fields, body), body, PATIENCE)
            location = answer.field(b"location") if answer.status in _REDIRECT else None
            if location is None or method == "POST":
                return answer, own
            answer.leave()
            target = self._parts(location.decode(errors="replace"), parts.geturl())
            if (parts.scheme, target.scheme) == ("https", "http") and not plain_redirects:
                raise PullError("invalid", f"{parts.netloc} redirects from https to http ({target.netloc})")
            if (target.scheme, target.netloc) != (first.scheme, first.netloc):
                fields = {name: value for name, value in fields.items() if name != "Authorization"}
            parts = target
        raise PullError("invalid", f"stopped after {_REDIRECTS} redirects")

    def _parts(self, url: str, base: str = "") -> SplitResult:
        """Return the parts of a URL that a registry has sent. base: the URL to which it may be relative.

        Raises PullError.
        """
        try:
            parts = urlsplit(urljoin(base, url))
            good = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
        except ValueError:
            good = False
        if not good or "@" in parts.netloc or len(url) > _LONGEST_URL or not parts.netloc.isprintable():
            raise PullError("invalid", f'"{url[:200]}" is not a URL that can be used')
        return parts

    async def _upstream(self, host: Host, parts: SplitResult, *, verify: bool) -> Upstream:
        name = host_name(parts)
        tls = parts.scheme == "https"
        port = parts.port or (443 if tls else 80)
        proxy = from_environment(parts, self._environment)
        context = await self._context(parts.netloc, verify) if tls else None
        proxy_tls = await self._context("", True) if proxy.startswith("https:") else None
        try:
            dialer = Dialer(name, port, proxy, proxy_tls=proxy_tls, timeout=_CONNECTING)
        except HatchwayError as error:
            raise PullError("unreachable", error.message, "check HTTPS_PROXY and HTTP_PROXY") from error
        authority = authority_of(parts)
        own = is_same_server(parts, urlsplit(f"{host.scheme}://{host.authority}"))
        free = own or self._registries.may_redirect(host.name, authority)
        key = ("registry", parts.scheme, name, port, verify, "" if free else host.authority)

        async def connect() -> socket.socket:
            # When a proxy is used, only the proxy knows the address of the name.
            if not free:
                self._check(host, authority, reach_of(name), name)
            sock = await dialer()
            if not dialer.proxy:
                address, own_address = sock.getpeername()[0], sock.getsockname()[0]
                # An address of this machine's network interfaces counts as local, like its loopback addresses.
                reach = Reach.LOCAL if address == own_address else reach_of(address)
                try:
                    if own:
                        self._note_own(host, reach, address)
                    elif not free:
                        self._check(host, authority, reach, address)
                except PullError:
                    sock.close()
                    raise
            return sock

        return Upstream(key, connect, context, name.rstrip("."))

    def _note_own(self, host: Host, reach: Reach, address: str) -> None:
        """Record the reach of a registry. Raises PullError when its name now means this machine (DNS rebinding).

        A registry that once had a public address stays public, even if its name leads to a private address later.
        """
        before = self._reach.get(host.authority, reach)
        self._reach[host.authority] = before if before is Reach.LOCAL else min(before, reach)
        if reach is Reach.LOCAL and before is not Reach.LOCAL:
            raise PullError(
                "invalid", f"{host.authority} has moved to {address}, an address of this machine or its link"
            )

    def _check(self, host: Host, authority: str, reach: Reach, address: str) -> None:
        """Check that a registry may name this host. Raises PullError."""
        registry = self._reach.get(host.authority)
        if registry is None:
            registry = reach_of(host_name(urlsplit(f"//{host.authority}")))
        if not may_lead(registry, reach):
            kind = "a private address" if reach is Reach.PRIVATE else "an address of this machine or its link"
            shown = authority if authority.startswith(address) else f"{authority} ({address})"
            raise PullError(
                "invalid",
                f"{host.authority} leads to {shown}, {kind}, which was not contacted",
                f'to allow it, put redirects-to = ["{authority}"] below [registry."{host.name}"] in registries.toml',
            )

    async def _context(self, name: str, verify: bool) -> ssl.SSLContext:
        """Return a host's TLS context. CAs are read from disk in a thread, once for each host."""
        key = (name if self._registries.has_files(name) else "", verify)
        if key not in self._contexts:
            work = asyncio.to_thread(_make_context, self._registries, key[0], verify)
            self._contexts[key] = asyncio.create_task(work)
        try:
            return await asyncio.shield(self._contexts[key])
        except (OSError, ValueError) as error:
            why = (error.strerror if isinstance(error, OSError) else None) or error
            hint = "they are named in registries.toml"
            raise PullError("unreachable", f"the certificates for {name} cannot be used: {why}", hint) from error


def _make_context(registries: Registries, name: str, verify: bool) -> ssl.SSLContext:
    files = registries.files(name)
    ca = b"\n".join(Path(path).read_bytes() for path in (registries.ca, files.ca) if path)
    pair = [Path(path).read_bytes() if path else None for path in (files.certificate, files.key)]
    context = client_context(ca or None, pair[0], pair[1], insecure=not verify)
    if ca and verify:
        context.load_default_certs()
    return context


def host_name(parts: SplitResult) -> str:
    """Return a URL's host name in the form in which it is looked up."""
    name = parts.hostname or ""
    try:
        return name if name.isascii() else name.encode("idna").decode()
    except UnicodeError:
        raise PullError("invalid", f'"{name}" is not a host name') from None


def _head(method: str, parts: SplitResult, fields: Mapping[str, str], body: bytes) -> bytes:
    netloc = parts.netloc if parts.netloc.isascii() else host_name(parts) + (f":{parts.port}" if parts.port else "")
    query = f"?{quote(parts.query, safe=_SAFE + '?')}" if parts.query else ""
    lines = [
        f"{method} {quote(parts.path or '/', safe=_SAFE)}{query} HTTP/1.1",
        f"Host: {netloc}",
        f"User-Agent: hatchway/{__version__}",
        *(f"{name}: {value}" for name, value in fields.items()),
    ]
    if method == "POST":
        lines.append(f"Content-Length: {len(body)}")
    if any(character in line for line in lines for character in "\r\n\0"):
        raise PullError("invalid", f"{parts.netloc} names a URL that cannot be used")
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


# The characters, besides letters and digits, that are not quoted in a URL's path and query (RFC 3986 section 3.3).
# `%` is among them: it is already quoted.
_SAFE = "/%:@!$&'()*+,;=~"


def unreachable(error: ProxyError, method: str, url: str, registry: str) -> PullError:
    """Return the error for a request without an answer, in the words of Go's net/http as containerd quotes them."""
    why = error.message
    parts = urlsplit(url)
    words = f'failed to do request: {method.capitalize()} "{parts._replace(query="").geturl()}": '
    if why.startswith("lookup failed"):
        hint = f"check the registry's name and this machine's network; is {parts.hostname} right?"
        missing = any(text in why for text in ("not known", "no address", "no such host"))
        said = "no such host" if missing else why.removeprefix("lookup failed: ")
        return PullError("unreachable", f"{words}dial tcp: lookup {parts.hostname}: {said}", hint)
    if error.stage == "tls" and any(text in why for text in _NO_TLS):
        hint = f"if it has no TLS: --insecure-registry {registry}, or `insecure = true` in registries.toml"
        return PullError("unreachable", f"{words}http: server gave HTTP response to HTTPS client", hint)
    if error.stage == "tls" and "certificate" in why:
        hint = f'name its CA in registries.toml (ca-file of [registry."{registry}"])'
        return PullError("unreachable", words + why, hint)
    if error.stage == "dial" and why.startswith("proxy "):
        return PullError("unreachable", f"{words}proxyconnect tcp: {why}", "check HTTPS_PROXY and HTTP_PROXY")
    if error.stage == "dial":
        address = f"{parts.hostname}:{parts.port or (443 if parts.scheme == 'https' else 80)}"
        known = "connection refused" in why or "unreachable" in why or "timeout" in why
        said = f"dial tcp {address}: {'connect: ' if 'refused' in why else ''}{why}" if known else f"dial tcp: {why}"
        return PullError("unreachable", words + said, "check the registry's name, port and this machine's network")
    return PullError("unavailable", words + why)


def is_passing(status: int) -> bool:
    """Return True for a temporary error: the same request may succeed later."""
    return status in _PASSING


def retry_after(answer: HttpAnswer) -> float | None:
    """Return the seconds of Retry-After (RFC 9110 section 10.2.3); None when the answer has none."""
    text = (answer.field(b"retry-after") or b"").decode("latin-1").strip()
    if not text:
        return None
    if text.isascii() and text.isdigit():
        return float(text[:9])
    try:
        moment = parsedate_to_datetime(text)
    except ValueError:
        return None
    return max(0.0, (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() - time.time())


def delay_before(attempt: int, wanted: float | None = None) -> float | None:
    """Return the seconds to wait before another attempt; None when the server wants more than `LONGEST_DELAY`.

    attempt: the number of failed attempts. wanted: the seconds of the server's Retry-After; None without one.
    """
    if wanted is not None:
        return wanted if wanted <= LONGEST_DELAY else None
    # The jitter spreads clients that were refused at the same time.
    return FIRST_DELAY * 2.0 ** (attempt - 1) * random.uniform(0.75, 1.25)
