"""The admission chain: runs all plugins on a write, in Kubernetes' order.

The order is `AllOrderedPlugins` of `pkg/kubeapiserver/options/plugins.go`. If no plugin has to wait, admission consists
of function calls only, and ends in the turn of the event loop in which it began.
"""

from __future__ import annotations

from collections.abc import Awaitable, Iterable
from typing import NamedTuple

from hatchway.cluster.api.admission.contract import AdmissionAttributes, AdmissionOperation, AdmissionPlugin
from hatchway.cluster.api.registry.resource import Resource

__all__ = ["ORDER", "AdmissionChain"]

ORDER = (
    "NamespaceLifecycle",
    "LimitRanger",
    "ServiceAccount",
    "NodeRestriction",
    "TaintNodesByCondition",
    "AlwaysPullImages",
    "PodSecurity",
    "PodNodeSelector",
    "Priority",
    "DefaultTolerationSeconds",
    "PodTolerationRestriction",
    "EventRateLimit",
    "ExtendedResourceToleration",
    "DefaultStorageClass",
    "StorageObjectInUseProtection",
    "OwnerReferencesPermissionEnforcement",
    "PersistentVolumeClaimResize",
    "RuntimeClass",
    "CertificateApproval",
    "CertificateSigning",
    "CertificateSubjectRestriction",
    "DefaultIngressClass",
    "DenyServiceExternalIPs",
    "PodTopologyLabels",
    "PodResizeValidator",
    # Kubernetes has no such plugin: its strategy of ResourceClaims makes these checks.
    "ResourceClaimStatus",
    "MutatingAdmissionPolicy",
    "MutatingAdmissionWebhook",
    "ValidatingAdmissionPolicy",
    "ValidatingAdmissionWebhook",
    "ResourceQuota",
)
# The maximum number of kinds of writes whose plugins are cached. A full cache is emptied, because it may contain
# deleted types.
_REMEMBERED = 4096

_Plugins = tuple[AdmissionPlugin, ...]


class _Chosen(NamedTuple):
    """The plugins for one kind of write: the plugins of each phase, and the plugins that may have to wait."""

    mutating: _Plugins
    validating: _Plugins
    waiting: _Plugins


def _overriding(plugins: Iterable[AdmissionPlugin], method: str) -> _Plugins:
    """Return the plugins that override a method of `AdmissionPlugin`."""
    return tuple(one for one in plugins if getattr(type(one), method) is not getattr(AdmissionPlugin, method))


class AdmissionChain:
    """Runs admission plugins in the order of `ORDER`.

    plugins: the plugins, in any order. Raises ValueError for a name that is not in `ORDER`, and for a repeated name.
    """

    def __init__(self, plugins: Iterable[AdmissionPlugin]) -> None:
        found = list(plugins)
        names = [one.name for one in found]
        if wrong := [name for name in names if name not in ORDER or names.count(name) > 1]:
            raise ValueError(f"the name of an admission plugin is unknown or repeated: {wrong[0]}")
        self.plugins: _Plugins = tuple(sorted(found, key=lambda one: ORDER.index(one.name)))
        self._chosen: dict[tuple[AdmissionOperation, str, str, str], _Chosen] = {}

    def _choose(self, operation: AdmissionOperation, row: Resource, subresource: str) -> _Chosen:
        """Return the plugins that handle this kind of write."""
        key = operation, row.group, row.plural, subresource
        found = self._chosen.get(key)
        if found is None:
            if len(self._chosen) >= _REMEMBERED:
                self._chosen.clear()
            handling = [one for one in self.plugins if one.handles(operation, row.group_resource, subresource)]
            found = _Chosen(*(_overriding(handling, name) for name in ("admit", "validate", "may_wait")))
            self._chosen[key] = found
        return found

    def may_wait(self, operation: AdmissionOperation, row: Resource, subresource: str) -> bool:
        """Return True when other requests may run during the admission of this kind of write."""
        for plugin in self._choose(operation, row, subresource).waiting:
            if plugin.may_wait(operation, row, subresource):
                return True
        return False

    def admit(self, attributes: AdmissionAttributes) -> Awaitable[None] | None:
        """Run the mutating phase of all plugins. Raises ApiError when a plugin refuses the write.

        Returns:
            None when all plugins are done, otherwise an awaitable that runs the rest. After awaiting it, the caller
            must read again everything that other requests may have changed.
        """
        plugins = self._choose(attributes.operation, attributes.row, attributes.subresource).mutating
        for index, plugin in enumerate(plugins):
            waiting = plugin.admit(attributes)
            if waiting is not None:
                return self._admit_rest(attributes, waiting, plugins, index)
        return self._admit_again(attributes) if attributes.reinvoke else None

    async def _admit_rest(
        self, attributes: AdmissionAttributes, waiting: Awaitable[None], plugins: _Plugins, index: int
    ) -> None:
        await waiting
        for plugin in plugins[index + 1 :]:
            further = plugin.admit(attributes)
            if further is not None:
                await further
        if attributes.reinvoke:
            await self._admit_again(attributes)

    async def _admit_again(self, attributes: AdmissionAttributes) -> None:
        """Run the mutating phase once more (`pkg/admission/reinvocation.go`)."""
        attributes.reinvoke, attributes.is_reinvocation = False, True
        try:
            for plugin in self._choose(attributes.operation, attributes.row, attributes.subresource).mutating:
                waiting = plugin.admit(attributes)
                if waiting is not None:
                    await waiting
        finally:
            attributes.reinvoke = attributes.is_reinvocation = False

    def validate(self, attributes: AdmissionAttributes) -> Awaitable[None] | None:
        """Run the validating phase of all plugins. Raises and returns like `admit`."""
        plugins = self._choose(attributes.operation, attributes.row, attributes.subresource).validating
        for index, plugin in enumerate(plugins):
            waiting = plugin.validate(attributes)
            if waiting is not None:
                return self._validate_rest(attributes, waiting, plugins, index)
        return None

    @staticmethod
    async def _validate_rest(
        attributes: AdmissionAttributes, waiting: Awaitable[None], plugins: _Plugins, index: int
    ) -> None:
        await waiting
        for plugin in plugins[index + 1 :]:
            further = plugin.validate(attributes)
            if further is not None:
                await further

    def run(self, attributes: AdmissionAttributes) -> Awaitable[None] | None:
        """Run both phases, for requests that have no validation between them. Raises and returns like `admit`."""
        waiting = self.admit(attributes)
        if waiting is None:
            return self.validate(attributes)
        return self._run_rest(attributes, waiting)

    async def _run_rest(self, attributes: AdmissionAttributes, waiting: Awaitable[None]) -> None:
        await waiting
        further = self.validate(attributes)
        if further is not None:
            await further
