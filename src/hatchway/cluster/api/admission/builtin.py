"""The admission plugins that every cluster has."""

from __future__ import annotations

from hatchway.cluster.api.admission.contract import AdmissionPlugin
from hatchway.cluster.api.admission.defaultingressclass import DefaultIngressClass
from hatchway.cluster.api.admission.limitranger import LimitRanger
from hatchway.cluster.api.admission.noderestriction import NodeRestriction
from hatchway.cluster.api.admission.poddefaults import (
    DefaultTolerationSeconds,
    PriorityAdmission,
    RuntimeClassAdmission,
)
from hatchway.cluster.api.admission.podsecurity.plugin import PodSecurity
from hatchway.cluster.api.admission.quota.plugin import ResourceQuotaAdmission
from hatchway.cluster.api.admission.serviceaccount import ServiceAccountAdmission
from hatchway.cluster.api.admission.taintnodes import TaintNodesByCondition
from hatchway.cluster.api.storage.store import Store

__all__ = ["builtin_plugins"]


def builtin_plugins(store: Store) -> list[AdmissionPlugin]:
    """Return the plugins that need nothing but the store, in any order. The chain sorts them."""
    return [
        DefaultIngressClass(store),
        DefaultTolerationSeconds(),
        LimitRanger(store),
        NodeRestriction(store),
        PodSecurity(store),
        PriorityAdmission(),
        ResourceQuotaAdmission(store),
        RuntimeClassAdmission(),
        ServiceAccountAdmission(store),
        TaintNodesByCondition(),
    ]
