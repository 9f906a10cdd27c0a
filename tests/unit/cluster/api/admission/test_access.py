"""Authorization checks by expressions: made in the event loop, each only once, and limited in number."""

from __future__ import annotations

import asyncio
import threading

import pytest

from hatchway.cluster.api.admission.policies.access import LoopAccess
from hatchway.cluster.api.registry.custom.celauthorization import AccessUnknown
from hatchway.cluster.auth.rbac import AccessDecision
from hatchway.cluster.auth.user import Attributes, UserInfo

BOB = UserInfo("bob", ("dev",), extra={"a": ("b",)})


async def test_each_check_is_made_once_and_in_the_event_loop() -> None:
    asked: list[tuple[str, int]] = []

    def decide(attributes: Attributes) -> AccessDecision:
        asked.append((attributes.verb, threading.get_ident()))
        return AccessDecision(attributes.verb == "get", attributes.verb)

    access = LoopAccess(decide)

    def questions() -> list[AccessDecision]:
        return [access(Attributes(BOB, verb, "pods")) for verb in ("get", "list", "get")]

    found = await asyncio.to_thread(questions)
    assert found == [AccessDecision(True, "get"), AccessDecision(False, "list"), AccessDecision(True, "get")]
    assert asked == [(verb, threading.get_ident()) for verb in ("get", "list")]


async def test_a_check_of_another_user_is_made_anew() -> None:
    access = LoopAccess(lambda attributes: AccessDecision(attributes.user is BOB))
    other = UserInfo("bob", ("ops",))
    assert (await asyncio.to_thread(access, Attributes(BOB, "get", "pods"))).allowed
    assert not (await asyncio.to_thread(access, Attributes(other, "get", "pods"))).allowed
    fields = Attributes(other, "get", "pods", fields=(("spec.nodeName", "n"),))
    assert not (await asyncio.to_thread(access, fields)).allowed


async def test_the_number_of_checks_is_limited() -> None:
    access = LoopAccess(lambda _: AccessDecision(True))

    def questions() -> int:
        for number in range(5000):
            try:
                access(Attributes(BOB, str(number), "pods"))
            except AccessUnknown:
                return number
        return -1

    assert await asyncio.to_thread(questions) == 1000


async def test_an_error_of_the_authorizer_is_raised_in_the_callers_thread() -> None:
    def fail(_: Attributes) -> AccessDecision:
        raise LookupError("lost")

    with pytest.raises(LookupError, match="lost"):
        await asyncio.to_thread(LoopAccess(fail), Attributes(BOB, "get", "pods"))


def test_checks_fail_after_the_loop_has_ended() -> None:
    async def make() -> LoopAccess:
        return LoopAccess(lambda _: AccessDecision(True))

    access = asyncio.run(make())
    with pytest.raises(AccessUnknown, match="shutting down"):
        access(Attributes(BOB, "get", "pods"))
