"""The error messages of Go's `encoding/json` for text that is not JSON."""

from __future__ import annotations

import json

import msgspec

_object = msgspec.json.Decoder(dict[str, msgspec.Raw] | None).decode
_GO_TYPES = {list: "array", str: "string", bool: "bool", int: "number", float: "number"}
# The beginning of a message of Python's `json`, and the words that Go uses for the same error.
_CONTEXTS = (
    ("Expecting property name", "looking for beginning of object key string"),
    ("Expecting ':' delimiter", "after object key"),
    ("Extra data", "after top-level value"),
    ("Expecting value", "looking for beginning of value"),
    ("Invalid \\escape", "in string escape code"),
    ("Invalid \\uXXXX escape", "in \\u hexadecimal character escape"),
    ("Invalid control character", "in string literal"),
    ("Illegal trailing comma", "looking for beginning of value"),
)


def object_problem(data: bytes) -> str:
    """Return why `data` is not a JSON object; "" for a JSON object or null (Go's `json.Unmarshal` into a map)."""
    try:
        # Nearly all texts are JSON objects. This check is quick, because it creates no values for their fields.
        _object(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        pass
    else:
        return ""
    text = data.decode("utf-8", "replace")

    def no_constant(name: str) -> None:
        # Python accepts NaN and infinities, Go does not.
        raise json.JSONDecodeError("Expecting value", text, text.find(name))

    try:
        found = json.loads(text, parse_constant=no_constant, parse_int=str)
    except json.JSONDecodeError as error:
        return _worded(error, text)
    except RecursionError:
        return "exceeded max depth"
    if found is None or isinstance(found, dict):
        return ""
    # `parse_int=str` leaves integers as strings, because converting long integers takes too much time.
    kind = "number" if isinstance(found, str) and not text.lstrip().startswith('"') else _GO_TYPES[type(found)]
    return f"json: cannot unmarshal {kind} into Go value of type map[string]interface {{}}"


def _worded(error: json.JSONDecodeError, text: str) -> str:
    at = error.pos
    if error.msg.startswith("Unterminated string") or at >= len(text.rstrip(" \t\r\n")):
        return "unexpected end of JSON input"
    if error.msg.startswith("Expecting ',' delimiter"):
        opened = text.rfind("[", 0, at) > text.rfind("{", 0, at)
        context = "after array element" if opened else "after object key:value pair"
    else:
        context = next(
            (words for known, words in _CONTEXTS if error.msg.startswith(known)), "looking for beginning of value"
        )
    bad = text[at]
    shown = {"'": "'\\''", '"': "'\"'", "\n": "'\\n'", "\t": "'\\t'", "\r": "'\\r'"}.get(bad, f"'{bad}'")
    return f"invalid character {shown} {context}"
