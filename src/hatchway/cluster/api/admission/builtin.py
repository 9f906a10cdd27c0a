"""The admission plugins that every cluster has."""

from __future__ import annotations

from hatchway.cluster.api.admission.contract import AdmissionPlugin
from hatchway.cluster.api.admission.defaultingressclass import DefaultIngressClass
from hatchway.cluster.api.admission.noderestriction import NodeRestriction
from hatchway.cluster.api.admission.poddefaults import (
    DefaultTolerationSeconds,
    PriorityAdmission,
    RuntimeClassAdmission,
)
from hatchway.cluster.api.admission.serviceaccount import ServiceAccountAdmission
from hatchway.cluster.api.admission.taintnodes import TaintNodesByCondition
from hatchway.cluster.api.storage.store import Store

__all__ = ["builtin_plugins"]


def builtin_plugins(store: Store) -> list[AdmissionPlugin]:
    """Return the plugins that need nothing but the store, in any order. The chain sorts them."""
    return [
        DefaultIngressClass(store),
        DefaultTolerationSeconds(),
        NodeRestriction(store),
        PriorityAdmission(),
        RuntimeClassAdmission(),
        ServiceAccountAdmission(store),
        TaintNodesByCondition(),
    ]
