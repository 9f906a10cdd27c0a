"""The choice of a volume: it fits the claim, no other volume fits better, and the order of the list is irrelevant."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from hatchway.cluster.controllers.volumematch import find_match
from hatchway.kube.api import Object

MODES = ("ReadWriteOnce", "ReadOnlyMany", "ReadWriteMany")
_modes = st.sets(st.sampled_from(MODES), min_size=1).map(sorted)
_sizes = st.integers(1, 4)


@st.composite
def volumes(draw: Any) -> list[Object]:
    found = []
    for number in range(draw(st.integers(0, 6))):
        spec: Object = {
            "capacity": {"storage": f"{draw(_sizes)}Gi"},
            "accessModes": draw(_modes),
            "storageClassName": draw(st.sampled_from(["a", "b"])),
        }
        reserved = draw(st.sampled_from([None, None, None, "c", "other"]))
        if reserved:
            spec["claimRef"] = {"namespace": "ns", "name": reserved}
        phase = draw(st.sampled_from(["Available", "Available", "Bound", "Released"]))
        found.append({"metadata": {"name": f"pv-{number}"}, "spec": spec, "status": {"phase": phase}})
    return found


@st.composite
def claims(draw: Any) -> Object:
    spec = {
        "accessModes": draw(_modes),
        "resources": {"requests": {"storage": f"{draw(_sizes)}Gi"}},
        "storageClassName": "a",
    }
    return {"metadata": {"name": "c", "namespace": "ns", "uid": "u"}, "spec": spec}


def size(volume: Object) -> int:
    return int(volume["spec"]["capacity"]["storage"].removesuffix("Gi"))


def wanted(claim: Object) -> int:
    return int(claim["spec"]["resources"]["requests"]["storage"].removesuffix("Gi"))


def suits(volume: Object, claim: Object) -> bool:
    spec = volume["spec"]
    return (
        spec.get("claimRef") is None
        and volume["status"]["phase"] == "Available"
        and spec["storageClassName"] == "a"
        and size(volume) >= wanted(claim)
        and set(claim["spec"]["accessModes"]) <= set(spec["accessModes"])
    )


@given(claims(), volumes(), st.randoms())
def test_the_best_volume_is_found_in_any_order(claim: Object, given_volumes: list[Object], random: Any) -> None:
    found = find_match(claim, given_volumes)
    reserved = [one for one in given_volumes if (one["spec"].get("claimRef") or {}).get("name") == "c"]
    reserved = [one for one in reserved if size(one) >= wanted(claim)]
    fitting = [one for one in given_volumes if suits(one, claim)]
    if reserved:
        assert found in reserved
        return
    assert (found is None) == (not fitting)
    if found is not None:
        assert found in fitting
        rank = (len(found["spec"]["accessModes"]), size(found))
        assert rank == min((len(one["spec"]["accessModes"]), size(one)) for one in fitting)
    shuffled = list(given_volumes)
    random.shuffle(shuffled)
    assert find_match(claim, shuffled) == found
    assert find_match(claim, given_volumes, delayed=True) is None
