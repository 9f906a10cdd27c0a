from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hatchway.cluster.policies import policytable
from hatchway.cluster.policies.policyrules import parse_policy
from hatchway.cluster.policies.policytable import PolicyTable
from tests.unit.policies.world import MemoryFilter, means, pod, policy

NAMESPACES = ("one", "two")
LABELS = ({}, {"app": "a"}, {"app": "b"}, {"app": "a", "tier": "x"})
IPS = ("10.244.0.2", "10.244.0.3", "10.244.1.2", "10.244.1.3")
BLOCKS = (
    {"cidr": "10.244.0.0/24"},
    {"cidr": "10.244.0.0/16", "except": ["10.244.0.2/31", "10.244.1.3/32"]},
    {"cidr": "0.0.0.0/0"},
    {"cidr": "fd00::/8"},
)
WAYS = (("TCP", 80), ("TCP", 90), ("UDP", 80), ("SCTP", 80))

_selectors = st.sampled_from(
    [
        {},
        {"matchLabels": {"app": "a"}},
        {"matchExpressions": [{"key": "app", "operator": "NotIn", "values": ["a"]}]},
        {"matchExpressions": [{"key": "tier", "operator": "Exists"}]},
    ]
)
_peers = st.one_of(
    st.fixed_dictionaries({"ipBlock": st.sampled_from(BLOCKS)}),
    st.fixed_dictionaries({"podSelector": _selectors}),
    st.fixed_dictionaries({"namespaceSelector": _selectors}, optional={"podSelector": _selectors}),
)
_ports = st.sampled_from(
    [
        {"protocol": "TCP"},
        {"protocol": "TCP", "port": 80},
        {"protocol": "TCP", "port": "web"},
        {"protocol": "UDP", "port": 70, "endPort": 90},
        {"protocol": "SCTP", "port": 80},
    ]
)


def _rules(key: str) -> st.SearchStrategy[list[dict[str, Any]]]:
    rule = st.fixed_dictionaries(
        {}, optional={key: st.lists(_peers, max_size=3), "ports": st.lists(_ports, max_size=3)}
    )
    return st.lists(rule, max_size=2)


_specs = st.fixed_dictionaries(
    {
        "podSelector": _selectors,
        "policyTypes": st.sampled_from([["Ingress"], ["Egress"], ["Ingress", "Egress"]]),
        "ingress": _rules("from"),
        "egress": _rules("to"),
    }
)
_steps = st.one_of(
    st.tuples(st.just("policy"), st.sampled_from(NAMESPACES), st.integers(0, 2), st.one_of(st.none(), _specs)),
    st.tuples(st.just("pod"), st.integers(0, 3), st.sampled_from(NAMESPACES), st.sampled_from(LABELS)),
    st.tuples(st.just("gone"), st.integers(0, 3)),
    st.tuples(st.just("namespace"), st.sampled_from(NAMESPACES), st.sampled_from(LABELS)),
    st.tuples(st.just("apply")),
)


