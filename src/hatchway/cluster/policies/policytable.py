"""The pods, namespaces and policies of the cluster, and the packet filter's rules that follow from them. Pure.

Events are only recorded; `update` handles them, in small steps. The filter has these sets and chains:

    set      the addresses of the pods that the peers of a rule select; ranges of an ipBlock; the ports with a name
    rules    the connections that one policy allows in one direction; policies with the same rules share this chain
    group    the rules of all policies that select a pod; pods with the same policies share this chain

So a new pod needs one comparison with each selector, and one new element in each set that selects it. A changed policy
needs new rules, and new groups for its pods.
"""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable, Iterator

from hatchway.cluster.packetrules import BlockApi, Direction, FilterChange, Isolate
from hatchway.cluster.policies.filtersets import FilterSets
from hatchway.cluster.policies.policypods import PolicyPod
from hatchway.cluster.policies.policyrules import EnforcedPolicy, LabelMatcher, parse_policy
from hatchway.cluster.policies.rulechains import PolicyGroup, RuleChains
from hatchway.kube.api import Object
from hatchway.kube.objects import Key, key_of

_log = logging.getLogger(__name__)

# The greatest weight of one policy, of all policies of one namespace, and of all policies.
MOST_OF_ONE, MOST_OF_NAMESPACE, MOST = 5_000, 20_000, 100_000
_DIRECTIONS: tuple[Direction, ...] = ("ingress", "egress")


