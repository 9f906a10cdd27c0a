"""Indexes with which controllers find related objects without a search of the namespace."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator, Mapping
from typing import Any

from hatchway.cluster.controllers.objectcache import ObjectCache
from hatchway.cluster.controllers.objectfields import controller_of, labels_of
from hatchway.kube.api import Object
from hatchway.kube.selectors import selector_is_empty, selector_matches, subset_matches
from hatchway.kube.wellknown import SERVICE_NAME


def by_labels(obj: Object) -> Iterator[Hashable]:
    """Yield (namespace, label, value) for each of the object's labels."""
    namespace = obj["metadata"].get("namespace", "")
    for label, value in labels_of(obj).items():
        yield namespace, label, value


def by_controller(obj: Object) -> Iterable[Hashable]:
    """Return the uid of the object's controller; (namespace,) when it has none."""
    ref = controller_of(obj)
    return (ref["uid"] if ref is not None else (obj["metadata"].get("namespace", ""),),)


def by_service(found: Object) -> Iterable[Hashable]:
    """Return (namespace, name) of the Service in an EndpointSlice's label."""
    name = labels_of(found).get(SERVICE_NAME)
    return ((found["metadata"]["namespace"], name),) if name else ()


def by_plain_selector(service: Object) -> Iterable[Hashable]:
    """Return (namespace, label, value) of one label of a Service's selector. All selected pods have this label."""
    return _of_one(service, service["spec"].get("selector"))


def by_label_selector(obj: Object) -> Iterable[Hashable]:
    """Return the same as `by_plain_selector` for a LabelSelector; (namespace,) if it has no matchLabels."""
    selector = obj["spec"].get("selector") or {}
    return _of_one(obj, selector.get("matchLabels")) or ((obj["metadata"]["namespace"],),)


def _of_one(obj: Object, wanted: Mapping[str, str] | None) -> tuple[Hashable, ...]:
    if not wanted:
        return ()
    label = min(wanted)
    return ((obj["metadata"]["namespace"], label, wanted[label]),)


def labelled(cache: ObjectCache, namespace: str, wanted: Mapping[str, str]) -> list[Object]:
    """Return the objects of a namespace with all labels of `wanted`, which must not be empty."""
    index = cache.index(by_labels)
    rarest = min(((namespace, label, value) for label, value in wanted.items()), key=index.count)
    return [obj for obj in index.get(rarest) if subset_matches(wanted, labels_of(obj))]


def selected(cache: ObjectCache, namespace: str, selector: Mapping[str, Any]) -> list[Object]:
    """Return the objects of a namespace that a LabelSelector selects."""
    wanted = selector.get("matchLabels")
    found = labelled(cache, namespace, wanted) if wanted else cache.in_namespace(namespace)
    return [obj for obj in found if selector_matches(selector, labels_of(obj))]


def claimable(cache: ObjectCache, owner: Object, selector: Mapping[str, Any]) -> list[Object]:
    """Return the objects that `owner` controls or may adopt: the candidates of `ownership.claim`."""
    metadata = owner["metadata"]
    found = {id(obj): obj for obj in cache.index(by_controller).get(metadata.get("uid", ""))}
    found |= {id(obj): obj for obj in selected(cache, metadata["namespace"], selector) if controller_of(obj) is None}
    return sorted(found.values(), key=lambda obj: str(obj["metadata"]["name"]))


def selectors_for(cache: ObjectCache, obj: Object) -> list[Object]:
    """Return the objects of `cache` whose LabelSelector may select `obj`."""
    namespace = obj["metadata"]["namespace"]
    return cache.index(by_label_selector).get((namespace,), *by_labels(obj))


def adopters(cache: ObjectCache, obj: Object) -> Iterator[Object]:
    """Yield the workloads of `cache` that may adopt `obj`. A workload with an empty selector adopts nothing."""
    for owner in selectors_for(cache, obj):
        selector = owner["spec"].get("selector")
        if not selector_is_empty(selector) and selector_matches(selector, labels_of(obj)):
            yield owner
