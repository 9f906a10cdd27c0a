"""kube-state-metrics' metrics of Deployments and ReplicaSets (`internal/store`). Pure."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

from hatchway.addons.metrics.statefamilies import (
    Family,
    Samples,
    boolean,
    condition_samples,
    created,
    deleted,
    generation,
    number_at,
    owners,
    quantity,
    spec_of,
    status_of,
)
from hatchway.kube.api import Object

__all__ = ["DEPLOYMENT_FAMILIES", "REPLICA_SET_FAMILIES"]

_DEPLOYMENT_REASONS = frozenset(
    (
        "ReplicaSetUpdated", "ReplicaSetCreateError", "NewReplicaSetCreated", "FoundNewReplicaSet",
        "NewReplicaSetAvailable", "ProgressDeadlineExceeded", "DeploymentPaused", "DeploymentResumed",
        "MinimumReplicasAvailable", "MinimumReplicasUnavailable", "",
    )
)  # fmt: skip


def _deployment_conditions(obj: Object) -> Iterator[tuple[dict[str, str], float]]:
    for one in status_of(obj).get("conditions") or ():
        reason = one.get("reason", "")
        known = reason if reason in _DEPLOYMENT_REASONS else "unknown"
        yield from condition_samples(one.get("status", ""), "status", reason=known, condition=one.get("type", ""))


def _rolling(key: str, rounded: Callable[[float], int]) -> Callable[[Object], Samples]:
    def samples(obj: Object) -> Samples:
        spec = spec_of(obj)
        value = ((spec.get("strategy") or {}).get("rollingUpdate") or {}).get(key)
        if isinstance(value, int):
            return [({}, float(value))]
        percent = quantity(value.removesuffix("%")) if isinstance(value, str) else None
        return [({}, float(rounded(percent * (spec.get("replicas") or 0) / 100)))] if percent is not None else []

    return samples


_DEPLOYMENT = "kube_deployment"
DEPLOYMENT_FAMILIES = (
    Family(f"{_DEPLOYMENT}_owner", "Information about the Deployment's owner.", owners(controller=False)),
    Family(f"{_DEPLOYMENT}_created", "Unix creation timestamp", created),
    Family(f"{_DEPLOYMENT}_deletion_timestamp", "Unix deletion timestamp", deleted),
    Family(
        f"{_DEPLOYMENT}_metadata_generation",
        "Sequence number representing a specific generation of the desired state.",
        generation,
    ),
    Family(
        f"{_DEPLOYMENT}_status_observed_generation",
        "The generation observed by the deployment controller.",
        number_at("status", "observedGeneration"),
    ),
    Family(
        f"{_DEPLOYMENT}_spec_replicas", "Number of desired pods for a deployment.", number_at("spec", "replicas", None)
    ),
    Family(
        f"{_DEPLOYMENT}_spec_paused",
        "Whether the deployment is paused and will not be processed by the deployment controller.",
        lambda obj: [({}, boolean(bool(spec_of(obj).get("paused"))))],
    ),
    Family(
        f"{_DEPLOYMENT}_spec_strategy_rollingupdate_max_unavailable",
        "Maximum number of unavailable replicas during a rolling update of a deployment.",
        _rolling("maxUnavailable", math.floor),
    ),
    Family(
        f"{_DEPLOYMENT}_spec_strategy_rollingupdate_max_surge",
        "Maximum number of replicas that can be scheduled above the desired number of replicas during a rolling update "
        "of a deployment.",
        _rolling("maxSurge", math.ceil),
    ),
    Family(f"{_DEPLOYMENT}_status_replicas", "The number of replicas per deployment.", number_at("status", "replicas")),
    *(
        Family(
            f"{_DEPLOYMENT}_status_replicas_{state}",
            f"The number of {state} replicas per deployment.",
            number_at("status", f"{state}Replicas"),
        )
        for state in ("ready", "available", "unavailable", "updated")
    ),
    Family(f"{_DEPLOYMENT}_status_condition", "The current status conditions of a deployment.", _deployment_conditions),
)
_REPLICA_SET = "kube_replicaset"
REPLICA_SET_FAMILIES = (
    Family(f"{_REPLICA_SET}_owner", "Information about the ReplicaSet's owner.", owners(controller=True)),
    Family(f"{_REPLICA_SET}_created", "Unix creation timestamp", created),
    Family(
        f"{_REPLICA_SET}_metadata_generation",
        "Sequence number representing a specific generation of the desired state.",
        generation,
    ),
    Family(
        f"{_REPLICA_SET}_status_observed_generation",
        "The generation observed by the ReplicaSet controller.",
        number_at("status", "observedGeneration"),
    ),
    Family(
        f"{_REPLICA_SET}_spec_replicas", "Number of desired pods for a ReplicaSet.", number_at("spec", "replicas", None)
    ),
    Family(
        f"{_REPLICA_SET}_status_replicas", "The number of replicas per ReplicaSet.", number_at("status", "replicas")
    ),
    Family(
        f"{_REPLICA_SET}_status_fully_labeled_replicas",
        "The number of fully labeled replicas per ReplicaSet.",
        number_at("status", "fullyLabeledReplicas"),
    ),
    Family(
        f"{_REPLICA_SET}_status_ready_replicas",
        "The number of ready replicas per ReplicaSet.",
        number_at("status", "readyReplicas"),
    ),
)
