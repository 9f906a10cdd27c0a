"""The functions that expressions can call. They come from the language, cel-go's extensions, and Kubernetes."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from types import MappingProxyType

from hatchway.cluster.api.cel.celtypes import Overload
from hatchway.cluster.api.cel.library.addresses import address_library
from hatchway.cluster.api.cel.library.lists import list_library
from hatchway.cluster.api.cel.library.quantities import quantity_library
from hatchway.cluster.api.cel.library.standard import standard_library
from hatchway.cluster.api.cel.library.texts import text_library

__all__ = ["functions"]


@cache
def functions() -> Mapping[str, list[Overload]]:
    """Return all overloads by the name of their function (apiserver `pkg/cel/environment/base.go`, for 1.36)."""
    found: dict[str, list[Overload]] = {}
    for library in (standard_library, text_library, list_library, address_library, quantity_library):
        for one in library():
            found.setdefault(one.function, []).append(one)
    return MappingProxyType(found)