class World:
    """A table with its filter, and the objects from which they are made."""

    def __init__(self, **options: Any) -> None:
        self.table = PolicyTable(is_beside_api=lambda ip: False, api=("172.18.0.2", 6443), **options)
        self.filter = MemoryFilter()
        self.policies: dict[tuple[str, str], dict[str, Any]] = {}
        self.pods: dict[str, dict[str, Any]] = {}
        self.namespaces: dict[str, dict[str, str]] = {}
        self._uids = 0

    def step(self, kind: str, *arguments: Any) -> None:
        getattr(self, f"_{kind}")(*arguments)

    def _policy(self, namespace: str, number: int, spec: dict[str, Any] | None) -> None:
        key = namespace, f"p{number}"
        made = {"metadata": {"namespace": namespace, "name": key[1]}, "spec": spec}
        if spec is None:
            if key in self.policies:
                self.table.policy_changed("DELETED", self.policies.pop(key))
            return
        self.policies[key] = made
        self.table.policy_changed("MODIFIED", made)

    def _pod(self, number: int, namespace: str, labels: dict[str, str]) -> None:
        ip = IPS[number]
        known = self.pods.get(ip)
        if known is None or known["metadata"]["namespace"] != namespace:
            self._uids += 1
            made = pod(f"{self._uids}", namespace, labels, web=(80, 90)[number % 2])
            self.table.pod_changed("ADDED", made)
            self.table.address_known(made["metadata"]["uid"], ip)
            if known is not None:
                # Another pod gets the address before this event arrives.
                self.table.pod_changed("DELETED", known)
                self.table.address_gone(known["metadata"]["uid"])
        else:
            made = {**known, "metadata": {**known["metadata"], "labels": labels}}
            self.table.pod_changed("MODIFIED", made)
        self.pods[ip] = made

    def _gone(self, number: int) -> None:
        known = self.pods.pop(IPS[number], None)
        if known is not None:
            self.table.pod_changed("DELETED", known)
            self.table.address_gone(known["metadata"]["uid"])

    def _namespace(self, name: str, labels: dict[str, str]) -> None:
        self.namespaces[name] = labels
        self.table.namespace_changed("MODIFIED", {"metadata": {"name": name, "labels": labels}})

    def _apply(self) -> None:
        while self.table.has_changes:
            for _ in self.table.update():
                pass
        self.filter.apply(self.table.take_changes())

    def allowed(self, source: str, target: str, protocol: str, port: int) -> bool:
        policies = list(self.policies.values())
        return means(policies, self.pods, self.namespaces, source, target, port, protocol)

    def check(self) -> None:
        """Check the filter's decisions about connections against the meaning of the objects."""
        for source in (*IPS, "127.0.0.1"):
            for target in IPS:
                for protocol, port in WAYS:
                    wanted = self.allowed(source, target, protocol, port)
                    at = source, target, protocol, port
                    assert self.filter.allows(source, target, port, protocol) == wanted, at
                    egress, ingress = self.table.group("egress", source), self.table.group("ingress", target)
                    answer = (egress is None or egress.allows(target, target, port, protocol)) and (
                        ingress is None or ingress.allows(source, target, port, protocol)
                    )
                    assert answer == wanted, at
        for ip in self.pods:
            reaches = self.allowed(ip, "172.18.0.2", "TCP", 6443)
            assert (ip in self.filter.blocked) == (not reaches), ip


@settings(max_examples=60)
@given(st.lists(_steps, max_size=14))
def test_the_filter_does_what_the_policies_mean_after_any_changes(steps: list[tuple[Any, ...]]) -> None:
    world = World()
    for step in steps:
        world.step(*step)
    world.step("apply")
    world.check()
    # A new filter, made from the table, has the same state.
    world.filter.reset()
    world.filter.apply(world.table.changes_from_empty())
    world.check()
    # After the deletion of all objects, the filter has no rules.
    for namespace in NAMESPACES:
        for number in range(3):
            world.step("policy", namespace, number, None)
    world.step("apply")
    assert not world.filter.sets
    assert not world.filter.rules
    assert not world.filter.groups


def test_during_a_change_connections_are_allowed_as_before_or_as_after() -> None:
    """A large change takes several transactions of the kernel."""
    world = World()
    for number, labels in enumerate(LABELS):
        world.step("pod", number, "one", labels)
    for app in ("a", "b"):
        ingress = [{"from": [{"podSelector": {"matchLabels": {"app": app}}}, {"ipBlock": {"cidr": f"{IPS[2]}/32"}}]}]
        world.step("policy", "one", 0, {"podSelector": {}, "policyTypes": ["Ingress"], "ingress": ingress})
        before = {(a, b): world.filter.allows(a, b, 80, "TCP") for a in IPS for b in IPS}
        after = {(a, b): world.allowed(a, b, "TCP", 80) for a in IPS for b in IPS}
        for _ in world.table.update():
            pass
        for change in world.table.take_changes():
            world.filter.apply([change])
            for pair in before:
                assert world.filter.allows(*pair, 80, "TCP") in (before[pair], after[pair]), (change, pair)
        world.check()


