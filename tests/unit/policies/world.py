"""A packet filter in memory, as strict as the kernel, and the meaning of policies, computed only from the objects."""

from __future__ import annotations

import ipaddress
from typing import Any

from hatchway.cluster.packetrules import (
    AllowRule,
    BlockApi,
    ChangeSet,
    Direction,
    DropChain,
    DropSet,
    FilterChange,
    Isolate,
    MakeGroup,
    MakeRules,
    MakeSet,
)
from hatchway.kube.selectors import selector_matches


class MemoryFilter:
    """A packet filter that raises the kernel's errors: for elements that exist already, do not exist, or are in use."""

    def __init__(self) -> None:
        self.reset()
        self.calls: list[str] = []
        self.fail: list[OSError] = []

    def reset(self) -> None:
        self.holds = True
        self.sets: dict[str, tuple[str, set[Any]]] = {}
        self.rules: dict[str, tuple[AllowRule, ...]] = {}
        self.groups: dict[str, tuple[str, ...]] = {}
        self.isolated: dict[Direction, dict[str, str]] = {"ingress": {}, "egress": {}}
        self.blocked: set[str] = set()

    def release(self) -> None:
        self.holds = False

    def apply(self, changes: list[FilterChange]) -> None:
        self.calls.append(f"{len(changes)} changes")
        if self.fail:
            raise self.fail.pop()
        for change in changes:
            self._apply(change)

    def _apply(self, change: FilterChange) -> None:
        match change:
            case MakeSet(name, kind, elements):
                assert name not in self.sets
                assert kind != "ranges" or list(elements) == sorted(elements)
                self.sets[name] = kind, set(elements)
            case ChangeSet(name, kind, added, removed):
                assert self.sets[name][0] == kind
                assert set(removed) <= self.sets[name][1]
                self.sets[name][1].difference_update(removed)
                assert not set(added) & self.sets[name][1]
                self.sets[name][1].update(added)
            case DropSet(name):
                assert not any(name in (rule.peers, rule.sockets) for rules in self.rules.values() for rule in rules)
                del self.sets[name]
            case MakeRules(name, _, rules):
                assert name not in self.rules
                assert all(not one or one in self.sets for rule in rules for one in (rule.peers, rule.sockets))
                self.rules[name] = rules
            case MakeGroup(name, chains):
                assert name not in self.groups
                assert set(chains) <= set(self.rules)
                self.groups[name] = chains
            case DropChain(name):
                if name in self.groups:
                    assert not any(name in groups.values() for groups in self.isolated.values())
                    del self.groups[name]
                else:
                    assert not any(name in chains for chains in self.groups.values())
                    del self.rules[name]
            case Isolate(direction, ip, group, before):
                found = self.isolated[direction]
                assert found.pop(ip, None) == before
                if group is not None:
                    assert group in self.groups
                    found[ip] = group
            case BlockApi(ip, blocked):
                assert blocked != (ip in self.blocked)
                (self.blocked.add if blocked else self.blocked.discard)(ip)

    def allows(self, source: str, target: str, port: int, protocol: str) -> bool:
        """Return True if the first packet of a connection passes."""
        return self._passes("egress", source, target, target, port, protocol) and self._passes(
            "ingress", target, source, target, port, protocol
        )

    def _passes(self, direction: Direction, own: str, peer: str, target: str, port: int, protocol: str) -> bool:
        group = self.isolated[direction].get(own)
        if group is None:
            return True
        rules = (rule for chain in self.groups[group] for rule in self.rules[chain])
        return any(self._meets(rule, peer, target, port, protocol) for rule in rules)

    def _meets(self, rule: AllowRule, peer: str, target: str, port: int, protocol: str) -> bool:
        if rule.peers:
            kind, elements = self.sets[rule.peers]
            number = int(ipaddress.IPv4Address(peer))
            if not (any(a <= number <= b for a, b in elements) if kind == "ranges" else peer in elements):
                return False
        if rule.protocol not in ("", protocol):
            return False
        if rule.sockets:
            return (target, port) in self.sets[rule.sockets][1]
        return rule.ports is None or rule.ports[0] <= port <= rule.ports[1]


