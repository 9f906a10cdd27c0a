"""The conditions that a test can wait for: the forms of `kubectl wait --for`, and functions."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hatchway.testing import ClusterError
from hatchway.testing.conditions import Condition, parse_condition

POD: dict[str, Any] = {
    "metadata": {"name": "a", "generation": 2, "labels": {"app.example.com/name": "web"}},
    "status": {
        "phase": "Running",
        "started": True,
        "ips": [{"ip": "10.0.0.1"}],
        "conditions": [
            {"type": "Ready", "status": "True"},
            {"type": "Old", "status": "True", "observedGeneration": 1},
            {"type": "Failed", "status": "False", "reason": "Why", "message": "because"},
        ],
    },
}


def is_met(condition: Condition, obj: dict[str, Any] = POD) -> bool:
    parsed = parse_condition(condition)
    assert parsed.is_met is not None
    return parsed.is_met(obj)[0]


def why_not(condition: Condition, obj: dict[str, Any] = POD) -> str:
    parsed = parse_condition(condition)
    assert parsed.is_met is not None
    met, why = parsed.is_met(obj)
    assert not met
    return why


@pytest.mark.parametrize(
    "condition",
    [
        "condition=Ready",
        "condition=ready",
        "condition=Ready=true",
        "condition=Failed=False",
        "jsonpath={.status.phase}=Running",
        "jsonpath='.status.phase'=Running".replace("'", ""),
        "jsonpath={.status.phase}='Running'",
        "jsonpath={.status.ips[0].ip}=10.0.0.1",
        "jsonpath={.status['phase']}=Running",
        "jsonpath={.status.started}=true",
        "jsonpath={.metadata.generation}=2",
        "jsonpath={.metadata.labels.app\\.example\\.com/name}=web",
        "jsonpath={.status.ips}",
        "jsonpath=status.phase",
    ],
)
def test_conditions_that_are_met(condition: str) -> None:
    assert is_met(condition)


@pytest.mark.parametrize(
    ("condition", "why"),
    [
        ("condition=Available", "it has no condition Available"),
        ("condition=Failed", "Failed is False (Why: because)"),
        ("condition=Old", "its controller has not seen the last change"),
        ("jsonpath={.status.phase}=Pending", "it is Running"),
        ("jsonpath={.status.podIP}", "the field is not there"),
        ("jsonpath={.status.ips[1].ip}=10.0.0.1", "the field is not there"),
        ("jsonpath={.status.phase.deeper}", "the field is not there"),
    ],
)
def test_conditions_that_are_not_met_have_a_reason(condition: str, why: str) -> None:
    assert why_not(condition) == why


def test_a_status_of_an_older_generation_does_not_count() -> None:
    deployment = {
        "metadata": {"generation": 3},
        "status": {"observedGeneration": 2, "conditions": [{"type": "Available", "status": "True"}]},
    }
    assert "has not seen" in why_not("condition=Available", deployment)
    deployment["status"]["observedGeneration"] = 3
    assert is_met("condition=Available", deployment)


def test_functions() -> None:
    assert is_met(lambda pod: pod["status"]["phase"] == "Running")
    assert why_not(lambda pod: pod["status"]["replicas"] == 1) == "KeyError: 'replicas'"
    assert why_not(lambda pod: pod["status"].get("replicas")) == "it returned None"
    with pytest.raises(ZeroDivisionError):
        is_met(lambda pod: 1 / 0)


def test_functions_are_named() -> None:
    def has_replicas(obj: dict[str, Any]) -> bool:
        return False

    assert parse_condition(has_replicas).text == "has_replicas"
    assert parse_condition(lambda obj: True).text.startswith("<lambda> of line ")


def test_deletion() -> None:
    assert parse_condition("delete").wants_deletion
    assert not parse_condition("condition=Ready").wants_deletion


@pytest.mark.parametrize(
    "condition",
    [
        "",
        "Ready",
        "condition=",
        "jsonpath=",
        "jsonpath={.a",
        "jsonpath={.a}b",
        "jsonpath={.a}=",
        "jsonpath={.items[*]}",
    ],
)
def test_other_words_are_refused(condition: str) -> None:
    with pytest.raises(ClusterError):
        parse_condition(condition)


@given(st.text("condition=jsonpath{}.[]'\"\\0a", max_size=40))
def test_any_text_is_parsed_or_refused(text: str) -> None:
    try:
        parsed = parse_condition(text)
    except ClusterError:
        return
    assert parsed.is_met is None or isinstance(parsed.is_met(POD)[0], bool)
