"""The settings of a context of a kubeconfig; errors about unusable settings name the context."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import pytest
import yaml

from hatchway.errors import HatchwayError
from hatchway.kube import contexts, serversettings
from hatchway.kube.contexts import from_document
from hatchway.kube.serversettings import Settings

CA = base64.b64encode(b"-----BEGIN CERTIFICATE-----").decode()
V1 = "client.authentication.k8s.io/v1"


def document(cluster: dict[str, Any], user: dict[str, Any] | None = None, **context: Any) -> dict[str, Any]:
    return {
        "contexts": [{"name": "work", "context": {"cluster": "c", "user": "u" if user is not None else "", **context}}],
        "clusters": [{"name": "c", "cluster": {"server": "https://k8s.example:6443", **cluster}}],
        "users": [{"name": "u", "user": user}] if user is not None else [],
        "current-context": "work",
    }


def found(cluster: dict[str, Any] | None = None, user: dict[str, Any] | None = None, **context: Any) -> Settings:
    return from_document(document(cluster or {}, user, **context), "work")


def problem(cluster: dict[str, Any] | None = None, user: dict[str, Any] | None = None, **context: Any) -> str:
    with pytest.raises(HatchwayError) as caught:
        found(cluster, user, **context)
    assert 'context "work"' in caught.value.message
    assert caught.value.hint
    return caught.value.message


def test_a_minimal_context() -> None:
    least = found()
    assert (least.server, least.namespace, least.user) == ("https://k8s.example:6443", "default", "")
    assert (least.ca, least.token, least.basic, least.plugin, least.impersonate) == (None, "", None, None, ())
    assert least.files == []
    assert least.label == 'context "work" (https://k8s.example:6443)'


@pytest.mark.parametrize(
    ("server", "cluster", "expected"),
    [
        ("https://rancher.example/k8s/clusters/c-1/", {}, "https://rancher.example/k8s/clusters/c-1"),
        ("k8s.example:6443", {"certificate-authority-data": CA}, "https://k8s.example:6443"),
        ("127.0.0.1:8001", {}, "http://127.0.0.1:8001"),
        ("https://[::1]:6443", {}, "https://[::1]:6443"),
    ],
)
def test_servers(server: str, cluster: dict[str, Any], expected: str) -> None:
    assert found({**cluster, "server": server}).server == expected


@pytest.mark.parametrize("server", ["", "https://", "ftp://x", "https://x:port", "https://me:secret@x"])
def test_invalid_servers(server: str) -> None:
    assert "server" in problem({"server": server})


def test_data_has_precedence_over_files_and_may_have_line_breaks() -> None:
    one = found({"certificate-authority-data": CA[:8] + "\n" + CA[8:], "certificate-authority": "/ca"})
    assert one.ca == b"-----BEGIN CERTIFICATE-----"
    other = found(user={"client-certificate": "/c", "client-key": "/k", "tokenFile": "/t"})
    assert other.files == [Path("/c"), Path("/k"), Path("/t")]


def test_credentials_that_contradict_themselves() -> None:
    assert "client key" in problem(user={"client-certificate": "/c"})
    assert "not base64" in problem({"certificate-authority-data": "?"})
    assert "insecure-skip-tls-verify" in problem({"insecure-skip-tls-verify": True, "certificate-authority-data": CA})
    assert "line break" in problem(user={"token": "a\nb"})
    assert "without as" in problem(user={"as-groups": ["x"]})


def test_impersonation() -> None:
    user = {"as": "jane", "as-uid": "7", "as-groups": ["a", "b"], "as-user-extra": {"Acme.com/Team": ["x", "y"]}}
    assert found(user=user).impersonate == (
        (b"Impersonate-User", b"jane"),
        (b"Impersonate-Uid", b"7"),
        (b"Impersonate-Group", b"a"),
        (b"Impersonate-Group", b"b"),
        (b"Impersonate-Extra-acme.com%2Fteam", b"x"),
        (b"Impersonate-Extra-acme.com%2Fteam", b"y"),
    )


def test_a_plugin() -> None:
    plugin = {
        "apiVersion": V1,
        "command": "aws",
        "args": ["eks", "get-token"],
        "env": [{"name": "AWS_PROFILE", "value": "x"}, {"name": "EMPTY", "value": None}, {"name": "NONE"}],
        "interactiveMode": "Never",
        "installHint": "install\n  the aws CLI",
        "provideClusterInfo": True,
    }
    cluster = {
        "certificate-authority-data": CA,
        "extensions": [{"name": "client.authentication.k8s.io/exec", "extension": {"audience": "x"}}],
    }
    taken = found(cluster, {"exec": plugin}).plugin
    assert taken is not None
    assert (taken.command, taken.arguments, taken.environment) == (
        "aws",
        ("eks", "get-token"),
        (("AWS_PROFILE", "x"), ("EMPTY", ""), ("NONE", "")),
    )
    assert (taken.stdin, taken.hint) == ("Never", "install the aws CLI")
    assert taken.cluster == {
        "server": "https://k8s.example:6443",
        "certificate-authority-data": CA,
        "config": {"audience": "x"},
    }
    # Values in the kubeconfig take precedence.
    assert found(cluster, {"exec": plugin, "token": "t"}).plugin is None


@pytest.mark.parametrize(
    ("plugin", "word"),
    [
        ({"apiVersion": V1}, "no command"),
        ({"apiVersion": "client.authentication.k8s.io/v1alpha1", "command": "x"}, "v1alpha1"),
        ({"apiVersion": V1, "command": "x", "interactiveMode": "Maybe"}, "Maybe"),
        ({"apiVersion": V1, "command": "x", "env": ["A=b"]}, "env"),
    ],
)
def test_plugins_that_cannot_be_run(plugin: dict[str, Any], word: str) -> None:
    assert word in problem(user={"exec": plugin})


@pytest.mark.parametrize(
    ("provider", "words"),
    [
        ({"name": "gcp"}, "the gcp auth plugin has been removed; gke-gcloud-auth-plugin takes its place"),
        ({"name": "azure", "config": {}}, "the azure auth plugin has been removed; https://github.com/Azure/kubelogin"),
        ({"name": "openstack"}, 'no auth-provider "openstack"'),
        ({"name": "oidc"}, "has no idp-issuer-url"),
        ({"name": "oidc", "config": {"idp-issuer-url": "https://x"}}, "has no client-id"),
    ],
)
def test_auth_providers_that_cannot_be_used(provider: dict[str, Any], words: str) -> None:
    assert words in problem(user={"auth-provider": provider})
    # As in kubectl, this is an error even if there is another credential.
    assert words in problem(user={"auth-provider": provider, "token": "t"})


def test_an_oidc_provider() -> None:
    config = {"idp-issuer-url": "https://dex", "client-id": "kubernetes", "refresh-token": "r"}
    taken = found(user={"auth-provider": {"name": "oidc", "config": config}}).oidc
    assert taken is not None
    assert (taken.issuer, taken.client_id, taken.client_secret, taken.id_token) == ("https://dex", "kubernetes", "", "")
    assert found(user={"auth-provider": {"name": "oidc", "config": config}, "token": "t"}).oidc is None
    both = {"auth-provider": {"name": "oidc", "config": config}, "exec": {"apiVersion": V1, "command": "x"}}
    assert "both an auth-provider and an exec plugin" in problem(user=both)


def test_the_cluster_and_the_user_of_a_context_must_exist() -> None:
    broken = document({}, {})
    broken["contexts"][0]["context"]["cluster"] = "gone"
    with pytest.raises(HatchwayError, match='its cluster "gone" is not in the kubeconfig'):
        from_document(broken, "work")
    with pytest.raises(HatchwayError, match='its user "nobody" is not'):
        from_document(
            document({}) | {"contexts": [{"name": "work", "context": {"cluster": "c", "user": "nobody"}}]}, "work"
        )


def test_the_error_about_a_missing_context_lists_the_contexts(tmp_path: Path) -> None:
    path = tmp_path / "config"
    path.write_text(yaml.safe_dump(document({}, {"token": "t"}, namespace="team")))
    assert contexts.load(str(path)).namespace == "team"
    with pytest.raises(HatchwayError) as caught:
        contexts.load(str(path), "other")
    assert caught.value.hint == "--context takes work"


def test_a_plugins_path_is_relative_to_the_kubeconfig(tmp_path: Path) -> None:
    path = tmp_path / "config"
    for command, expected in (("./bin/login", str(tmp_path / "bin/login")), ("login", "login")):
        plugin = {"apiVersion": V1, "command": command}
        path.write_text(yaml.safe_dump(document({}, {"exec": plugin})))
        taken = contexts.load(str(path)).plugin
        assert taken is not None
        assert taken.command == expected


def test_in_a_pod(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(contexts, "SERVICE_ACCOUNT", tmp_path)
    monkeypatch.setattr(serversettings, "SERVICE_ACCOUNT", tmp_path)
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "none"))
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "fd00::1")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", "443")
    with pytest.raises(HatchwayError, match="no cluster to talk to"):
        contexts.load()
    (tmp_path / "token").write_text("t\n")
    (tmp_path / "namespace").write_text("apps")
    pod = contexts.load()
    assert (pod.server, pod.namespace, pod.context) == ("https://[fd00::1]:443", "apps", "")
    assert pod.files == [tmp_path / "ca.crt", tmp_path / "token"]
