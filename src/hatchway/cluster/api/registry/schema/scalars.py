"""The JSON spellings of Kubernetes' scalar types (quantities, times, bytes), and their canonical forms.

Every function takes what a client has sent and returns what the server stores, or raises ValueError. The rules and the
messages are those of `resource/quantity.go`, `meta/v1/time.go`, `meta/v1/micro_time.go` and Go's `encoding/base64`.
"""

from __future__ import annotations

import base64
import binascii
import re
from datetime import UTC, datetime
from decimal import ROUND_UP, Context, Decimal, InvalidOperation

__all__ = ["canonical_bytes", "canonical_micro_time", "canonical_quantity", "canonical_time", "quantity_value"]

_QUANTITY = re.compile(
    r"([+-]?)([0-9]+(?:\.[0-9]*)?|\.[0-9]+)(n|u|m|k|M|G|T|P|E|Ki|Mi|Gi|Ti|Pi|Ei|[eE][+-]?[0-9]{1,9})?", re.A
)
# This is Kubernetes' own message.
_QUANTITY_ERROR = "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'"
_DECIMAL = {"n": -9, "u": -6, "m": -3, "": 0, "k": 3, "M": 6, "G": 9, "T": 12, "P": 15, "E": 18}
_BINARY = {"Ki": 1, "Mi": 2, "Gi": 3, "Ti": 4, "Pi": 5, "Ei": 6}
_DECIMAL_SUFFIX = {exponent: suffix for suffix, exponent in _DECIMAL.items()}
_BINARY_SUFFIX = {power: suffix for suffix, power in _BINARY.items()}
_MAX = Decimal(2**63 - 1)
_NANO = Decimal("1e-9")
_context = Context(prec=60)
_plain_quantity = re.compile(r"[1-9][0-9]{0,2}(?:m|k|Ki|Mi|Gi)?|0", re.A).fullmatch

_TIME = re.compile(
    r"([0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2})(?:[.,]([0-9]+))?(Z|[+-][0-9]{2}:[0-9]{2})", re.A
)
_canonical_time = re.compile(
    r"[0-9]{4}-(?:0[1-9]|1[0-2])-(?:0[1-9]|1[0-9]|2[0-8])T(?:[01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9]Z", re.A
).fullmatch
_TIME_LAYOUT = "2006-01-02T15:04:05Z07:00"
_MICRO_LAYOUT = "2006-01-02T15:04:05.000000Z07:00"
_not_base64 = re.compile(r"[^A-Za-z0-9+/=]").search


def _parse_quantity(text: str) -> tuple[Decimal, str]:
    """Return the value and the format of a quantity.

    The value is rounded up to multiples of 1e-9, and limited to ±(2**63-1). The format is `decimal`, `binary` or
    `exponent`.
    """
    match = _QUANTITY.fullmatch(text)
    if match is None:
        raise ValueError(_QUANTITY_ERROR)
    sign, digits, suffix = match[1], match[2], match[3] or ""
    style = "decimal"
    try:
        value = Decimal(digits)
        if suffix in _BINARY:
            value = _context.multiply(value, Decimal(1024 ** _BINARY[suffix]))
            style = "binary"
        elif suffix in _DECIMAL:
            value = value.scaleb(_DECIMAL[suffix], _context)
        else:
            exponent = int(suffix[1:])
            value = value.scaleb(max(-400, min(400, exponent)), _context)
            style = "exponent"
    except (InvalidOperation, ValueError) as error:
        raise ValueError(_QUANTITY_ERROR) from error
    # As in Kubernetes, larger values become the maximum, and fractions are rounded up to multiples of 1e-9.
    value = min(value, _MAX)
    if value != value.to_integral_value():
        value = value.quantize(_NANO, rounding=ROUND_UP, context=_context)
    return (-value if sign == "-" else value), style


def quantity_value(value: str | int | float) -> Decimal:
    """Return a quantity as a number. Raises ValueError."""
    return _parse_quantity(_quantity_text(value))[0]


def _quantity_text(value: str | int | float) -> str:
    if isinstance(value, float):
        return format(Decimal(repr(value)), "f") if abs(value) < 1e19 else repr(value)
    return str(value).strip()


def canonical_quantity(value: str | int | float) -> str:
    """Return the spelling that the server returns (`Quantity.String`).

    `1000m` becomes `1`, `0.5` becomes `500m`, `1024Mi` becomes `1Gi`.
    """
    text = _quantity_text(value)
    if _plain_quantity(text):
        return text
    number, style = _parse_quantity(text)
    if not number:
        return "0"
    if style == "binary":
        if abs(number) < 1024 or number != number.to_integral_value():
            style = "decimal"
        else:
            whole, power = int(number), 0
            while whole % 1024 == 0 and power < 6:
                whole //= 1024
                power += 1
            return f"{whole}{_BINARY_SUFFIX.get(power, '')}"
    exponent = -9
    mantissa = int(number.scaleb(9, _context).to_integral_value())
    while mantissa % 1000 == 0 and exponent < 18:
        mantissa //= 1000
        exponent += 3
    if style == "exponent":
        return f"{mantissa}e{exponent}" if exponent else str(mantissa)
    return f"{mantissa}{_DECIMAL_SUFFIX[exponent]}"


def _parse_time(text: str, layout: str) -> datetime:
    match = _TIME.fullmatch(text)
    if match is None:
        raise ValueError(f'parsing time "{text}" as "{layout}": cannot parse "{text}" as "2006"')
    micros = ((match[2] or "") + "000000")[:6]
    zone = "+00:00" if match[3] == "Z" else match[3]
    try:
        return datetime.fromisoformat(f"{match[1]}.{micros}{zone}").astimezone(UTC)
    except (ValueError, OverflowError):
        raise ValueError(f'parsing time "{text}": out of range') from None


def canonical_time(text: str) -> str:
    """Return a time as RFC 3339 in UTC and whole seconds: `2026-11-23T03:49:58Z`."""
    if _canonical_time(text):
        return text
    found = _parse_time(text, _TIME_LAYOUT)
    return f"{found.year:04d}{found:-%m-%dT%H:%M:%SZ}"


def canonical_micro_time(text: str) -> str:
    """Return a time as RFC 3339 in UTC with six digits of a second: `2026-11-23T03:49:58.000000Z`."""
    found = _parse_time(text, _MICRO_LAYOUT)
    return f"{found.year:04d}{found:-%m-%dT%H:%M:%S.%fZ}"


def canonical_bytes(text: str) -> str:
    """Return base64 (RFC 4648, padded) without line breaks, as Go reads it."""
    plain = text.replace("\n", "").replace("\r", "") if "\n" in text or "\r" in text else text
    try:
        base64.b64decode(plain, validate=True)
    except (binascii.Error, ValueError):
        bad = _not_base64(plain)
        raise ValueError(f"illegal base64 data at input byte {bad.start() if bad else len(plain)}") from None
    return plain
