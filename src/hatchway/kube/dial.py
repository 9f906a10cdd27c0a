"""Connects to an API server: tries all addresses of its name, and uses a proxy where there is one.

The result is a connected, non-blocking socket; TLS to the API server is the caller's task.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import socket
import ssl
from ipaddress import ip_address
from urllib.parse import SplitResult, unquote, urlsplit

from hatchway.errors import HatchwayError
from hatchway.proxy.socketerrors import describe

# Seconds that connecting may take.
TIMEOUT = 10.0
# Seconds after which the next address is tried, too. Earlier attempts continue (RFC 8305 section 5).
_NEXT_ADDRESS = 0.25
# The maximum number of bytes of the head of a proxy's answer.
_LARGEST_HEAD = 16 * 1024
# TCP keep-alive (seconds, seconds, probes): a connection whose peer no longer answers is closed after about 30 s.
_IDLE, _INTERVAL, _PROBES = 15, 5, 3
# A connection whose peer does not acknowledge data is closed after this many seconds at the earliest.
_LEAST_PATIENCE = 30
_SOCKS_ERRORS = {
    1: "general failure",
    2: "not allowed by its rules",
    3: "network unreachable",
    4: "host unreachable",
    5: "connection refused",
    6: "TTL expired",
}
_PROXY_SCHEMES = {"http": 80, "https": 443, "socks5": 1080, "socks5h": 1080}


class Dialer:
    """Connects to one host and port.

    proxy: the URL of the proxy to use (`http`, `https`, `socks5`), or "".
    proxy_tls: the TLS context for an `https` proxy.
    timeout: seconds that connecting may take.

    Raises HatchwayError when the proxy's URL cannot be used.
    """

    def __init__(
        self,
        host: str,
        port: int,
        proxy: str = "",
        *,
        proxy_tls: ssl.SSLContext | None = None,
        timeout: float = TIMEOUT,
    ) -> None:
        self.host = host
        self.port = port
        self.proxy = proxy
        self._timeout = timeout
        self._proxy = parse_proxy(proxy) if proxy else None
        self._proxy_tls = proxy_tls

    async def __call__(self) -> socket.socket:
        """Connect. Raises OSError (or its subclass TimeoutError); the message says whether proxy or server failed."""
        try:
            async with asyncio.timeout(self._timeout):
                if self._proxy is None:
                    return await connect(self.host, self.port)
                return await self._through(self._proxy)
        except TimeoutError:
            raise TimeoutError("i/o timeout") from None

    async def _through(self, proxy: SplitResult) -> socket.socket:
        assert proxy.hostname is not None
        port = proxy.port or _PROXY_SCHEMES[proxy.scheme]
        where = f"proxy {proxy.hostname}:{port}"
        try:
            sock = await connect(proxy.hostname, port)
        except OSError as error:
            raise ConnectionError(f"{where}: {describe(error)}") from error
        try:
            if proxy.scheme == "https":
                assert self._proxy_tls is not None
                authority, request = _connect_request(self.host, self.port, proxy)
                return await _through_tls(sock, self._proxy_tls, proxy.hostname, authority, request)
            greet = _socks if proxy.scheme.startswith("socks") else _tunnel
            await greet(sock, self.host, self.port, proxy)
        except OSError as error:
            sock.close()
            raise ConnectionError(f"{where}: {describe(error)}") from error
        except BaseException:
            sock.close()
            raise
        return sock


def parse_proxy(text: str) -> SplitResult:
    """Return the parts of a proxy's URL. Raises HatchwayError for a URL that cannot be used."""
    hint = "it is proxy-url in the kubeconfig, or HTTPS_PROXY in the environment"
    parts = urlsplit(text)
    try:
        good = parts.hostname and parts.port != 0
    except ValueError:
        good = False
    if parts.scheme not in _PROXY_SCHEMES or not good:
        raise HatchwayError(f'"{_without_password(parts)}" is not a proxy that can be used (http, https, socks5)', hint)
    return parts


def _without_password(parts: SplitResult) -> str:
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()


async def connect(host: str, port: int) -> socket.socket:
    """Connect to the first address of `host` that answers (RFC 8305). The attempts begin in the resolver's order.

    Raises the OSError of the last attempt when all fail.
    """
    loop = asyncio.get_running_loop()
    try:
        family = socket.AF_INET6 if ip_address(host).version == 6 else socket.AF_INET
        addresses: list[tuple[int, tuple[object, ...]]] = [(family, (host, port))]
    except ValueError:
        found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        addresses = list(dict.fromkeys((info[0], info[4]) for info in found))
    attempts: set[asyncio.Task[socket.socket]] = set()
    winner: socket.socket | None = None
    problem: OSError = OSError(f"{host} has no address")
    try:
        while winner is None and (addresses or attempts):
            if addresses:
                attempts.add(loop.create_task(_attempt(*addresses.pop(0))))
            done, attempts = await asyncio.wait(
                attempts, timeout=_NEXT_ADDRESS if addresses else None, return_when=asyncio.FIRST_COMPLETED
            )
            for task in done:
                try:
                    found_socket = task.result()
                except OSError as error:
                    problem = error
                    continue
                if winner is None:
                    winner = found_socket
                else:
                    found_socket.close()
    finally:
        for task in attempts:
            task.cancel()
        for outcome in await asyncio.gather(*attempts, return_exceptions=True):
            if isinstance(outcome, socket.socket):
                outcome.close()
    if winner is None:
        raise problem
    return winner


