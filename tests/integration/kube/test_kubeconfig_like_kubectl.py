"""Kubeconfigs read and written by Hatchway and by kubectl; they are compared by `kubectl config view --raw`."""

from __future__ import annotations

import json
import os
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hatchway.errors import HatchwayError
from hatchway.kube import goyaml, kubeconfig
from tests.conftest import find_kubectl

ENTRY = kubeconfig.KubeconfigEntry("hatchway", "https://127.0.0.1:6443", "Y2E=", "Y2VydA==", "a2V5")

# The number of random kubeconfigs; each takes two runs of kubectl.
EXAMPLES = int(os.environ.get("HATCHWAY_TEST_KUBECONFIGS", "8"))

BASE = "clusters:\n- name: c\n  cluster: {server: 'https://x'}\nusers: []\ncurrent-context: a\n"


def in_cluster(fields: str) -> str:
    return f"clusters:\n- name: c\n  cluster: {{{fields}}}\n"


def in_user(fields: str) -> str:
    return f"users:\n- name: u\n  user: {{{fields}}}\n"


CASES: dict[str, str | bytes] = {
    **{f"token {text}": in_user(f"token: {text}") for text in (
        "1:20", "190:20:30", "0o17", "1e3", "yes", "Y", "on", "~", "null", "Null", "''", "2026-01-01", "0x1F", "017",
        "1_000", ".inf", "!!binary YWJj", "!!str 12", "'12'", "!!int '5'", "<<", "=", "08", "!foo bar", ".5", ".", 
        "0b11",
        "+5", "1.", "_1", "0x", "1e1000", "2026-01-01T00:00:00Z", "'1:20'", '"y"', "!!null ''", "a b", "-x", 
        "!!float 3",
    )},
    "two documents": BASE + "---\nkind: X\n",
    "a trailing mark": BASE + "---\n",
    "a leading mark": "---\n" + BASE,
    "an end, and garbage": BASE + "...\ngarbage: [",
    "garbage in the second": BASE + "---\n}{][",
    "an empty first": "---\n---\n" + BASE,
    "a comment": "# hi\n",
    "blanks": "  \n\n",
    "nothing": "",
    "null": "null\n",
    "UTF-16 LE": ("\ufeff" + BASE).encode("utf-16-le"),
    "UTF-16 BE": ("\ufeff" + BASE.replace("\n", "\r\n")).encode("utf-16-be"),
    "UTF-16 without a mark": BASE.encode("utf-16-le"),
    "UTF-8 with a mark": "\ufeff" + BASE,
    "Latin-1": b"current-context: \xe9\n",
    "NUL": BASE + "\0",
    "CRLF": BASE.replace("\n", "\r\n"),
    "JSON with tabs": '{\n\t"clusters": [\n\t\t{"name": "c",\t"cluster": {"server": "https://x"}}\n\t]\n}',
    "YAML with tabs": "clusters:\t[]\ncurrent-context:\ta\t\n",
    "indented by tabs": "clusters:\n-\tname: c\n",
    "empty kind": "kind: ''\napiVersion: ''\n" + BASE,
    "null kind": "kind:\napiVersion:\n" + BASE,
    "Pod": "kind: Pod\n" + BASE,
    "List": "kind: List\napiVersion: v1\n" + BASE,
    "v2": "apiVersion: v2\n" + BASE,
    "a list": "- a\n",
    "a word": "abc\n",
    "a key twice": BASE + "current-context: b\n",
    "a name twice": "clusters:\n- {name: c, cluster: {server: a}}\n- {name: c, cluster: {server: b}}\n",
    "no name": "clusters:\n- cluster: {server: a}\n",
    "null item": "clusters:\n- \n",
    "null cluster": "clusters:\n- {name: c, cluster: }\n",
    "a number as name": "clusters:\n- {name: 1, cluster: {}}\n",
    "a mapping as list": "clusters: {a: b}\n",
    "other case": "Clusters:\n- name: c\n",
    "yes": in_cluster("insecure-skip-tls-verify: yes"),
    "'true'": in_cluster("insecure-skip-tls-verify: 'true'"),
    "bad base64": in_cluster("certificate-authority-data: '***'"),
    "base64 with blanks": in_cluster("certificate-authority-data: 'YW Jj'"),
    "base64 in lines": "clusters:\n- name: c\n  cluster:\n    certificate-authority-data: |\n      YW\n      Jj\n",
    "merged": "x: &x {server: m, tls-server-name: t}\nclusters:\n- {name: c, cluster: {server: own, <<: *x}}\n"
    "- {name: d, cluster: {<<: *x, server: own}}\n",
    "merged list": "x: &x {server: m}\ny: &y {server: n, proxy-url: p}\nclusters:\n"
    "- {name: c, cluster: {<<: [*x, *y]}}\n",
    "merged text": in_cluster("<<: 5"),
    "quoted merge": "x: &x {server: m}\nclusters:\n- {name: c, cluster: {'<<': *x}}\n",
    "a circle": "extensions: &x\n- name: a\n  extension: *x\n",
    "no anchor": "a: *b\n",
    "an anchor twice": "a: &x 1\nb: &x c\ncurrent-context: *x\n",
    "odd keys": in_user("as-user-extra: {1: [a], y: [b], 1.5: [c], 0x10: [e], 2026-01-01: [f]}, as: x"),
    "null key": in_user("as-user-extra: {~: [d]}"),
    "plugin": in_user("exec: {command: a, env: [{name: A, value: }, {name: B}], args: [~, b], apiVersion: v}"),
    "a number as argument": in_user("exec: {command: a, args: [1], apiVersion: v}"),
    "auth-provider": in_user("auth-provider: {name: oidc, config: {expiry: 2026-01-01T00:00:00Z, e2: }}"),
    "a number in auth-provider": in_user("auth-provider: {name: oidc, config: {a: 1}}"),
    "extensions": "extensions:\n- name: e\n  extension: {a: 1e3, b: 0o17, c: .5, d: 12345678901234567890, "
    "e: 123456789012345678901234567890, f: 1:20, g: yes, h: 2026-01-01, i: 1.0, j: 1e400, k: -0x10, l: 1e21, m: ~}\n",
    "preferences": "preferences: {colors: true, extensions: [{name: x, extension: {a: [1, {b: c}]}}]}\n",
    "unknown fields": BASE + "foo: {bar: 1, baz: [a, {b: 2}]}\n",
    "names": "contexts:\n- {name: 'a b', context: {cluster: '😀', user: \"\\u00e9\"}}\ncurrent-context: a b\n",
    "in lines": "current-context: a\n  b\n",
    "escapes": 'current-context: "a\\tb\\x41\\u263a\\n"\n',
    "URLs in brackets": "{current-context: http://x:1, clusters: []}",
    "a directive": "%YAML 1.1\n---\n" + BASE,
    "a binary": "current-context: !!binary /w==\n",
}  # fmt: skip


