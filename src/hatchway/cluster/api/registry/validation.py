"""The messages of validation errors, and checks of the formats of names, labels and keys.

Messages are those of apimachinery's `pkg/util/validation/validation.go`, `pkg/api/validate/content` and
`pkg/util/validation/field/errors.go`. As in releases since 1.32, a structured value is shown as JSON.
"""

from __future__ import annotations

import ipaddress
import json
import re
from collections.abc import Iterable, Sequence
from typing import Any

from hatchway.errors import Cause

# An untyped JSON value from a client.
Json = Any
# The maximum number of bytes of the name of a field manager.
LONGEST_MANAGER = 128


def quote(text: str) -> str:
    """Return a string as Go's %q shows it: non-ASCII text stays readable, control characters are escaped."""
    return json.dumps(text, ensure_ascii=False)


def show(value: Json) -> str:
    """Return a rejected value as an error shows it: strings quoted, numbers bare, everything else as compact JSON."""
    if isinstance(value, str):
        return quote(value)
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _with(text: str, detail: str) -> str:
    return f"{text}: {detail}" if detail else text


def required(field: str, detail: str = "") -> Cause:
    """Return the cause for a required field that is missing. field: its path."""
    return Cause("FieldValueRequired", _with("Required value", detail), field)


def invalid(field: str, value: Json, detail: str) -> Cause:
    """Return the cause for a value that is not allowed. detail: why."""
    return Cause("FieldValueInvalid", _with(f"Invalid value: {show(value)}", detail), field)


def duplicate(field: str, value: Json) -> Cause:
    """Return the cause for a duplicate value."""
    return Cause("FieldValueDuplicate", f"Duplicate value: {show(value)}", field)


def not_found(field: str, value: Json) -> Cause:
    """Return the cause for a value that names something that does not exist."""
    return Cause("FieldValueNotFound", f"Not found: {show(value)}", field)


def not_supported(field: str, value: Json, supported: Iterable[str]) -> Cause:
    """Return the cause for an unsupported value. supported: the supported values, in Kubernetes' order."""
    known = ", ".join(quote(one) for one in supported)
    return Cause("FieldValueNotSupported", f"Unsupported value: {show(value)}: supported values: {known}", field)


def forbidden(field: str, detail: str) -> Cause:
    """Return the cause for a field that may not be set. detail: why."""
    return Cause("FieldValueForbidden", _with("Forbidden", detail), field)


def too_long(field: str, limit: int) -> Cause:
    """Return the cause for a value that is longer than `limit` bytes."""
    return Cause("FieldValueTooLong", f"Too long: may not be more than {limit} bytes", field)


def field_manager(manager: str, field: str) -> list[Cause]:
    """Return the errors in the name of a field manager (`metav1/validation`: ValidateFieldManager)."""
    if len(manager.encode()) > LONGEST_MANAGER:
        return [too_long(field, LONGEST_MANAGER)]
    return [
        invalid(field, manager, f"invalid character U+{ord(character):04X} (at position {index})")
        for index, character in enumerate(manager)
        if not character.isprintable()
    ]


def too_many(field: str, count: int, limit: int) -> Cause:
    """Return the cause for a list that has more than `limit` items."""
    return Cause("FieldValueTooMany", f"Too many: {count}: must have at most {limit} items", field)


def _regex_error(message: str, pattern: str, *examples: str) -> str:
    shown = " or ".join(f"'{one}', " for one in examples)
    return f"{message} (e.g. {shown}regex used for validation is '{pattern}')"


_LABEL = "[a-z0-9]([-a-z0-9]*[a-z0-9])?"
_SUBDOMAIN = _LABEL + r"(\." + _LABEL + ")*"
_QUALIFIED = "([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]"
_ENV_NAME = "[-._a-zA-Z][-._a-zA-Z0-9]*"
_CONFIG_KEY = "[-._a-zA-Z0-9]+"

_label = re.compile(_LABEL).fullmatch
_subdomain = re.compile(_SUBDOMAIN).fullmatch
_qualified = re.compile(_QUALIFIED).fullmatch
_config_key = re.compile(_CONFIG_KEY).fullmatch

_UNDERSCORED = r"([a-z0-9_]([-_a-z0-9]*[a-z0-9_])?)(\.[a-z0-9_]([-_a-z0-9]*[a-z0-9_])?)*"
_HEADER_NAME = "[-A-Za-z0-9]+"
_underscored = re.compile(_UNDERSCORED).fullmatch
_header_name = re.compile(_HEADER_NAME).fullmatch