def means(
    policies: list[dict[str, Any]],
    pods: dict[str, dict[str, Any]],
    namespaces: dict[str, dict[str, str]],
    source: str,
    target: str,
    port: int,
    protocol: str,
) -> bool:
    """Return whether policies allow a connection, by the documentation of NetworkPolicy.

    pods: address -> Pod. source, target: addresses.
    """
    for own, peer, kind, key, peers in (
        (source, target, "Egress", "egress", "to"),
        (target, source, "Ingress", "ingress", "from"),
    ):
        if own not in pods:
            continue
        selecting = [
            one["spec"]
            for one in policies
            if one["metadata"]["namespace"] == pods[own]["metadata"]["namespace"]
            and kind in one["spec"]["policyTypes"]
            and selector_matches(one["spec"]["podSelector"], pods[own]["metadata"]["labels"])
        ]
        namespace = pods[own]["metadata"]["namespace"]
        if selecting and not any(
            (not rule.get(peers) or any(_is_peer(one, peer, namespace, pods, namespaces) for one in rule[peers]))
            and (not rule.get("ports") or any(_is_port(one, pods.get(target), port, protocol) for one in rule["ports"]))
            for spec in selecting
            for rule in spec.get(key) or ()
        ):
            return False
    return True


def _is_peer(
    peer: dict[str, Any], ip: str, own: str, pods: dict[str, dict[str, Any]], namespaces: dict[str, dict[str, str]]
) -> bool:
    if "ipBlock" in peer:
        block = peer["ipBlock"]
        address = ipaddress.IPv4Address(ip)
        inside = address in ipaddress.ip_network(block["cidr"])
        return inside and not any(address in ipaddress.ip_network(one) for one in block.get("except") or ())
    if ip not in pods:
        return False
    metadata = pods[ip]["metadata"]
    if "namespaceSelector" in peer:
        if not selector_matches(peer["namespaceSelector"], namespaces.get(metadata["namespace"], {})):
            return False
    elif metadata["namespace"] != own:
        return False
    return selector_matches(peer.get("podSelector") or {}, metadata["labels"])


def _is_port(port: dict[str, Any], pod: dict[str, Any] | None, number: int, protocol: str) -> bool:
    if port["protocol"] != protocol:
        return False
    wanted = port.get("port")
    if isinstance(wanted, str):
        named = pod["spec"]["containers"][0]["ports"] if pod is not None else []
        return any((one["name"], one["protocol"], one["containerPort"]) == (wanted, protocol, number) for one in named)
    return wanted is None or wanted <= number <= port.get("endPort", wanted)


def pod(name: str, namespace: str = "one", labels: dict[str, str] | None = None, **ports: int) -> dict[str, Any]:
    """Return a pod. ports: numbers of TCP ports by their names."""
    listed = [{"name": key, "protocol": "TCP", "containerPort": number} for key, number in ports.items()]
    return {
        "metadata": {"uid": f"uid-{name}", "name": name, "namespace": namespace, "labels": labels or {}},
        "spec": {"containers": [{"name": "c", "ports": listed}]},
    }


def policy(name: str, namespace: str = "one", pods: dict[str, str] | None = None, **spec: Any) -> dict[str, Any]:
    """Return a NetworkPolicy; pods: the labels of the pods that it selects."""
    types = [kind for kind in ("Ingress", "Egress") if kind.lower() in spec] or ["Ingress"]
    return {
        "metadata": {"name": name, "namespace": namespace, "resourceVersion": "1"},
        "spec": {"podSelector": {"matchLabels": pods or {}}, "policyTypes": types, **spec},
    }
