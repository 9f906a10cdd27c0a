"""Decodes request bodies and chooses the media types of responses.

Source: apiserver's `endpoints/handlers/negotiation/negotiate.go`. Answers are JSON, YAML or, for built-in types,
protobuf. Custom types and Tables have no protobuf form: a client that also accepts JSON gets JSON. Clients request
Tables and PartialObjectMetadata by parameters (`as`, `g`, `v`) of the media type.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import msgspec
import yaml

from hatchway.cluster.api.registry.schema import decode_protobuf
from hatchway.cluster.api.registry.schema.protobufwriter import encode_protobuf
from hatchway.cluster.api.work import MAX_VALUES, check_values
from hatchway.errors import ApiError, bad_request, unsupported_media_type

MAX_BODY = 3 * 1024 * 1024
JSON, YAML, PROTOBUF = "application/json", "application/yaml", "application/vnd.kubernetes.protobuf"
_ACCEPTED = f"{JSON}, {YAML}, {PROTOBUF}"
# Limits of a YAML body: values, and levels of nesting. Parsing YAML is slow; with aliases and merges, a few bytes can
# mean many values; and libyaml recurses on the C stack, without a limit, for nested values.
_MAX_NODES = MAX_VALUES
_MAX_DEPTH = 500
# Numbers with more digits are refused, because the time to parse a number grows with the square of its digits.
_MAX_DIGITS = 64

As = Literal["", "Table", "PartialObjectMetadata", "PartialObjectMetadataList"]


@dataclass(frozen=True, slots=True)
class AnswerFormat:
    """The form of a response.

    media_type: its media type.
    as_: Table, PartialObjectMetadata ..., or "" for the object itself.
    """

    media_type: str = JSON
    as_: As = ""
    pretty: bool = False


def _clauses(header: str) -> list[tuple[str, dict[str, str]]]:
    """Return the media ranges of an Accept header with their parameters, in the client's order of preference."""
    found = []
    for order, clause in enumerate(header.split(",")):
        name, *rest = (part.strip() for part in clause.split(";"))
        parameters = {}
        for part in rest:
            key, _, value = part.partition("=")
            parameters[key.strip().lower()] = value.strip().strip('"')
        try:
            quality = float(parameters.pop("q", "1"))
        except ValueError:
            quality = 0.0
        if name and quality > 0:
            found.append((-quality, order, name.lower(), parameters))
    return [(name, parameters) for _, _, name, parameters in sorted(found, key=lambda one: one[:2])]


def negotiate(
    accept: str, *, transforms: bool = True, tables: bool = True, streams: bool = False, protobuf: bool = False
) -> AnswerFormat:
    """Return the best acceptable format.

    transforms: True if this answer can be reduced to metadata.
    tables: True if it can be a Table; has no effect without `transforms`.
    streams: True if it can be a watch.
    protobuf: True if it can be in protobuf.

    Raises ApiError 406 when no format is acceptable.
    """
    if not accept:
        return AnswerFormat()
    for name, parameters in _clauses(accept[:8192]):
        if name in (JSON, "*/*", "application/*"):
            media_type = JSON
        elif name in (YAML, "application/x-yaml", "text/yaml"):
            media_type = YAML
        elif name == PROTOBUF and protobuf:
            media_type = PROTOBUF
        else:
            continue
        wanted = parameters.get("as", "")
        if wanted == "Table" and (media_type == PROTOBUF or not tables):
            continue
        if not wanted:
            return AnswerFormat(media_type)
        if not transforms or parameters.get("g") != "meta.k8s.io" or parameters.get("v", "v1") not in ("v1", "v1beta1"):
            continue
        for known in ("Table", "PartialObjectMetadata", "PartialObjectMetadataList"):
            if wanted == known:
                return AnswerFormat(media_type, known)
    raise not_acceptable(streams=streams)


def not_acceptable(*, streams: bool = False) -> ApiError:
    """Return an error 406 that lists the available formats (apiserver's `negotiation/errors.go`)."""
    available = _ACCEPTED + (f", {JSON};stream=watch, {PROTOBUF};stream=watch" if streams else "")
    message = f"406: Not Acceptable\n\nAvailable representations: {available}"
    return ApiError(406, "NotAcceptable", message, {})


def asks_for_layout(user_agent: str) -> bool:
    """Return True if JSON for this user agent gets line breaks and indentation: people read its output."""
    return user_agent.startswith(("curl", "Wget", "Mozilla/5.0"))


def media_type(content_type: str) -> str:
    """Return a Content-Type without parameters, in lower case."""
    return content_type.partition(";")[0].strip().lower()


