"""All functions of CEL expressions; defines the functions of named formats (apiserver `pkg/cel/library/format.go`)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from types import MappingProxyType
from typing import ClassVar

from hatchway.cluster.api.cel.celtypes import Overload
from hatchway.cluster.api.cel.library import functions
from hatchway.cluster.api.cel.library.addresses import parse_url
from hatchway.cluster.api.cel.library.declaring import declare
from hatchway.cluster.api.cel.values import EvaluationError, Optional, Value, size_of
from hatchway.cluster.api.registry import validation as v
from hatchway.cluster.api.registry.custom.celauthorization import authorization_library
from hatchway.cluster.api.registry.custom.formats import FORMATS

__all__ = ["kubernetes_functions"]


@dataclass(frozen=True, slots=True)
class FormatValue:
    """A named format of strings.

    validate: returns the errors in a text. size: the size of the format's regular expression, for estimating costs.
    """

    name: str
    validate: Callable[[str], list[str]]
    size: int
    type_name: ClassVar[str] = "kubernetes.NamedFormat"


def _prefix(check: Callable[[str], list[str]]) -> Callable[[str], list[str]]:
    """Return a check for prefixes of names: a prefix may end with a hyphen (`maskTrailingDash`)."""
    return lambda text: check(f"{text[:-1]}a" if len(text) > 1 and text.endswith("-") else text)


def _formatted(name: str, message: str) -> Callable[[str], list[str]]:
    check = FORMATS[name]
    return lambda text: [] if check(text) else [message]


def _uri(text: str) -> list[str]:
    try:
        parse_url(text)
    except EvaluationError as error:
        return [str(error).removeprefix("URL parse error during conversion from string: ")]
    return []


_FORMATS = {
    "dns1123Label": FormatValue("DNS1123Label", v.dns1123_label, 30),
    "dns1123Subdomain": FormatValue("DNS1123Subdomain", v.dns1123_subdomain, 60),
    "dns1035Label": FormatValue("DNS1035Label", v.dns1035_label, 30),
    "qualifiedName": FormatValue("QualifiedName", v.qualified_name, 60),
    "dns1123LabelPrefix": FormatValue("DNS1123LabelPrefix", _prefix(v.dns1123_label), 30),
    "dns1123SubdomainPrefix": FormatValue("DNS1123SubdomainPrefix", _prefix(v.dns1123_subdomain), 60),
    "dns1035LabelPrefix": FormatValue("DNS1035LabelPrefix", _prefix(v.dns1035_label), 30),
    "labelValue": FormatValue("LabelValue", v.label_value, 40),
    "uri": FormatValue("URI", _uri, 400),
    "uuid": FormatValue("uuid", _formatted("uuid", "does not match the UUID format"), 80),
    "byte": FormatValue("byte", _formatted("byte", "invalid base64"), 80),
    "date": FormatValue("date", _formatted("date", "invalid date"), 100),
    "datetime": FormatValue("datetime", _formatted("datetime", "invalid datetime"), 100),
}


def _validated(format: FormatValue, text: str) -> Optional:
    found = format.validate(text)
    return Optional(True, list(found)) if found else Optional()


def _validation_cost(args: tuple[Value, ...], result: Value) -> int:
    size: int = args[0].size
    return -(-(1 + size_of(args[1])) // 10) * -(-size // 4)


def _named(name: str) -> Optional:
    found = _FORMATS.get(name)
    return Optional(True, found) if found is not None else Optional()


def _constant(value: FormatValue) -> Callable[[], FormatValue]:
    return lambda: value


def _formats() -> Iterator[Overload]:
    yield declare("format-validate", "Format.validate(string) optional(list(string))", _validated, _validation_cost)
    yield declare("format-named", ".format.named(string) optional(Format)", _named)
    for name, value in _FORMATS.items():
        yield declare(f"format.{name}", f".format.{name}() Format", _constant(value))


@cache
def kubernetes_functions() -> Mapping[str, list[Overload]]:
    """Return all functions of Kubernetes' CEL expressions, by name."""
    found = dict(functions())
    for one in (*_formats(), *authorization_library()):
        # The list is copied, because all callers of `functions()` get the same lists.
        found[one.function] = [*found.get(one.function, ()), one]
    return MappingProxyType(found)