_LABEL_ERROR = _regex_error(
    "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end "
    "with an alphanumeric character",
    _LABEL,
    "my-name",
    "123-abc",
)
_DNS1035 = "[a-z]([-a-z0-9]*[a-z0-9])?"
_dns1035 = re.compile(_DNS1035).fullmatch
_DNS1035_ERROR = _regex_error(
    "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic character, "
    "and end with an alphanumeric character",
    _DNS1035,
    "my-name",
    "abc-123",
)
_SUBDOMAIN_ERROR = _regex_error(
    "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start "
    "and end with an alphanumeric character",
    _SUBDOMAIN,
    "example.com",
)
_UNDERSCORE_ERROR = _regex_error(
    "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '_', '-' or '.', and must "
    "start and end with an alphanumeric character",
    _UNDERSCORED,
    "example.com",
)
_HEADER_ERROR = _regex_error(
    "a valid HTTP header must consist of alphanumeric characters or '-'", _HEADER_NAME, "X-Header-Name"
)
_QUALIFIED_ERROR = _regex_error(
    "must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character",
    _QUALIFIED,
    "MyName",
    "my.name",
    "123-abc",
)
_LABEL_VALUE_ERROR = _regex_error(
    "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start "
    "and end with an alphanumeric character",
    f"({_QUALIFIED})?",
    "MyValue",
    "my_value",
    "12345",
)
_CONFIG_KEY_ERROR = _regex_error(
    "a valid config key must consist of alphanumeric characters, '-', '_' or '.'",
    _CONFIG_KEY,
    "key.name",
    "KEY_NAME",
    "key-name",
)


def _too_many_characters(text: str, limit: int) -> list[str]:
    return [f"must be no more than {limit} characters"] if len(text.encode()) > limit else []


def dns1123_label(text: str) -> list[str]:
    """Return the errors in a DNS label (`IsDNS1123Label`): at most 63 characters."""
    return _too_many_characters(text, 63) + ([] if _label(text) else [_LABEL_ERROR])


def dns1035_label(text: str) -> list[str]:
    """Return the errors in a DNS label that begins with a letter (`IsDNS1035Label`): at most 63 characters."""
    return _too_many_characters(text, 63) + ([] if _dns1035(text) else [_DNS1035_ERROR])


def dns1123_subdomain(text: str) -> list[str]:
    """Return the errors in a DNS subdomain (`IsDNS1123Subdomain`): at most 253 characters."""
    return _too_many_characters(text, 253) + ([] if _subdomain(text) else [_SUBDOMAIN_ERROR])


def dns1123_subdomain_with_underscore(text: str) -> list[str]:
    """Return the errors in a DNS search domain, whose labels may begin with `_` (RelaxedDNSSearchValidation)."""
    return _too_many_characters(text, 253) + ([] if _underscored(text) else [_UNDERSCORE_ERROR])


def http_header_name(text: str) -> list[str]:
    """Return the errors in the name of an HTTP header field (`IsHTTPHeaderName`)."""
    return [] if _header_name(text) else [_HEADER_ERROR]


def path_segment(text: str) -> list[str]:
    """Return the errors in a name that must be one path segment (RBAC, `IsValidPathSegmentName`)."""
    if text in (".", ".."):
        return [f"may not be '{text}'"]
    return [f"may not contain '{bad}'" for bad in ("/", "%") if bad in text]


def qualified_name(text: str) -> list[str]:
    """Return the errors in `[prefix/]name`, the form of label and annotation keys and of finalizers."""
    prefix, slash, name = text.rpartition("/")
    if "/" in prefix:
        return [
            f"a qualified name {_QUALIFIED_ERROR} with an optional DNS subdomain prefix and '/' "
            "(e.g. 'example.com/MyName')"
        ]
    found = []
    if slash:
        if not prefix:
            found.append("prefix part must be non-empty")
        else:
            found += [f"prefix part {message}" for message in dns1123_subdomain(prefix)]
    if not name:
        found.append("name part must be non-empty")
    elif len(name) > 63:
        found.append("name part must be no more than 63 characters")
    if not _qualified(name):
        found.append(f"name part {_QUALIFIED_ERROR}")
    return found


_STANDARD_FINALIZERS = frozenset(("kubernetes", "orphan", "foregroundDeletion"))


def standard_finalizer(name: str, field: str) -> list[Cause]:
    """Check that a finalizer without a domain is one of Kubernetes' own (`validateKubeFinalizerName`)."""
    if "/" in name or name in _STANDARD_FINALIZERS:
        return []
    return [invalid(field, name, "name is neither a standard finalizer name nor is it fully qualified")]


def label_value(text: str) -> list[str]:
    """Return the errors in a label's value (`IsValidLabelValue`): at most 63 characters."""
    found = _too_many_characters(text, 63)
    if text and not _qualified(text):
        found.append(_LABEL_VALUE_ERROR)
    return found


def config_key(text: str) -> list[str]:
    """Return the errors in a key of a ConfigMap or Secret, which may become a file name (`IsConfigMapKey`)."""
    found = _too_many_characters(text, 253)
    if not _config_key(text):
        found.append(_CONFIG_KEY_ERROR)
    if text in (".", ".."):
        found.append(f"must not be '{text}'")
    elif text.startswith(".."):
        found.append("must not start with '..'")
    return found


