from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hatchway.images.pulling.credentials import BadCredentials, Credential, matching, parse_docker_config


def chosen(name: str, *servers: str) -> list[str]:
    return [one.server for one in matching([Credential(server, "u", "p") for server in servers], name)]


@pytest.mark.parametrize(
    ("server", "name", "found"),
    [
        # Cases of the kubelet's keyring_test.go (TestURLsMatch), without schemes.
        ("*.kubernetes.io", "prefix.kubernetes.io/x", True),
        ("prefix.*.io", "prefix.kubernetes.io/x", True),
        ("prefix.kubernetes.*", "prefix.kubernetes.io/x", True),
        ("*-good.kubernetes.io", "prefix-good.kubernetes.io/x", True),
        ("*.kubernetes.io/blah", "prefix.kubernetes.io/blah/x", True),
        ("prefix.*.io/foo", "prefix.kubernetes.io/foo/bar", True),
        ("*.kubernetes.io:1111/blah", "prefix.kubernetes.io:1111/blah/x", True),
        ("prefix.kubernetes.io", "prefix.kubernetes.io:1111/x", False),
        ("*.docker.io", "prefix.kubernetes.io/x", False),
        ("*.kubernetes.io", "kubernetes.io/x", False),
        ("kubernetes.io", "prefix.kubernetes.io/x", False),
        ("*.*.kubernetes.io", "kubernetes.io/x", False),
        ("kubernetes.io", "kubernetes.com/x", False),
        ("k*.io", "quay.io/x", False),
        # Servers with a scheme, or with the path of an old API.
        ("https://ghcr.io", "ghcr.io/org/app", True),
        ("https://ghcr.io/v2/", "ghcr.io/org/app", True),
        ("http://ghcr.io/v1/org", "ghcr.io/org/app", True),
        ("ghcr.io/org", "ghcr.io/other/app", False),
        ("registry.local:5000", "registry.local:5000/app", True),
        ("registry.local:5000", "registry.local/app", False),
        ("[::1]:5000", "[::1]:5000/app", True),
        ("[::2]:5000", "[::1]:5000/app", False),
        # Names of Docker Hub.
        ("https://index.docker.io/v1/", "docker.io/library/nginx", True),
        ("index.docker.io", "docker.io/library/nginx", True),
        ("docker.io", "docker.io/library/nginx", True),
        ("https://index.docker.io/v1/", "quay.io/library/nginx", False),
    ],
)
def test_entries_that_match_an_image(server: str, name: str, found: bool) -> None:
    assert (chosen(name, server) == [server]) == found


def test_longer_paths_come_first() -> None:
    servers = ("quay.io", "*.io", "quay.io/coreos", "quay.io/coreos/etcd")
    assert chosen("quay.io/coreos/etcd", *servers) == ["quay.io/coreos/etcd", "quay.io/coreos", "quay.io", "*.io"]


def config(**entry: Any) -> str:
    return json.dumps({"auths": {"ghcr.io": entry}})


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (config(username="u", password="p"), Credential("ghcr.io", "u", "p")),
        (config(auth=base64.b64encode(b"u:p:q").decode()), Credential("ghcr.io", "u", "p:q")),
        (config(auth=base64.b64encode(b"user:p").decode().rstrip("=")), Credential("ghcr.io", "user", "p")),
        (config(auth=base64.b64encode("ü:ß".encode()).decode()), Credential("ghcr.io", "ü", "ß")),
        (config(identitytoken="t"), Credential("ghcr.io", identity_token="t")),
        (config(username="<token>", password="t"), Credential("ghcr.io", identity_token="t")),
        (config(registrytoken="t"), Credential("ghcr.io", registry_token="t")),
    ],
)
def test_credentials_in_docker_config_files(text: str, found: Credential) -> None:
    assert parse_docker_config(text) == [found]


def test_forms_of_secrets() -> None:
    entries = {"ghcr.io": {"username": "u", "password": "p", "email": "u@x"}}
    assert parse_docker_config(json.dumps(entries), legacy=True) == [Credential("ghcr.io", "u", "p")]
    assert parse_docker_config(json.dumps({"auths": entries}).encode()) == [Credential("ghcr.io", "u", "p")]
    assert parse_docker_config("{}") == parse_docker_config(config()) == []


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        '{"auths": []}',
        '{"auths": {"x": 1}}',
        '{"auths": {"x": {"auth": "***secret***"}}}',
        '{"auths": {"x": {"auth": "c2VjcmV0"}}}',
        '{"auths": {"x": {"username": ["secret"]}}}',
        '{"auths": {"x": {"identitytoken": "secret\\r\\nX: y"}}}',
        '{"secret',
        "[" * 100_000,
        json.dumps({"auths": {str(number): {} for number in range(1001)}}),
        '{"auths": {}}' + " " * (1 << 20),
        '{"auths": {}, "x": [' + "[]," * 100_000 + "1]}",
    ],
)
def test_error_messages_contain_no_secrets(text: str) -> None:
    with pytest.raises(BadCredentials) as caught:
        parse_docker_config(text)
    assert "secret" not in str(caught.value)


def test_secrets_are_not_shown() -> None:
    shown = repr(Credential("ghcr.io", "ann", "secret1", "secret2", "secret3"))
    assert "ann" in shown and "secret" not in shown


def test_long_patterns_are_matched_in_linear_time() -> None:
    """Any user can write patterns into a Secret. As regular expressions, some patterns would take years to match."""
    star = "*?[a-z]" * 1000
    assert matching([Credential(f"{number}{star}.io", "u") for number in range(1000)], "a" * 63 + ".io/x") == []
    backtracking = [Credential(f"{number}" + "*a" * 60 + ".io", "u") for number in range(300)]
    assert matching(backtracking, "a" * 63 + ".io/x") == []


@given(st.text(), st.text())
def test_any_server_and_name(server: str, name: str) -> None:
    matching([Credential(server, "u", "p")], name)
