"""Manifests of tests: text, files, directories, dictionaries."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hatchway.testing import ClusterError
from hatchway.testing.manifests import read_manifest


def config_map(name: str, **data: str) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data}


def names(source: Any) -> list[str]:
    return [obj["metadata"]["name"] for obj in read_manifest(source)]


def test_several_documents_with_comments_and_empty_ones() -> None:
    documents = "\n---\n".join(["# nothing", *(json.dumps(config_map(name)) for name in "ab"), ""])
    assert names(f"--- # first\n{documents}") == ["a", "b"]


def test_a_line_of_dashes_within_a_value_does_not_separate_documents() -> None:
    text = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\ndata:\n  text: |\n    ---\n    ----\n"
    assert read_manifest(text)[0]["data"]["text"] == "---\n----\n"


def test_the_files_of_a_directory_by_name(tmp_path: Path) -> None:
    for name in ("b.yaml", "a.json", "c.yml", "notes.txt", "d.yaml.bak"):
        (tmp_path / name).write_text(json.dumps(config_map(name[0])))
    assert names(tmp_path) == ["a", "b", "c"]
    assert names(tmp_path / "notes.txt") == ["n"]


def test_objects_that_others_need_come_first() -> None:
    namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "n"}}
    definition = {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": "d"},
    }
    assert names([config_map("b"), namespace, config_map("a"), definition]) == ["n", "d", "b", "a"]


def test_lists_are_replaced_by_their_items() -> None:
    inner = {"apiVersion": "v1", "kind": "ConfigMapList", "items": [config_map("b")]}
    assert names({"apiVersion": "v1", "kind": "List", "items": [config_map("a"), inner]}) == ["a", "b"]


def test_the_callers_dictionaries_are_not_changed() -> None:
    given = config_map("a")
    read_manifest(given)[0]["metadata"]["namespace"] = "other"
    assert given == config_map("a")


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("", "the text has no object"),
        ("manifests/web.yaml", "the text, document 1, is not an object of Kubernetes, but str"),
        ("a: [", "the text, document 1, is not valid YAML"),
        ("kind: Pod\nmetadata: {name: a}", "has no apiVersion"),
        ("apiVersion: v1\nkind: Pod", "(Pod) has no metadata.name"),
        (["text"], "object 1 is a str, not a dictionary"),
        (Path("/nowhere/web.yaml"), "cannot read /nowhere/web.yaml: No such file or directory"),
    ],
)
def test_errors_in_manifests(source: Any, message: str) -> None:
    with pytest.raises(ClusterError) as caught:
        read_manifest(source)
    assert message in caught.value.message


def test_a_path_given_as_text_is_an_error_with_a_hint() -> None:
    with pytest.raises(ClusterError, match=r"pathlib\.Path"):
        read_manifest("manifests/web.yaml")


_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.text(st.characters(codec="utf-8", exclude_categories=["C"])),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("ab-:\"'", max_size=5), inner, max_size=3),
    max_leaves=8,
)


@given(st.lists(_VALUES, min_size=1, max_size=4))
def test_json_documents_are_read_unchanged(values: list[Any]) -> None:
    objects = [{**config_map(f"m{number}"), "data": value} for number, value in enumerate(values)]
    assert read_manifest("\n---\n".join(json.dumps(obj, indent=1) for obj in objects)) == objects


@given(st.text(max_size=200))
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        assert read_manifest(text)
    except ClusterError as error:
        assert error.message