def view(path: Path) -> dict[str, Any] | None:
    """Return the kubeconfig as kubectl reads it, without empty values; None if kubectl cannot read it."""
    done = subprocess.run(
        [find_kubectl(), "config", "view", "--raw", "-o", "json", f"--kubeconfig={path}"],
        capture_output=True,
        check=False,
        timeout=60,
    )
    return _bare(json.loads(done.stdout)) if done.returncode == 0 else None


def _bare(found: Any) -> Any:
    """Remove empty values, which Go omits."""
    if isinstance(found, dict):
        kept = {key: _bare(item) for key, item in found.items()}
        return {key: item for key, item in kept.items() if item not in (None, "", [], {}, False)}
    return [_bare(item) for item in found] if isinstance(found, list) else found


def ours(path: Path) -> dict[str, Any] | None:
    """Return the kubeconfig as Hatchway's loader reads it; None if the loader cannot read it."""
    try:
        found = kubeconfig._load(path)[1]
    except HatchwayError:
        return None
    return _bare({"kind": "Config", "apiVersion": "v1", **{key: item for key, item in found.items() if item}})


def there_and_back(path: Path) -> tuple[dict[str, Any] | None, dict[str, Any] | None]:
    """Add a cluster to a file, then remove it; return the other entries, as kubectl reads them, at both times."""
    before = kubeconfig.merge(path, ENTRY)
    during = view(path)
    assert during is not None
    for section in ("clusters", "users", "contexts"):
        assert [item.get("name") for item in during[section]].count("hatchway") == 1
        during[section] = [item for item in during[section] if item.get("name") != "hatchway"]
    assert during.pop("current-context") == "hatchway"
    kubeconfig.remove(path, "hatchway", before)
    return _bare({**during, "current-context": before}), view(path)


def test_files_are_read_like_kubectl_and_their_entries_kept(tmp_path: Path) -> None:
    def tried(item: tuple[str, str | bytes]) -> str:
        name, text = item
        path = tmp_path / name.encode().hex()
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        theirs, mine = view(path), ours(path)
        if theirs != mine:
            return f"{name}: kubectl reads {theirs!r}, we {mine!r}"
        if theirs is None:
            return ""
        kubeconfig.remove(path, "hatchway", kubeconfig.merge(path, ENTRY))
        after = view(path) or {}
        known = {item["name"] for item in theirs.get("contexts", ()) if "name" in item}
        if theirs.get("current-context") not in known:
            # A missing current context is not restored.
            theirs = {key: content for key, content in theirs.items() if key != "current-context"}
        return "" if after == theirs else f"{name}: was {theirs!r}, then {after!r}"

    with ThreadPoolExecutor(4) as pool:
        assert [problem for problem in pool.map(tried, CASES.items()) if problem] == []


