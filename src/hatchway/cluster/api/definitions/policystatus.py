"""Checks the types in the expressions of ValidatingAdmissionPolicies, and writes warnings into their status.

Source: Kubernetes' `pkg/controller/validatingadmissionpolicystatus/controller.go`. A policy is checked once for each
generation. The warnings have no effect on the policy.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from hatchway.cluster.api.definitions.namequeue import NameQueue
from hatchway.cluster.api.registry.resource import Resource
from hatchway.cluster.api.work import run_apart
from hatchway.cluster.auth.source import StoredObjects
from hatchway.kube.api import Client, Object

__all__ = ["PolicyStatusController"]

_POLICIES = "validatingadmissionpolicies.admissionregistration.k8s.io"
# Processor time, in seconds, that the check of one policy may take.
_SECONDS = 2.0
# The longest pause after a failed check, in seconds, as in client-go. It is long, because a check may take long.
_LONGEST_PAUSE = 1000.0


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
        self._waiting = NameQueue(_POLICIES, self._reconcile, longest_pause=_LONGEST_PAUSE)
        self._end: Callable[[], None] = lambda: None

    def start(self) -> None:
        """Begin to watch the policies. Policies that are already stored are checked first."""
        for policy in self._source.list(_POLICIES):
            self._waiting.add(policy["metadata"]["name"])
        self._end = self._source.subscribe(_POLICIES, self._follow)
        self._waiting.start()

    async def aclose(self) -> None:
        """Stop."""
        self._end()
        await self._waiting.aclose()

    def _follow(self, _type: str, _old: Object | None, new: Object | None) -> None:
        if new is not None and _is_due(new):
            self._waiting.add(new["metadata"]["name"])

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