def test_changes_are_proportional_to_what_has_changed() -> None:
    """With 500 policies and 200 pods, a new pod, label or policy changes few elements of the filter."""
    table, packets = PolicyTable(), MemoryFilter()
    for number in range(200):
        made = pod(f"{number}", labels={"app": f"app-{number % 50}"})
        table.pod_changed("ADDED", made)
        table.address_known(made["metadata"]["uid"], f"10.244.{number // 200}.{2 + number}")
    for number in range(500):
        peers = [{"podSelector": {"matchLabels": {"app": f"app-{(number * 7) % 50}"}}}]
        ingress = [{"from": peers, "ports": [{"protocol": "TCP", "port": 1000 + number}]}]
        table.policy_changed("ADDED", policy(f"p{number}", pods={"app": f"app-{number % 50}"}, ingress=ingress))

    def changes() -> int:
        for _ in table.update():
            pass
        found = table.take_changes()
        packets.apply(found)
        return len(found)

    # These are 500 chains, 50 sets that the chains share, 50 groups, and 200 pods.
    assert changes() == 800
    new = pod("new", labels={"app": "app-3"})
    table.pod_changed("ADDED", new)
    table.address_known("uid-new", "10.244.2.2")
    assert changes() == 2
    table.pod_changed("MODIFIED", pod("new", labels={"app": "app-4"}))
    assert changes() == 3
    table.pod_changed("MODIFIED", {**pod("new", labels={"app": "app-4"}), "status": {"phase": "Running"}})
    assert changes() == 0
    one = policy("p0", pods={"app": "app-0"}, ingress=[{}])
    table.policy_changed("MODIFIED", one)
    # One chain and one group are replaced (four changes), and four pods change.
    assert changes() == 8
    table.policy_changed("MODIFIED", {**one, "metadata": {**one["metadata"], "labels": {"x": "y"}}})
    assert changes() == 0


def test_the_work_comes_in_small_pieces() -> None:
    table = PolicyTable()
    for number in range(200):
        table.pod_changed("ADDED", pod(f"{number}", labels={"app": "a"}))
        table.address_known(f"uid-{number}", f"10.244.0.{2 + number}")
    for number in range(100):
        peers = [{"podSelector": {"matchLabels": {"app": f"{number}"}}}]
        table.policy_changed("ADDED", policy(f"p{number}", ingress=[{"from": peers}]))
    # The work: fill 100 sets with 200 pods, find the pods of 100 policies, compare each pod with sets and policies.
    assert sum(1 for _ in table.update()) > 4 * 200


def test_an_update_ends_even_if_new_events_always_arrive() -> None:
    table = PolicyTable()
    table.pod_changed("ADDED", pod("one"))
    table.address_known("uid-one", IPS[0])
    table.policy_changed("ADDED", policy("p0"))
    for number, _ in enumerate(table.update()):
        assert number < 100
        table.policy_changed("ADDED", policy("p1", ingress=[{"ports": [{"protocol": "TCP", "port": number}]}]))
        table.pod_changed("MODIFIED", pod("one", labels={"number": str(number)}))
    assert table.has_changes
    assert table.group("ingress", IPS[0]) is not None


def test_a_namespace_cannot_use_the_whole_limit() -> None:
    reports: list[tuple[tuple[str, str], bool]] = []
    world = World(most_of_namespace=100, on_cut=lambda key, cut: reports.append((key, cut)))
    world.step("pod", 0, "one", {"app": "a"})
    world.step("pod", 1, "two", {"app": "a"})
    many = {"ports": [{"protocol": "TCP", "port": 2 * number + 1} for number in range(80)]}
    large = {"podSelector": {}, "policyTypes": ["Ingress"], "ingress": [many]}
    small = {"podSelector": {}, "policyTypes": ["Ingress"], "ingress": [{"ports": [{"protocol": "TCP", "port": 80}]}]}
    world.step("policy", "one", 0, large)
    world.step("policy", "two", 0, small)
    world.step("apply")
    assert reports == [(("one", "p0"), True)]
    # The policy that is too large isolates its pods, and its rules allow no connection.
    assert not world.filter.allows(IPS[1], IPS[0], 1, "TCP")
    assert world.filter.allows(IPS[0], IPS[1], 80, "TCP")
    world.step("policy", "one", 1, small)
    world.step("apply")
    assert world.filter.allows(IPS[1], IPS[0], 80, "TCP")
    world.step("policy", "one", 0, small)
    world.step("apply")
    assert reports[1:] == [(("one", "p0"), False)]
    world.check()


