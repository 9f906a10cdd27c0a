"""Probes the addresses of ways into a cluster from this machine, by one `GET /` without credentials for each.

Only addresses that the cluster itself names are probed, within limits of number, time and size. Redirects are followed
only at the same address. No credentials and no cookies are sent, and no HTTP proxy is used.
"""

from __future__ import annotations

import asyncio
import functools
import ipaddress
import socket
import ssl
import warnings
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final
from urllib.parse import urljoin, urlsplit

from hatchway import __version__
from hatchway.addresses import normal_host
from hatchway.exposure.answers import Certificate, ProbeAnswer, classify, with_answers
from hatchway.exposure.findings import Exposure, Location
from hatchway.kube.dial import connect
from hatchway.kube.http import HttpClient
from hatchway.kube.ports import Port, scheme_of
from hatchway.proxy.routing import ProxyError, Upstream

# The maximum number of locations that are probed, and how many at the same time.
_MOST: Final = 200
_AT_ONCE: Final = 16
# The maximum number of locations of one way in that are probed.
_MOST_OF_ONE: Final = 8
# Seconds for a connection, for an answer's head, for an attempt with or without TLS, and for a location altogether.
_CONNECT_SECONDS: Final = 4.0
_HEAD_SECONDS: Final = 4.0
_TRY_SECONDS: Final = 5.0
_WHOLE_SECONDS: Final = 12.0
# The maximum number of bytes of a body that are read.
_LONGEST_BODY: Final = 64 * 1024
_REDIRECTS: Final = 2
# Addresses of clouds' metadata services that are not link-local: AWS (IPv6), Alibaba, Oracle.
_METADATA: Final = tuple(map(ipaddress.ip_address, ("fd00:ec2::254", "100.100.100.200", "192.0.0.192")))
# TLS servers answer requests without TLS with a text that contains one of these parts.
_WANTS_TLS: Final = (b"HTTPS server", b"HTTPS port", b"plain HTTP request", b"requires TLS")

_Resolve = Callable[[str, int], Awaitable[list[str]]]


async def _resolve(host: str, port: int) -> list[str]:
    """Return the addresses of a host. Raises OSError."""
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(info[4][0]) for info in found))


@dataclass(frozen=True, slots=True)
class _ProbeReply:
    """A response. body: the part that was read. certificate: in DER; None without TLS."""

    status: int
    fields: dict[str, str]
    body: bytes
    certificate: bytes | None


class Prober:
    """Probes locations, each at most once.

    Attributes:
        left_out: how many locations were not probed because there were too many.
        on_nodes: how many ways in were not probed because they are open only at a loopback address of their node.
    """

    def __init__(self, *, on_this_machine: bool, resolve: _Resolve = _resolve) -> None:
        """Make a prober.

        Args:
            on_this_machine: True when the cluster runs on this machine. Only then its loopback addresses are probed:
                otherwise 127.0.0.1 would be this machine and not the cluster's.
            resolve: returns the addresses of a host name.
        """
        self._on_this_machine = on_this_machine
        self._resolve = resolve
        self._gate = asyncio.Semaphore(_AT_ONCE)
        self._asked: dict[Location, asyncio.Task[ProbeAnswer]] = {}
        self._context = _trusting_context()
        self.left_out = 0
        self.on_nodes = 0

    async def probe(self, exposures: Sequence[Exposure]) -> list[Exposure]:
        """Probe the locations of ways in, and return the ways with the results."""
        now = datetime.now(UTC)
        chosen = [list(_chosen(exposure)) for exposure in exposures]
        wanted = list(dict.fromkeys(location for locations in chosen for location in locations))
        self.left_out = max(0, len(wanted) - _MOST)
        self.on_nodes = sum(_is_on_node(exposure) for exposure in exposures)
        async with asyncio.TaskGroup() as group:
            self._asked = {location: group.create_task(self._gated(location)) for location in wanted[:_MOST]}
        answers = {location: task.result() for location, task in self._asked.items()}
        return [
            with_answers(exposure, [answers[one] for one in locations if one in answers], now)
            for exposure, locations in zip(exposures, chosen, strict=True)
        ]

    async def _gated(self, location: Location) -> ProbeAnswer:
        async with self._gate:
            try:
                async with asyncio.timeout(_WHOLE_SECONDS):
                    return await self._ask(location)
            except TimeoutError:
                return ProbeAnswer(location, "unreachable", f"has not answered in {_WHOLE_SECONDS:g} s")

    async def _ask(self, location: Location) -> ProbeAnswer:
        if not normal_host(location.address) or (location.host and not normal_host(location.host)):
            return ProbeAnswer(location, "unasked", "was not asked: it is no host name")
        try:
            addresses = await self._resolve(location.address, location.port)
        except (OSError, UnicodeError):
            return ProbeAnswer(location, "unreachable", "its name cannot be resolved from this machine")
        address = next((one for one in addresses if self._may_ask(one)), "")
        if not address:
            told = f"was not asked: {addresses[0]} is another machine here than in the cluster"
            return ProbeAnswer(location, "unasked", told)
        guess = location.tls if location.tls is not None else scheme_of(Port("", location.port)) == "https"
        problem: ProxyError | None = None
        for tls in (guess, not guess):
            try:
                async with asyncio.timeout(_TRY_SECONDS):
                    response = await self._get(location, address, tls=tls)
            except TimeoutError:
                problem = problem or ProxyError("read", "no answer", silent=_TRY_SECONDS)
                continue
            except ProxyError as error:
                if error.stage == "dial":
                    return ProbeAnswer(location, "unreachable", f"cannot be reached from this machine: {error.message}")
                problem = problem or error
                continue
            if not tls and response.status == 400 and any(hint in response.body for hint in _WANTS_TLS):
                continue
            kind, told = classify(response.status, response.fields, response.body)
            found = Certificate.parse(response.certificate) if response.certificate else None
            return ProbeAnswer(location, kind, told, tls, found)
        if problem is not None and problem.silent:
            return ProbeAnswer(location, "no-http", "accepts connections, and does not answer HTTP")
        return ProbeAnswer(location, "no-http", "accepts connections, and does not speak HTTP")

    def _may_ask(self, address: str) -> bool:
        """Return False for an address that means another machine here than in the cluster, such as a loopback one."""
        found = ipaddress.ip_address(address.partition("%")[0])
        found = getattr(found, "ipv4_mapped", None) or found
        if found.is_loopback:
            return self._on_this_machine
        if found in _METADATA:
            return False
        # These addresses mean something different on each machine.
        return not (found.is_link_local or found.is_unspecified or found.is_multicast)

    async def _get(self, location: Location, address: str, *, tls: bool) -> _ProbeReply:
        """Send `GET /`, and follow redirects at the same location. Raises ProxyError."""
        host = location.host or location.address
        standard = 443 if tls else 80
        authority = f"[{host}]" if ":" in host else host
        if location.port != standard:
            authority = f"{authority}:{location.port}"
        base = f"{'https' if tls else 'http'}://{authority}"
        upstream = Upstream(
            (location, tls),
            functools.partial(_dial, address, location.port),
            self._context if tls else None,
            None if not tls or _is_address(host) else host,
        )
        client = HttpClient()
        try:
            path = "/"
            for _ in range(_REDIRECTS + 1):
                response = await _get_once(client, upstream, authority, path)
                following = _target_of(response, base, path)
                if following in ("", path):
                    break
                path = following
            return response
        finally:
            await client.aclose()


