"""IP addresses and DNS names as text. Pure."""

from __future__ import annotations

import ipaddress
import re

# Underscores are accepted: RFC 952 does not allow them, but some host names have them.
_LABEL = r"[a-z0-9_]([-a-z0-9_]{0,61}[a-z0-9_])?"
_NAME = re.compile(rf"(?=.{{1,253}}\Z){_LABEL}(\.{_LABEL})*\Z")


def parse_address(text: str) -> str:
    """Return an IP address in its usual form; "" for other text."""
    try:
        found = ipaddress.ip_address(text)
    except ValueError:
        return ""
    # A zone names an interface of this machine.
    return "" if "%" in text else str(getattr(found, "ipv4_mapped", None) or found)


def normal_host(text: str) -> str:
    """Return an IP address in its usual form or a DNS name in lower case; "" for other text."""
    name = text.lower().removesuffix(".")
    if address := parse_address(name):
        return address
    # A name that ends with a number may be an address in another form (`127.1`), which systems read differently.
    return name if _NAME.match(name) and not name.rpartition(".")[2].isdigit() else ""


def is_loopback(host: str) -> bool:
    """Return True for `localhost` and for loopback addresses."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"
