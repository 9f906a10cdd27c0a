"""An index finds the same objects as a search over all objects, after any changes."""

from __future__ import annotations

import random
from typing import Any

from hatchway.cluster.controllers import indexes
from hatchway.cluster.controllers.objectcache import ObjectCache
from hatchway.cluster.controllers.objectfields import controller_of, labels_of
from hatchway.kube.api import Object
from hatchway.kube.objects import key_of
from hatchway.kube.selectors import selector_matches
from tests.unit.fake_client import FakeClient

LABELS = [{}, {"a": "1"}, {"a": "2"}, {"a": "1", "b": "1"}, {"b": "1", "c": "x"}]
SELECTORS: list[dict[str, Any]] = [
    {"matchLabels": {"a": "1"}},
    {"matchLabels": {"a": "1", "b": "1"}},
    {"matchExpressions": [{"key": "b", "operator": "Exists"}]},
    {"matchLabels": {"c": "x"}, "matchExpressions": [{"key": "a", "operator": "DoesNotExist"}]},
]


def obj(chance: random.Random, number: int) -> Object:
    owners = chance.choice([[], [{"uid": f"o{chance.randrange(3)}", "controller": True}], [{"uid": "x"}]])
    metadata = {
        "name": f"n{number}",
        "namespace": chance.choice("de"),
        "labels": chance.choice(LABELS),
        "ownerReferences": owners,
        "resourceVersion": "1",
    }
    return {"metadata": metadata, "spec": {"selector": chance.choice(SELECTORS)}}


def names(found: list[Object]) -> list[tuple[str, str]]:
    return sorted(map(key_of, found))


def test_an_index_follows_every_change() -> None:
    chance = random.Random(5)
    cache = ObjectCache(FakeClient(), "pods")
    known: dict[tuple[str, str], Object] = {}
    for step in range(400):
        one = obj(chance, chance.randrange(12))
        if chance.random() < 0.3:
            if known.pop(key_of(one), None) is not None:
                cache._apply("DELETED", one)
        else:
            cache._apply("MODIFIED" if key_of(one) in known else "ADDED", one)
            known[key_of(one)] = one
        if step % 7:
            continue
        here = [found for found in known.values() if found["metadata"]["namespace"] == "d"]
        for selector in SELECTORS:
            wanted = [found for found in here if selector_matches(selector, labels_of(found))]
            assert names(indexes.selected(cache, "d", selector)) == names(wanted)
            owner = {"metadata": {"uid": "o1", "namespace": "d"}}
            owned = [found for found in known.values() if (controller_of(found) or {}).get("uid") == "o1"]
            free = [found for found in wanted if controller_of(found) is None]
            assert names(indexes.claimable(cache, owner, selector)) == names(owned + free)
        for labels in LABELS:
            one = {"metadata": {"namespace": "d", "labels": labels}}
            selecting = {key_of(found) for found in here if selector_matches(found["spec"]["selector"], labels)}
            # An index returns all objects that match, possibly others, too, and none twice.
            offered = names(indexes.selectors_for(cache, one))
            assert selecting <= set(offered)
            assert len(offered) == len(set(offered))


def test_an_index_made_later_has_existing_objects() -> None:
    cache = ObjectCache(FakeClient(), "pods")
    one = obj(random.Random(1), 1)
    cache._apply("ADDED", one)
    assert cache.index(indexes.by_controller) is cache.index(indexes.by_controller)
    assert len(cache.index(indexes.by_controller)._found) == 1
    cache._apply("DELETED", one)
    assert not cache.index(indexes.by_controller)._found
