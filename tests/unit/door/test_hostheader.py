"""Which Host an application is told."""

from __future__ import annotations

import pytest

from hatchway.door import hostheader
from hatchway.door.hostheader import HostHeader, Settled, check
from hatchway.errors import HatchwayError
from hatchway.target import Target

WEB = Target("services", "web", "default")


def test_the_outer_name_first_then_what_is_not_refused() -> None:
    choice = HostHeader(WEB, "auto", "8888")
    assert choice.value is None
    assert choice.refused(None)
    assert choice.value == b"localhost:8888"
    # Requests that were on their way under the old name only have to be asked again.
    assert choice.refused(None)
    assert choice.value == b"localhost:8888"
    choice.taken(None)
    assert choice.settled is Settled.open
    choice.taken(b"localhost:8888")
    assert choice.settled is Settled.taken
    assert not choice.refused(b"localhost:8888")
    assert choice.value == b"localhost:8888"


def test_all_names_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(hostheader.time, "monotonic", lambda: now[0])
    choice = HostHeader(WEB, "", "")
    tried = []
    while True:
        tried.append(choice.value)
        if not choice.refused(choice.value):
            break
        if choice.settled is Settled.refused:
            break
    assert tried == [None, b"localhost", b"web.default.svc.cluster.local"]
    assert choice.value is None and choice.settled is Settled.refused
    assert not choice.refused(None)
    now[0] = 61.0
    assert choice.open and choice.refused(None)


def test_a_name_that_works_is_kept_when_pages_are_forbidden_later() -> None:
    choice = HostHeader(WEB, "auto", "80")
    choice.taken(None)
    assert not choice.refused(None) and choice.value is None


def test_upgrades_choose_for_themselves_beginning_with_what_pages_are_sent() -> None:
    pages = HostHeader(WEB, "auto", "8888")
    pages.refused(None)
    pages.taken(b"localhost:8888")
    upgrades = pages.apart()
    tried = [upgrades.value]
    while upgrades.refused(upgrades.value) and upgrades.settled is Settled.open:
        tried.append(upgrades.value)
    assert tried == [b"localhost:8888", None, b"web.default.svc.cluster.local:8888"]
    assert upgrades.value == b"localhost:8888" and upgrades.settled is Settled.refused
    assert pages.settled is Settled.taken
    said = HostHeader(WEB, "cluster", "80").apart()
    assert not said.refused(said.value)


@pytest.mark.parametrize(
    ("wanted", "value"),
    [
        ("external", None),
        ("localhost", b"localhost:3000"),
        ("cluster", b"web.default.svc.cluster.local:3000"),
        ("grafana.example.com", b"grafana.example.com"),
    ],
)
def test_said(wanted: str, value: bytes | None) -> None:
    choice = HostHeader(WEB, check(wanted), "3000")
    assert choice.value == value and choice.settled is Settled.said
    assert not choice.refused(value)


@pytest.mark.parametrize("bad", ["a b", "x\r\ny", "a/b", "é", "a@b", ""])
def test_what_cannot_be_a_host(bad: str) -> None:
    if bad:
        with pytest.raises(HatchwayError, match="cannot be a Host"):
            check(bad)
