"""kubeconfig files: merging and removing an entry, the current context, and files that cannot be parsed."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest
import yaml

from hatchway.errors import HatchwayError
from hatchway.kube import kubeconfig

ENTRY = kubeconfig.KubeconfigEntry("hatchway", "https://127.0.0.1:6443", "Y2E=", "Y2VydA==", "a2V5")

OTHER = """\
apiVersion: v1
kind: Config
current-context: work
clusters:
- name: work
  cluster: {server: https://work.example:6443}
contexts:
- name: work
  context: {cluster: work, user: me}
users:
- name: me
  user:
    auth-provider: {config: {expiry: 2026-01-01T00:00:00Z, answer: "yes"}}
x-own: kept
"""


def load(path: Path) -> dict[str, object]:
    found = yaml.safe_load(path.read_text())
    assert isinstance(found, dict)
    return found


def test_a_new_file_is_private_and_current(tmp_path: Path) -> None:
    path = tmp_path / "new" / "config"
    assert kubeconfig.merge(path, ENTRY) == ""
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    found = load(path)
    assert found["current-context"] == "hatchway"
    assert found["contexts"] == [{"name": "hatchway", "context": {"cluster": "hatchway", "user": "hatchway"}}]


def test_merge_and_remove_do_not_change_other_entries(tmp_path: Path) -> None:
    path = tmp_path / "config"
    path.write_text(OTHER)
    before = kubeconfig.merge(path, ENTRY)
    assert before == "work"
    merged = load(path)
    assert [item["name"] for item in merged["clusters"]] == ["work", "hatchway"]  # type: ignore[attr-defined,index]
    kubeconfig.merge(path, ENTRY)
    assert load(path) == merged
    kubeconfig.remove(path, "hatchway", before)
    restored = load(path)
    assert restored["current-context"] == "work"
    assert restored["x-own"] == "kept"
    assert restored["users"][0]["user"]["auth-provider"]["config"] == {  # type: ignore[index]
        "expiry": "2026-01-01T00:00:00Z",
        "answer": "yes",
    }


@pytest.mark.parametrize(
    "value", ["1e3", "12e45", "y", "N", "0x1f", "1_000", ".5", "~", "null", "2026-01-01", "a: b", "", "1:20", "0o17"]
)
def test_strings_stay_strings_for_go(tmp_path: Path, value: str) -> None:
    """The parsers of kubectl and of Python differ: each treats some unquoted texts as numbers or booleans."""
    path = tmp_path / "config"
    path.write_text(f"users:\n- name: me\n  user:\n    token: '{value}'\n")
    kubeconfig.merge(path, ENTRY)
    assert f'token: "{value}"' in path.read_text()
    assert kubeconfig.read(str(path))["users"][0]["user"]["token"] == value


@pytest.mark.parametrize("value", ["1e3", "y", "0x1f", "1_000", ".5", "0o17", "017"])
def test_values_that_are_not_strings_for_go_are_refused(tmp_path: Path, value: str) -> None:
    path = tmp_path / "config"
    path.write_text(f"users: [{{name: me, user: {{token: {value}}}}}]")
    with pytest.raises(HatchwayError, match=r"users\[0\].user.token is .* and not text; put it in quotes"):
        kubeconfig.read(str(path))


def test_a_json_file_is_written_as_json(tmp_path: Path) -> None:
    path = tmp_path / "config"
    path.write_text(
        '{\n\t"users": [],\n\t"extensions": [{"name": "e", "extension": {"a": 1e3, "b": true, "c": null}}]\n}'
    )
    kubeconfig.merge(path, ENTRY)
    assert json.loads(path.read_text())["extensions"] == [
        {"name": "e", "extension": {"a": 1000.0, "b": True, "c": None}}
    ]


def test_further_documents_are_kept(tmp_path: Path) -> None:
    path = tmp_path / "config"
    path.write_text("current-context: a\n---\n# other\nkind: [broken\n")
    kubeconfig.merge(path, ENTRY)
    assert path.read_text().endswith("\n---\n# other\nkind: [broken\n")
    assert kubeconfig.read(str(path))["current-context"] == "hatchway"


def test_a_context_that_the_user_has_chosen_stays_current(tmp_path: Path) -> None:
    path = tmp_path / "config"
    path.write_text(OTHER)
    kubeconfig.merge(path, ENTRY)
    document = load(path)
    document["current-context"] = "work"
    path.write_text(yaml.safe_dump(document))
    kubeconfig.remove(path, "hatchway", "gone")
    assert load(path)["current-context"] == "work"


@pytest.mark.parametrize("text", ["a: [", "- just\n- a list\n", "kind: Pod\n", "clusters: 3\n", "\x00"])
def test_a_file_that_is_not_a_kubeconfig_is_not_changed(tmp_path: Path, text: str) -> None:
    path = tmp_path / "config"
    path.write_text(text)
    for change in (lambda: kubeconfig.merge(path, ENTRY), lambda: kubeconfig.remove(path, "hatchway")):
        with pytest.raises(HatchwayError) as caught:
            change()
        assert str(path) in caught.value.message
    assert path.read_text() == text
    assert list(tmp_path.iterdir()) == [path]


def test_a_symbolic_link_is_kept(tmp_path: Path) -> None:
    real, link = tmp_path / "real", tmp_path / "config"
    real.write_text(OTHER)
    link.symlink_to(real)
    kubeconfig.merge(link, ENTRY)
    assert link.is_symlink()
    assert load(real)["current-context"] == "hatchway"


def test_the_path_that_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    monkeypatch.setenv("KUBECONFIG", f"{one}:{two}")
    assert kubeconfig.default_path() == two
    one.write_text("")
    assert kubeconfig.default_path() == one
    assert kubeconfig.default_path(str(tmp_path / "three")) == tmp_path / "three"
    monkeypatch.delenv("KUBECONFIG")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert kubeconfig.default_path() == tmp_path / ".kube/config"


def test_reading_merges_a_list_and_resolves_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one, two = tmp_path / "a" / "one", tmp_path / "b" / "two"
    for path in (one, two):
        path.parent.mkdir()
    one.write_text("clusters:\n- name: c\n  cluster: {server: https://first, certificate-authority: ca.crt}\n")
    two.write_text(
        "current-context: x\ncontexts:\n- name: x\n  context: {cluster: c, user: u}\n"
        "clusters:\n- name: c\n  cluster: {server: https://second}\n"
        "users:\n- name: u\n  user: {client-key: /abs/key, client-certificate: sub/cert}\n"
    )
    monkeypatch.setenv("KUBECONFIG", f"{one}:{tmp_path / 'missing'}:{two}")
    found = kubeconfig.read()
    assert found["current-context"] == "x"
    assert [item[kubeconfig.ORIGIN] for item in found["clusters"] + found["users"]] == [one, two]
    assert [item["cluster"] for item in found["clusters"]] == [
        {"server": "https://first", "certificate-authority": str(one.parent / "ca.crt")}
    ]
    assert found["users"][0]["user"] == {"client-key": "/abs/key", "client-certificate": str(two.parent / "sub/cert")}


def test_the_error_about_a_missing_file_has_a_hint(tmp_path: Path) -> None:
    with pytest.raises(HatchwayError) as caught:
        kubeconfig.read(str(tmp_path / "none"))
    assert "hatchway up" in caught.value.hint


def test_check_refuses_a_file_that_is_not_writable(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(HatchwayError):
        kubeconfig.check(tmp_path / "file" / "config")
    kubeconfig.check(tmp_path / "config")
    assert not (tmp_path / "config").exists()
