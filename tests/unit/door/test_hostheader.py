"""The Host field that an application gets."""

from __future__ import annotations

import pytest

from hatchway.door import hostheader
from hatchway.door.hostheader import HostChoice, HostState, SentHost, WriteChoices, parse_host_option
from hatchway.errors import HatchwayError
from hatchway.target import Target

WEB = Target("services", "web", "default")


LOCAL = b"localhost:8888"
CLUSTER = b"web.default.svc.cluster.local:8888"


def refuse_all(choice: HostChoice) -> list[SentHost]:
    tried = [choice.value]
    while choice.try_next(choice.value) and choice.state is HostState.OPEN:
        tried.append(choice.value)
    return tried


def test_the_outer_name_is_tried_first_then_other_names() -> None:
    choice = HostChoice(WEB, "auto", "8888")
    assert choice.value == SentHost()
    assert choice.try_next(SentHost())
    assert choice.value == SentHost(LOCAL)
    # Another request had the old name, too, because it was sent before the change. It is repeated, with no further
    # change.
    assert choice.try_next(SentHost())
    assert choice.value == SentHost(LOCAL)
    choice.record_accepted(SentHost())
    assert choice.state is HostState.OPEN
    choice.record_accepted(SentHost(LOCAL))
    assert choice.state is HostState.ACCEPTED
    assert not choice.try_next(SentHost(LOCAL))
    assert choice.value == SentHost(LOCAL)


def test_all_names_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(hostheader.time, "monotonic", lambda: now[0])
    choice = HostChoice(WEB, "", "8888")
    assert refuse_all(choice) == [
        SentHost(),
        SentHost(LOCAL),
        SentHost(None, False),
        SentHost(CLUSTER),
        SentHost(LOCAL, False),
    ]
    assert choice.value == SentHost() and choice.state is HostState.REFUSED
    assert not choice.try_next(SentHost())
    now[0] = 61.0
    assert choice.is_open and choice.try_next(SentHost())


def test_an_accepted_name_is_kept_when_pages_are_forbidden_later() -> None:
    choice = HostChoice(WEB, "auto", "80")
    choice.record_accepted(SentHost())
    assert not choice.try_next(SentHost()) and choice.value == SentHost()


def test_upgrades_have_a_choice_of_their_own_and_begin_with_the_name_for_pages() -> None:
    pages = HostChoice(WEB, "auto", "8888")
    pages.try_next(SentHost())
    pages.record_accepted(SentHost(LOCAL))
    upgrades = pages.for_upgrades()
    assert refuse_all(upgrades) == [
        SentHost(LOCAL),
        SentHost(LOCAL, False),
        SentHost(),
        SentHost(None, False),
        SentHost(CLUSTER),
    ]
    assert upgrades.value == SentHost(LOCAL) and upgrades.state is HostState.REFUSED
    assert pages.state is HostState.ACCEPTED
    said = HostChoice(WEB, "cluster", "80").for_upgrades()
    assert not said.try_next(said.value)


def test_writes_try_first_the_names_that_are_most_likely_configured() -> None:
    pages = HostChoice(WEB, "auto", "8888", own_host_name=b"home:8001")
    assert refuse_all(pages.for_writes()) == [
        SentHost(),
        SentHost(b"home:8001"),
        SentHost(LOCAL, False),
        SentHost(CLUSTER, False),
        SentHost(None, False),
    ]
    pages.try_next(SentHost())
    pages.try_next(SentHost(b"home:8001"))
    assert refuse_all(pages.for_writes())[:3] == [SentHost(LOCAL), SentHost(LOCAL, False), SentHost(b"home:8001")]


def test_after_an_acceptance_only_a_certain_refusal_changes_the_name() -> None:
    choice = HostChoice(WEB, "auto", "8888").for_writes()
    choice.record_accepted(SentHost())
    assert not choice.try_next(SentHost())
    assert choice.try_next(SentHost(), certain=True)
    assert choice.value == SentHost(LOCAL, False)
    refuse_all(choice)
    # When all names are refused, a name that was accepted earlier is chosen, and kept for a while.
    assert choice.value == SentHost() and choice.state is HostState.ACCEPTED
    assert not choice.try_next(SentHost(), certain=True)


