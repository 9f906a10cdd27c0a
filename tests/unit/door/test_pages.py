"""The door's error answers: readable in a browser, a Status for everyone else, harmless whatever names they carry."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from hatchway.door import problems
from hatchway.door.pages import error_answer
from hatchway.door.problems import Detail, Problem
from hatchway.errors import Cause, invalid
from hatchway.proxy.routing import Respond, get_header
from hatchway.target import Target

WEB = Target("services", "web", "shop", port="http")
EVERY = [
    problems.no_endpoints(WEB, [("web-0", "CrashLoopBackOff")], "app=web"),
    problems.no_endpoints(WEB, []),
    problems.dial_refused(
        WEB, "connection refused", [("8080", "http://8080.web.shop.svc.localhost/"), ("9", "")], "10.0.0.1:80"
    ),
    problems.forbidden("ada", "get", "services/proxy", "shop", "web"),
    problems.certificate("https://10.0.0.1:6443", "self-signed certificate"),
    problems.timed_out(WEB, 30),
    problems.cluster_silent("https://10.0.0.1:6443", "no answer in 10 s"),
    problems.cluster_away("https://10.0.0.1:6443", "no route to host", "10:42"),
    problems.not_found(Target("pods", "web-9", "shop"), [("web-0", "http://web-0.shop.pod.localhost/")]),
    problems.not_found(Target("nodes", "n9")),
    problems.no_namespace(WEB, [("svc/web -n shop", "http://web.shop.svc.localhost/")], ["shop"]),
    problems.no_namespace(WEB, [], ["shopping"]),
    problems.unknown_host("x.localhost"),
    problems.refused_by_guard("its Origin is http://evil.example", "open the address yourself"),
    problems.credentials_expired("staging", "Unauthorized", "aws sso login"),
    problems.needs_forward(WEB, "the API server keeps Authorization for itself"),
    problems.from_status(431, "the head is larger than 65536 bytes"),
    problems.from_status(799, ""),
    problems.from_error(invalid("Pod", "x", [Cause("FieldValueRequired", "Required value", "spec.a")])),
]


class _Reader(HTMLParser):
    """Tags, attributes and the text outside of style and script."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.text = ""
        self._skip = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs
        self._skip = tag in ("style", "script")

    def handle_endtag(self, tag: str) -> None:
        self._skip = False

    def handle_data(self, data: str) -> None:
        if not self._skip:
            self.text += data


def read(answer: Respond) -> _Reader:
    reader = _Reader()
    reader.feed(answer.body.decode())
    reader.close()
    return reader


@pytest.mark.parametrize("problem", EVERY, ids=lambda problem: problem.kind)
def test_both_forms_say_the_same(problem: Problem) -> None:
    page, status = error_answer(problem, True), error_answer(problem, False)
    assert page.status == status.status == problem.status
    said = json.loads(status.body)
    assert (said["kind"], said["apiVersion"], said["status"], said["code"]) == (
        "Status",
        "v1",
        "Failure",
        problem.status,
    )
    assert said.get("reason", "") == problem.reason
    assert said["message"] == problem.message
    text = read(page).text
    assert problem.title in text
    assert problem.message[1:] in text
    assert problem.hint in text
    for detail in problem.details:
        assert detail.name in text
        assert detail.text in text
    for line in problem.commands:
        assert line in text
    assert problem.rule in text
    for answer in (page, status):
        assert get_header(answer.headers, b"x-hatchway-problem") == problem.kind.encode()
        assert get_header(answer.headers, b"cache-control") == b"no-store"
        retry = get_header(answer.headers, b"retry-after")
        assert (retry or b"0") == str(problem.retry).encode()
    names = [name.lower() for name, _ in page.headers]
    assert len(names) == len(set(names))


def test_the_page_runs_its_own_style_and_script_and_nothing_else() -> None:
    answer = error_answer(EVERY[0], True)
    policy = (get_header(answer.headers, b"content-security-policy") or b"").decode()
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    page = answer.body.decode()
    for tag in ("style", "script"):
        (content,) = re.findall(rf"<{tag}>(.*?)</{tag}>", page, re.S)
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}'" in policy
    assert not re.search(r"\s(src|style|on\w+)=", page[page.index("<body>") : page.index("<script>")])
    assert "@import" not in page
    assert "url(" not in page


