"""The admission chain: order, waiting, reinvocation, refusals."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from hatchway.cluster.api.admission.chain import ORDER, AdmissionChain
from hatchway.cluster.api.admission.contract import AdmissionAttributes, AdmissionOperation, AdmissionPlugin
from hatchway.cluster.api.registry.types import ROWS
from hatchway.cluster.auth.user import UserInfo
from hatchway.errors import ApiError, forbidden

_Half = Callable[[AdmissionAttributes], Awaitable[None] | None]
PODS = next(one for one in ROWS if one.plural == "pods")


def attributes(operation: AdmissionOperation = "CREATE", subresource: str = "") -> AdmissionAttributes:
    user = UserInfo("u")
    return AdmissionAttributes(user, operation, PODS, subresource, "ns", "p", PODS.gvk, {"metadata": {}}, None)


class Recorder(AdmissionPlugin):
    """Records its calls in `log`. waits: whether it returns an awaitable. resource: the type that it handles; "" for all."""

    def __init__(self, name: str, log: list[str], *, waits: bool = False, resource: str = "") -> None:
        self.name = name
        self._log = log
        self._waits = waits
        self._resource = resource
        self.asked = 0

    def handles(self, operation: AdmissionOperation, resource: str, subresource: str) -> bool:
        self.asked += 1
        return self._resource in ("", resource)

    def may_wait(self, operation: AdmissionOperation, row: Any, subresource: str) -> bool:
        return self._waits

    def _call(self, half: str) -> Awaitable[None] | None:
        if self._waits:
            return self._later(half)
        self._log.append(f"{half} {self.name}")
        return None

    async def _later(self, half: str) -> None:
        await asyncio.sleep(0)
        self._log.append(f"{half} {self.name}")

    def admit(self, attributes: AdmissionAttributes) -> Awaitable[None] | None:
        return self._call("admit")

    def validate(self, attributes: AdmissionAttributes) -> Awaitable[None] | None:
        return self._call("validate")


class Denies(AdmissionPlugin):
    name = "ResourceQuota"

    def validate(self, attributes: AdmissionAttributes) -> None:
        raise forbidden("pods", attributes.name, "exceeded quota")


class Changes(AdmissionPlugin):
    """A mutating plugin that requests a second run of the mutating plugins."""

    name = "MutatingAdmissionWebhook"

    def admit(self, attributes: AdmissionAttributes) -> None:
        attributes.reinvoke = not attributes.is_reinvocation


def test_plugins_run_in_kubernetes_order_without_waiting() -> None:
    log: list[str] = []
    chain = AdmissionChain([Recorder(name, log) for name in ("Priority", "LimitRanger", "PodSecurity")])
    assert chain.run(attributes()) is None
    names = ["LimitRanger", "PodSecurity", "Priority"]
    assert log == [f"admit {one}" for one in names] + [f"validate {one}" for one in names]
    assert [one.name for one in chain.plugins] == names
    assert ORDER[-1] == "ResourceQuota"


async def test_plugins_after_a_waiting_plugin_run_in_order() -> None:
    log: list[str] = []
    first, last = Recorder("LimitRanger", log), Recorder("ResourceQuota", log)
    chain = AdmissionChain([last, Recorder("MutatingAdmissionWebhook", log, waits=True), first])
    waiting = chain.run(attributes())
    assert log == ["admit LimitRanger"]
    assert waiting is not None
    await waiting
    names = ["LimitRanger", "MutatingAdmissionWebhook", "ResourceQuota"]
    assert log == [f"admit {one}" for one in names] + [f"validate {one}" for one in names]
    assert chain.may_wait("CREATE", PODS, "")
    assert not AdmissionChain([first, last]).may_wait("CREATE", PODS, "")


async def test_mutating_plugins_can_run_a_second_time() -> None:
    log: list[str] = []
    chain = AdmissionChain([Recorder("ServiceAccount", log), Changes()])
    found = attributes()
    waiting = chain.run(found)
    assert waiting is not None
    await waiting
    assert log == ["admit ServiceAccount", "admit ServiceAccount", "validate ServiceAccount"]
    assert not found.reinvoke
    assert not found.is_reinvocation


async def test_a_refusal_ends_the_chain() -> None:
    log: list[str] = []
    with pytest.raises(ApiError, match="exceeded quota"):
        AdmissionChain([Recorder("LimitRanger", log), Denies()]).run(attributes())
    waiting = AdmissionChain([Recorder("ValidatingAdmissionWebhook", log, waits=True), Denies()]).run(attributes())
    assert waiting is not None
    with pytest.raises(ApiError, match="exceeded quota"):
        await waiting


def test_plugins_get_only_types_that_they_handle() -> None:
    log: list[str] = []
    other, pods = Recorder("LimitRanger", log, resource="services"), Recorder("Priority", log, resource="pods")
    chain = AdmissionChain([other, pods])
    for _ in range(3):
        assert chain.run(attributes()) is None
        assert chain.run(attributes("UPDATE", "status")) is None
    assert set(log) == {"admit Priority", "validate Priority"}
    assert other.asked == 2


@pytest.mark.parametrize("names", [("Mine",), ("Priority", "Priority")])
def test_plugin_names_must_be_those_of_kubernetes_and_unique(names: tuple[str, ...]) -> None:
    with pytest.raises(ValueError, match=names[0]):
        AdmissionChain([Recorder(name, []) for name in names])
