"""Parts that types of resource.k8s.io share: names, selectors, configurations (`pkg/apis/resource/validation`)."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Hashable, Iterable
from typing import Any

from hatchway.cluster.api.registry import validation as v
from hatchway.cluster.api.registry.strategies.csi import driver_name
from hatchway.errors import Cause

__all__ = [
    "MAX_PARAMETERS",
    "config",
    "driver_name",
    "each_item",
    "fully_qualified_name",
    "json_object",
    "label",
    "pool_name",
    "qualified_name",
    "selectors",
    "unique",
    "uuid",
]

Json = dict[str, Any]

MAX_PARAMETERS = 10 * 1024
_MAX_ID, _MAX_POOL, _MAX_SELECTORS = 32, 253, 32
_identifier = re.compile(r"[A-Za-z_][A-Za-z0-9_]*").fullmatch
_IDENTIFIER_ERROR = (
    "a valid C identifier must start with alphabetic character or '_', followed by a string of alphanumeric characters "
    "or '_' (e.g. 'my_name',  or 'MY_NAME',  or 'MyName', regex used for validation is '[A-Za-z_][A-Za-z0-9_]*')"
)
_UUID_FORM = "xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx"
_uuid = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}").fullmatch


def each_item(items: list[Any] | None, most: int, check: Callable[[Any, str], Iterable[Cause]], at: str) -> list[Cause]:
    """Return the errors in the items of a list, or a single error when the list is too long (`validateSlice`)."""
    found = items or []
    if 0 <= most < len(found):
        return [v.too_many(at, len(found), most)]
    return [cause for index, one in enumerate(found) for cause in check(one, f"{at}[{index}]")]


def unique(items: list[Any] | None, key: Callable[[Any], Hashable], at: str, most: int = -1) -> list[Cause]:
    """Return an error for each item with the key of an earlier item. most: longer lists are not checked."""
    causes, seen = [], set()
    for index, one in enumerate(items or ()) if not 0 <= most < len(items or ()) else ():
        found = key(one)
        if found in seen:
            causes.append(v.duplicate(f"{at}[{index}]", found))
        seen.add(found)
    return causes


def label(name: str, at: str) -> list[Cause]:
    """Return the errors in a name that is a DNS label."""
    return v.each(at, name, v.dns1123_label(name))


def pool_name(name: str, at: str) -> list[Cause]:
    """Return the errors in the name of a pool: DNS subdomains with slashes between them."""
    if not name:
        return [v.required(at)]
    if len(name.encode()) > _MAX_POOL:
        return [v.too_long(at, _MAX_POOL)]
    return [cause for part in name.split("/") for cause in v.each(at, part, v.dns1123_subdomain(part))]


def qualified_name(name: str, at: str) -> list[Cause]:
    """Return the errors in the name of an attribute or a capacity: an identifier, or DOMAIN/IDENTIFIER."""
    parts = name.split("/")
    if len(parts) == 1:
        return _c_identifier(name, at)
    if len(parts) > 2:
        return []
    domain, last = parts
    causes = driver_name(domain, at) if domain else [v.invalid(at, "", "the domain must not be empty")]
    return causes + (_c_identifier(last, at) if last else [v.invalid(at, "", "the name must not be empty")])


def fully_qualified_name(name: str, at: str) -> list[Cause]:
    """Return the errors in a name that must have a domain."""
    causes = qualified_name(name, at)
    if "/" not in name:
        text = "a fully qualified name must be a domain and a name separated by a slash"
        causes.append(v.invalid(at, name, text))
    return causes


def _c_identifier(name: str, at: str) -> list[Cause]:
    causes = [v.too_long(at, _MAX_ID)] if len(name.encode()) > _MAX_ID else []
    return causes + ([] if _identifier(name) else [v.invalid(at, name, _IDENTIFIER_ERROR)])


def uuid(text: str, at: str) -> list[Cause]:
    """Return the errors in a text that must be a UUID in normalized form."""
    if _uuid(text):
        return []
    form = f"uid must be in RFC 4122 normalized form, `{_UUID_FORM}` with lowercase hexadecimal characters"
    return [v.invalid(at, text, form)]


def selectors(items: list[Json] | None, at: str) -> list[Cause]:
    """Return the errors in device selectors: expressions that do not compile or may cost too much."""
    return each_item(items, _MAX_SELECTORS, _selector, at)


def _selector(selector: Json, at: str) -> list[Cause]:
    found = selector.get("cel")
    if found is None:
        return [v.required(f"{at}.cel")]
    # Imported here, because a process without device selectors does not need the code that compiles expressions.
    from hatchway.cluster.api.registry.deviceselectors import MAX_COST, MAX_LENGTH, compile_selector

    at, text = f"{at}.cel.expression", found.get("expression") or ""
    if len(text.encode()) > MAX_LENGTH:
        return [v.too_long(at, MAX_LENGTH)]
    compiled = compile_selector(text)
    if compiled.problem:
        return [v.invalid(at, text, compiled.problem)]
    return [v.forbidden(at, "too complex, exceeds cost limit")] if compiled.cost > MAX_COST else []


def config(found: Json, at: str) -> list[Cause]:
    """Return the errors in the configuration of a driver (`validateDeviceConfiguration`)."""
    opaque = found.get("opaque")
    if opaque is None:
        return [v.required(f"{at}.opaque")]
    causes = driver_name(opaque.get("driver") or "", f"{at}.opaque.driver")
    return causes + json_object(opaque.get("parameters"), f"{at}.opaque.parameters", MAX_PARAMETERS)


def json_object(value: Any, at: str, most: int) -> list[Cause]:
    """Return the errors in a value that must be a JSON object. most: bytes of JSON."""
    if value is None:
        return [v.required(at)]
    if len(json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()) > most:
        return [v.too_long(at, most)]
    return [] if isinstance(value, dict) else [v.invalid(at, "<value omitted>", "must be a valid JSON object")]
