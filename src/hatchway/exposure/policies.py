"""Evaluates NetworkPolicies: finds the addresses and the pods that may connect to a port of a pod. Pure.

NetworkPolicies have an effect only if the cluster's network plugin enforces them, and never on pods in the node's own
network (https://kubernetes.io/docs/concepts/services-networking/network-policies/).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hatchway.exposure.ranges import EVERYWHERE, NOWHERE, AddressSet
from hatchway.exposure.snapshot import ObservedPod, key
from hatchway.exposure.tolerant import mapping, mappings, number, pairs, text, texts
from hatchway.kube.api import Object
from hatchway.kube.selectors import selector_matches

# The label of every namespace with its name (since Kubernetes 1.21).
_NAME_LABEL = "kubernetes.io/metadata.name"

_PodTest = Callable[[ObservedPod], bool]


@dataclass(frozen=True, slots=True)
class Admission:
    """Who may connect to a port of a pod.

    sources: addresses outside the cluster. pods: functions; a pod may connect if one of them returns True for it.
    policies: the names of the policies that select the pod; () when no policy does, so that all may connect.
    """

    sources: AddressSet
    pods: tuple[_PodTest, ...] = ()
    policies: tuple[str, ...] = ()

    def admits_any_pod(self) -> bool:
        """Return True when the policies let some pods connect, or when no policy selects the pod."""
        return not self.policies or bool(self.pods)

    def admits(self, pod: ObservedPod) -> bool:
        """Return True when this pod may connect."""
        return not self.policies or any(test(pod) for test in self.pods)


_OPEN = Admission(EVERYWHERE)


class PolicyIndex:
    """The NetworkPolicies of a cluster."""

    def __init__(self, policies: Iterable[Object], namespaces: Mapping[str, Mapping[str, str]]) -> None:
        """Make the index. namespaces: the labels of the known namespaces."""
        self._namespaces = namespaces
        # Policies by (namespace, key, value) of one label in their selectors; policies without such a label by
        # namespace.
        self._by_label: dict[tuple[str, str, str], list[Object]] = defaultdict(list)
        self._others: dict[str, list[Object]] = defaultdict(list)
        self._spaces: set[str] = set()
        for policy in policies:
            spec, namespace = mapping(policy.get("spec")), key(policy)[0]
            types = texts(spec.get("policyTypes"))
            # A policy without policyTypes always applies to ingress.
            if types and "Ingress" not in types:
                continue
            self._spaces.add(namespace)
            demanded = next(iter(pairs(mapping(spec.get("podSelector")).get("matchLabels")).items()), None)
            if demanded is None:
                self._others[namespace].append(policy)
            else:
                self._by_label[namespace, *demanded].append(policy)
        self._known: dict[tuple[object, ...], Admission] = {}

    def admission(self, pod: ObservedPod, port: int, protocol: str = "TCP") -> Admission:
        """Return who may connect to a port of a pod. To pods in the node's network, everyone may connect."""
        if pod.host_network or pod.namespace not in self._spaces:
            return _OPEN
        found = list(self._others.get(pod.namespace, ()))
        for label in pod.labels.items():
            found += self._by_label.get((pod.namespace, *label), ())
        selecting = [policy for policy in found if _selects(policy, pod)]
        if not selecting:
            return _OPEN
        names = tuple((one.name, one.number, one.protocol) for one in pod.ports if one.name)
        # The result is the same for all pods that are selected by the same policies and have the same names of ports.
        same = frozenset(key(policy) for policy in selecting), names, port, protocol
        if same not in self._known:
            self._known[same] = self._evaluate(selecting, pod, port, protocol)
        return self._known[same]

    def _evaluate(self, selecting: Sequence[Object], pod: ObservedPod, port: int, protocol: str) -> Admission:
        sources: AddressSet = NOWHERE
        tests: list[_PodTest] = []
        for policy in selecting:
            for rule in mappings(mapping(policy.get("spec")).get("ingress")):
                if not _has_port(rule, pod, port, protocol):
                    continue
                peers = mappings(rule.get("from"))
                if not peers:
                    sources = EVERYWHERE
                    tests.append(lambda _: True)
                for peer in peers:
                    if "ipBlock" in peer:
                        block = mapping(peer["ipBlock"])
                        admitted = AddressSet.parse((text(block.get("cidr")),))
                        sources |= admitted - AddressSet.parse(texts(block.get("except")))
                    else:
                        tests.append(self._peer(peer, pod.namespace))
        return Admission(sources, tuple(tests), tuple(sorted(key(policy)[1] for policy in selecting)))

    def _peer(self, peer: Mapping[str, Any], own: str) -> _PodTest:
        """Return a function that tests whether a peer with selectors admits a pod. own: the policy's namespace."""

        def admits(pod: ObservedPod) -> bool:
            if "podSelector" in peer and not _matches(peer["podSelector"], pod.labels, unsure=True):
                return False
            if "namespaceSelector" not in peer:
                return pod.namespace == own
            labels = self._namespaces.get(pod.namespace)
            if labels is None:
                # The user may not read the namespace's labels, so the policy may admit this namespace.
                return True
            return _matches(peer["namespaceSelector"], {_NAME_LABEL: pod.namespace, **labels}, unsure=True)

        return admits


def _selects(policy: Object, pod: ObservedPod) -> bool:
    return _matches(mapping(policy.get("spec")).get("podSelector"), pod.labels, unsure=False)


def _matches(selector: object, labels: Mapping[str, str], *, unsure: bool) -> bool:
    """Return True when a LabelSelector selects the labels. unsure: the result for a selector that is not valid."""
    try:
        return selector_matches(mapping(selector), labels)
    except (KeyError, TypeError, AttributeError):
        return unsure


def _has_port(rule: Mapping[str, Any], pod: ObservedPod, port: int, protocol: str) -> bool:
    entries = mappings(rule.get("ports"))
    if not entries:
        return True
    for entry in entries:
        if (text(entry.get("protocol")) or "TCP") != protocol:
            continue
        given = entry.get("port")
        if given is None:
            return True
        if isinstance(given, str):
            if pod.find_port(given, protocol) == port:
                return True
        elif number(given) <= port <= (number(entry.get("endPort")) or number(given)):
            return True
    return False
