"""Reads and writes numbers, strings and durations as Go's library and Prometheus' `common/model` do."""

from __future__ import annotations

import math
import re

_PARTS = re.compile(
    r"(?:([0-9]+)y)?(?:([0-9]+)w)?(?:([0-9]+)d)?(?:([0-9]+)h)?(?:([0-9]+)m)?(?:([0-9]+)s)?(?:([0-9]+)ms)?"
)
_UNITS = (
    ("y", 365 * 86_400_000), ("w", 7 * 86_400_000), ("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000),
    ("ms", 1),
)  # fmt: skip
# A Go duration has 64 bits of nanoseconds.
_LONGEST = ((1 << 63) - 1) // 1_000_000
_NAMED = {"\a": "\\a", "\b": "\\b", "\f": "\\f", "\n": "\\n", "\r": "\\r", "\t": "\\t", "\v": "\\v", "\\": "\\\\"}
_DECIMAL = re.compile(r"[+-]?(?:[0-9]+(?:_[0-9]+)*)?\.?(?:[0-9]+(?:_[0-9]+)*)?(?:[eE][+-]?[0-9]+)?")
_WORDS = {"inf": math.inf, "infinity": math.inf, "nan": math.nan}


def parse_duration(text: str) -> int:
    """Return a duration (`1h30m`) in milliseconds. Raises ValueError with Prometheus' message."""
    if text == "0":
        return 0
    if not text:
        raise ValueError("empty duration string")
    found = _PARTS.fullmatch(text)
    if found is None:
        raise ValueError(f"not a valid duration string: {quote(text)}")
    total = 0
    for part, (_, size) in zip(found.groups(), _UNITS, strict=True):
        # 20 digits are more than a duration may have. Without this limit, the numbers could be huge and slow.
        if part is not None:
            total += int(part[:20]) * size
    if total > _LONGEST:
        raise ValueError("duration out of range")
    return total


def format_duration(milliseconds: int) -> str:
    """Return a duration as Prometheus writes it. Years and weeks are used only if nothing remains: `8d`, not `1w1d`."""
    if milliseconds == 0:
        return "0s"
    parts, rest = [], milliseconds
    for unit, size in _UNITS:
        if unit in ("y", "w") and rest % size:
            continue
        count, rest = divmod(rest, size)
        if count:
            parts.append(f"{count}{unit}")
    return "".join(parts)


def parse_float(text: str) -> float:
    """Return a number as Go's ParseFloat reads it, with `Inf` and `NaN` in any case. Raises ValueError."""
    word = text.lower().lstrip("+-")
    if word in _WORDS and len(text) - len(word) <= 1:
        return -_WORDS[word] if text[0] == "-" else _WORDS[word]
    if "_" in text or not _DECIMAL.fullmatch(text):
        if re.fullmatch(r"[+-]?0[xX][0-9a-fA-F]*\.?[0-9a-fA-F]*[pP][+-]?[0-9]+", text):
            return float.fromhex(text)
        raise ValueError(f"strconv.ParseFloat: parsing {quote(text)}: invalid syntax")
    found = float(text)
    if math.isinf(found):
        raise ValueError(f"strconv.ParseFloat: parsing {quote(text)}: value out of range")
    return found


def format_float(value: float, *, exponents: bool = False) -> str:
    """Return a number with the fewest digits that give the same number when they are read.

    exponents: True to use an exponent below 1e-6 and from 1e21 on (JavaScript's rule, which the API uses).
    """
    if value != value:
        return "NaN"
    if math.isinf(value):
        return "+Inf" if value > 0 else "-Inf"
    text = repr(value)
    if "e" not in text:
        return text[:-2] if text.endswith(".0") else text
    mantissa, _, exponent = text.partition("e")
    if exponents and not 1e-6 <= abs(value) < 1e21:
        return f"{mantissa.removesuffix('.0')}e{exponent}"
    sign = "-" if mantissa.startswith("-") else ""
    whole, _, fraction = mantissa.lstrip("-").partition(".")
    digits, point = whole + fraction, len(whole) + int(exponent)
    if point <= 0:
        return f"{sign}0.{'0' * -point}{digits}"
    if point >= len(digits):
        return sign + digits.rstrip("0").ljust(point, "0") if set(digits) != {"0"} else sign + "0"
    return f"{sign}{digits[:point]}.{digits[point:]}"


def format_general(value: float) -> str:
    """Return a number as Go's `%v` prints it: with an exponent below 1e-4 and from 1e6 on."""
    text = format_float(value)
    if not math.isfinite(value) or value == 0 or 1e-4 <= abs(value) < 1e6:
        return text

    for digits in range(17):
        mantissa, _, exponent = f"{value:.{digits}e}".partition("e")
        if float(f"{mantissa}e{exponent}") == value:
            break
    return f"{mantissa}e{exponent}"


def quote(text: str, mark: str = '"') -> str:
    """Return a string as Go's `%q` prints it."""
    out = [mark]
    for char in text:
        if char == mark:
            out.append("\\" + char)
        elif char in _NAMED:
            out.append(_NAMED[char])
        elif char.isprintable():
            out.append(char)
        elif ord(char) < 0x80:
            out.append(f"\\x{ord(char):02x}")
        elif ord(char) < 0x10000:
            out.append(f"\\u{ord(char):04x}")
        else:
            out.append(f"\\U{ord(char):08x}")
    return "".join([*out, mark])


_ESCAPE = re.compile(r"\\(?:([abfnrtv\\'\"])|([0-7]{3})|x([0-9a-fA-F]{2})|u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8}))")
_ESCAPED = {"a": "\a", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v"}


def unquote(text: str) -> str:
    """Return the value of a string literal that the lexer has accepted."""
    inner = text[1:-1]
    if text[0] == "`" or "\\" not in inner:
        return inner
    # \x and \ooo are bytes: several of them may be the UTF-8 form of one character.
    out = bytearray()
    at = 0
    for found in _ESCAPE.finditer(inner):
        out += inner[at : found.start()].encode("utf-8", "surrogateescape")
        named, octal, byte, short, long = found.groups()
        if named:
            out += _ESCAPED.get(named, named).encode()
        elif octal or byte:
            out.append(int(octal, 8) if octal else int(byte, 16))
        else:
            out += chr(int(short or long, 16)).encode("utf-8", "surrogatepass")
        at = found.end()
    out += inner[at:].encode("utf-8", "surrogateescape")
    return out.decode("utf-8", "surrogateescape")