def env_name(text: str) -> list[str]:
    """Return the errors in an environment variable's name: printable ASCII without `=` (since 1.34)."""
    if not text:
        return ["environment variable name must be non-empty"]
    if any(not " " <= one <= "~" or one == "=" for one in text):
        return ["a valid environment variable name must consist only of printable ASCII characters other than '='"]
    return []


def port_name(text: str) -> list[str]:
    """Return the errors in a port's name (`IsValidPortName`): at most 15 characters."""
    found = _too_many_characters(text, 15)
    if not re.fullmatch("[-a-z0-9]+", text):
        found.append("must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)")
    if not re.search("[a-z]", text):
        found.append("must contain at least one letter (a-z)")
    if "--" in text:
        found.append("must not contain consecutive hyphens")
    if text.startswith("-") or text.endswith("-"):
        found.append("must not begin or end with a hyphen")
    return found


def port_number(port: int, low: int = 1) -> list[str]:
    """Return the errors in a port number. low: the lowest allowed number."""
    return [] if low <= port <= 65535 else [f"must be between {low} and 65535, inclusive"]


def parse_ip(text: Json) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """Parse an IP address; None when it is invalid. Addresses with zones or leading zeros are invalid.

    As with Go's `net.ParseIP`, an IPv4-mapped IPv6 address (`::ffff:127.0.0.1`) is an IPv4 address.
    """
    if not isinstance(text, str) or "%" in text:
        return None
    try:
        found = ipaddress.ip_address(text)
    except ValueError:
        return None
    return (found.ipv4_mapped or found) if isinstance(found, ipaddress.IPv6Address) else found


IP_ERROR = "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)"


CIDR_ERROR = "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)"


def cidr(field: str, value: Json) -> list[Cause]:
    """Return the errors in an address range (`IsValidCIDR`). Bits after the prefix are allowed."""
    address, slash, length = value.partition("/") if isinstance(value, str) else ("", "", "")
    found = parse_ip(address)
    if found is None or not slash or not re.fullmatch("0|[1-9][0-9]{0,2}", length) or int(length) > found.max_prefixlen:
        return [invalid(field, value, CIDR_ERROR)]
    return []


def labels(found: Json, field: str) -> list[Cause]:
    """Return the errors in labels (`ValidateLabels`)."""
    causes = []
    for key, value in (found or {}).items():
        causes += [invalid(field, key, message) for message in qualified_name(key)]
        causes += [invalid(field, value, message) for message in label_value(value)]
    return causes


# The maximum number of labels, expressions and values of one selector.
MAX_SELECTOR_TERMS = 1000
_OPERATORS = ("In", "NotIn", "Exists", "DoesNotExist")


def selector_terms(selector: Json) -> int:
    """Return how many labels, expressions and values a metav1.LabelSelector has."""
    values = sum(1 + len(one.get("values") or ()) for one in selector.get("matchExpressions") or ())
    return values + len(selector.get("matchLabels") or ())


def label_selector(selector: Json, field: str) -> list[Cause]:
    """Return the errors in a metav1.LabelSelector (`ValidateLabelSelector`).

    A selector with very many terms is an error, because controllers match it with objects very often.
    """
    if not selector:
        return []
    terms = selector_terms(selector)
    if terms > MAX_SELECTOR_TERMS:
        return [too_many(field, terms, MAX_SELECTOR_TERMS)]
    causes = labels(selector.get("matchLabels"), f"{field}.matchLabels")
    for index, one in enumerate(selector.get("matchExpressions") or ()):
        at = f"{field}.matchExpressions[{index}]"
        operator, values = one.get("operator", ""), one.get("values") or []
        if operator in ("In", "NotIn"):
            if not values:
                causes.append(required(f"{at}.values", "must be specified when `operator` is 'In' or 'NotIn'"))
        elif operator in ("Exists", "DoesNotExist"):
            if values:
                causes.append(
                    forbidden(f"{at}.values", "may not be specified when `operator` is 'Exists' or 'DoesNotExist'")
                )
        else:
            causes.append(invalid(f"{at}.operator", operator, "not a valid selector operator"))
        key = one.get("key", "")
        causes += [invalid(f"{at}.key", key, message) for message in qualified_name(key)]
        for number, value in enumerate(values):
            causes += [invalid(f"{at}.values[{number}]", value, message) for message in label_value(value)]
    return causes


def immutable(new: Json, old: Json, field: str) -> list[Cause]:
    """Return the cause for a change of a value that must not change (`ValidateImmutableField`)."""
    return [] if new == old else [invalid(field, new, "field is immutable")]


def non_negative(value: Json, field: str) -> list[Cause]:
    """Return the causes for a number below 0. Values that are not numbers are ignored."""
    if isinstance(value, int) and value < 0:
        return [invalid(field, value, "must be greater than or equal to 0")]
    return []


def each(field: str, value: str, messages: Sequence[str]) -> list[Cause]:
    """Return one `Invalid value` cause for each message about the same value."""
    return [invalid(field, value, message) for message in messages]
