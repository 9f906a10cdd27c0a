"""The types of a kubeconfig's fields (client-go `tools/clientcmd/api/v1/types.go`), checked as kubectl checks them.

kubectl refuses a whole file when one field has a wrong type: for example a token without quotes that YAML reads as a
number.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from typing import Any


class TypeProblem(ValueError):
    """A field of a kubeconfig has the wrong type; the message names the field."""


class _MapOf:
    """The type of a mapping with any keys. content: the type of its values."""

    def __init__(self, content: Any) -> None:
        self.content = content


# A type is written as str, bool, bytes (base64), object (any value), a list with the type of its items, a dictionary
# from field names to types, or a _MapOf. A kubeconfig's fields that are not in the dictionary are ignored.
_EXTENSIONS = [{"name": str, "extension": object}]
_CLUSTER = {
    "server": str,
    "tls-server-name": str,
    "insecure-skip-tls-verify": bool,
    "certificate-authority": str,
    "certificate-authority-data": bytes,
    "proxy-url": str,
    "disable-compression": bool,
    "extensions": _EXTENSIONS,
}
_USER = {
    "client-certificate": str,
    "client-certificate-data": bytes,
    "client-key": str,
    "client-key-data": bytes,
    "token": str,
    "tokenFile": str,
    "as": str,
    "as-uid": str,
    "as-groups": [str],
    "as-user-extra": _MapOf([str]),
    "username": str,
    "password": str,
    "auth-provider": {"name": str, "config": _MapOf(str)},
    "exec": {
        "command": str,
        "args": [str],
        "env": [{"name": str, "value": str}],
        "apiVersion": str,
        "installHint": str,
        "provideClusterInfo": bool,
        "interactiveMode": str,
    },
    "extensions": _EXTENSIONS,
}
_CONTEXT = {"cluster": str, "user": str, "namespace": str, "extensions": _EXTENSIONS}
_CONFIG: dict[str, Any] = {
    "kind": str,
    "apiVersion": str,
    "preferences": {"colors": bool, "extensions": _EXTENSIONS},
    "clusters": [{"name": str, "cluster": _CLUSTER}],
    "users": [{"name": str, "user": _USER}],
    "contexts": [{"name": str, "context": _CONTEXT}],
    "current-context": str,
    "extensions": _EXTENSIONS,
}
_WORDS = {str: "text", bool: "true or false", bytes: "text in base64", list: "a list", dict: "a mapping"}


def check(found: Any) -> dict[str, Any]:
    """Return a kubeconfig's content without null fields and without fields that kubectl does not know.

    Raises TypeProblem for a file that kubectl refuses.
    """
    document: dict[str, Any] = _checked(found, _CONFIG, "")
    kind, version = document.get("kind", ""), document.get("apiVersion", "")
    if kind not in ("", "Config") or version not in ("", "v1"):
        raise TypeProblem(f'it is a "{kind or "Config"}" of the version "{version or "v1"}"')
    for section in ("clusters", "users", "contexts"):
        names = [item.get("name", "") for item in document.get(section, ())]
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            raise TypeProblem(f'two {section} are called "{twice}"')
    return document


def _checked(found: Any, kind: Any, where: str) -> Any:
    if kind is object:
        return found
    if isinstance(kind, list):
        if found is not None and not isinstance(found, list):
            raise _wrong(found, list, where)
        # As in Go, an empty item of a list is the zero value of its type.
        return [_checked(item, kind[0], f"{where}[{index}]") for index, item in enumerate(found or ())]
    if isinstance(kind, _MapOf | Mapping):
        if found is not None and not isinstance(found, dict):
            raise _wrong(found, dict, where)
        items = (found or {}).items()
        if isinstance(kind, _MapOf):
            return {key: _checked(item, kind.content, f"{where}.{key}") for key, item in items}
        return {
            key: _checked(item, kind[key], f"{where}.{key}".removeprefix("."))
            for key, item in items
            if key in kind and item is not None
        }
    if found is None:
        return ""
    if kind is bytes:
        return _base64(found, where)
    if type(found) is not kind:
        raise _wrong(found, kind, where)
    return found


def _base64(found: Any, where: str) -> str:
    """Return a base64 text without the line breaks that it may contain."""
    if not isinstance(found, str):
        raise _wrong(found, bytes, where)
    text = found.replace("\r", "").replace("\n", "")
    try:
        base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise TypeProblem(f"{where} is not base64") from error
    return text


def _wrong(found: Any, kind: Any, where: str) -> TypeProblem:
    if isinstance(found, bool):
        what = "true or false"
    elif isinstance(found, int | float):
        what = "a number"
    else:
        what = "text" if isinstance(found, str) else "a list" if isinstance(found, list) else "a mapping"
    more = "; put it in quotes" if kind is str and isinstance(found, bool | int | float) else ""
    return TypeProblem(f"{where or 'it'} is {what} and not {_WORDS[kind]}{more}")