def decode_body(content_type: str, body: bytes, kind: str) -> Any:
    """Decode a request body to values of JSON types.

    kind: the expected type, for messages.

    Raises ApiError 400 when it cannot be parsed, 415 for media types other than JSON, YAML and protobuf.
    """
    found = media_type(content_type) or JSON
    if found == JSON:
        return decode_json(body, kind)
    if found == YAML:
        return decode_yaml(body, kind)
    if found == PROTOBUF:
        return decode_protobuf(body)
    raise unsupported_media_type(
        f"the body of the request was in an unknown format - accepted media types include: {_ACCEPTED}"
    )


def _unrecognized(kind: str, why: str) -> ApiError:
    return bad_request(
        f"the object provided is unrecognized (must be of type {kind}): couldn't get version/kind; {why}"
    )


def decode_json(body: bytes, kind: str) -> Any:
    """Decode a JSON body. kind: the expected kind, for messages. Raises ApiError 400, or 413 for too many values."""
    check_values(body)
    try:
        return msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise _unrecognized(kind, f"json parse error: {error}") from None
    except RecursionError:
        raise _unrecognized(kind, "json parse error: nested too deep") from None


def json_configuration(body: bytes) -> Any:
    """Decode the configuration of a server-side apply if it is JSON. Return None if it is not JSON; it may be YAML.

    Raises ApiError 413 for too many values.
    """
    if body.lstrip()[:1] != b"{":
        return None
    check_values(body)
    try:
        return msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


def yaml_configuration(body: bytes) -> Any:
    """Decode the configuration of a server-side apply in YAML. Raises ApiError 400."""
    try:
        return _read_yaml(body)
    except yaml.MarkedYAMLError as error:
        why = _place(error) + str(error.problem or error.context)
    except (yaml.YAMLError, ValueError, TypeError, UnicodeDecodeError) as error:
        why = str(error)
    except RecursionError:
        why = "nested too deep"
    raise bad_request(f"error decoding YAML: error converting YAML to JSON: yaml: {why}")


def _place(error: yaml.MarkedYAMLError) -> str:
    """Return the line number of an error as Go's YAML parser counts it."""
    lines = [mark.line for mark in (error.context_mark, error.problem_mark) if mark is not None and mark.line]
    if not lines:
        return ""
    # Go's scanner counts lines from one, its parser from zero.
    return f"line {lines[0] + isinstance(error, yaml.scanner.ScannerError)}: "


class _YamlInput:
    """Passes a body to libyaml in pieces, so that other threads can run in between."""

    name = "<byte string>"

    def __init__(self, body: bytes) -> None:
        self._body = body
        self._at = 0

    def read(self, size: int) -> bytes:
        begin, self._at = self._at, self._at + size
        return self._body[begin : self._at]


_Base: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class _Loader(_Base):  # type: ignore[misc]
    """A loader of safe YAML without timestamps, which are strings in JSON."""

    _merged = 0

    def resolve(self, kind: Any, value: Any, implicit: Any) -> Any:
        """Return the tag of a node. No pattern is tried on a long scalar: it is a string, or a refused number."""
        if kind is yaml.ScalarNode and implicit[0] and len(value) > _MAX_DIGITS:
            if ":" not in value and not value.strip("+-.0123456789_eExXoabcdfABCDF"):
                raise ValueError("a number is too long")
            return "tag:yaml.org,2002:str"
        return super().resolve(kind, value, implicit)

    def flatten_mapping(self, node: Any) -> None:
        """Merge the values of `<<`. The number of values is limited, because each nested level can multiply it."""
        super().flatten_mapping(node)
        self._merged += len(node.value)
        if self._merged > _MAX_NODES:
            raise ValueError("document contains excessive merging")


def _number(loader: Any, node: Any, construct: Callable[[Any, Any], Any]) -> Any:
    text = loader.construct_scalar(node)
    if ":" in text:
        # Numbers in base 60, which YAML 1.1 has, are strings in Go.
        return text
    if len(text) > _MAX_DIGITS:
        raise ValueError("a number is too long")
    return construct(loader, node)


_Loader.add_constructor("tag:yaml.org,2002:int", lambda loader, node: _number(loader, node, _Base.construct_yaml_int))
_Loader.add_constructor(
    "tag:yaml.org,2002:float", lambda loader, node: _number(loader, node, _Base.construct_yaml_float)
)
# The tags of timestamps and "=", which are strings in Go.
_STRINGS = frozenset(("tag:yaml.org,2002:timestamp", "tag:yaml.org,2002:value"))
_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag not in _STRINGS]
    for first, resolvers in _Base.yaml_implicit_resolvers.items()
}


def decode_yaml(body: bytes, kind: str) -> Any:
    """Return the first document of a YAML body."""
    try:
        return _read_yaml(body)
    except (yaml.YAMLError, ValueError, TypeError, UnicodeDecodeError) as error:
        raise _unrecognized(kind, f"yaml parse error: {error}") from None
    except RecursionError:
        raise _unrecognized(kind, "yaml parse error: nested too deep") from None