@pytest.mark.parametrize(
    ("wanted", "value"),
    [
        ("external", None),
        ("localhost", b"localhost:3000"),
        ("cluster", b"web.default.svc.cluster.local:3000"),
        ("grafana.example.com", b"grafana.example.com"),
    ],
)
def test_names_set_by_the_user(wanted: str, value: bytes | None) -> None:
    choice = HostChoice(WEB, parse_host_option(wanted), "3000")
    assert choice.value == SentHost(value) and choice.state is HostState.CONFIGURED
    assert not choice.try_next(SentHost(value))


BAD = """
a b| a|a |x\r\ny|x\r\nX-Injected: y|x\n|x\0|x\x1b[31m|\t|a/b|é|\uff45|a@b|a,b|http://a|a?b|a#b|a%20b|-a|.a|a"b|a<b>
a:|a:b|a:0|a:65536|a:-1|a:+1|a:8_0|a:1:2|:80|::1|[::1|::1]|[x]|[::1]:|[::1]80|[::1]:x|a:\u0668\u0660
""".strip().replace("\n-", "-")


@pytest.mark.parametrize("bad", ["", *BAD.replace(">\n", ">|").split("|"), "x" * 300, "a:" + "1" * 5000])
def test_texts_that_cannot_be_a_host(bad: str) -> None:
    with pytest.raises(HatchwayError, match="cannot be a Host") as caught:
        parse_host_option(bad)
    assert caught.value.message.isprintable() and len(caught.value.message) < 600


@pytest.mark.parametrize(
    "good", ["a", "a.b", "a_b", "a-b:1", "a:65535", "10.0.0.1:80", "[::1]", "[2001:db8::1]:80", "a."]
)
def test_texts_that_can_be_a_host(good: str) -> None:
    assert parse_host_option(good) == good
    assert parse_host_option("Localhost") == "localhost"


def test_a_path_that_refuses_a_name_that_others_accept_has_a_choice_of_its_own() -> None:
    pages, changes = HostChoice(WEB, "auto", "8888"), WriteChoices()
    changes.begin(pages)
    shared = changes.choice_for(b"/ping")
    assert shared is not None and shared.record_accepted(SentHost())
    changes.record_accepted(b"/ping")

    refused = changes.choice_after_refusal(b"/form", SentHost(), certain=False)
    assert refused is not None and refused is not shared and refused.try_next(SentHost())
    assert changes.choice_for(b"/form") is refused and refused.value == SentHost(LOCAL, False)
    assert refused.record_accepted(SentHost(LOCAL, False))
    assert changes.choice_for(b"/ping") is changes.choice_for(b"/other") is shared and shared.value == SentHost()

    # These refusals do not depend on the path, so the choice stays shared.
    assert changes.choice_after_refusal(b"/ping", SentHost(), certain=False) is shared
    assert changes.choice_after_refusal(b"/other", SentHost(), certain=True) is shared
    assert changes.choice_after_refusal(b"/late", SentHost(LOCAL), certain=False) is shared
    changes.clear()
    assert changes.choice_for(b"/form") is None


def test_the_number_of_paths_with_their_own_choice_is_limited() -> None:
    changes = WriteChoices()
    changes.begin(HostChoice(WEB, "auto", "8888"))
    shared = changes.choice_for(b"/")
    assert shared is not None and shared.record_accepted(SentHost())
    own = [changes.choice_after_refusal(b"/%d" % number, SentHost(), certain=False) for number in range(500)]
    assert sum(choice is not shared for choice in own) == 128
    changes.clear()
    changes.begin(HostChoice(WEB, "auto", "8888"))
    shared = changes.choice_for(b"/")
    assert shared is not None and shared.record_accepted(SentHost())
    assert changes.choice_after_refusal(b"/" + bytes(2000), SentHost(), certain=False) is shared
