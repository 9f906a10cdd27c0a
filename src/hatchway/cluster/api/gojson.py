"""What Go's `encoding/json` says of a text that it cannot read."""

from __future__ import annotations

import json

_GO_TYPES = {list: "array", str: "string", bool: "bool", int: "number", float: "number"}
# Python's words for what it expected, and Go's for what it met instead.
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
    """Return why `data` is no JSON object (null counts as one), "" when it is: `json.Unmarshal` into a map."""
    text = data.decode("utf-8", "replace")

    def no_constant(name: str) -> None:
        # Python takes NaN and the infinities, Go does not.
        raise json.JSONDecodeError("Expecting value", text, text.find(name))

    try:
        found = json.loads(text, parse_constant=no_constant, parse_int=str)
    except json.JSONDecodeError as error:
        return _worded(error, text)
    except RecursionError:
        return "exceeded max depth"
    if found is None or isinstance(found, dict):
        return ""
    # Integers were read as texts, which spares the work of converting long ones.
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