async def _attempt(family: int, address: tuple[object, ...]) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        keep_alive(sock)
        await asyncio.get_running_loop().sock_connect(sock, address)
    except BaseException:
        sock.close()
        raise
    return sock


def keep_alive(sock: socket.socket, idle: int = _IDLE, interval: int = _INTERVAL) -> None:
    """Enable TCP keep-alive: a connection whose peer answers none of three probes is closed.

    idle: seconds of silence before the first probe.
    interval: seconds between two probes.

    Systems without the options for these times use their own times.
    """
    patience = max(_LEAST_PATIENCE, idle + _PROBES * interval)
    options = {
        "TCP_KEEPIDLE": idle,
        "TCP_KEEPALIVE": idle,  # the name on macOS
        "TCP_KEEPINTVL": interval,
        "TCP_KEEPCNT": _PROBES,
        "TCP_USER_TIMEOUT": patience * 1000,
    }
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in options.items():
        if (option := getattr(socket, name, None)) is not None:
            with contextlib.suppress(OSError):  # some systems and sandboxes refuse an option; it is not essential
                sock.setsockopt(socket.IPPROTO_TCP, option, value)


def _credentials(proxy: SplitResult) -> tuple[bytes, bytes] | None:
    if proxy.username is None:
        return None
    return unquote(proxy.username).encode(), unquote(proxy.password or "").encode()


async def _tunnel(sock: socket.socket, host: str, port: int, proxy: SplitResult) -> None:
    """Ask a proxy for a connection by HTTP CONNECT (RFC 9110 section 9.3.6)."""
    loop = asyncio.get_running_loop()
    authority, request = _connect_request(host, port, proxy)
    await loop.sock_sendall(sock, request)
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        # Read no byte after the head: later bytes come from the server behind the proxy.
        piece = await loop.sock_recv(sock, 4 - _matched(head))
        if not piece or len(head) > _LARGEST_HEAD:
            raise ConnectionError("it closed the connection" if not piece else "its answer's head is too long")
        head += piece
    _check_status(head.split(b"\r\n", 1)[0].decode("latin-1"), authority)


def _connect_request(host: str, port: int, proxy: SplitResult) -> tuple[str, bytes]:
    """Return (the requested host and port, the request's head)."""
    authority = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    lines = f"CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n".encode()
    if (pair := _credentials(proxy)) is not None:
        lines += b"Proxy-Authorization: Basic " + base64.b64encode(b":".join(pair)) + b"\r\n"
    return authority, lines + b"\r\n"


async def _through_tls(
    sock: socket.socket, context: ssl.SSLContext, name: str, authority: str, request: bytes
) -> socket.socket:
    """Ask a proxy for a connection by HTTP CONNECT over TLS."""
    # Imported here because only proxies with TLS need asyncio's streams.
    from hatchway.kube.tunnel import open_tunnel

    found, status = await open_tunnel(sock, context, name, request)
    try:
        _check_status(status, authority)
    except BaseException:
        found.close()
        raise
    return found


def _check_status(status: str, authority: str) -> None:
    words = status.split(" ", 2)
    if not words[0].startswith("HTTP/1.") or len(words) < 2 or not words[1].startswith("2"):
        raise ConnectionError(f"it refused to connect to {authority}: {status}")


def _matched(head: bytes) -> int:
    """Return how many bytes of the head's final CR LF CR LF have arrived (0 to 4)."""
    for length in (3, 2, 1):
        if head.endswith(b"\r\n\r\n"[:length]):
            return length
    return 0


async def _socks(sock: socket.socket, host: str, port: int, proxy: SplitResult) -> None:
    """Ask a proxy for a connection by SOCKS 5 (RFC 1928; passwords: RFC 1929). The proxy resolves the host name."""
    loop = asyncio.get_running_loop()

    async def take(count: int) -> bytes:
        found = b""
        while len(found) < count:
            piece = await loop.sock_recv(sock, count - len(found))
            if not piece:
                raise ConnectionError("it closed the connection")
            found += piece
        return found

    pair = _credentials(proxy)
    await loop.sock_sendall(sock, b"\x05\x01\x02" if pair else b"\x05\x01\x00")
    version, method = await take(2)
    if version != 5 or method not in (0, 2) or (method == 2 and pair is None):
        raise ConnectionError("it is not a SOCKS 5 proxy, or requires other credentials")
    if method == 2:
        assert pair is not None
        await loop.sock_sendall(sock, b"\x01" + b"".join(bytes([len(part)]) + part for part in pair))
        if (await take(2))[1] != 0:
            raise ConnectionError("it refused the user name and password")
    try:
        address = ip_address(host)
        where = (b"\x01" if address.version == 4 else b"\x04") + address.packed
    except ValueError:
        name = host.encode("idna")
        where = b"\x03" + bytes([len(name)]) + name
    await loop.sock_sendall(sock, b"\x05\x01\x00" + where + port.to_bytes(2, "big"))
    _, reply, _, kind = await take(4)
    if reply:
        raise ConnectionError(f"it could not connect to {host}:{port}: {_SOCKS_ERRORS.get(reply, reply)}")
    await take({1: 4, 4: 16}.get(kind) or (await take(1))[0])
    await take(2)
