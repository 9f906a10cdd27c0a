"""Regular expressions of the filter's flags mean the same to `hatchway proxy` as to `kubectl proxy`."""

from __future__ import annotations

from pathlib import Path

import pytest

from hatchway.door.requestfilter import RequestFilter
from hatchway.goregexp import Expression, ExpressionError
from tests.door import need_door
from tests.integration.door.proxies import Ask, fails, running

# Nothing listens at this server: accepted requests are answered 502, refused requests 403.
_KUBECONFIG = """\
current-context: w
clusters: [{name: c, cluster: {server: "http://127.0.0.1:9"}}]
contexts: [{name: w, context: {cluster: c}}]
"""
_SECRETS = "/api/v1/namespaces/kube-system/secrets"
_PATHS = [
    _SECRETS, "/", "/a", "/abc", "/A-b_1", "/a%0Ab", "/a%0A", "/%C3%A9", "/%FF", "/%E2%84%AA", "/k", "/aaaa",
    "/123", "/a{,2}", "/a%20b", "/%5B%5D", "/%D7%90", "/%CD%B8", "/x**", "/%D9%A3",
]  # fmt: skip
_MEANT = [
    "^/api/v1/namespaces/[[:alpha:]-]+/secrets", "^*$", "^/[[:^digit:]]+$", r"\pL{2}", r"\p{^Greek}a", r"/\p{Lu}",
    r"\p{Letter}\p{cntrl}", r"\PL$", r"\pC", r"\p{Cn}", r"\p{Assigned}{2}$", r"[^\p{LC}/]",
    r"\p{Lowercase_Letter}{2}", r"\p{ decimal-NUMBER }", r"\p{l_u}", r"[^\P{Ascii}/]",
    r"^[\p{ASCII}]+$", r"\Qx**\E", r"\Q{,2", "(?P<n>a)b", "(?<n>a)b", "(?<n>a)(?<n>b)", "/(?i:K)$", "(?i)/k",
    "(?U)^/a+$", r"a\z", r"\Aa",
    "a$", "(?m)a$", "/a.b", "(?s)/a.b", r"^/\d+$", r"^/\w+$", r"a\sb", r"\bb", r"\B", r"a{,2}", "a{4}$", "(?:a{2}){2}",
    r"\x41", r"\x{e9}", r"\101", "é", "^/.$", "[]a]b", "[^]a/]", "(?i-s:A.B)", "(|a)*$", "$*", r"\_",
]  # fmt: skip
_REFUSED = [
    "x**", "x*+", "x{2}{3}", r"\C", r"\Z", r"\1", r"\8", "(?=a)", "(?!a)", "(?<=a)", "(?<!a)", "(?>a)", "(?P=n)",
    "(?P<é>a)", "a{1001}", "(a{100}){100}", "(", ")", "[a", "[z-a]", "[[:foo:]]", "*", "|*", "(?-)",
    "(?x)a", "(?#a)", r"\p{Foo}", r"\p", r"\p{L", "a\\", r"\q", r"\x{110000}", r"[a-\d]",
]  # fmt: skip


@pytest.fixture
def place(tmp_path: Path) -> Path:
    (tmp_path / "config").write_text(_KUBECONFIG)
    return tmp_path


@pytest.mark.parametrize("expression", _MEANT)
def test_an_expression_matches_what_kubectl_matches(expression: str, place: Path) -> None:
    ours = RequestFilter.of(accept_paths=expression, reject_paths="", accept_hosts="", reject_methods="")
    with running("kubectl", place / "config", f"--accept-paths={expression}", "--reject-paths=", cwd=place) as proxy:
        theirs = {path: proxy.ask(Ask(path)).status != 403 for path in _PATHS}
    assert {path: ours.accepts("GET", path.encode()) for path in _PATHS} == theirs


@pytest.mark.parametrize("expression", _REFUSED)
def test_expressions_that_kubectl_refuses_are_refused(expression: str, place: Path) -> None:
    assert "Error compiling re" in fails("kubectl", place / "config", f"--accept-paths={expression}", cwd=place).stderr
    with pytest.raises(ExpressionError):
        Expression(expression)


@pytest.mark.parametrize("program", ["kubectl", "hatchway"])
def test_the_flags_as_people_copy_them(program: str, place: Path) -> None:
    need_door()
    flags = (
        "--reject-paths=^/api/v1/namespaces/[[:alpha:]-]+/secrets",
        "--reject-methods=^[[:upper:]]{5,}$,^P",
        "--accept-hosts=^*$",
    )
    with running(program, place / "config", *flags, cwd=place) as proxy:
        asked = [
            Ask(_SECRETS),
            Ask("/api/v1/namespaces/kube-system/pods"),
            Ask("/api/v1/namespaces/kube-system/pods", host="dashboard.example"),
            Ask("/api/v1/x", method="DELETE"),
            Ask("/api/v1/x", method="POST"),
        ]
        assert [proxy.ask(ask).status == 403 for ask in asked] == [True, False, False, False, True]


def test_a_refused_expression_is_named(place: Path) -> None:
    need_door()
    done = fails("hatchway", place / "config", "--reject-paths=^/a,x**", cwd=place)
    assert done.returncode == 1
    assert (
        '--reject-paths: "x**" is not a regular expression in Go\'s (RE2) syntax: invalid nested repetition'
        in done.stderr
    )


def test_no_expression_takes_exponential_time() -> None:
    assert not Expression("^(a+)+$").matches("a" * 50_000 + "!")
    assert not Expression("^(a|aa)+(b?){500}$").matches("a" * 5_000 + "!")