_hostile = st.one_of(
    st.sampled_from(
        ['"><script>alert(1)</script>', "'onmouseover=alert(1) x='", "</pre></style><img src=x>", "&lt;b&gt;"]
    ),
    st.text(max_size=40),
)


@given(
    _hostile,
    _hostile,
    st.sampled_from(["javascript:alert(1)", "data:text/html,x", "//evil.example", "http://a.example/"]),
)
def test_hostile_names_stay_text(one: str, two: str, url: str) -> None:
    plain = Problem(
        "k", 500, "", "t", "m", "h", (("f", "v"),), (Detail("d", "x"),), "dt", (("l", "/x"),), "lt", "r", "rt", ("c",)
    )
    hostile = replace(
        plain,
        title=one,
        message=two,
        hint=one,
        facts=((one, two),),
        details=(Detail(two, one),),
        details_title=two,
        links=((one, "/" + two),),
        links_title=one,
        rule=two,
        rule_title=one,
        commands=(two,),
    )
    wanted = [tag for tag in read(error_answer(plain, True)).tags if tag != "p"]
    found = read(error_answer(hostile, True))
    # An empty hint, rule or text leaves its element out; nothing is ever added.
    assert not (set(found.tags) - set(wanted) - {"p"})
    assert len([tag for tag in found.tags if tag in ("script", "style", "img")]) == 2
    assert not any(name.startswith("on") for name, _ in found.attributes)
    linked = read(error_answer(replace(plain, links=(("x", url),), portal=url), True))
    targets = [value for name, value in linked.attributes if name == "href"]
    assert all(value is not None and value.startswith("http") for value in targets)
    assert json.loads(error_answer(hostile, False).body)["message"] == two


def test_a_link_to_another_host_without_a_scheme_is_none() -> None:
    problem = replace(EVERY[0], portal="//evil.example/", links=(("x", "//evil.example/"),))
    assert "evil.example" not in error_answer(problem, True).body.decode()


def test_the_missing_rule_allows_what_was_refused() -> None:
    role, binding = yaml.safe_load_all(problems.forbidden("ada", "get", "services/proxy", "shop", "web").rule)
    assert role["rules"] == [
        {"apiGroups": [""], "resources": ["services/proxy"], "verbs": ["get"], "resourceNames": ["web"]}
    ]
    assert role["metadata"]["namespace"] == "shop"
    assert binding["subjects"][0]["name"] == "ada"
    unknown = problems.forbidden("", "get", "nodes/proxy")
    assert "THE-USER" in unknown.rule
    assert "User" not in dict(unknown.facts)


def test_the_host_names_are_the_doors_own() -> None:
    problem = problems.needs_forward(WEB, "why", domain="dev.example.com")
    assert dict(problem.facts)["Host name"] == "port--http.web.shop.svc.dev.example.com"


def test_the_page_tries_again_only_where_that_helps() -> None:
    assert "data-seconds" in error_answer(problems.cluster_away("s", "e"), True).body.decode()
    assert "data-seconds" not in error_answer(problems.forbidden("a", "get", "pods"), True).body.decode()


def test_tools_get_what_helps_as_causes() -> None:
    said = json.loads(error_answer(problems.forbidden("ada", "get", "services/proxy", "shop", "web"), False).body)
    causes = {cause["reason"]: cause["message"] for cause in said["details"]["causes"]}
    assert causes["MissingRule"].startswith("apiVersion: rbac")
    assert causes["Hint"]
    said = json.loads(error_answer(problems.needs_forward(WEB, "why"), False).body)
    assert {"reason": "Command", "message": "hatchway forward svc/web:http -n shop"} in said["details"]["causes"]


def test_a_status_that_there_is_already_stays_as_it_is() -> None:
    error = invalid("Pod", "x", [Cause("FieldValueRequired", "Required value", "spec.a")])
    assert json.loads(error_answer(problems.from_error(error), False).body) == error.status()


def test_did_you_mean() -> None:
    known = ["checkout", "check", "cart", "frontend", "checkout-canary"]
    assert problems.similar_names("chekout", known)[0] == "checkout"
    assert "checkout-canary" in problems.similar_names("checkout-", known)
    assert problems.similar_names("zzz", known) == []
