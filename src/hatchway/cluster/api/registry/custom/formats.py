"""The string formats that schemas of custom types can demand.

The formats are those of `pkg/apiserver/validation/formats.go` and kube-openapi's `strfmt`. As in Kubernetes, all other
formats are ignored.
"""

from __future__ import annotations

import base64
import binascii
import ipaddress
import re
from collections.abc import Callable, Mapping
from datetime import date
from email.utils import parseaddr
from types import MappingProxyType
from urllib.parse import urlsplit

from hatchway.cluster.api.registry import validation as v

__all__ = ["FORMATS", "FormatCheck"]

# Returns True for a string that has the format.
FormatCheck = Callable[[str], bool]

# Longer strings (in characters) are rejected without a match, because the regular expressions may backtrack.
_LONGEST = 4096
_HEX = "[0-9a-f]"
_UUID = rf"{_HEX}{{8}}-?{_HEX}{{4}}-?%s{_HEX}{{3}}-?%s-?{_HEX}{{12}}"
_CARD = (
    r"(?:4[0-9]{12}(?:[0-9]{3})?|5[1-5][0-9]{14}|6(?:011|5[0-9][0-9])[0-9]{12}|3[47][0-9]{13}"
    r"|3(?:0[0-5]|[68][0-9])[0-9]{11}|(?:2131|1800|35\d{3})\d{11})"
)
_LABEL = "[a-zA-Z0-9](?:[a-zA-Z0-9-]{0,61}[a-zA-Z0-9])?"


def _like(pattern: str, flags: re.RegexFlag = re.NOFLAG) -> FormatCheck:
    matches = re.compile(pattern, flags | re.ASCII).fullmatch
    return lambda text: len(text) <= _LONGEST and matches(text) is not None


_is_time = _like(r"([0-9]{2}):([0-9]{2}):([0-9]{2})(?:.[0-9]+)?(?:z|[+-][0-9]{2}:[0-9]{2})")
_is_hostname = _like(rf"(?=.{{1,255}}\Z){_LABEL}(?:\.{_LABEL})*\.?")
# The syntax of Go's time.ParseDuration, or a number with a unit of Scala's durations.
_is_duration = _like(
    r"[+-]?(?:(?:\d+(?:\.\d*)?|\.\d+)(?:ns|us|µs|μs|ms|s|m|h))+|0"
    r"|\d+ ?(?:ns|nanos?|nanoseconds?|us|µs|micros?|microseconds?|ms|millis?|milliseconds?|s|secs?|seconds?"
    r"|m|mins?|minutes?|h|hrs?|hours?|d|days?|w|wks?|weeks?)"
)


def _is_date(text: str) -> bool:
    if len(text) != 10:
        return False
    try:
        date.fromisoformat(text)
    except ValueError:
        return False
    return True


def _is_date_time(text: str) -> bool:
    day, _, clock = text.lower().partition("t")
    return _is_date(day) and _is_time(clock) and clock[:2] <= "23" and clock[3:5] <= "59" and clock[6:8] <= "59"


def _is_uri(text: str) -> bool:
    """Return True for an absolute URI or an absolute path, as Go's url.ParseRequestURI does."""
    if len(text) > _LONGEST or any(ord(one) <= 0x20 or ord(one) == 0x7F for one in text):
        return False
    try:
        parts = urlsplit(text)
    except ValueError:
        return False
    return text.startswith("/") or bool(parts.scheme and (parts.netloc or parts.path))


def _is_email(text: str) -> bool:
    if len(text) > _LONGEST:
        return False
    address = parseaddr(text)[1]
    user, at, host = address.rpartition("@")
    return bool(user and at and host and " " not in address)


def _parses(parse: Callable[[str], object]) -> FormatCheck:
    def check(text: str) -> bool:
        try:
            parse(text)
        except ValueError:
            return False
        return True

    return check


def _is_cidr(text: str) -> bool:
    return "/" in text and text.rpartition("/")[2].isdecimal() and _parses(ipaddress.ip_interface)(text)


def _is_base64(text: str) -> bool:
    try:
        base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return False
    return True


def _is_isbn10(text: str) -> bool:
    found = text.replace("-", "").replace(" ", "")
    if re.fullmatch(r"[0-9]{9}[0-9X]", found) is None:
        return False
    return sum((index + 1) * (10 if digit == "X" else int(digit)) for index, digit in enumerate(found)) % 11 == 0


def _is_isbn13(text: str) -> bool:
    found = text.replace("-", "").replace(" ", "")
    if re.fullmatch(r"[0-9]{13}", found) is None:
        return False
    return sum((3 if index % 2 else 1) * int(digit) for index, digit in enumerate(found)) % 10 == 0


def _is_card(text: str) -> bool:
    digits = re.sub(r"\D", "", text[:_LONGEST])
    if re.fullmatch(_CARD, digits) is None:
        return False
    doubled = [int(one) * (2 if index % 2 else 1) for index, one in enumerate(reversed(digits))]
    return sum(one - 9 if one > 9 else one for one in doubled) % 10 == 0


_BYTE = r"(?:[0-9]|[1-9][0-9]|1[0-9][0-9]|2[0-4][0-9]|25[0-5])"

# The key is the name of the format without hyphens.
FORMATS: Mapping[str, FormatCheck] = MappingProxyType(
    {
        "bsonobjectid": _like(rf"{_HEX}{{24}}", re.IGNORECASE),
        "uri": _is_uri,
        "email": _is_email,
        "hostname": _is_hostname,
        "ipv4": _parses(ipaddress.IPv4Address),
        "ipv6": _parses(ipaddress.IPv6Address),
        "cidr": _is_cidr,
        "mac": _like(
            r"(?:[0-9a-f]{2}([:-])(?:[0-9a-f]{2}\1){4}(?:[0-9a-f]{2}\1){0,14}[0-9a-f]{2})"
            r"|(?:[0-9a-f]{4}\.){2}(?:[0-9a-f]{4}\.){0,7}[0-9a-f]{4}",
            re.IGNORECASE,
        ),
        "uuid": _like(rf"{_HEX}{{8}}-?{_HEX}{{4}}-?{_HEX}{{4}}-?{_HEX}{{4}}-?{_HEX}{{12}}", re.IGNORECASE),
        "uuid3": _like(_UUID % ("3", rf"{_HEX}{{4}}"), re.IGNORECASE),
        "uuid4": _like(_UUID % ("4", rf"[89ab]{_HEX}{{3}}"), re.IGNORECASE),
        "uuid5": _like(_UUID % ("5", rf"[89ab]{_HEX}{{3}}"), re.IGNORECASE),
        "isbn": lambda text: _is_isbn10(text) or _is_isbn13(text),
        "isbn10": _is_isbn10,
        "isbn13": _is_isbn13,
        "creditcard": _is_card,
        "ssn": _like(r"\d{3}[- ]?\d{2}[- ]?\d{4}"),
        "hexcolor": _like(r"#?(?:[0-9a-fA-F]{3}|[0-9a-fA-F]{6})"),
        "rgbcolor": _like(rf"rgb\(\s*{_BYTE}\s*,\s*{_BYTE}\s*,\s*{_BYTE}\s*\)"),
        "byte": _is_base64,
        "password": lambda text: True,
        "date": _is_date,
        "duration": _is_duration,
        "datetime": _is_date_time,
        "k8sshortname": lambda text: not v.dns1123_label(text),
        "k8slongname": lambda text: not v.dns1123_subdomain(text),
    }
)
