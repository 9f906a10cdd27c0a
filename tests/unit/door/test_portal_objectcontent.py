"""The page of one object: no secrets, the latest events first, and containers as kubectl shows them."""

from __future__ import annotations

import time
from typing import Any

import pytest
import yaml

from hatchway.door.portal.objectcontent import MAX_EVENTS, container_choices, event_rows, yaml_text
from tests.fake_view import make_pod, make_service


def pod_with(**container: Any) -> dict[str, Any]:
    pod = make_pod("shop", "web-0", "web")
    pod["spec"]["containers"] = [{"name": "web", "image": "any", **container}]
    return pod


def shown(pod: dict[str, Any]) -> Any:
    text, _ = yaml_text(pod)
    return yaml.safe_load(text)["spec"]["containers"][0]


@pytest.mark.parametrize(
    "name",
    [
        "PASSWORD",
        "DB_PASSWD",
        "db.password",
        "GITHUB_TOKEN",
        "AWS_SECRET_ACCESS_KEY",
        "apikey",
        "STRIPE_API_KEY",
        "Authorization",
    ],
)
def test_secrets_in_the_environment_are_hidden(name: str) -> None:
    text, hidden = yaml_text(pod_with(env=[{"name": name, "value": "hunter2"}]))
    assert hidden
    assert "hunter2" not in text


@pytest.mark.parametrize("name", ["AUTHOR", "PATH", "KEYBOARD", "PASSENGERS", "PORT"])
def test_values_that_are_not_secret_are_shown(name: str) -> None:
    pod = pod_with(env=[{"name": name, "value": "hunter2"}], args=["--port=80", "--verbose"])
    text, hidden = yaml_text(pod)
    assert not hidden
    assert "hunter2" in text
    assert "--port=80" in text


def test_references_to_secrets_are_shown() -> None:
    source = {"secretKeyRef": {"name": "db", "key": "password"}}
    pod = pod_with(env=[{"name": "PASSWORD", "valueFrom": source}])
    assert shown(pod)["env"] == [{"name": "PASSWORD", "valueFrom": source}]


@pytest.mark.parametrize(
    "words",
    [
        ["--password=hunter2"],
        ["--password", "hunter2"],
        ["-token", "hunter2"],
        ["--db.api-key=hunter2"],
        ["sh", "-c", "mysql --password=hunter2 -u root"],
        ["psql", "postgres://ada:hunter2@db/shop"],
    ],
)
def test_secrets_on_command_lines_are_hidden(words: list[str]) -> None:
    for key in ("command", "args"):
        text, hidden = yaml_text(pod_with(**{key: words}))
        assert hidden
        assert "hunter2" not in text
    probe = {"exec": {"command": words}}
    assert "hunter2" not in yaml_text(pod_with(livenessProbe=probe, lifecycle={"preStop": probe}))[0]


def test_secrets_in_probes_and_other_containers_are_hidden() -> None:
    fields = [{"name": "Authorization", "value": "Bearer hunter2"}, {"name": "Accept", "value": "text/html"}]
    pod = pod_with(readinessProbe={"httpGet": {"port": 80, "httpHeaders": fields}})
    pod["spec"]["initContainers"] = [{"name": "init", "env": [{"name": "TOKEN", "value": "hunter2"}]}]
    pod["spec"]["ephemeralContainers"] = [{"name": "debug", "env": [{"name": "TOKEN", "value": "hunter2"}]}]
    text, _ = yaml_text(pod)
    assert "hunter2" not in text
    assert "text/html" in text


def test_the_applied_configuration_and_managed_fields_are_left_out() -> None:
    service = make_service("shop", "web", 80)
    service["metadata"] |= {
        "annotations": {"kubectl.kubernetes.io/last-applied-configuration": "hunter2", "note": "x"},
        "managedFields": [{"manager": "hunter2"}],
    }
    text, _ = yaml_text(service)
    assert "hunter2" not in text
    assert yaml.safe_load(text)["metadata"]["annotations"] == {"note": "x"}
    assert "managedFields" in service["metadata"]


def test_hostile_texts_cost_little() -> None:
    words = ["- " * 50_000, "-" * 200_000, "a-" * 100_000, "://" * 60_000, "--password" * 20_000, "--x " * 50_000]
    begun = time.process_time()
    yaml_text(pod_with(args=words))
    # For a megabyte, work in linear time takes a second; work in quadratic time would take minutes.
    assert time.process_time() - begun < 5


def test_events_of_all_formats_are_sorted_by_time() -> None:
    about = {"name": "web-0", "fieldPath": "spec.containers{web}"}
    old = {"reason": "Scheduled", "eventTime": "2026-11-03T08:00:00.000000Z", "reportingComponent": "scheduler"}
    new = {
        "type": "Warning",
        "reason": "BackOff",
        "message": "Back-off",
        "count": 7,
        "firstTimestamp": "2026-11-03T08:00:00Z",
        "lastTimestamp": "2026-11-03T09:00:00Z",
        "source": {"component": "kubelet"},
        "involvedObject": about,
    }
    series = {"reason": "Probe", "series": {"count": 3, "lastObservedTime": "2026-11-03T08:30:00Z"}}
    rows = event_rows([old, series, new])
    assert [(row.reason, row.count, row.warning) for row in rows] == [
        ("BackOff", 7, True),
        ("Probe", 3, False),
        ("Scheduled", 1, False),
    ]
    assert (rows[0].source, rows[0].part, rows[2].source) == ("kubelet", "web", "scheduler")
    assert len(event_rows([old] * 1000)) == MAX_EVENTS


def test_containers_in_kubectls_order() -> None:
    pod = make_pod("shop", "web-0", "web", restarts=2)
    pod["spec"]["initContainers"] = [{"name": "setup"}]
    pod["spec"]["containers"].append({"name": "proxy"})
    found = container_choices(pod)
    assert [(one.name, one.note, one.ran_before) for one in found] == [
        ("web", "running", True),
        ("proxy", "", False),
        ("setup", "init", False),
    ]
    pod["metadata"]["annotations"] = {"kubectl.kubernetes.io/default-container": "proxy"}
    assert container_choices(pod)[0].name == "proxy"
