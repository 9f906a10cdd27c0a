"""Evictions because of disk usage, with the kubelet's texts."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import pytest

from hatchway.cluster.node import eviction
from hatchway.cluster.node.eviction import StorageUse
from hatchway.cluster.quantity import format_quantity, parse_quantity

MI = 1 << 20


def limited(name: str, limit: str | None, **more: Any) -> dict[str, Any]:
    resources = {} if limit is None else {"resources": {"limits": {"ephemeral-storage": limit}}}
    return {"name": name, **resources, **more}


def pod(*containers: dict[str, Any], **spec: Any) -> dict[str, Any]:
    return {"spec": {"containers": list(containers), **spec}}


def test_an_empty_dir_may_be_as_large_as_its_limit() -> None:
    volumes = [
        {"name": "free", "emptyDir": {}},
        {"name": "zero", "emptyDir": {"sizeLimit": "0"}},
        {"name": "v", "emptyDir": {"sizeLimit": "1Mi"}},
        {"name": "map", "configMap": {"name": "m"}},
    ]
    found = pod(volumes=volumes)
    assert eviction.limited_volumes(found) == {"v": "1Mi"}
    assert not eviction.has_storage_limit(found)
    assert eviction.exceeded_limit(found, StorageUse({"v": MI, "free": 9 * MI, "zero": 9 * MI})) == ""
    message = eviction.exceeded_limit(found, StorageUse({"v": MI + 1}))
    assert message == 'Usage of EmptyDir volume "v" exceeds the limit "1Mi". '


def test_limits_of_each_container_and_of_the_pod() -> None:
    found = pod(limited("a", "1Mi"), limited("b", "3Mi"))
    assert eviction.has_storage_limit(found)
    assert eviction.exceeded_limit(found, StorageUse(containers={"a": MI, "b": 3 * MI})) == ""
    use = StorageUse({"v": MI, "m": 9 * MI}, frozenset({"m"}), {"a": MI, "b": MI}, other=MI)
    assert use.total == 4 * MI
    assert eviction.exceeded_limit(found, use) == ""
    use.other += 1
    message = eviction.exceeded_limit(found, use)
    assert message == "Pod ephemeral local storage usage exceeds the total limit of containers 4Mi. "
    message = eviction.exceeded_limit(found, StorageUse(containers={"a": MI + 1}))
    assert message == 'Container a exceeded its local ephemeral storage limit "1Mi". '


def test_init_containers_count_as_in_kubernetes_podlimits() -> None:
    init = [limited("side", "2M", restartPolicy="Always"), limited("init", "9M")]
    use = StorageUse(other=10_999_999)
    assert eviction.exceeded_limit(pod(limited("a", "1M"), initContainers=init), use) == ""
    use.other = 11_000_001
    message = eviction.exceeded_limit(pod(limited("a", "1M"), initContainers=init), use)
    assert message == "Pod ephemeral local storage usage exceeds the total limit of containers 11M. "


def test_a_pod_without_limits_is_not_evicted() -> None:
    use = StorageUse({"v": 1 << 40}, containers={"a": 1 << 40})
    assert eviction.exceeded_limit(pod(limited("a", None), volumes=[{"name": "v", "emptyDir": {}}]), use) == ""


def test_critical_pods_are_not_evicted() -> None:
    assert eviction.is_critical(pod(priority=2_000_000_000))
    assert not eviction.is_critical(pod(priority=1_999_999_999))
    assert not eviction.is_critical(pod())


@pytest.mark.parametrize(
    ("value", "like", "text"),
    [
        (4 * MI, "1Mi", "4Mi"),
        (MI + 1, "1Mi", "1048577"),
        (1536 * 1024, "1Gi", "1536Ki"),
        (1000, "1Ki", "1k"),
        (0, "1Ki", "0"),
        (11_000_000, "1M", "11M"),
        (1 << 30, "1", "1073741824"),
    ],
)
def test_quantities_are_formatted_as_in_go(value: int, like: str, text: str) -> None:
    assert format_quantity(Fraction(value), like) == text
    assert parse_quantity(text) == value
