"""Finds the EndpointSlices and pods of each service. The callback of a `View` keeps the index up to date. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping

from hatchway.kube.api import Object
from hatchway.kube.objects import Key, key_of
from hatchway.kube.readyendpoints import selector_of
from hatchway.kube.wellknown import SERVICE_NAME

# (namespace, label, value)
_Pair = tuple[str, str, str]


class ServiceIndex:
    """Finds the slices and pods of services, and the services to which a slice or pod belongs.

    The methods that record a change return the services whose items in the portal may have changed.

    sees_slices, sees_pods: functions that return True when the user may read these objects in a namespace.
    """

    def __init__(self) -> None:
        self._slices: defaultdict[Key, dict[str, Object]] = defaultdict(dict)
        self._slice_owner: dict[Key, Key] = {}
        # Services by one (label, value) of their selector, and pods by each of their labels: a search has few
        # candidates.
        self._selecting: defaultdict[_Pair, set[Key]] = defaultdict(set)
        self._selectors: dict[Key, dict[str, str]] = {}
        self._labelled: defaultdict[_Pair, set[Key]] = defaultdict(set)
        self._labels: dict[Key, dict[str, str]] = {}
        self.sees_slices: Callable[[str], bool] = lambda namespace: True
        self.sees_pods: Callable[[str], bool] = lambda namespace: True

    def slices(self, service: Key) -> list[Object] | None:
        """Return the slices of a service; None when the user may not read them in its namespace."""
        if not self.sees_slices(service[0]):
            return None
        return list(self._slices[service].values()) if service in self._slices else []

    def service_changed(self, service: Object, gone: bool) -> set[Key]:
        """Record a change of a service. Return the keys of the services whose items may have changed."""
        key = key_of(service)
        if before := self._selectors.pop(key, None):
            self._discard(self._selecting, _first_pair(key[0], before), key)
        selector = selector_of(service)
        if not gone and selector:
            self._selectors[key] = selector
            self._selecting[_first_pair(key[0], selector)].add(key)
        return {key}

    def slice_changed(self, found: Object, gone: bool) -> set[Key]:
        """Record a change of a slice. Return the keys of the services whose items may have changed."""
        key = key_of(found)
        name = (found["metadata"].get("labels") or {}).get(SERVICE_NAME, "")
        touched: set[Key] = set()
        owner = (key[0], name)
        before = self._slice_owner.pop(key, None)
        if before is not None:
            touched.add(before)
            self._slices[before].pop(key[1], None)
            if not self._slices[before]:
                del self._slices[before]
        if name and not gone:
            self._slice_owner[key] = owner
            self._slices[owner][key[1]] = found
            touched.add(owner)
        return touched

    def pod_changed(self, pod: Object, gone: bool) -> set[Key]:
        """Record a change of a pod. Return the keys of the services whose items may have changed."""
        key = key_of(pod)
        before = self._labels.pop(key, {})
        labels = {} if gone else pod["metadata"].get("labels") or {}
        if before != labels:
            for pair in before.items():
                self._discard(self._labelled, (key[0], *pair), key)
            for pair in labels.items():
                self._labelled[(key[0], *pair)].add(key)
        if labels:
            self._labels[key] = labels
        return {
            service
            for seen in ([labels] if before == labels else [before, labels])
            for pair in seen.items()
            for service in self._selecting.get((key[0], *pair), ())
            if self._selectors[service].items() <= seen.items()
        }

    def selected(self, service: Object) -> list[Key]:
        """Return the pods that a service selects, by name."""
        selector, namespace = selector_of(service), service["metadata"].get("namespace") or ""
        if not selector:
            return []
        candidates = min((self._labelled.get((namespace, *pair), set()) for pair in selector.items()), key=len)
        return sorted(key for key in candidates if selector.items() <= self._labels[key].items())

    @staticmethod
    def _discard(where: defaultdict[_Pair, set[Key]], pair: _Pair, key: Key) -> None:
        where[pair].discard(key)
        if not where[pair]:
            del where[pair]


def _first_pair(namespace: str, selector: Mapping[str, str]) -> _Pair:
    name = min(selector)
    return namespace, name, selector[name]
