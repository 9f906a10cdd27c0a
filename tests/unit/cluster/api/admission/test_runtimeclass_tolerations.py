"""Tolerations of a pod and of its RuntimeClass are merged as in Kubernetes (`pkg/util/tolerations`)."""

from __future__ import annotations

import pytest

from hatchway.cluster.api.admission.runtimeclass import merged_tolerations
from hatchway.kube.api import Object

_ALL: Object = {"operator": "Exists"}
_KEY: Object = {"key": "k", "operator": "Exists"}
_VALUE: Object = {"key": "k", "operator": "Equal", "value": "v"}
_EFFECT: Object = {**_VALUE, "effect": "NoExecute"}


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ([], []),
        ([_VALUE, _VALUE], [_VALUE]),
        ([_VALUE, _KEY], [_KEY]),
        ([_KEY, _VALUE], [_KEY]),
        ([_KEY, _VALUE, _ALL], [_ALL]),
        ([_EFFECT, _VALUE], [_VALUE]),
        ([_VALUE, {**_VALUE, "value": "w"}], [_VALUE, {**_VALUE, "value": "w"}]),
        (
            [{**_EFFECT, "tolerationSeconds": 5}, {**_EFFECT, "tolerationSeconds": 9}],
            [{**_EFFECT, "tolerationSeconds": 9}],
        ),
        ([{**_EFFECT, "tolerationSeconds": 5}, _EFFECT], [_EFFECT]),
    ],
)
def test_merging(given: list[Object], expected: list[Object]) -> None:
    assert merged_tolerations(given) == expected


def test_of_very_many_tolerations_only_duplicates_are_removed() -> None:
    many = [{"key": f"k{number}", "operator": "Exists"} for number in range(250)]
    assert merged_tolerations([*many, *many, _ALL]) == [*many, _ALL]
