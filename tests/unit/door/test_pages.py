"""The door's error answers: a page for browsers, a Status for other clients, and hostile names are escaped."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from hatchway.door.pages import error_answer
from hatchway.door.problems import absent, notfound, refused, unanswered, unreached
from hatchway.door.problems.problem import (
    Detail,
    DoorProblem,
    as_error,
    forward_line,
    from_error,
    from_status,
    placed_at,
)
from hatchway.door.problems.unanswered import NoAnswer, no_answer
from hatchway.errors import Cause, invalid
from hatchway.kube import trouble
from hatchway.proxy.routing import ProxyError, Respond, get_header
from hatchway.target import Target

WEB = Target("services", "web", "shop", port="http")
DEV = 'context "dev" (https://10.0.0.1:6443)'
EVERY = [
    absent.no_endpoints(WEB, [("web-0", "CrashLoopBackOff")], "app=web"),
    absent.no_endpoints(WEB, []),
    unanswered.dial_refused(
        WEB, "connection refused", [("8080", "http://8080.web.shop.svc.localhost/"), ("9", "")], "10.0.0.1:80"
    ),
    refused.forbidden("ada", "get", "services/proxy", "shop", "web"),
    unreached.certificate("https://10.0.0.1:6443", "self-signed certificate"),
    unanswered.timed_out(WEB, "dial tcp 10.0.0.1:80: i/o timeout"),
    unreached.cluster_silent("https://10.0.0.1:6443", "no answer in 10 s"),
    unreached.cluster_away("https://10.0.0.1:6443", "no route to host"),
    notfound.not_found(Target("pods", "web-9", "shop"), DEV, [("web-0", "http://web-0.shop.pod.localhost/")]),
    notfound.not_found(Target("nodes", "n9"), DEV),
    notfound.no_namespace(WEB, DEV, [("svc/web -n shop", "http://web.shop.svc.localhost/")], ["shop"]),
    notfound.no_namespace(WEB, DEV, [], ["shopping"]),
    notfound.unknown_host("x.localhost", "localhost"),
    refused.refused_by_guard("its Origin is http://evil.example", "open the address yourself"),
    unreached.no_credentials(DEV, 'the credential plugin "login" is not installed'),
    unreached.credentials_expired("staging", "Unauthorized"),
    unreached.no_ssh(WEB, "ssh node-1: Permission denied", "load your key into the agent"),
    refused.needs_forward(WEB, "the API server keeps Authorization for itself"),
    from_status(431, "the head is larger than 65536 bytes"),
    from_status(799, ""),
    from_error(invalid("Pod", "x", [Cause("FieldValueRequired", "Required value", "spec.a")])),
    absent.external(WEB, "example.com", [("http://example.com/", "http://example.com/")]),
    absent.external(WEB, "<script>"),
    absent.foreign_endpoints(WEB, ["192.0.2.1:80", "[2001:db8::1]:80"]),
    absent.no_selector(WEB),
    absent.being_made(WEB, ["web-0"]),
    absent.no_target_port(WEB, "http", ["web (8080)"], ["web-0"]),
    absent.no_ports(WEB, [("web-0", "http://web-0.shop.pod.localhost/")]),
    absent.not_told(WEB, 'services "web" not found', "ada"),
    absent.not_seen(WEB, ["services", "pods"], "ada"),
    absent.pod_does_not_run(Target("pods", "web-0", "shop"), "Pending", ended=False),
    absent.pod_does_not_run(Target("pods", "web-0", "shop"), "Evicted", ended=True),
    absent.node_not_ready(Target("nodes", "n1"), "connection refused", "Kubelet stopped posting node status."),
    *(no_answer(cause, WEB, "EOF", unready="its probe fails", upgrade_status=200) for cause in NoAnswer),
    no_answer(NoAnswer.CLOSED, WEB, "EOF", other=[("svc/web", "http://https.web.shop.svc.localhost/")]),
    unanswered.api_broken("context dev", "the connection ended"),
    unanswered.api_broken("context dev", "an upgrade was answered with 200", 200),
    notfound.kubelet_paths(Target("nodes", "n1"), "http://n1.node.localhost:8001"),
    notfound.no_such_port(WEB, [("web (80)", "http://web.shop.svc.localhost/"), ("9", "")]),
    notfound.no_such_port(Target("services", "web", "shop"), [("web (80)", "http://web.shop.svc.localhost/")]),
    refused.bad_annotation(WEB, "hatchway.dev/host-header", "'a b' cannot be a Host", "Write a name."),
]


class _Reader(HTMLParser):
    """Collects tags, attributes and the text outside of style and script."""

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
def test_the_page_and_the_status_have_the_same_content(problem: DoorProblem) -> None:
    page, status = error_answer(problem, True), error_answer(problem, False)
    assert page.status == status.status == problem.status
    said = json.loads(status.body)
    assert (said["kind"], said["apiVersion"], said["status"], said["code"]) == (
        "Status",
        "v1",
        "Failure",
        problem.status,
    )
    assert said.get("reason", "") == {403: "Forbidden", 404: "NotFound", 503: "ServiceUnavailable"}.get(
        problem.status, as_error(problem).reason
    )
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
def test_hostile_names_are_escaped(one: str, two: str, url: str) -> None:
    plain = DoorProblem(
        kind="k",
        status=500,
        title="t",
        message="m",
        hint="h",
        facts=(("f", "v"),),
        details=(Detail("d", "x"),),
        details_title="dt",
        links=(("l", "/x"),),
        links_title="lt",
        rule="r",
        rule_title="rt",
        commands=("c",),
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
    # If a hint, a rule or a text is empty, its element is missing. Names never add an element.
    assert not (set(found.tags) - set(wanted) - {"p"})
    assert len([tag for tag in found.tags if tag in ("script", "style", "img")]) == 2
    assert not any(name.startswith("on") for name, _ in found.attributes)
    linked = read(error_answer(replace(plain, links=(("x", url),), portal=url), True))
    targets = [value for name, value in linked.attributes if name == "href"]
    assert all(value is not None and value.startswith("http") for value in targets)
    assert json.loads(error_answer(hostile, False).body)["message"] == two


def test_links_to_other_hosts_without_a_scheme_are_omitted() -> None:
    problem = replace(EVERY[0], portal="//evil.example/", links=(("x", "//evil.example/"),))
    assert "evil.example" not in error_answer(problem, True).body.decode()


def test_the_shown_rule_allows_the_refused_request() -> None:
    role, binding = yaml.safe_load_all(refused.forbidden("ada", "get", "services/proxy", "shop", "web").rule)
    assert role["rules"] == [
        {"apiGroups": [""], "resources": ["services/proxy"], "verbs": ["get"], "resourceNames": ["web"]}
    ]
    assert role["metadata"]["namespace"] == "shop"
    assert binding["subjects"][0]["name"] == "ada"
    unknown = refused.forbidden("", "get", "nodes/proxy")
    assert "THE-USER" in unknown.rule
    assert "User" not in dict(unknown.facts)


def test_host_names_in_pages_are_those_of_the_door() -> None:
    problem = placed_at(refused.needs_forward(WEB, "why"), "dev.example.com", "http://dev.example.com/", DEV)
    assert dict(problem.facts)["Cluster"] == DEV
    assert dict(problem.facts)["Host name"] == "port--http.web.shop.svc.dev.example.com"


def test_only_pages_about_temporary_problems_reload() -> None:
    assert "data-seconds" in error_answer(unreached.cluster_away("s", "e"), True).body.decode()
    assert "data-seconds" not in error_answer(refused.forbidden("a", "get", "pods"), True).body.decode()


def test_hints_rules_and_commands_are_causes_of_the_status() -> None:
    said = json.loads(error_answer(refused.forbidden("ada", "get", "services/proxy", "shop", "web"), False).body)
    causes = {cause["reason"]: cause["message"] for cause in said["details"]["causes"]}
    assert causes["MissingRule"].startswith("apiVersion: rbac")
    assert causes["Hint"]
    said = json.loads(error_answer(refused.needs_forward(WEB, "why"), False).body)
    assert {"reason": "Command", "message": "hatchway forward svc/web http -n shop"} in said["details"]["causes"]


def test_a_status_of_the_api_server_is_not_changed() -> None:
    error = invalid("Pod", "x", [Cause("FieldValueRequired", "Required value", "spec.a")])
    assert json.loads(error_answer(from_error(error), False).body) == error.status()


def test_suggested_forwards_need_no_privileged_port() -> None:
    assert forward_line(Target("pods", "web-0", "shop", "https", "443")) == ("hatchway forward pod/web-0 :443 -n shop")
    assert forward_line(Target("services", "web", "shop", "", "http")) == ("hatchway forward svc/web http -n shop")


def test_every_kind_of_problem_is_in_the_documentation() -> None:
    documented = (Path(__file__).parents[3] / "docs/portal.md").read_text()
    # Other errors of the API server keep the server's own reason.
    kinds = {problem.kind for problem in EVERY if problem.original is None}
    assert [kind for kind in sorted(kinds) if f"`{kind}`" not in documented] == []


@pytest.mark.parametrize(("host", "vpn"), [("127.0.0.1", False), ("cluster.example.com", True)])
def test_no_advice_about_a_vpn_for_a_cluster_on_this_machine(host: str, vpn: bool) -> None:
    advice = trouble.advice(ProxyError("dial", "connection refused"), host)
    page = error_answer(
        unreached.cluster_away(f"https://{host}:6443", "connection refused", advice), True
    ).body.decode()
    assert ("VPN" in page) == vpn
    assert ("starts an embedded cluster. The door keeps trying" in page) != vpn


@pytest.mark.parametrize("reason", ["certificate is not yet valid", "certificate has expired"])
def test_an_expired_certificate_leads_to_advice_about_the_clock(reason: str) -> None:
    advice = trouble.advice(ProxyError("tls", f"tls: failed to verify certificate: {reason}"), "127.0.0.1")
    assert re.match(r"this machine's clock says \d{4}-\d\d-\d\d \d\d:\d\d \S+: is that right\?", advice)
    other = trouble.advice(ProxyError("tls", "tls: failed to verify certificate: unknown authority"), "127.0.0.1")
    assert "clock" not in other
