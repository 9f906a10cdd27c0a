"""Parses the part of YAML in which kubectl and Hatchway write kubeconfigs, without importing a YAML library.

It supports block mappings and sequences, `{}` and `[]`, and scalars on one line, plain or in single quotes. For any
other document (numbers, escapes, anchors, several documents ...) `parse` returns None, and `kube/goyaml.py` must parse
the document. Importing `kube/goyaml.py` takes longer than a whole `hatchway exec` that uses this module. For the same
reason this module imports nothing.
"""

from __future__ import annotations

_SAFE = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_./:@+=-")
_LETTERS = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz")
_KEY = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz-")
# Words that some YAML parsers do not read as strings.
_WORDS = frozenset({"y", "n", "yes", "no", "on", "off", "true", "false", "null"})


class _Unknown(Exception):
    """The document contains syntax that is not supported here."""


def parse(text: str) -> dict[str, object] | None:
    """Return a document; None when it contains anything that is not supported here."""
    lines: list[tuple[int, str]] = []
    for line in text.split("\n"):
        content = line.rstrip(" ")
        if not content or content.lstrip(" ").startswith("#"):
            continue
        if not content.isascii() or not content.isprintable():
            return None
        stripped = content.lstrip(" ")
        lines.append((len(content) - len(stripped), stripped))
    if not lines or lines[0][0]:
        return None
    try:
        found, end = _mapping(lines, 0, 0)
    except _Unknown:
        return None
    return found if end == len(lines) else None


def _mapping(lines: list[tuple[int, str]], at: int, indent: int) -> tuple[dict[str, object], int]:
    found: dict[str, object] = {}
    while at < len(lines):
        depth, line = lines[at]
        if depth < indent:
            break
        key, colon, rest = line.partition(":")
        if depth > indent or not colon or not key or not _KEY.issuperset(key) or key.lower() in _WORDS or key in found:
            raise _Unknown
        if rest:
            if rest[0] != " ":
                raise _Unknown
            found[key] = _scalar(rest.lstrip(" "))
            at += 1
        else:
            found[key], at = _below(lines, at + 1, indent)
    return found, at


def _below(lines: list[tuple[int, str]], at: int, indent: int) -> tuple[object, int]:
    """Return the lines that belong to a key. The lines of a sequence may have the same indent as the key."""
    if at == len(lines) or lines[at][0] < indent:
        return None, at
    depth, line = lines[at]
    if line.startswith("- "):
        return _sequence(lines, at, depth)
    return _mapping(lines, at, depth) if depth > indent else (None, at)


def _sequence(lines: list[tuple[int, str]], at: int, indent: int) -> tuple[list[object], int]:
    found: list[object] = []
    while at < len(lines) and lines[at][0] == indent and lines[at][1].startswith("- "):
        rest = lines[at][1][2:]
        content = rest.lstrip(" ")
        key, colon, value = content.partition(":")
        if colon and _KEY.issuperset(key) and value[:1] in ("", " "):
            deeper = indent + 2 + len(rest) - len(content)
            lines[at] = deeper, content
            item: object
            item, at = _mapping(lines, at, deeper)
        else:
            item = _scalar(content)
            at += 1
        found.append(item)
    if at < len(lines) and lines[at][0] > indent:
        raise _Unknown
    return found, at


def _scalar(text: str) -> object:
    if text in ("{}", "[]"):
        return {} if text == "{}" else []
    if text == '""':
        return ""
    if len(text) > 2 and text[0] == text[-1] == '"' and _SAFE.issuperset(text[1:-1]):
        return text[1:-1]
    if text in ("true", "false"):
        return text == "true"
    # Text that begins with a letter is a string, except for some words. A path is a string, too.
    if (
        (text[0] in _LETTERS or text[0] == "/")
        and _SAFE.issuperset(text)
        and text[-1] != ":"
        and text.lower() not in _WORDS
    ):
        return text
    raise _Unknown
