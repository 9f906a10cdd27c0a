"""The audit log: its events, omitted secrets, and requests that do not wait for it."""

from __future__ import annotations

import json
import logging
import threading
import time
import uuid
from pathlib import Path
from typing import Any

import pytest

from hatchway.cluster.auth import audit
from hatchway.cluster.auth.user import UserInfo

from .fakes import request


def record(**changes: Any) -> audit.AuditRecord:
    return audit.AuditRecord(**({"verb": "get", "uri": b"/x"} | changes))


def write(log: audit.AuditLog, status: int, audit_id: bytes = b"id-1", **changes: Any) -> None:
    log.write(record(**changes), audit_id, 1000.25, status, time.time())


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_an_event_has_the_fields_of_kubernetes_events(tmp_path: Path) -> None:
    log = audit.AuditLog(tmp_path / "audit.log")
    write(
        log,
        200,
        uri=b"/api/v1/namespaces/n/pods/p",
        user=UserInfo("ada", ("devs",), "u1"),
        impersonated=UserInfo("bob"),
        source="127.0.0.1",
        forwarded_for=b"192.0.2.1, 127.0.0.1",
        user_agent=b"kubectl/v1.37",
        resource="pods",
        namespace="n",
        name="p",
        api_version="v1",
        decision="allow",
        reason="RBAC: allowed",
    )
    log.close()
    assert (tmp_path / "audit.log").stat().st_mode & 0o777 == 0o600
    (event,) = lines(tmp_path / "audit.log")
    assert event.pop("stageTimestamp") > event["requestReceivedTimestamp"]
    assert event == {
        "kind": "Event",
        "apiVersion": "audit.k8s.io/v1",
        "level": "Metadata",
        "auditID": "id-1",
        "stage": "ResponseComplete",
        "requestURI": "/api/v1/namespaces/n/pods/p",
        "verb": "get",
        "user": {"username": "ada", "uid": "u1", "groups": ["devs"]},
        "impersonatedUser": {"username": "bob"},
        "sourceIPs": ["192.0.2.1", "127.0.0.1"],
        "userAgent": "kubectl/v1.37",
        "objectRef": {"resource": "pods", "namespace": "n", "name": "p", "apiVersion": "v1"},
        "responseStatus": {"metadata": {}, "code": 200},
        "requestReceivedTimestamp": "1970-01-01T00:16:40.250000Z",
        "annotations": {"authorization.k8s.io/decision": "allow", "authorization.k8s.io/reason": "RBAC: allowed"},
    }


@pytest.mark.parametrize(
    ("target", "proxied", "wanted"),
    [
        ("/api/v1/pods?labelSelector=a%3Db&limit=5", False, b"/api/v1/pods?labelSelector=a%3Db&limit=5"),
        ("/api/v1/pods?access_token=s3cret&watch=1", False, b"/api/v1/pods?watch=1"),
        ("/api/v1/pods?access_token=s3cret", False, b"/api/v1/pods"),
        ("/x/proxy/?limit=s3cret", True, b"/x/proxy/"),
        ("/api?", False, b"/api"),
    ],
)
def test_queries_for_applications_are_not_written(target: str, proxied: bool, wanted: bytes) -> None:
    assert audit.uri(request(target), proxied=proxied) == wanted


def test_a_valid_audit_id_of_a_client_is_used() -> None:
    assert audit.audit_id(b"abc-1") == b"abc-1"
    for bad in (b"", b"x" * 65, b"a\tb", b'a"b', b"a\\b", "ä".encode()):
        assert uuid.UUID(audit.audit_id(bad).decode()).version == 4
    assert audit.audit_id(None) != audit.audit_id(None)


def test_hostile_bytes_do_not_start_a_new_line(tmp_path: Path) -> None:
    log = audit.AuditLog(tmp_path / "audit.log")
    write(log, 400, uri=b"/\xff\n\x00", user_agent=b'"\n\xfe' * 5000, forwarded_for=b"\xff," * 100)
    write(log, 403, user=UserInfo("ev\nil\udcff"))
    log.close()
    first, second = lines(tmp_path / "audit.log")
    assert len(first["userAgent"]) < 8192
    assert len(first["sourceIPs"]) <= 8
    assert second["user"]["username"].startswith("ev\nil")


def test_rotation(tmp_path: Path) -> None:
    path = tmp_path / "audit.log"
    for number in range(6):
        # The maximum is so small that every event fills a file. Closing the log writes each event in a batch of its
        # own.
        log = audit.AuditLog(path, max_bytes=10, backups=2)
        write(log, 200, audit_id=b"id-%d" % number)
        log.close()
    assert sorted(file.name for file in tmp_path.iterdir()) == ["audit.log.1", "audit.log.2"]
    assert lines(tmp_path / "audit.log.1")[0]["auditID"] == "id-5"
    assert lines(tmp_path / "audit.log.2")[0]["auditID"] == "id-4"
    assert (tmp_path / "audit.log.2").stat().st_mode & 0o777 == 0o600


def test_a_log_is_continued(tmp_path: Path) -> None:
    for number in range(2):
        log = audit.AuditLog(tmp_path / "audit.log")
        write(log, 200, audit_id=b"id-%d" % number)
        log.close()
    assert [event["auditID"] for event in lines(tmp_path / "audit.log")] == ["id-0", "id-1"]


def test_a_slow_disk_loses_events_and_does_not_delay_requests(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    may_write, writes = threading.Event(), threading.Event()
    really = audit._write_all

    def stuck(descriptor: int, data: bytes) -> None:
        writes.set()
        assert may_write.wait(30)
        really(descriptor, data)

    monkeypatch.setattr(audit, "_write_all", stuck)
    monkeypatch.setattr(audit, "_QUEUE", 10)
    log = audit.AuditLog(tmp_path / "audit.log")
    write(log, 200)
    assert writes.wait(30)
    for _ in range(25):
        write(log, 200)
    assert log.dropped == 15
    may_write.set()
    log.close()
    assert len(lines(tmp_path / "audit.log")) == 11
    assert "15 audit events were dropped" in caplog.text


def test_after_a_full_disk_the_log_continues_and_reports_lost_events(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    really = audit._write_all
    failed = threading.Event()

    def full(descriptor: int, data: bytes) -> None:
        if not failed.is_set():
            failed.set()
            raise OSError(28, "No space left on device")
        really(descriptor, data)

    monkeypatch.setattr(audit, "_write_all", full)
    log = audit.AuditLog(tmp_path / "audit.log")
    with caplog.at_level(logging.ERROR):
        write(log, 200, audit_id=b"lost")
        assert failed.wait(30)
        write(log, 200, audit_id=b"kept")
        log.close()
    assert [event["auditID"] for event in lines(tmp_path / "audit.log")] == ["kept"]
    assert "No space left" in caplog.text


def test_annotations_of_admission_are_written_up_to_a_size() -> None:
    first = record(decision="allow", reason="why")
    audit.event(first, b"id", 0.0, 200, 0.0)
    found = audit.annotated(first, {"hook.example.com/a": "b", "hook.example.com/long": "x" * 40_000})
    shown = json.loads(audit.event(found, b"id", 0.0, 200, 0.0))["annotations"]
    decided = {"authorization.k8s.io/decision": "allow", "authorization.k8s.io/reason": "why"}
    assert shown == {"hook.example.com/a": "b", **decided}
    # Repetitions of the request share the first record, so it must not change.
    assert json.loads(audit.event(first, b"id", 0.0, 200, 0.0))["annotations"] == decided
    assert audit.annotated(first, {}) is first
