"""Manifests, indexes and configurations from unknown sources: they are parsed, or refused with the right error."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hatchway.images.contents import BadImage
from hatchway.images.documents import parse_config, parse_index, parse_manifest
from tests.images.making import built

_WEB = built("web:1", {"a": "1"}, Entrypoint=["/x"], Env=["A=b"], Labels={"l": "v"}, Volumes={"/data": {}}, User="7")
_MANIFEST = json.loads(_WEB.blobs[_WEB.manifest])
_CONFIG = json.loads(_WEB.blobs[_WEB.config])
_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5) | st.just(_WEB.config),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


def _paths(document: Any, before: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Return the paths of all values in a document."""
    inner = (
        document.items() if isinstance(document, dict) else enumerate(document) if isinstance(document, list) else ()
    )
    return [path for key, value in inner for path in ((*before, key), *_paths(value, (*before, key)))]


def _replaced(document: Any, path: tuple[Any, ...], value: Any) -> bytes:
    copy = json.loads(json.dumps(document))
    place = copy
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    return json.dumps(copy).encode()


def _read(parse: Callable[[bytes], Any], text: bytes) -> Any:
    try:
        return parse(text)
    except BadImage as error:
        assert error.message
        return None


@given(path=st.sampled_from(_paths(_MANIFEST)), value=_JSON)
def test_a_manifest_with_any_value_in_any_place_is_parsed_or_refused(path: tuple[Any, ...], value: Any) -> None:
    manifest = _read(parse_manifest, _replaced(_MANIFEST, path, value))
    for blob in (manifest.config, *manifest.layers) if manifest else ():
        assert blob.digest.startswith("sha") and type(blob.size) is int and blob.size >= 0
        assert isinstance(blob.media_type, str)


@given(path=st.sampled_from(_paths(_CONFIG)), value=_JSON)
def test_a_configuration_with_any_value_in_any_place_is_parsed_or_refused(path: tuple[Any, ...], value: Any) -> None:
    config = _read(parse_config, _replaced(_CONFIG, path, value))
    if config is None:
        return
    texts = [config.architecture, config.os, config.working_dir, config.user, config.stop_signal, config.created]
    texts += [*config.entrypoint, *config.command, *config.env, *config.volumes, *config.exposed_ports]
    texts += [*config.labels, *config.labels.values()]
    # Without NUL and lone surrogates, a text can be an argument of a program and part of JSON.
    assert all(isinstance(text, str) and "\0" not in text and text.encode() is not None for text in texts)


@given(text=st.binary(max_size=60), value=_JSON)
def test_any_bytes_and_any_json_are_parsed_or_refused(text: bytes, value: Any) -> None:
    for parse in (parse_manifest, parse_config, parse_index):
        _read(parse, text)
        _read(parse, json.dumps(value).encode())
        _read(parse, json.dumps({"manifests": value, "schemaVersion": 2, "layers": value, "rootfs": value}).encode())


@pytest.mark.parametrize("where", ["Entrypoint", "Env", "Labels", "User", "WorkingDir"])
@pytest.mark.parametrize("text", ["a\0b", "a\ud800"])
def test_texts_that_cannot_be_arguments_of_a_program_are_refused(where: str, text: str) -> None:
    value = {"Entrypoint": [text], "Env": [f"A={text}"], "Labels": {text: "x"}, "User": text, "WorkingDir": text}[where]
    with pytest.raises(BadImage, match="zero byte or with half a character"):
        parse_config(json.dumps({**_CONFIG, "config": {where: value}}).encode())


def test_a_command_line_that_is_one_string_is_a_list_of_one() -> None:
    assert parse_config(json.dumps({**_CONFIG, "config": {"Cmd": "run it"}}).encode()).command == ("run it",)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"schemaVersion": 1}, "schema 1, which is not supported"),
        ({"mediaType": "application/vnd.oci.image.index.v1+json"}, "is an index of images"),
        ({"layers": _MANIFEST["layers"] * 501}, "501 layers; at most 500"),
        ({"config": None}, "the manifest's config is not a descriptor"),
    ],
)
def test_unusable_manifests_have_errors_with_a_reason(change: dict[str, Any], message: str) -> None:
    with pytest.raises(BadImage, match=message):
        parse_manifest(json.dumps({**_MANIFEST, **change}).encode())