class PolicyTable:
    """Keeps the filter's rules up to date.

    A policy for which there is no room isolates its pods and allows nothing, until there is room.

    Args:
        is_beside_api: returns True for the address of a pod on the API server's node.
        api: address and port of the API server.
        on_cut: called with a policy's key and True when there is no room for the policy, and with False when there is
            room again.
    """

    def __init__(
        self,
        *,
        is_beside_api: Callable[[str], bool] = lambda ip: False,
        api: tuple[str, int] = ("", 0),
        on_cut: Callable[[Key, bool], None] = lambda key, cut: None,
        most_of_namespace: int = MOST_OF_NAMESPACE,
    ) -> None:
        self._is_beside_api = is_beside_api
        self._on_cut = on_cut
        self._most_of_namespace = most_of_namespace
        names = itertools.count(1)
        self.pods: dict[str, PolicyPod] = {}
        self.sets = FilterSets(self.pods, names)
        self._chains = RuleChains(self.sets, names, api)
        self._objects: dict[Key, Object] = {}
        self._policies: dict[Key, EnforcedPolicy] = {}
        self._of_namespace: dict[str, dict[Key, EnforcedPolicy]] = {}
        self._weights: dict[str, int] = {}
        # The weights of the policies for which there is no room.
        self._cut: dict[Key, int] = {}
        self._namespaces: dict[str, dict[str, str]] = {}
        self._dirty_policies: dict[Key, None] = {}
        # Pods that must be compared with all sets and policies, and pods that only need new groups.
        self._dirty_pods: dict[str, None] = {}
        self._regrouped: dict[str, None] = {}
        # Addresses that have lost their pod since the last update.
        self._freed: set[str] = set()
        # For each address, the uid of the pod that got it last.
        self._owners: dict[str, str] = {}
        # For each direction and each address of an isolated pod: its current group, and its group in the filter.
        self._groups: dict[Direction, dict[str, PolicyGroup]] = {"ingress": {}, "egress": {}}
        self._applied: dict[Direction, dict[str, str]] = {"ingress": {}, "egress": {}}
        self._blocked: set[str] = set()
        self._moved: set[str] = set()

    # --- events ----------------------------------------------------------------------------------------------------

    @property
    def has_changes(self) -> bool:
        """Return True when `update` has something to do."""
        return bool(self._dirty_policies or self._dirty_pods or self._regrouped or self._freed)

    def policy_changed(self, kind: str, policy: Object) -> None:
        """Record an informer's event about a NetworkPolicy."""
        key = key_of(policy)
        known = self._objects.get(key)
        if kind == "DELETED":
            self._objects.pop(key, None)
        else:
            self._objects[key] = policy
            if known is not None and known.get("spec") == policy.get("spec"):
                return
        self._dirty_policies[key] = None

    def namespace_changed(self, kind: str, namespace: Object) -> None:
        """Record an informer's event about a Namespace."""
        name = namespace["metadata"]["name"]
        labels = {} if kind == "DELETED" else namespace["metadata"].get("labels") or {}
        if self._namespaces.get(name, {}) != labels:
            self._namespaces[name] = labels
            for uid, pod in self.pods.items():
                if pod.namespace == name:
                    pod.namespace_labels = labels
                    self._dirty_pods[uid] = None
        if kind == "DELETED":
            self._namespaces.pop(name, None)

    def pod_changed(self, kind: str, pod: Object) -> None:
        """Record an informer's event about a pod."""
        uid = pod["metadata"]["uid"]
        known = self.pods.get(uid)
        if kind == "DELETED":
            if known is not None:
                known.deleted = True
                self._drop_ended(uid, known)
            return
        made = PolicyPod.of(pod, self._namespaces.get(pod["metadata"].get("namespace", ""), {}))
        if known is not None:
            made.ip, made.selecting = known.ip, known.selecting
            if made == known:
                return
        self.pods[uid] = made
        if made.ip:
            self._dirty_pods[uid] = None

    def address_known(self, uid: str, ip: str) -> None:
        """Record that a pod has this address now."""
        pod = self.pods.get(uid)
        if pod is not None and not pod.host_network:
            pod.ip = ip
            self._owners[ip] = uid
            self._freed.discard(ip)
            self._dirty_pods[uid] = None

    def address_gone(self, uid: str) -> None:
        """Record that a pod has no address any more. The pod may get another address. Idempotent."""
        pod = self.pods.get(uid)
        if pod is None or not pod.ip:
            return
        self.sets.remove_pod(uid)
        # Another pod may have the address by now.
        if self._owners.get(pod.ip) == uid:
            del self._owners[pod.ip]
            self._freed.add(pod.ip)
        pod.ip = ""
        self._drop_ended(uid, pod)

    def _drop_ended(self, uid: str, pod: PolicyPod) -> None:
        if pod.deleted and not pod.ip:
            self.pods.pop(uid, None)
            self._dirty_pods.pop(uid, None)
            self._regrouped.pop(uid, None)

    # --- work ------------------------------------------------------------------------------------------------------

    def update(self) -> Iterator[None]:
        """Handle all recorded events. Yield after each small piece of work, so that the caller can pause.

        Later events are left to the next call. So a call ends even if events never stop.
        """
        policies, self._dirty_policies = self._dirty_policies, {}
        freed, self._freed = self._freed, set()
        pods, self._dirty_pods = self._dirty_pods, {}
        for key in policies:
            self._set_policy(key)
            yield
            yield from self._chains.prepare(self._policies.get(key))
            yield from self._select(key)
        if policies and self._cut:
            self._retry_cut()
            yield
        for ip in freed - self._owners.keys():
            for groups in self._groups.values():
                if (group := groups.pop(ip, None)) is not None:
                    self._chains.leave(group)
            self._moved.add(ip)
        for uid in pods:
            yield from self.sets.update_pod(uid)
            pod = self.pods.get(uid)
            if pod is not None and pod.ip:
                yield from self._select_for(uid, pod)
        regrouped, self._regrouped = self._regrouped, {}
        for uid in regrouped:
            pod = self.pods.get(uid)
            if pod is not None and self._owners.get(pod.ip) == uid:
                self._place(pod)
                yield

    def _set_policy(self, key: Key) -> None:
        obj, old = self._objects.get(key), self._policies.pop(key, None)
        namespace = key[0]
        ours = self._of_namespace.setdefault(namespace, {})
        if old is not None:
            del ours[key]
            self._weights[namespace] -= old.weight
            self._chains.release(old)
        if obj is None:
            self._note_cut(key, None, report=False)
        else:
            most = min(MOST_OF_ONE, self._most_of_namespace)
            new = _parse(key, obj, most)
            total = sum(self._weights.values())
            full = new.weight > most or total + new.weight > MOST
            full = full or self._weights.get(namespace, 0) + new.weight > self._most_of_namespace
            self._note_cut(key, new.weight if full else None, report=True)
            if full:
                new = new.without_rules()
            self._policies[key] = ours[key] = new
            self._weights[namespace] = self._weights.get(namespace, 0) + new.weight
            self._chains.keep(new)
        if not ours:
            del self._of_namespace[namespace]
            self._weights.pop(namespace, None)

    def _note_cut(self, key: Key, weight: int | None, *, report: bool) -> None:
        """Record whether there is no room for a policy. weight: its weight; None if it has room or was deleted."""
        before, cut = key in self._cut, weight is not None
        if weight is None:
            self._cut.pop(key, None)
        else:
            self._cut[key] = weight
        if report and cut != before:
            self._on_cut(key, cut)

    def _retry_cut(self) -> None:
        """Mark the policies for which there is room now. Other policies are not read again, because that takes long."""
        total = sum(self._weights.values())
        weights = dict(self._weights)
        for key, weight in self._cut.items():
            # Without its rules, the policy already weighs 1.
            more, of_namespace = weight - 1, weights.get(key[0], 0)
            fits = of_namespace + more <= self._most_of_namespace and total + more <= MOST
            if fits and weight <= MOST_OF_ONE:
                self._dirty_policies[key] = None
                weights[key[0]] = of_namespace + more
                total += more

    def _select(self, key: Key) -> Iterator[None]:
        """Find the pods that a new, changed or deleted policy selects, and mark the pods that need new groups."""
        policy = self._policies.get(key)
        for number, (uid, pod) in enumerate(list(self.pods.items())):
            if pod.namespace != key[0]:
                continue
            before = pod.selecting.pop(key, None)
            if policy is not None and policy.pods.matches(pod.labels):
                pod.selecting[key] = policy
            if pod.ip and before is not pod.selecting.get(key):
                self._regrouped[uid] = None
            if number % 64 == 63:
                yield

    def _select_for(self, uid: str, pod: PolicyPod) -> Iterator[None]:
        """Find the policies that select a pod, and mark the pod, because it needs new groups."""
        for number, (key, policy) in enumerate(list(self._of_namespace.get(pod.namespace, {}).items())):
            pod.selecting.pop(key, None)
            if policy.pods.matches(pod.labels):
                pod.selecting[key] = policy
            if number % 64 == 63:
                yield
        self._regrouped[uid] = None

    def _place(self, pod: PolicyPod) -> None:
        """Move a pod's address into the groups for the policies that select the pod."""
        for direction in _DIRECTIONS:
            policies = [one for one in pod.selecting.values() if direction in one.rules]
            groups = self._groups[direction]
            old = groups.pop(pod.ip, None)
            if policies:
                groups[pod.ip] = self._chains.join(direction, policies)
            if old is not None:
                self._chains.leave(old)
        self._moved.add(pod.ip)

    # --- results ---------------------------------------------------------------------------------------------------

    def take_changes(self) -> list[FilterChange]:
        """Return the changes of the filter since the last call.

        Their order is safe even if only some are applied. A connection that the old and the new rules both allow is
        never refused in between. A connection that both refuse is never allowed.
        """
        added, removed = self.sets.take_changes()
        made, dropped = self._chains.take_changes()
        freed_sets = self.sets.take_drops()
        moves: list[FilterChange] = []
        for ip in self._moved:
            for direction in _DIRECTIONS:
                group = self._groups[direction].get(ip)
                applied = self._applied[direction]
                before, after = applied.get(ip), group.name if group is not None else None
                if before != after:
                    moves.append(Isolate(direction, ip, after, before))
                    applied.pop(ip, None)
                    if after is not None:
                        applied[ip] = after
            egress = self._groups["egress"].get(ip)
            blocked = egress is not None and not egress.reaches_api and not self._is_beside_api(ip)
            if blocked != (ip in self._blocked):
                (self._blocked.add if blocked else self._blocked.discard)(ip)
                moves.append(BlockApi(ip, blocked))
        self._moved = set()
        return [*added, *made, *moves, *removed, *dropped, *freed_sets]

    def changes_from_empty(self) -> list[FilterChange]:
        """Return the changes that bring an empty filter to the state of the last `take_changes`."""
        moves: list[FilterChange] = [
            Isolate(direction, ip, name) for direction, applied in self._applied.items() for ip, name in applied.items()
        ]
        return [
            *self.sets.changes_from_empty(),
            *self._chains.changes_from_empty(),
            *moves,
            *(BlockApi(ip, True) for ip in self._blocked),
        ]

    def group(self, direction: Direction, ip: str) -> PolicyGroup | None:
        """Return the group that decides about an address's connections; None for an address that is not isolated."""
        return self._groups[direction].get(ip)


def _parse(key: Key, policy: Object, most: int) -> EnforcedPolicy:
    """Return a policy. A policy that cannot be read is logged, and allows nothing; the API server should refuse it."""
    try:
        return parse_policy(policy, most)
    except (AttributeError, KeyError, TypeError, ValueError):
        _log.exception("network policy %s/%s cannot be read, and isolates all pods of its namespace", *key)
        return EnforcedPolicy(key[0], LabelMatcher(None), {"ingress": (), "egress": ()}, 1)
