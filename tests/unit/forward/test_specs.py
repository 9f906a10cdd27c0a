from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hatchway.errors import HatchwayError
from hatchway.forward.specs import ForwardSpec, PortSpec, parse_lines, parse_words
from hatchway.target import Kind, Target

WEB = Target("services", "web", "shop")


def _parse(*words: str) -> list[ForwardSpec]:
    return parse_words(words, None, "shop")


@pytest.mark.parametrize(
    ("word", "port"),
    [
        ("80", PortSpec("80", 80)),
        ("8080:80", PortSpec("80", 8080)),
        (":80", PortSpec("80", 0)),
        ("0:80", PortSpec("80", 0)),
        ("http", PortSpec("http")),
        ("8080:http", PortSpec("http", 8080)),
        (":http-alt", PortSpec("http-alt", 0)),
    ],
)
def test_a_port_is_given_by_number_or_name_and_may_have_a_local_port(word: str, port: PortSpec) -> None:
    assert _parse("web", word) == [ForwardSpec(WEB, (port,))]


def test_the_first_word_and_every_word_with_a_slash_is_a_target() -> None:
    assert _parse("web", "80", "http", "svc/db.data", "5432", "pod/a-0", ":9229") == [
        ForwardSpec(WEB, (PortSpec("80", 80), PortSpec("http"))),
        ForwardSpec(Target("services", "db", "data"), (PortSpec("5432", 5432),)),
        ForwardSpec(Target("pods", "a-0", "shop"), (PortSpec("9229", 0),)),
    ]


def test_a_target_may_include_a_port_and_without_ports_means_all() -> None:
    assert _parse("web:http", "svc/db") == [
        ForwardSpec(WEB, (PortSpec("http"),)),
        ForwardSpec(Target("services", "db", "shop")),
    ]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["web", "web2:80"], "web2"),
        (["web", "70000"], "65535"),
        (["web", "70000:80"], "65535"),
        (["web", "0"], "65535"),
        (["web", "Http"], "neither a port nor a target"),
        (["web", ""], "neither"),
        (["cronjob/web", "80"], "kind"),
        (["deploy/", "80"], "no name"),
    ],
)
def test_errors_name_the_wrong_word(words: list[str], message: str) -> None:
    with pytest.raises(HatchwayError, match=message):
        _parse(*words)


@pytest.mark.parametrize(
    ("word", "kind"),
    [
        ("deploy", "deployments.apps"),
        ("Deployment", "deployments.apps"),
        ("sts", "statefulsets.apps"),
        ("ds", "daemonsets.apps"),
        ("rs", "replicasets.apps"),
        ("rc", "replicationcontrollers"),
        ("job", "jobs.batch"),
    ],
)
def test_workloads_are_targets(word: str, kind: Kind) -> None:
    target = Target(kind, "web", "shop")
    assert _parse("svc/web", "80", f"{word}/web:http")[1:] == [ForwardSpec(target, (PortSpec("http"),))]


def test_the_lines_of_a_file_have_namespaces_and_comments() -> None:
    lines = ["# all of them", "", "web 8080:80   # the shop", "-n data svc/db 5432", "pod/x :80 --namespace=tools"]
    assert parse_lines(lines, None, "shop", "f.txt") == [
        ForwardSpec(WEB, (PortSpec("80", 8080),)),
        ForwardSpec(Target("services", "db", "data"), (PortSpec("5432", 5432),)),
        ForwardSpec(Target("pods", "x", "tools"), (PortSpec("80", 0),)),
    ]


@pytest.mark.parametrize("line", ["web 'x", "web Http", "-n", "web --all"])
def test_an_error_in_a_line_names_the_line(line: str) -> None:
    with pytest.raises(HatchwayError, match=r"f\.txt, line 2"):
        parse_lines(["web 80", line], None, "shop", "f.txt")


@given(st.lists(st.text(max_size=20), max_size=5))
def test_any_words_are_parsed_or_refused_with_a_message(words: list[str]) -> None:
    try:
        for spec in parse_words(words, None, "shop"):
            assert spec.target.port == "" and all(one.remote for one in spec.ports)
    except HatchwayError as error:
        assert error.message


def test_a_udp_port_has_a_suffix() -> None:
    assert _parse("svc/dns", "5353:53/udp", ":dns/UDP", "53/tcp", "dns/tcp") == [
        ForwardSpec(
            Target("services", "dns", "shop"),
            (PortSpec("53", 5353, "UDP"), PortSpec("dns", 0, "UDP"), PortSpec("53", 53), PortSpec("dns")),
        )
    ]
    assert _parse("svc/dns:53/udp") == [
        ForwardSpec(Target("services", "dns", "shop"), (PortSpec("53", protocol="UDP"),))
    ]


def test_a_service_may_have_the_name_of_a_protocol() -> None:
    assert _parse("web", "svc/udp", "80") == [
        ForwardSpec(WEB),
        ForwardSpec(Target("services", "udp", "shop"), (PortSpec("80", 80),)),
    ]


def test_hosts_are_targets_at_any_position() -> None:
    assert _parse("10.0.0.7", "5432", "10.0.0.8:80", "host/db.example.org", ":5432", "[fd00::1]:53/udp") == [
        ForwardSpec(Target("hosts", "10.0.0.7"), (PortSpec("5432", 5432),)),
        ForwardSpec(Target("hosts", "10.0.0.8"), (PortSpec("80"),)),
        ForwardSpec(Target("hosts", "db.example.org"), (PortSpec("5432", 0),)),
        ForwardSpec(Target("hosts", "fd00::1"), (PortSpec("53", protocol="UDP"),)),
    ]


@pytest.mark.parametrize("word", ["host/", "host/1.2", "host/a b", "host/x:http", "host/x:70000", "svc/dns/udp"])
def test_words_that_are_neither_hosts_nor_ports_are_refused(word: str) -> None:
    with pytest.raises(HatchwayError):
        _parse(word)
