"""JSON patch (RFC 6902), with the errors of Kubernetes' library (`gopkg.in/evanphx/json-patch.v4`). Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import msgspec

__all__ = ["MOST_OPERATIONS", "PatchRejected", "PatchTestFailed", "apply_operations"]

Json = Any

# The maximum number of operations of one patch.
MOST_OPERATIONS = 10_000
# Limits for all `copy` operations of a patch together, so that a small patch cannot make a huge object: the bytes of
# the copied JSON (apiserver's JSONPatchMaxCopyBytes), and the number of its commas and brackets, because many small
# values take longer than a few long values.
_MAX_COPIED = 3 * 1024 * 1024
_MAX_COPIED_VALUES = 20_000
# No object is nested deeper than this, so longer pointers match no value.
_MAX_POINTER = 1000
_MISSING = "missing value"


class PatchRejected(Exception):
    """A JSON patch cannot be applied. Its text says why."""


class PatchTestFailed(PatchRejected):
    """A `test` of a JSON patch has found a different value."""


def apply_operations(obj: dict[str, Any], operations: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return an object with all operations applied. The arguments are not changed.

    Raises PatchRejected, RecursionError.
    """
    document: Json = _copy(obj)
    copied = values = 0
    for operation in operations:
        kind = operation.get("op")
        function = _OPERATIONS.get(kind) if isinstance(kind, str) else None
        if function is None:
            raise PatchRejected(f"Unexpected kind: {kind if isinstance(kind, str) else 'unknown'}")
        if function is _duplicate:
            text = msgspec.json.encode(_source(document, operation))
            copied += len(text)
            values += text.count(b",") + text.count(b"[") + text.count(b"{")
            if copied > _MAX_COPIED or values > _MAX_COPIED_VALUES:
                raise PatchRejected("the copied values are too large together")
        document = function(document, operation)
    if not isinstance(document, dict):
        raise PatchRejected("the result is no object")
    return document


def _copy(value: Json) -> Json:
    if isinstance(value, dict):
        return {key: _copy(one) for key, one in value.items()}
    if isinstance(value, list):
        return [_copy(one) for one in value]
    return value


# Pointers


def _pointer(operation: dict[str, Any], member: str, kind: str) -> list[str]:
    """Return the reference tokens of a JSON pointer (RFC 6901). kind: the operation's name."""
    pointer = operation.get(member)
    if not isinstance(pointer, str):
        what = "operation missing path field" if member == "path" else "operation, missing from field"
        raise PatchRejected(f"{kind} operation failed to decode {member}: {what}: {_MISSING}")
    if not pointer:
        return []
    if pointer[0] != "/" or pointer.count("/") > _MAX_POINTER:
        raise PatchRejected(f"{kind} operation does not apply: doc is missing path: {_shown(pointer)}: {_MISSING}")
    return [token.replace("~1", "/").replace("~0", "~") for token in pointer[1:].split("/")]


def _shown(pointer: str) -> str:
    return pointer[:256]


def _index(token: str, limit: int) -> int:
    """Return an index below `limit`. Negative indices count from the end, as in Kubernetes' library."""
    digits = token.removeprefix("-")
    if not digits.isascii() or not digits.isdigit() or len(digits) > 9 or (len(digits) > 1 and digits[0] == "0"):
        raise PatchRejected(f'strconv.Atoi: parsing "{token[:64]}": invalid syntax')
    index = int(token)
    if not -limit <= index < limit:
        raise PatchRejected(f"Unable to access invalid index: {index}: invalid index referenced")
    return index + limit if index < 0 else index


def _get(document: Json, tokens: list[str]) -> Json:
    for token in tokens:
        document = _member(document, token)
    return document


def _member(container: Json, token: str) -> Json:
    if isinstance(container, dict):
        if token not in container:
            raise PatchRejected(_MISSING)
        return container[token]
    if isinstance(container, list):
        return container[_index(token, len(container))]
    raise PatchRejected(_MISSING)


def _parent(document: Json, tokens: list[str], why: str) -> tuple[Json, str]:
    """Return the list or object that contains the value, and the last token. why: the error if there is none."""
    try:
        found = _get(document, tokens[:-1]) if tokens else None
    except PatchRejected:
        found = None
    if not isinstance(found, dict | list):
        raise PatchRejected(f"{why}: {_MISSING}")
    return found, tokens[-1]


def _value(operation: dict[str, Any]) -> Json:
    if "value" not in operation:
        raise PatchRejected(f"operation, missing value field: {_MISSING}")
    return _copy(operation["value"])


def _insert(container: Json, token: str, value: Json) -> None:
    if isinstance(container, dict):
        container[token] = value
    elif token == "-":
        container.append(value)
    else:
        container.insert(_index(token, len(container) + 1), value)


# Operations


