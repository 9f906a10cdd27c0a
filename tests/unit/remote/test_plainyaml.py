"""The small parser of kubeconfigs: its result is that of libyaml, or None."""

from __future__ import annotations

from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from hatchway.remote.plainyaml import parse

SCALARS = st.one_of(
    st.booleans(),
    st.text(max_size=20),
    st.text("LS0tCRUdJTi/+=abc:.-#'\" 0123", max_size=30),
    st.sampled_from(["https://127.0.0.1:6443", "yes", "null", "1e5", "0x1f", "~", "", "a: b", "a #b", "- a", "y"]),
)
KEYS = st.sampled_from(["apiVersion", "name", "cluster", "client-key-data", "server", "n", "user"])
DOCUMENTS = st.dictionaries(
    KEYS,
    st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3)),
    min_size=1,
    max_size=5,
)

KUBECONFIG = """\
apiVersion: v1
clusters:
- cluster:
    certificate-authority-data: LS0tLS1CRUdJTg==
    server: https://127.0.0.1:6443
  name: hatchway
contexts:
- context:
    cluster: hatchway
    namespace: shop
    user: hatchway
  name: hatchway
current-context: hatchway
kind: Config
preferences: {}
users:
- name: hatchway
  user:
    client-certificate-data: LS0t+/==
    client-key-data: LS0tLS1C
"""


def test_a_kubeconfig_as_kubectl_writes_it() -> None:
    assert parse(KUBECONFIG) == yaml.safe_load(KUBECONFIG)


@given(DOCUMENTS, st.booleans(), st.integers(2, 4))
def test_documents_give_the_result_of_libyaml_or_none(document: dict[str, Any], sort: bool, indent: int) -> None:
    text = yaml.safe_dump(document, sort_keys=sort, indent=indent)
    found = parse(text)
    assert found is None or found == yaml.safe_load(text)


@given(st.text("ab:- \n#'\"{}[]&*|>!%@`~0123.", max_size=40))
def test_other_texts_give_the_result_of_libyaml_or_none(text: str) -> None:
    found = parse(text)
    if found is not None:
        assert found == yaml.safe_load(text)


@given(st.integers(0, len(KUBECONFIG)), st.text("ab:- \n#'\"{}[]&*|>!\t", max_size=4))
def test_an_edited_kubeconfig_gives_the_result_of_libyaml_or_none(at: int, typed: str) -> None:
    text = KUBECONFIG[:at] + typed + KUBECONFIG[at:]
    found = parse(text)
    if found is not None:
        assert found == yaml.safe_load(text)


@pytest.mark.parametrize(
    "text",
    [
        "a: 1",
        "a: 12:30",
        "a: 2020-01-01",
        "a: ~",
        "a: 'x'",
        "a: |\n  x",
        "a: &b c",
        "a: b\na: c",
        "--- \na: b",
        "a: b\n---\na: c",
        "a: b # c",
        "a:\tb",
        "a: b\n  c",
        'a: "\\n"',
        "a: NO",
        "? a\n: b",
        "a: {b: c}",
        "",
    ],
)
def test_texts_that_are_left_to_the_full_parser(text: str) -> None:
    assert parse(text) is None