async def _get_once(client: HttpClient, upstream: Upstream, authority: str, path: str) -> _ProbeReply:
    lines = (
        f"GET {path} HTTP/1.1",
        f"Host: {authority}",
        f"User-Agent: hatchway/{__version__}",
        "Accept: text/html, application/json;q=0.9, */*;q=0.8",
        "Connection: close",
    )
    head = "".join(f"{line}\r\n" for line in lines).encode("ascii", "replace") + b"\r\n"
    answer = await client.ask(upstream, "GET", head, b"", _HEAD_SECONDS)
    try:
        body = b""
        certificate = answer.certificate()
        try:
            async for piece in answer.pieces(_HEAD_SECONDS):
                body += piece
                if len(body) >= _LONGEST_BODY:
                    break
        except ProxyError:
            # The head is enough: of a body that breaks off or is too slow, only the first part is used.
            pass
        fields = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in reversed(answer.fields)}
        return _ProbeReply(answer.status, fields, body[:_LONGEST_BODY], certificate)
    finally:
        answer.leave()


async def _dial(address: str, port: int) -> socket.socket:
    """Connect, directly. Raises OSError."""
    try:
        async with asyncio.timeout(_CONNECT_SECONDS):
            return await connect(address, port)
    except TimeoutError:
        raise TimeoutError(f"no connection in {_CONNECT_SECONDS:g} s") from None


def _trusting_context() -> ssl.SSLContext:
    """Return a TLS context that accepts any certificate and old versions. The probe only looks; it sends no secrets."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        context.minimum_version = ssl.TLSVersion.TLSv1
    return context


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _target_of(reply: _ProbeReply, base: str, path: str) -> str:
    """Return the path to which a reply redirects on the same server; "" when it does not redirect there."""
    if not 300 <= reply.status < 400:
        return ""
    try:
        parts = urlsplit(urljoin(base + path, reply.fields.get("location", "")))
    except ValueError:
        # The Location is not a valid URL, such as `http://[`.
        return ""
    if f"{parts.scheme}://{parts.netloc}" != base:
        return ""
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return target if _is_plain(target) else ""


def _is_plain(path: str) -> bool:
    """Return True for a path that can be written into a request line without changes."""
    return path.isascii() and path.isprintable() and " " not in path and len(path) < 2000


def _is_on_node(exposure: Exposure) -> bool:
    """Return True for a way in whose locations are loopback addresses of the node itself."""
    return exposure.reach == "machine" and exposure.way in ("hostPort", "hostNetwork")


def _chosen(exposure: Exposure) -> Iterable[Location]:
    """Yield the locations of a way in to probe: one address for each port and host name."""
    if _is_on_node(exposure):
        return
    seen: set[tuple[int, str]] = set()
    for location in exposure.locations:
        mark = location.port, location.host
        if location.protocol == "TCP" and mark not in seen and len(seen) < _MOST_OF_ONE:
            seen.add(mark)
            yield location
