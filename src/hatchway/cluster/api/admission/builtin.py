"""Makes the admission plugins of a cluster: plugins without settings, plugins for webhooks, plugins for policies."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from hatchway.cluster.api.admission.contract import AdmissionPlugin
from hatchway.cluster.api.admission.defaultingressclass import DefaultIngressClass
from hatchway.cluster.api.admission.limitranger import LimitRanger
from hatchway.cluster.api.admission.noderestriction import NodeRestriction
from hatchway.cluster.api.admission.poddefaults import DefaultTolerationSeconds
from hatchway.cluster.api.admission.podresize import PodResizeValidator
from hatchway.cluster.api.admission.podsecurity.plugin import PodSecurity
from hatchway.cluster.api.admission.policies.matcher import PolicyMatcher
from hatchway.cluster.api.admission.policies.mutating import MutatingPolicies
from hatchway.cluster.api.admission.policies.source import (
    BINDINGS,
    MUTATING_BINDINGS,
    MUTATING_POLICIES,
    POLICIES,
    PolicySource,
)
from hatchway.cluster.api.admission.policies.validating import ValidatingPolicies
from hatchway.cluster.api.admission.policies.webhookconditions import condition_check
from hatchway.cluster.api.admission.priority import PriorityAdmission
from hatchway.cluster.api.admission.quota.plugin import ResourceQuotaAdmission
from hatchway.cluster.api.admission.runtimeclass import RuntimeClassAdmission
from hatchway.cluster.api.admission.serviceaccount import ServiceAccountAdmission
from hatchway.cluster.api.admission.storageobjects import (
    ClaimResizeAdmission,
    DefaultStorageClass,
    StorageProtection,
)
from hatchway.cluster.api.admission.taintnodes import TaintNodesByCondition
from hatchway.cluster.api.admission.webhooks.caller import WebhookCaller
from hatchway.cluster.api.admission.webhooks.configurations import MUTATING, VALIDATING, WebhookSource
from hatchway.cluster.api.admission.webhooks.matching import WebhookMatcher
from hatchway.cluster.api.admission.webhooks.mutating import MutatingWebhooks
from hatchway.cluster.api.admission.webhooks.validating import ValidatingWebhooks
from hatchway.cluster.api.registry.resource import Resource
from hatchway.cluster.api.storage.store import Store

if TYPE_CHECKING:
    from hatchway.cluster.api.admission.policies.access import Decide

__all__ = ["builtin_plugins", "policy_plugins", "webhook_plugins"]


def builtin_plugins(store: Store) -> list[AdmissionPlugin]:
    """Return the plugins that need only the store, in any order. (The chain sorts them.)"""
    return [
        ClaimResizeAdmission(store),
        DefaultIngressClass(store),
        DefaultStorageClass(store),
        DefaultTolerationSeconds(),
        LimitRanger(store),
        NodeRestriction(store),
        PodResizeValidator(store),
        PodSecurity(store),
        PriorityAdmission(store),
        ResourceQuotaAdmission(store),
        RuntimeClassAdmission(store),
        ServiceAccountAdmission(store),
        StorageProtection(),
        TaintNodesByCondition(),
    ]


def webhook_plugins(
    store: Store, rows: Callable[[], Iterable[Resource]], caller: WebhookCaller, decide: Decide
) -> list[AdmissionPlugin]:
    """Return the plugins that call webhooks.

    rows: returns the rows of all types.
    caller: sends requests to webhooks.
    decide: the cluster's authorizer, for match conditions that use `authorizer`.
    """
    matcher = WebhookMatcher(store, rows, condition_check(decide))
    return [
        MutatingWebhooks(WebhookSource(store, MUTATING), matcher, caller),
        ValidatingWebhooks(WebhookSource(store, VALIDATING), matcher, caller),
    ]


def policy_plugins(store: Store, rows: Callable[[], Iterable[Resource]], decide: Decide) -> list[AdmissionPlugin]:
    """Return the plugins that apply admission policies.

    rows: returns the rows of all types.
    decide: the cluster's authorizer, for expressions that use `authorizer`.
    """
    matcher = PolicyMatcher(store, rows)
    return [
        MutatingPolicies(PolicySource(store, MUTATING_POLICIES, MUTATING_BINDINGS), matcher, decide),
        ValidatingPolicies(PolicySource(store, POLICIES, BINDINGS), matcher, decide),
    ]
