"""The filter's sets: addresses of the pods that rules select, ranges of addresses, and ports with names. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

from hatchway.cluster.packetrules import ChangeSet, DropSet, Element, FilterChange, MakeSet, SetKind
from hatchway.cluster.policies.policypods import PolicyPod
from hatchway.cluster.policies.policyrules import Peers, Ranges

# Comparisons of a pod with a selector between two pauses. They take well below a millisecond.
_WORK = 200


class PortName(NamedTuple):
    """The protocol and the name of ports."""

    protocol: str
    name: str


class FilterSet:
    """A set of the filter.

    peers: the selectors of its pods; or its ranges; or the name of its ports.
    users: how many rules name the set.
    members: the elements that each pod adds, by the uid of the pod.
    elements: the elements in the filter after the changes of the last `take_changes`.
    """

    __slots__ = ("complete", "elements", "kind", "members", "name", "peers", "users")

    def __init__(self, name: str, peers: Peers | PortName) -> None:
        self.name = name
        self.peers = peers
        self.kind: SetKind = "addresses"
        if not isinstance(peers, frozenset):
            self.kind = "sockets" if isinstance(peers, PortName) else "ranges"
        self.users = 0
        self.members: dict[str, tuple[Element, ...]] = {}
        self.elements: frozenset[Element] = frozenset()
        # True when every pod has been compared with this set.
        self.complete = isinstance(peers, Ranges)

    @property
    def work(self) -> int:
        """Return the number of selectors with which each pod is compared, at least 1."""
        return len(self.peers) if isinstance(self.peers, frozenset) else 1

    def elements_of(self, pod: PolicyPod) -> tuple[Element, ...]:
        """Return the elements that a pod adds to the set."""
        if not pod.ip or isinstance(self.peers, Ranges):
            return ()
        if isinstance(self.peers, PortName):
            return tuple((pod.ip, number) for protocol, name, number in pod.ports if (protocol, name) == self.peers)
        place = pod.namespace, pod.namespace_labels, pod.labels
        return (pod.ip,) if any(one.matches(*place) for one in self.peers) else ()

    def has_address(self, ip: str) -> bool:
        """Return True for an address in the set. This must be a set of addresses or of ranges."""
        return self.peers.has_address(ip) if isinstance(self.peers, Ranges) else ip in self.elements


class FilterSets:
    """All sets. A set is made for its first user, and deleted after its last user.

    pods: all pods by their uid; the owner of this object changes them.
    names: yields the numbers in the names of new sets.
    """

    def __init__(self, pods: Mapping[str, PolicyPod], names: Iterator[int]) -> None:
        self._pods = pods
        self._names = names
        self._sets: dict[Peers | PortName, FilterSet] = {}
        self._touched: dict[FilterSet, None] = {}
        self._made: dict[FilterSet, None] = {}
        self._idle: dict[FilterSet, None] = {}

    def use(self, peers: Peers | PortName) -> FilterSet:
        """Return the set of these peers, or of the ports with this name. Each call needs a call of `release`."""
        found = self._sets.get(peers)
        if found is None:
            found = self._sets[peers] = FilterSet(f"s{next(self._names)}", peers)
            self._made[found] = None
        found.users += 1
        self._idle.pop(found, None)
        return found

    def release(self, found: FilterSet) -> None:
        """Record that a rule does not use a set any more."""
        found.users -= 1
        if not found.users:
            self._idle[found] = None

    def fill(self, found: FilterSet) -> Iterator[None]:
        """Compare all pods with a new set. Yield after every few pods, so that the caller can pause."""
        if found.complete:
            return
        found.complete = True
        work = 0
        for uid, pod in list(self._pods.items()):
            self._set_member(found, uid, found.elements_of(pod) if uid in self._pods else ())
            work += found.work
            if work >= _WORK:
                work = 0
                yield

    def update_pod(self, uid: str) -> Iterator[None]:
        """Compare a pod with all sets. Yield after every few sets, so that the caller can pause."""
        work = 0
        for found in list(self._sets.values()):
            pod = self._pods.get(uid)
            self._set_member(found, uid, found.elements_of(pod) if pod is not None else ())
            work += found.work
            if work >= _WORK:
                work = 0
                yield

    def remove_pod(self, uid: str) -> None:
        """Remove a pod from all sets."""
        for found in self._sets.values():
            self._set_member(found, uid, ())

    def _set_member(self, found: FilterSet, uid: str, elements: tuple[Element, ...]) -> None:
        if found.members.get(uid, ()) == elements:
            return
        if elements:
            found.members[uid] = elements
        else:
            del found.members[uid]
        self._touched[found] = None

    def take_changes(self) -> tuple[list[FilterChange], list[FilterChange]]:
        """Return the changes since the last call: what is added, and what is removed."""
        added: list[FilterChange] = []
        removed: list[FilterChange] = []
        for found in self._touched | self._made:
            before, found.elements = found.elements, _elements(found)
            if found in self._made:
                added.append(MakeSet(found.name, found.kind, _sorted(found)))
                continue
            if new := found.elements - before:
                added.append(ChangeSet(found.name, found.kind, added=tuple(new)))
            if old := before - found.elements:
                removed.append(ChangeSet(found.name, found.kind, removed=tuple(old)))
        self._touched, self._made = {}, {}
        return added, removed

    def take_drops(self) -> list[FilterChange]:
        """Return the changes that delete sets without users. The chains that named them must be deleted first."""
        drops: list[FilterChange] = []
        for found in self._idle:
            del self._sets[found.peers]
            drops.append(DropSet(found.name))
        self._idle = {}
        return drops

    def changes_from_empty(self) -> list[FilterChange]:
        """Return the changes that bring an empty filter's sets to the state of the last `take_changes`."""
        return [
            MakeSet(found.name, found.kind, _sorted(found)) for found in self._sets.values() if found not in self._made
        ]


def _elements(found: FilterSet) -> frozenset[Element]:
    if isinstance(found.peers, Ranges):
        return frozenset(found.peers)
    return frozenset(element for given in found.members.values() for element in given)


def _sorted(found: FilterSet) -> tuple[Element, ...]:
    """Return a set's elements in a tuple. Ranges are sorted."""
    return found.peers if isinstance(found.peers, Ranges) else tuple(found.elements)