def _add(document: Json, operation: dict[str, Any]) -> Json:
    tokens, value = _pointer(operation, "path", "add"), _value(operation)
    if not tokens:
        return value
    path = _shown(operation["path"])
    container, last = _parent(document, tokens, f'add operation does not apply: doc is missing path: "{path}"')
    _within(f"error in add for path: '{path}'", _insert, container, last, value)
    return document


def _within(what: str, function: Callable[..., None], *args: Json) -> None:
    """Call a function. what: the text that is put before the message of its error."""
    try:
        function(*args)
    except PatchRejected as error:
        raise PatchRejected(f"{what}: {error}") from None


def _drop(container: Json, token: str) -> None:
    if isinstance(container, dict):
        if token not in container:
            raise PatchRejected(f"Unable to remove nonexistent key: {token[:256]}: {_MISSING}")
        del container[token]
    else:
        del container[_index(token, len(container))]


def _remove(document: Json, operation: dict[str, Any]) -> Json:
    tokens = _pointer(operation, "path", "remove")
    path = _shown(operation["path"])
    container, last = _parent(document, tokens, f'remove operation does not apply: doc is missing path: "{path}"')
    _within(f"error in remove for path: '{path}'", _drop, container, last)
    return document


def _replace(document: Json, operation: dict[str, Any]) -> Json:
    tokens, value = _pointer(operation, "path", "replace"), _value(operation)
    if not tokens:
        return value
    path = _shown(operation["path"])
    container, last = _parent(document, tokens, f"replace operation does not apply: doc is missing path: {path}")
    try:
        _member(container, last)
    except PatchRejected:
        text = f"replace operation does not apply: doc is missing key: {path}: {_MISSING}"
        raise PatchRejected(text) from None
    if isinstance(container, dict):
        container[last] = value
    else:
        container[_index(last, len(container))] = value
    return document


def _move(document: Json, operation: dict[str, Any]) -> Json:
    source, target = _pointer(operation, "from", "move"), _pointer(operation, "path", "move")
    start, path = _shown(operation["from"]), _shown(operation["path"])
    if len(target) > len(source) and target[: len(source)] == source:
        raise PatchRejected(f"move operation does not apply: doc is missing destination path: {path}: {_MISSING}")
    if source == target:
        _get(document, source)
        return document
    container, last = _parent(document, source, f"move operation does not apply: doc is missing from path: {start}")
    try:
        value = _member(container, last)
    except PatchRejected as error:
        raise PatchRejected(f"error in move for path: '{last[:256]}': {error}") from None
    _drop(container, last)
    if not target:
        return value
    container, last = _parent(
        document, target, f"move operation does not apply: doc is missing destination path: {path}"
    )
    _within(f"error in move for path: '{path}'", _insert, container, last, value)
    return document


def _source(document: Json, operation: dict[str, Any]) -> Json:
    """Return the value to copy for a `copy`."""
    tokens = _pointer(operation, "from", "copy")
    if not tokens:
        return document
    start = _shown(operation["from"])
    container, last = _parent(document, tokens, f"copy operation does not apply: doc is missing from path: {start}")
    try:
        return _member(container, last)
    except PatchRejected as error:
        raise PatchRejected(f"error in copy for from: '{start}': {error}") from None


def _duplicate(document: Json, operation: dict[str, Any]) -> Json:
    value, target = _copy(_source(document, operation)), _pointer(operation, "path", "copy")
    path = _shown(operation["path"])
    if not target:
        return value
    container, last = _parent(
        document, target, f"copy operation does not apply: doc is missing destination path: {path}"
    )
    _within("error while adding value during copy", _insert, container, last, value)
    return document


def _test(document: Json, operation: dict[str, Any]) -> Json:
    tokens, wanted = _pointer(operation, "path", "test"), operation.get("value")
    path = _shown(operation["path"])
    found = document
    if tokens:
        container, last = _parent(document, tokens, f"test operation does not apply: is missing path: {path}")
        if isinstance(container, dict):
            # As in Kubernetes' library, an absent member equals null.
            found = container.get(last)
        else:
            try:
                found = _member(container, last)
            except PatchRejected as error:
                raise PatchRejected(f"error in test for path: '{path}': {error}") from None
    if not _equal(found, wanted):
        raise PatchTestFailed(f"testing value {path} failed: test failed")
    return document


def _equal(left: Json, right: Json) -> bool:
    """Return True when JSON values are equal: true is not 1, 1 is 1.0."""
    if isinstance(left, dict) and isinstance(right, dict):
        return left.keys() == right.keys() and all(_equal(one, right[key]) for key, one in left.items())
    if isinstance(left, list) and isinstance(right, list):
        return len(left) == len(right) and all(map(_equal, left, right))
    if isinstance(left, bool) or isinstance(right, bool):
        return left is right
    return bool(left == right)


_OPERATIONS: dict[str, Callable[[Json, dict[str, Any]], Json]] = {
    "add": _add,
    "remove": _remove,
    "replace": _replace,
    "move": _move,
    "copy": _duplicate,
    "test": _test,
}
