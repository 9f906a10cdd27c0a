"""The JSONPath of Kubernetes: the cases of client-go's `util/jsonpath`, and any text."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hatchway.cluster.api.registry.custom.jsonpath import JSONPath, JSONPathError

OBJECT: dict[str, Any] = {
    "metadata": {"name": "w", "labels": {"app.kubernetes.io/name": "web", "a b": "c"}},
    "spec": {"size": 2, "items": [{"n": "a", "v": 1}, {"n": "b", "v": 2}, {"n": "c", "v": 3}], "on": True},
    "status": {"conditions": [{"type": "Ready", "status": "True"}, {"type": "Old", "status": "False"}]},
}


@pytest.mark.parametrize(
    ("path", "found"),
    [
        (".spec.size", [2]),
        ("{.spec.size}", [2]),
        ("$.spec.size", [2]),
        (".spec.missing.more", []),
        (r".metadata.labels.app\.kubernetes\.io/name", ["web"]),
        (".metadata.labels['app.kubernetes.io/name']", ["web"]),
        ('.metadata.labels["a b"]', ["c"]),
        (".spec.items[0].n", ["a"]),
        (".spec.items[-1].n", ["c"]),
        (".spec.items[9].n", []),
        (".spec.items[0:2].n", ["a", "b"]),
        (".spec.items[::2].n", ["a", "c"]),
        (".spec.items[*].n", ["a", "b", "c"]),
        ('.status.conditions[?(@.type=="Ready")].status', ["True"]),
        (".status.conditions[?(@.type == 'Ready')].status", ["True"]),
        (".status.conditions[?(@.type!='Ready')].status", ["False"]),
        (".spec.items[?(@.v>=2)].n", ["b", "c"]),
        (".spec.items[?(@.v)].n", ["a", "b", "c"]),
        (".spec.items[?(@.v==true)].n", []),
        ("..v", [1, 2, 3]),
        (".spec.on", [True]),
        (".", [OBJECT]),
    ],
)
def test_paths(path: str, found: list[Any]) -> None:
    assert JSONPath(path).find(OBJECT) == found


@pytest.mark.parametrize("path", [".spec[", ".spec[a]", ".spec[?(]", ".spec..", ".a b", ".a['b", ".a[1:2:0]", "{.a"])
def test_malformed_paths(path: str) -> None:
    with pytest.raises(JSONPathError):
        JSONPath(path)


@given(st.text("$@.[]()?*:'\"\\=<>!0123-ab {}", max_size=30))
def test_any_text_is_a_path_or_an_error(text: str) -> None:
    try:
        path = JSONPath(text)
    except JSONPathError:
        return
    assert len(path.find(OBJECT)) <= 1000
