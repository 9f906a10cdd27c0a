"""Checks the types in the expressions of ValidatingAdmissionPolicies, and writes warnings into their status.

Source: Kubernetes' `pkg/controller/validatingadmissionpolicystatus/controller.go`. A policy is checked once for each
generation. The warnings have no effect on the policy.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable

from hatchway.cluster.api.registry.resource import Resource
from hatchway.cluster.api.work import run_apart
from hatchway.cluster.auth.source import StoredObjects
from hatchway.errors import ApiError
from hatchway.kube.api import Client, Object

__all__ = ["PolicyStatusController"]

_log = logging.getLogger(__name__)
_POLICIES = "validatingadmissionpolicies.admissionregistration.k8s.io"
# Seconds until the next attempt, for a policy whose status could not be written.
_AGAIN = 0.5
# Processor time, in seconds, that the check of one policy may take.
_SECONDS = 2.0


class PolicyStatusController:
    """Watches the policies in a store. Call `start` in an event loop, and `aclose` at the end.

    source: has the policies.
    client: writes their status.
    rows: returns the rows of all types.
    """

    def __init__(self, source: StoredObjects, client: Client, rows: Callable[[], Iterable[Resource]]) -> None:
        self._source = source
        self._client = client
        self._rows = rows
        self._waiting: dict[str, None] = {}
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._end: Callable[[], None] = lambda: None

    def start(self) -> None:
        """Begin to watch the policies. Policies that are already stored are checked first."""
        for policy in self._source.list(_POLICIES):
            self._waiting[policy["metadata"]["name"]] = None
        self._end = self._source.subscribe(_POLICIES, self._follow)
        self._wake.set()
        self._task = asyncio.get_running_loop().create_task(self._run(), name="policy status")

    async def aclose(self) -> None:
        """Stop."""
        self._end()
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def _follow(self, _type: str, _old: Object | None, new: Object | None) -> None:
        if new is not None and _is_due(new):
            self._retry(new["metadata"]["name"])

    def _retry(self, name: str) -> None:
        self._waiting[name] = None
        self._wake.set()

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._waiting:
                name = next(iter(self._waiting))
                del self._waiting[name]
                try:
                    await self._reconcile(name)
                except ApiError as error:
                    # If the policy was changed meanwhile (409), that change starts the next check. If it was deleted
                    # (404), no check is needed.
                    if error.code not in (404, 409):
                        _log.warning("%s %s: %s", _POLICIES, name, error.message)
                    if error.code >= 500:
                        loop.call_later(_AGAIN, self._retry, name)
                except Exception:  # noqa: BLE001  a policy that cannot be checked must not stop the others
                    _log.exception("%s %s", _POLICIES, name)

    async def _reconcile(self, name: str) -> None:
        policy = self._source.get(_POLICIES, "", name)
        if policy is None or not _is_due(policy):
            return
        # Imported here, because only clusters with policies need the code that compiles expressions.
        from hatchway.cluster.api.registry.policychecks import PolicyCheck

        check = PolicyCheck(policy["spec"], self._rows(), _SECONDS)
        warnings = await run_apart(check.warnings)
        status = {
            "observedGeneration": policy["metadata"]["generation"],
            "typeChecking": {"expressionWarnings": warnings or None},
        }
        await self._client.patch(_POLICIES, name, {"status": status}, subresource="status")


def _is_due(policy: Object) -> bool:
    observed = (policy.get("status") or {}).get("observedGeneration") or 0
    return bool(policy["metadata"].get("generation", 0) > observed)