PLAIN = st.sampled_from(
    ["1:20", "a", "yes", "'yes'", "'1e3'", "~", '"0o17"', "2026-01-01", "x: y", "'x: y'", '"\\u263a\\n"', "'<<'",
     "!!str 1", "''", "| # c", "eyJh.b-c_d", "12:30:45", "é😀", "'#'", "a#b", "-1", "1.5", "[a, 1e3]", "{b: ~, 'c d': 0x1F}", "*x"]
)  # fmt: skip
FIELDS = st.dictionaries(
    st.sampled_from(["server", "tls-server-name", "proxy-url", "certificate-authority", "own-field", "'a b'"]),
    PLAIN,
    max_size=4,
)


@st.composite
def texts(draw: st.DrawFn) -> str:
    """Return kubeconfigs like those that people and programs write; some of them are invalid."""
    flow = draw(st.booleans())
    lines = ["x-own: &x {server: merged}" if draw(st.booleans()) else "x-own: &x anchored", "clusters:"]
    for index in range(draw(st.integers(0, 3))):
        fields = draw(FIELDS)
        if flow:
            body = ", ".join(f"{key}: {item}" for key, item in fields.items() if "#" not in item)
            lines.append(f"- {{name: 'c {index}', cluster: {{{body}}}}}")
        else:
            lines += [f"-  name: c{index}", "   cluster:"]
            for key, item in fields.items():
                lines += [f"      {key}: {item}", *(["        text", "        more"] if item.startswith("|") else [])]
    lines += ["extensions:", "- name: e", f"  extension: {draw(PLAIN.filter(lambda item: '|' not in item))}"]
    lines.append(f"current-context: {draw(PLAIN.filter(lambda item: '|' not in item))}")
    return "\n".join(lines) + draw(st.sampled_from(["", "\n", "\n---\n", "\n...\n", "\n# end\n"]))


@settings(max_examples=EXAMPLES, suppress_health_check=list(HealthCheck), derandomize=True)
@given(texts())
def test_any_kubeconfig_comes_back_unchanged(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    path = tmp_path_factory.mktemp("any") / "config"
    path.write_text(text)
    theirs = view(path)
    assert ours(path) == theirs
    if theirs is not None:
        tree = goyaml.value(goyaml.parse(path.read_bytes()).root)
        theirs.pop("current-context", None)
        during, after = there_and_back(path)
        for found in (during, after):
            assert found is not None
            found.pop("current-context", None)
        assert during == after == theirs
        # Keys that kubectl does not know are kept, too.
        kept = goyaml.value(goyaml.parse(path.read_bytes()).root)
        assert {key: kept[key] for key in tree if key.startswith("x-")} == {"x-own": tree["x-own"]}


def test_lists_of_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first file with a name wins; missing files and empty parts are skipped; paths are relative to their file."""
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    (tmp_path / "a/one").write_text(
        "clusters:\n- {name: c, cluster: {certificate-authority: ca.crt, server: a}}\n- {name: e}\n"
        "contexts:\n- {name: k, context: {cluster: c}}\n"
    )
    (tmp_path / "b/real").write_text(
        "current-context: k\nclusters:\n- {name: c, cluster: {server: b}}\n- {name: e, cluster: {server: e}}\n"
        "users:\n- {name: u, user: {tokenFile: ../t, client-key: /abs/k, client-certificate: c}}\n"
        "contexts:\n- {name: k, context: {user: u, namespace: team}}\n"
    )
    (tmp_path / "b/two").symlink_to("real")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("KUBECONFIG", "a/one:missing::b/two:a/one")
    done = subprocess.run(
        [find_kubectl(), "config", "view", "--raw", "--merge", "--flatten=false", "-o", "json"],
        capture_output=True,
        check=True,
    )
    theirs, mine = _bare(json.loads(done.stdout)), kubeconfig.read()
    assert mine["current-context"] == theirs["current-context"] == "k"
    for section, key in {"clusters": "cluster", "users": "user", "contexts": "context"}.items():
        found = [{"name": item["name"], key: item.get(key)} for item in mine[section]]
        wanted = [{"name": item["name"], key: item.get(key)} for item in theirs[section]]
        absolute = [kubeconfig._absolute(item, tmp_path / ("b" if section == "users" else "a")) for item in wanted]
        assert _bare(sorted(found, key=lambda item: str(item["name"]))) == _bare(absolute)


@pytest.mark.parametrize("broken", ["directory", "unreadable"])
def test_an_unreadable_file_is_an_error_for_both(tmp_path: Path, broken: str) -> None:
    path = tmp_path / "config"
    path.mkdir() if broken == "directory" else path.write_text("{")
    assert view(path) is None
    with pytest.raises(HatchwayError, match=str(path)):
        kubeconfig.read(str(path))