def _read_yaml(body: bytes) -> Any:
    loader = None
    try:
        _check_yaml(body)
        loader = _Loader(_YamlInput(body))
        found = loader.get_data() if loader.check_data() else None
        return _plain(found, [0])
    finally:
        if loader is not None:
            loader.dispose()


def _check_yaml(body: bytes) -> None:
    """Check the first document. Raises ValueError when it is too deep or too large, YAMLError when it is malformed."""
    parser = _Loader(_YamlInput(body))
    # For each open collection: True when a map's key comes next, False when its value comes next, None in a list. Keys
    # do not count as values, as in JSON: large definitions of custom types have 30,000 keys and 30,000 values.
    levels: list[bool | None] = []
    count = 0
    try:
        while parser.check_event():
            event = parser.get_event()
            if isinstance(event, yaml.NodeEvent):
                is_key = bool(levels) and levels[-1] is True
                count += not is_key
                if levels and levels[-1] is not None:
                    levels[-1] = not is_key
                if isinstance(event, yaml.CollectionStartEvent):
                    levels.append(True if isinstance(event, yaml.MappingStartEvent) else None)
                    if len(levels) > _MAX_DEPTH:
                        raise ValueError("nested too deep")
            elif isinstance(event, yaml.CollectionEndEvent):
                levels.pop()
            elif isinstance(event, yaml.DocumentEndEvent):
                return
            if count > _MAX_NODES:
                raise ValueError("document holds too many values")
    finally:
        parser.dispose()


def yaml_duplicates(body: bytes) -> tuple[str, ...]:
    """Return messages about duplicate keys in maps of a YAML body, with the texts of sigs.k8s.io/yaml.

    body: a body that can be parsed.
    """
    parser = _Loader(_YamlInput(body))
    found: list[str] = []
    # For each open collection: a map's keys and the current key (None when a key comes next), or None for a list.
    levels: list[tuple[set[str], list[str | None]] | None] = []
    try:
        while parser.check_event():
            event = parser.get_event()
            if isinstance(event, yaml.CollectionEndEvent):
                levels.pop()
                continue
            if isinstance(event, yaml.DocumentEndEvent):
                break
            level = levels[-1] if levels else None
            if level is not None and isinstance(event, yaml.NodeEvent):
                keys, state = level
                if state and state[0] is not None:
                    if state[0] in keys:
                        line = event.start_mark.line + 1 if event.start_mark is not None else 0
                        found.append(f"  line {line}: key {json.dumps(state[0])} already set in map")
                    keys.add(state[0])
                    state.clear()
                elif state:
                    state.clear()
                else:
                    state.append(event.value if isinstance(event, yaml.ScalarEvent) else None)
            if isinstance(event, yaml.MappingStartEvent):
                levels.append((set(), []))
            elif isinstance(event, yaml.SequenceStartEvent):
                levels.append(None)
    except yaml.YAMLError:
        return ()
    finally:
        parser.dispose()
    return ("\n".join(["yaml: unmarshal errors:", *found[:100]]),) if found else ()


def _plain(value: Any, count: list[int]) -> Any:
    # With aliases, a few bytes can mean many values, or a value can contain itself. So values are counted, and
    # copied instead of shared.
    count[0] += 1
    if count[0] > _MAX_NODES:
        raise ValueError("document contains excessive aliasing")
    if isinstance(value, dict):
        return {_key(key): _plain(one, count) for key, one in value.items()}
    if isinstance(value, list):
        return [_plain(one, count) for one in value]
    if value is None or isinstance(value, str | bool | int | float):
        return value
    raise ValueError(f"a {type(value).__name__} has no JSON form")


def _key(key: Any) -> str:
    if isinstance(key, str):
        return key
    if isinstance(key, bool):
        return "true" if key else "false"
    if isinstance(key, int | float):
        return str(key)
    raise ValueError("a key is not a scalar")


def encode(value: Any, view: AnswerFormat) -> bytes:
    """Encode an answer's body in the media type of `view`."""
    if view.media_type == YAML:
        return dump_yaml(value)
    if view.media_type == PROTOBUF:
        return encode_protobuf(value)
    body = msgspec.json.encode(value)
    if view.pretty:
        body = msgspec.json.format(body, indent=2)
    return body + b"\n"


def dump_yaml(value: Any) -> bytes:
    """Encode a value as a YAML document with sorted keys. This is slow: about a megabyte per second."""
    text: str = yaml.dump(
        value, Dumper=_YamlDumper, default_flow_style=False, allow_unicode=True, sort_keys=True, width=10**6
    )
    return text.encode()


_BaseDumper: Any = getattr(yaml, "CSafeDumper", yaml.SafeDumper)


class _YamlDumper(_BaseDumper):  # type: ignore[misc]
    """A dumper that uses no anchors; shared parts of objects are written repeatedly."""

    def ignore_aliases(self, data: Any) -> bool:
        return True
