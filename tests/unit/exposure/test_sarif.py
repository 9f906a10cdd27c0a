"""SARIF logs are valid by the standard's own schema, with any names, hosts and addresses."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import fastjsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hatchway.exposure.assessment import assess
from hatchway.exposure.findings import RULES, SEVERITIES, Exposure, Issue, Location
from hatchway.exposure.sarif import as_sarif
from hatchway.exposure.snapshot import ClusterSnapshot, ObservedNode, ObservedPod, Unread
from tests.exposures import FAULTS, NODES, SAFE, SHARED

SCHEMA = Path(__file__).parent / "schemas/sarif-2.1.0-rtm.5.json"
# RFC 3986: the characters of a URI reference.
URI = re.compile(r"(?:[A-Za-z0-9\-._~:/?#\[\]@!$&'()*+,;=]|%[0-9A-Fa-f]{2})*")

Validate = Callable[[Any], Any]


@pytest.fixture(scope="module")
def is_valid() -> Validate:
    """Return the schema as a function. It is compiled only once, because that takes a second."""
    found: Validate = fastjsonschema.compile(json.loads(SCHEMA.read_text()))
    return found


def check(log: dict[str, Any], is_valid: Validate) -> None:
    """Write a log as JSON, parse it, and raise an exception if it is not valid."""
    read = json.loads(json.dumps(log))
    is_valid(read)
    for uri in uris(read):
        assert URI.fullmatch(uri), uri


def uris(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for name, inner in value.items():
            if name in ("uri", "helpUri", "$schema"):
                yield inner
            yield from uris(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from uris(inner)


def test_the_schema_refuses_other_json(is_valid: Validate) -> None:
    for wrong in ({}, {"version": "2.1.0"}, {"version": "2.1.0", "runs": [{}]}, {**as_sarif([], []), "more": 1}):
        with pytest.raises(fastjsonschema.JsonSchemaValueException):
            is_valid(wrong)


def test_a_log_about_many_faults_is_valid(is_valid: Validate) -> None:
    cases = [(obj, case.name) for case in (*FAULTS, *SAFE) for obj in case.objects]
    objects = [{**obj, "metadata": {"namespace": name, **obj["metadata"]}} for obj, name in cases] + list(SHARED)

    def of(kind: str) -> list[Any]:
        return [obj for obj in objects if obj["kind"] == kind]

    snapshot = ClusterSnapshot(namespaces={case.name: {} for case in (*FAULTS, *SAFE)})
    snapshot.nodes = [ObservedNode.of(node) for node in NODES]
    snapshot.pods = [ObservedPod.of(pod) for pod in of("Pod")]
    snapshot.services, snapshot.policies, snapshot.ingresses = of("Service"), of("NetworkPolicy"), of("Ingress")
    snapshot.ingress_classes, snapshot.gateways, snapshot.routes = of("IngressClass"), of("Gateway"), of("HTTPRoute")
    log = as_sarif(assess(snapshot), [Unread("pods", "you may not list them", ("bank",))])
    check(log, is_valid)
    assert len(log["runs"][0]["results"]) >= 15


def test_a_log_without_findings_is_valid(is_valid: Validate) -> None:
    check(as_sarif([], []), is_valid)
    check(as_sarif([], [Unread("nodes", "you may not list them")]), is_valid)


def test_addresses_of_ipv6_and_hosts_stay_readable(is_valid: Validate) -> None:
    way = Exposure(
        "Ingress",
        "shop",
        "web",
        "Ingress",
        locations=(Location("2001:db8::1", 443, host="*.shop.example", tls=True), Location("2001:db8::1", 80)),
        issues=(Issue("no-tls", "medium", "[2001:db8::1]:80 serves *.shop.example without TLS", "kubectl x"),),
    )
    log = as_sarif([way], [])
    check(log, is_valid)
    assert "[2001:db8::1]:80 serves *.shop.example" in log["runs"][0]["results"][0]["message"]["text"]


def test_names_cannot_add_links_to_a_message(is_valid: Validate) -> None:
    # `[text](target)` in a message is a link (SARIF 2.1.0, section 3.11.6).
    evil = "[all is well](https://evil.example)"
    way = Exposure("Gateway", "shop", evil, "Gateway", issues=(Issue("no-tls", "low", evil, evil),), accepted=evil)
    log = as_sarif([way], [Unread(evil, evil)])
    check(log, is_valid)
    (run,) = log["runs"]
    texts = [run["results"][0]["message"]["text"]]
    texts += [one["message"]["text"] for one in run["invocations"][0]["toolExecutionNotifications"]]
    assert not [text for text in texts if "](" in text]


_NAMES = st.text(max_size=40)
_WAYS = st.builds(
    Exposure,
    kind=_NAMES,
    namespace=_NAMES,
    name=_NAMES,
    way=_NAMES,
    locations=st.lists(st.builds(Location, _NAMES, st.integers(1, 65535)), max_size=2).map(tuple),
    issues=st.lists(
        st.builds(Issue, st.sampled_from(sorted(RULES)), st.sampled_from(SEVERITIES), _NAMES, _NAMES), max_size=3
    ).map(tuple),
    accepted=_NAMES,
)


@given(ways=st.lists(_WAYS, max_size=4), unread=st.lists(st.builds(Unread, _NAMES, _NAMES), max_size=2))
@settings(max_examples=60)
def test_any_names_make_a_valid_log(ways: list[Exposure], unread: list[Unread], is_valid: Validate) -> None:
    check(as_sarif(ways, unread), is_valid)
