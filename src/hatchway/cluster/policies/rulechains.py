"""The filter's chains: the rules of policies, and the groups of policies that select a pod. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from hatchway.cluster.packetrules import AllowRule, Direction, DropChain, FilterChange, MakeGroup, MakeRules
from hatchway.cluster.policies.filtersets import FilterSet, FilterSets, PortName
from hatchway.cluster.policies.policyrules import Allowance, EnforcedPolicy

_Rules = tuple[Allowance, ...]


class Chain:
    """The chain of one policy, or of several policies with the same rules.

    filter_rules: its rules for the filter.
    users: how many policies and groups use the chain.
    made: True once the filter has it.
    """

    __slots__ = ("direction", "filter_rules", "made", "name", "parts", "users")

    def __init__(self, name: str, direction: Direction, rules: _Rules, sets: FilterSets) -> None:
        self.name = name
        self.direction = direction
        self.users = 0
        self.made = False
        self.parts = [
            (
                rule,
                sets.use(rule.peers) if rule.peers is not None else None,
                sets.use(PortName(rule.protocol, rule.port_name)) if rule.port_name else None,
            )
            for rule in rules
        ]
        # The rules are made here, because `take_changes` would make those of all chains in one turn of the event loop.
        self.filter_rules = tuple(
            AllowRule(
                peers.name if peers is not None else "",
                rule.protocol,
                rule.ports,
                named.name if named is not None else "",
            )
            for rule, peers, named in self.parts
        )

    def sets(self) -> Iterator[FilterSet]:
        """Yield the sets that its rules name, once for each use."""
        for _, peers, named in self.parts:
            if peers is not None:
                yield peers
            if named is not None:
                yield named

    def allows(self, peer: str, address: str, port: int, protocol: str) -> bool:
        """Return True when a rule allows a connection. peer: the other side. address, port: the destination."""
        for rule, peers, named in self.parts:
            if rule.protocol not in ("", protocol) or (peers is not None and not peers.has_address(peer)):
                continue
            if named is not None:
                if (address, port) in named.elements:
                    return True
            elif rule.ports is None or rule.ports[0] <= port <= rule.ports[1]:
                return True
        return False


class PolicyGroup:
    """The chains of the policies that select a pod in one direction.

    chains: the chains that have rules.
    users: how many pods are in the group.
    made: True once the filter has it.
    reaches_api: True when its pods may connect to the API server.
    """

    __slots__ = ("chains", "made", "name", "reaches_api", "users")

    def __init__(self, name: str, chains: tuple[Chain, ...], api: tuple[str, int]) -> None:
        self.name = name
        self.chains = chains
        self.users = 0
        self.made = False
        self.reaches_api = any(_reaches(rule, *api) for chain in chains for rule, _, _ in chain.parts)

    def allows(self, peer: str, address: str, port: int, protocol: str) -> bool:
        """Return True when one of its policies allows a connection. The parameters are those of `Chain.allows`."""
        return any(chain.allows(peer, address, port, protocol) for chain in self.chains)


def _reaches(rule: Allowance, address: str, port: int) -> bool:
    """Return True when a rule allows connections to a node's address. Sets of pods never contain a node's address."""
    if rule.protocol not in ("", "TCP") or rule.port_name or isinstance(rule.peers, frozenset):
        return False
    return (rule.ports is None or rule.ports[0] <= port <= rule.ports[1]) and (
        rule.peers is None or rule.peers.has_address(address)
    )


class RuleChains:
    """All chains and groups.

    sets: the sets of the rules. names: yields numbers for the names of new chains. api: address and port of the API
    server.
    """

    def __init__(self, sets: FilterSets, names: Iterator[int], api: tuple[str, int]) -> None:
        self._sets = sets
        self._names = names
        self._api = api
        self._chains: dict[tuple[Direction, _Rules], Chain] = {}
        # The chains of each policy are cached, because finding them by their rules takes long.
        self._kept: dict[EnforcedPolicy, dict[Direction, Chain]] = {}
        self._groups: dict[tuple[Direction, tuple[str, ...]], PolicyGroup] = {}

    def keep(self, policy: EnforcedPolicy) -> None:
        """Make the chains of a policy. Policies with the same rules share chains. `release` undoes this."""
        self._kept[policy] = {
            direction: self._use(direction, rules) for direction, rules in policy.rules.items() if rules
        }

    def prepare(self, policy: EnforcedPolicy | None) -> Iterator[None]:
        """Fill the sets of a policy's chains."""
        for chain in self._kept[policy].values() if policy is not None else ():
            for found in chain.sets():
                yield from self._sets.fill(found)

    def release(self, policy: EnforcedPolicy) -> None:
        """Undo `keep`."""
        for chain in self._kept.pop(policy).values():
            chain.users -= 1

    def _use(self, direction: Direction, rules: _Rules) -> Chain:
        chain = self._chains.get((direction, rules))
        if chain is None:
            name = f"p{next(self._names)}"
            chain = self._chains[direction, rules] = Chain(name, direction, rules, self._sets)
        chain.users += 1
        return chain

    def join(self, direction: Direction, policies: Iterable[EnforcedPolicy]) -> PolicyGroup:
        """Return the group of some policies for which `keep` was called. Each call needs a call of `leave`."""
        found = (self._kept[policy].get(direction) for policy in policies)
        names = {chain.name: chain for chain in found if chain is not None}
        key = direction, tuple(sorted(names))
        group = self._groups.get(key)
        if group is None:
            chains = tuple(names[name] for name in key[1])
            group = self._groups[key] = PolicyGroup(f"g{next(self._names)}", chains, self._api)
            for chain in chains:
                chain.users += 1
        group.users += 1
        return group

    def leave(self, group: PolicyGroup) -> None:
        """Record that a pod has left a group."""
        group.users -= 1

    def take_changes(self) -> tuple[list[FilterChange], list[FilterChange]]:
        """Return the changes since the last call: chains to make, and chains to delete once no rule leads to them."""
        made: list[FilterChange] = []
        dropped: list[FilterChange] = []
        for key, group in list(self._groups.items()):
            if not group.users:
                del self._groups[key]
                for chain in group.chains:
                    chain.users -= 1
                if group.made:
                    dropped.append(DropChain(group.name))
        for place, chain in list(self._chains.items()):
            if not chain.users:
                del self._chains[place]
                for found in chain.sets():
                    self._sets.release(found)
                if chain.made:
                    dropped.append(DropChain(chain.name))
            elif not chain.made:
                chain.made = True
                made.append(MakeRules(chain.name, chain.direction, chain.filter_rules))
        for group in self._groups.values():
            if not group.made:
                group.made = True
                made.append(_make(group))
        return made, dropped

    def changes_from_empty(self) -> list[FilterChange]:
        """Return the changes that bring an empty filter's chains to the state of the last `take_changes`."""
        chains: list[FilterChange] = [
            MakeRules(chain.name, chain.direction, chain.filter_rules) for chain in self._chains.values() if chain.made
        ]
        return [*chains, *(_make(group) for group in self._groups.values() if group.made)]


def _make(group: PolicyGroup) -> MakeGroup:
    return MakeGroup(group.name, tuple(chain.name for chain in group.chains))
