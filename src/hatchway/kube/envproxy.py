"""Finds the proxy for a server in the environment variables, as Go's `golang.org/x/net/http/httpproxy` does."""

from __future__ import annotations

from collections.abc import Mapping
from ipaddress import ip_address, ip_network
from urllib.parse import SplitResult

from hatchway.numerals import is_digits


def from_environment(url: SplitResult, environment: Mapping[str, str]) -> str:
    """Return the URL of the proxy for `url`; "" for none.

    The variables are HTTPS_PROXY, HTTP_PROXY and NO_PROXY; `https_proxy` is used when HTTPS_PROXY is not set, and so
    on. Loopback addresses and `localhost` are never reached through a proxy.
    """
    found = _get(environment, "HTTPS_PROXY" if url.scheme == "https" else "HTTP_PROXY")
    host = (url.hostname or "").rstrip(".")
    if not found or not host:
        return ""
    port = url.port or (443 if url.scheme == "https" else 80)
    if _loopback(host) or any(_matches(entry, host, port) for entry in _get(environment, "NO_PROXY").split(",")):
        return ""
    return found if "://" in found else f"http://{found}"


def _get(environment: Mapping[str, str], name: str) -> str:
    return environment.get(name) or environment.get(name.lower()) or ""


def _loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def _matches(entry: str, host: str, port: int) -> bool:
    """Return True when an entry of NO_PROXY matches the host.

    An entry is `*`, an address, a CIDR, `example.com` (this name and its subdomains) or `.example.com` (only
    subdomains), with or without a port.
    """
    entry = entry.strip().lower()
    if not entry:
        return False
    if entry == "*":
        return True
    try:
        network = ip_network(entry, strict=False)
    except ValueError:
        network = None
    name, colon, number = entry.rpartition(":")
    if network is None and colon and is_digits(number):
        if int(number) != port:
            return False
        entry = name
    entry = entry.removeprefix("[").removesuffix("]")
    try:
        address = ip_address(host)
    except ValueError:
        below = entry.removeprefix("*")
        return host.endswith(below) if below.startswith(".") else host == entry or host.endswith("." + entry)
    try:
        return address in ip_network(entry, strict=False)
    except ValueError:
        return False