def test_a_policy_over_the_limit_is_enforced_when_others_are_deleted() -> None:
    world = World(most_of_namespace=20)
    world.step("pod", 0, "one", {})
    ports = [[{"protocol": "TCP", "port": 2 * n + 100 * k} for n in range(6)] for k in range(3)]
    for number in range(3):
        spec = {"podSelector": {}, "policyTypes": ["Ingress"], "ingress": [{"ports": ports[number]}]}
        world.step("policy", "one", number, spec)
    world.step("apply")
    answers = [world.filter.allows(IPS[1], IPS[0], 100 * number, "TCP") for number in range(3)]
    assert answers == [True, False, False]
    world.step("policy", "one", 0, None)
    world.step("apply")
    answers = [world.filter.allows(IPS[1], IPS[0], 100 * number, "TCP") for number in range(3)]
    assert answers[0] is False
    assert sorted(answers[1:]) == [False, True]


def test_policies_over_the_limit_are_not_parsed_repeatedly(monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []

    def note(obj: Any, most: int) -> Any:
        read.append(obj["metadata"]["name"])
        return parse_policy(obj, most)

    monkeypatch.setattr(policytable, "parse_policy", note)
    world = World(most_of_namespace=60)
    world.step("pod", 0, "one", {})

    def spec(count: int) -> Any:
        ports = [{"protocol": "TCP", "port": 2 * number + 1} for number in range(count)]
        return {"podSelector": {}, "policyTypes": ["Ingress"], "ingress": [{"ports": ports}]}

    for number in range(5):
        world.step("policy", "one", number, spec(20))
    world.step("apply")
    read.clear()
    world.step("policy", "one", 0, spec(19))
    world.step("apply")
    assert read == ["p0"]
    # After the deletion of the first policy, one other policy is within the limit.
    world.step("policy", "one", 0, None)
    world.step("apply")
    assert len(read) == 2
    world.check()


def test_an_invalid_policy_allows_nothing() -> None:
    world = World()
    world.step("pod", 0, "one", {"app": "a"})
    world.step(
        "policy", "one", 0, {"podSelector": {}, "policyTypes": ["Ingress"], "ingress": [{"ports": [{"port": []}]}]}
    )
    world.step("apply")
    assert not world.filter.allows(IPS[1], IPS[0], 80, "TCP")


def test_a_pod_on_its_nodes_network_counts_as_the_node() -> None:
    world = World()
    host = pod("host", labels={"app": "a"})
    host["spec"]["hostNetwork"] = True
    world.table.pod_changed("ADDED", host)
    world.table.address_known("uid-host", "172.18.0.3")
    world.step("policy", "one", 0, {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]})
    world.step("apply")
    assert not world.filter.isolated["ingress"]
    assert not world.filter.isolated["egress"]


def test_a_thousand_random_changes_leave_no_unused_elements() -> None:
    """Sets and chains are deleted after their last use, even if the work is interrupted."""
    chance, world = random.Random(5), World()
    specs = [
        {
            "podSelector": {"matchLabels": labels},
            "policyTypes": ["Ingress", "Egress"],
            "egress": [{}],
            "ingress": [rule],
        }
        for labels in LABELS
        for rule in (
            {},
            {"from": [{"podSelector": {"matchLabels": labels}}]},
            {"ports": [{"protocol": "TCP", "port": "web"}]},
        )
    ]
    for _ in range(1000):
        match chance.randrange(5):
            case 0:
                spec = chance.choice([None, *specs])
                world.step("policy", chance.choice(NAMESPACES), chance.randrange(3), spec)
            case 1:
                world.step("pod", chance.randrange(4), chance.choice(NAMESPACES), chance.choice(LABELS))
            case 2:
                world.step("gone", chance.randrange(4))
            case 3:
                # Make a change in the middle of the work.
                for number, _piece in enumerate(world.table.update()):
                    if number == chance.randrange(4):
                        world.step("gone", chance.randrange(4))
                        world.step("pod", chance.randrange(4), chance.choice(NAMESPACES), chance.choice(LABELS))
                world.filter.apply(world.table.take_changes())
            case 4:
                world.step("apply")
                world.check()
    assert len(world.filter.sets) <= 8
    assert len(world.filter.rules) <= 12
