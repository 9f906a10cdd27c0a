"""The scale subresource of custom types: a definition has the paths of a Scale's fields (`customresource/etcd.go`)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from hatchway.cluster.api.registry import validation as v
from hatchway.errors import Cause
from hatchway.kube.api import Object

__all__ = ["ScalePaths"]

Json = Any

_MAX_INT32 = 2**31 - 1


@dataclass(frozen=True, slots=True)
class ScalePaths:
    """The paths of the fields that the Scale of a custom type shows.

    spec, status: the paths of the wanted and of the current number of replicas, such as `.spec.replicas`.
    selector: the path of a label selector in text form; "" without one.
    """

    spec: str
    status: str
    selector: str = ""

    @classmethod
    def of(cls, scale: Mapping[str, Json] | None) -> ScalePaths | None:
        """Return the paths of a definition's `subresources.scale`, or None when it has none."""
        if scale is None:
            return None
        return cls(scale["specReplicasPath"], scale["statusReplicasPath"], scale.get("labelSelectorPath") or "")

    def replicas(self, obj: Object) -> int | None:
        """Return the wanted number of replicas; None when the field is missing or not an integer."""
        found = _find(obj, self.spec)
        return found if isinstance(found, int) and not isinstance(found, bool) else None

    def current(self, obj: Object) -> int:
        """Return the current number of replicas; 0 when the field is missing or not an integer."""
        found = _find(obj, self.status)
        return found if isinstance(found, int) and not isinstance(found, bool) else 0

    def selected(self, obj: Object) -> str:
        """Return the label selector of the object's pods as text; "" when the field is missing or not a string."""
        found = _find(obj, self.selector) if self.selector else ""
        return found if isinstance(found, str) else ""

    def set_replicas(self, obj: Object, replicas: int) -> None:
        """Set the wanted number of replicas in an object. Raises ValueError if the field's parent is not an object."""
        *names, last = _names(self.spec)
        for name in names:
            obj = obj.setdefault(name, {})
            if not isinstance(obj, dict):
                raise ValueError(f"{self.spec}: {name} is not an object")
        obj[last] = replicas

    def errors(self, obj: Object, *, spec: bool) -> list[Cause]:
        """Return the errors in the fields that a Scale shows. spec: also check the wanted number."""
        found = [*_number_errors(obj, self.spec)] if spec else []
        found += _number_errors(obj, self.status)
        selector = _find(obj, self.selector) if self.selector else None
        if selector is not None and not isinstance(selector, str):
            kind = _go_type(selector)
            text = f"{self.selector} accessor error: {_shown(selector)} is of the type {kind}, expected string"
            found.append(v.invalid(self.selector, "", text))
        return found


def _names(path: str) -> list[str]:
    return path.removeprefix(".").split(".")


def _find(obj: Json, path: str) -> Json:
    for name in _names(path):
        if not isinstance(obj, dict) or name not in obj:
            return None
        obj = obj[name]
    return obj


def _number_errors(obj: Object, path: str) -> Iterator[Cause]:
    found = _find(obj, path)
    if found is None:
        return
    if isinstance(found, bool) or not isinstance(found, int):
        text = f"{path} accessor error: {_shown(found)} is of the type {_go_type(found)}, expected int64"
        yield v.invalid(path, 0, text)
    elif found < 0:
        yield v.invalid(path, found, "should be a non-negative integer")
    elif found > _MAX_INT32:
        yield v.invalid(path, found, f"should be less than or equal to {_MAX_INT32}")


def _shown(value: Json) -> str:
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value).lower() if isinstance(value, bool) else str(value)


def _go_type(value: Json) -> str:
    if isinstance(value, bool):
        return "bool"
    names: dict[type, str] = {int: "int64", float: "float64", str: "string", list: "[]interface {}"}
    return names.get(type(value), "map[string]interface {}")
