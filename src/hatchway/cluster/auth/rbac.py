"""Authorization: RBAC over an index of roles and bindings that follows the store.

The behaviour is that of Kubernetes' `plugin/pkg/auth/authorizer/rbac/rbac.go` and
`pkg/registry/rbac/validation/rule.go`; members of system:masters may do everything (`authorizerfactory`'s privileged
group). Aggregated ClusterRoles are resolved when they are used, so that their rules take effect at once.

Requests that roles allow are cached until a role or binding changes, so that the same request needs only one look-up in
a dictionary. Refusals and decisions of the Node authorizer are not cached.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

from hatchway.cluster.auth import serviceaccounts, source
from hatchway.cluster.auth.nodeauthorizer import NODES_GROUP, NodeAuthorizer, node_of
from hatchway.cluster.auth.rules import Rule, quote
from hatchway.cluster.auth.user import Attributes, UserInfo
from hatchway.errors import ApiError, forbidden
from hatchway.kube.api import Object
from hatchway.kube.objects import Key, key_of

PRIVILEGED_GROUP = "system:masters"
GROUP = "rbac.authorization.k8s.io"
# The maximum number of decisions that are cached, and the maximum number of characters of the request in each of them.
_CACHE_SIZE = 8192
_LONGEST = 512


@dataclass(frozen=True, slots=True)
class AccessDecision:
    """The answer of an authorizer.

    reason: the text that access reviews show. A refusal has the Node authorizer's reason and RBAC's errors, if any.
    """

    allowed: bool
    reason: str = ""


_REFUSED = AccessDecision(False)
_PRIVILEGED = AccessDecision(True)


@dataclass(frozen=True, slots=True)
class RoleRef:
    """The role that a binding grants. kind: `Role` or `ClusterRole`."""

    kind: str
    name: str


@dataclass(frozen=True, slots=True)
class _Role:
    rules: tuple[Rule, ...]
    labels: Mapping[str, str]
    selectors: tuple[Mapping[str, Any], ...] | None


@dataclass(frozen=True, slots=True)
class _Binding:
    key: Key
    role: RoleRef
    # (key, description) of each subject. Keys are ("User", "alice") or ("Group", "devs"). A service account has the key
    # of its user.
    subjects: tuple[tuple[tuple[str, str], str], ...]

    def describe(self, subject: str) -> str:
        namespace, name = self.key
        what = f'RoleBinding "{name}/{namespace}"' if namespace else f'ClusterRoleBinding "{name}"'
        return f'RBAC: allowed by {what} of {self.role.kind} "{self.role.name}" to {subject}'


_Index = dict[str, dict[tuple[str, str], dict[Key, _Binding]]]


class Authorizer:
    """The authorizer of one API server: the Node authorizer for nodes, and roles for all users.

    `close` ends its subscriptions.
    """

    def __init__(self, objects: source.StoredObjects) -> None:
        self._nodes = NodeAuthorizer(objects)
        self._roles: dict[Key, _Role] = {}
        self._bindings: dict[Key, _Binding] = {}
        # Bindings by namespace and subject.
        self._index: _Index = {}
        self._aggregated: dict[str, tuple[Rule, ...]] = {}
        self._decisions: dict[tuple[Any, ...], AccessDecision] = {}
        followed: list[tuple[str, Callable[[str, Object | None, Object | None], None]]] = [
            (source.CLUSTER_ROLES, self._role_changed),
            (source.ROLES, self._role_changed),
            (source.CLUSTER_ROLE_BINDINGS, self._binding_changed),
            (source.ROLE_BINDINGS, self._binding_changed),
        ]
        self._subscriptions = [objects.subscribe(resource, callback) for resource, callback in followed]
        for resource, callback in followed:
            for obj in objects.list(resource):
                callback("ADDED", None, obj)

    def close(self) -> None:
        """Stop following the store."""
        for end in self._subscriptions:
            end()
        self._subscriptions = []
        self._nodes.close()

    # -- deciding

    def decide(self, asked: Attributes) -> AccessDecision:
        """Decide whether a request is allowed, and say why."""
        user = asked.user
        if PRIVILEGED_GROUP in user.groups:
            return _PRIVILEGED
        if NODES_GROUP in user.groups and (node := node_of(user)) is not None:
            # This decision is not cached, because it depends on the node's pods.
            problem = self._nodes.problem(node, asked)
            if not problem:
                return AccessDecision(True)
            found = self._by_roles(asked)
            return found if found.allowed else AccessDecision(False, "\n".join(filter(None, (problem, found.reason))))
        return self._by_roles(asked)

    def _by_roles(self, asked: Attributes) -> AccessDecision:
        user = asked.user
        key = (
            user.name,
            user.groups,
            asked.verb,
            asked.namespace,
            asked.resource,
            asked.name,
            asked.subresource,
            asked.api_group,
            asked.path,
        )
        found = self._decisions.get(key)
        if found is None:
            found = self._decide(asked)
            # Refusals and overlong names are not cached: clients could fill the memory with invented names.
            if found.allowed and sum(map(len, key[2:])) <= _LONGEST:
                if len(self._decisions) >= _CACHE_SIZE:
                    self._decisions.clear()
                self._decisions[key] = found
        return found

    def require(self, asked: Attributes) -> None:
        """Raise ApiError 403 with kube-apiserver's text when a request is not allowed."""
        decision = self.decide(asked)
        if not decision.allowed:
            raise refusal(asked, decision.reason)

    def _decide(self, asked: Attributes) -> AccessDecision:
        problems: list[str] = []
        for binding, subject in self._bindings_of(asked.user, asked.namespace):
            rules = self.rules_of(binding.role, binding.key[0])
            if rules is None:
                problems.append(_missing(binding.role))
                continue
            for rule in rules:
                if rule.allows(asked):
                    return AccessDecision(True, binding.describe(subject))
        return AccessDecision(False, _joined(problems)) if problems else _REFUSED

    def rules_for(self, user: UserInfo, namespace: str) -> tuple[list[Rule], str]:
        """Return all rules for a user in a namespace (the rules of each role only once), and the errors.

        namespace: "" for the cluster. The errors are one text, "" if there are none.
        """
        found: list[Rule] = []
        problems: list[str] = []
        known: set[tuple[RoleRef, str]] = set()
        for binding, _ in self._bindings_of(user, namespace):
            role = (binding.role, binding.key[0])
            # Thousands of bindings may name the same role.
            if role in known:
                continue
            known.add(role)
            rules = self.rules_of(*role)
            if rules is None:
                problems.append(_missing(binding.role))
            else:
                found += rules
        return found, ", ".join(problems)

    def rules_of(self, role: RoleRef, namespace: str) -> tuple[Rule, ...] | None:
        """Return the rules of a role that a binding in `namespace` names; None when there is no such role."""
        if role.kind == "ClusterRole":
            known = self._roles.get(("", role.name))
            if known is not None and known.selectors is not None:
                return self._resolve(role.name)
        else:
            known = self._roles.get((namespace, role.name)) if namespace else None
        return None if known is None else known.rules

    def _bindings_of(self, user: UserInfo, namespace: str) -> Iterator[tuple[_Binding, str]]:
        """Return the cluster's bindings and then the namespace's, by name, each with the subject that matched."""
        groups = frozenset(user.groups)
        for where in ("", namespace) if namespace else ("",):
            index = self._index.get(where)
            if not index:
                continue
            found: dict[Key, _Binding] = {}
            for subject in (("User", user.name), *(("Group", group) for group in user.groups)):
                found.update(index.get(subject, {}))
            for key in sorted(found):
                binding = found[key]
                for subject, described in binding.subjects:
                    if subject == ("User", user.name) or (subject[0] == "Group" and subject[1] in groups):
                        yield binding, described
                        break

    def _resolve(self, name: str) -> tuple[Rule, ...]:
        known = self._aggregated.get(name)
        if known is None:
            known = self._aggregated[name] = tuple(self._aggregate(name, set()))
        return known

    def _aggregate(self, name: str, seen: set[str]) -> list[Rule]:
        """Return the rules of all ClusterRoles that the role selects, in the order of names.

        The result is that of Kubernetes' controller `clusterroleaggregation`.
        """
        seen.add(name)
        selectors = self._roles[("", name)].selectors or ()
        found: dict[Rule, None] = {}
        for (namespace, other), role in sorted(self._roles.items(), key=lambda item: item[0]):
            if namespace or other in seen or not any(selects(selector, role.labels) for selector in selectors):
                continue
            rules = role.rules if role.selectors is None else self._aggregate(other, seen)
            found.update(dict.fromkeys(rules))
        return list(found)

    # -- following the store

    def _role_changed(self, _type: str, old: Object | None, new: Object | None) -> None:
        if old is not None:
            self._roles.pop(key_of(old), None)
        if new is not None:
            self._roles[key_of(new)] = _parse_role(new)
        self._aggregated.clear()
        self._decisions.clear()

    def _binding_changed(self, _type: str, old: Object | None, new: Object | None) -> None:
        for obj in (old, new):
            if obj is not None:
                self._forget(key_of(obj))
        if new is not None:
            key = key_of(new)
            binding = self._bindings[key] = _parse_binding(new)
            index = self._index.setdefault(key[0], {})
            for subject, _ in binding.subjects:
                index.setdefault(subject, {})[key] = binding
        self._decisions.clear()

    def _forget(self, key: Key) -> None:
        known = self._bindings.pop(key, None)
        if known is None:
            return
        index = self._index[key[0]]
        for subject in {subject for subject, _ in known.subjects}:
            del index[subject][key]
            if not index[subject]:
                del index[subject]


def refusal(asked: Attributes, reason: str = "") -> ApiError:
    """Return the 403 of a refused request (apiserver `handlers/responsewriters/errors.go`)."""
    user = quote(asked.user.name)
    if not asked.resource:
        why = f"User {user} cannot {asked.verb} path {quote(asked.path)}"
    else:
        what = f"{asked.resource}/{asked.subresource}" if asked.subresource else asked.resource
        why = f"User {user} cannot {asked.verb} resource {quote(what)} in API group {quote(asked.api_group)}"
        why += f" in the namespace {quote(asked.namespace)}" if asked.namespace else " at the cluster scope"
    return forbidden(asked.resource, asked.name, f"{why}: {reason}" if reason else why, asked.api_group)


def _missing(role: RoleRef) -> str:
    return f'{role.kind.lower()}.{GROUP} "{role.name}" not found'


def _joined(problems: list[str]) -> str:
    unique = list(dict.fromkeys(problems))
    return "RBAC: " + (unique[0] if len(unique) == 1 else "[" + ", ".join(unique) + "]")


def selects(selector: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    """Return True when a metav1.LabelSelector selects these labels. An empty selector selects all labels."""
    for key, value in (selector.get("matchLabels") or {}).items():
        if labels.get(key) != value:
            return False
    for item in selector.get("matchExpressions") or ():
        key, values = item["key"], item.get("values") or ()
        match item["operator"]:
            case "In":
                holds = key in labels and labels[key] in values
            case "NotIn":
                holds = labels.get(key) not in values
            case "Exists":
                holds = key in labels
            case "DoesNotExist":
                holds = key not in labels
            case _:
                holds = False
        if not holds:
            return False
    return True


def role_ref(obj: Object) -> RoleRef:
    """Return the role that a binding names."""
    ref = obj.get("roleRef") or {}
    return RoleRef(ref.get("kind", ""), ref.get("name", ""))


def rules_in(obj: Object) -> list[Rule]:
    """Return the rules of a Role or ClusterRole."""
    return [Rule.parse(rule) for rule in obj.get("rules") or ()]


def _parse_role(obj: Object) -> _Role:
    aggregation = obj.get("aggregationRule")
    selectors = None if aggregation is None else tuple(aggregation.get("clusterRoleSelectors") or ())
    return _Role(tuple(rules_in(obj)), obj["metadata"].get("labels") or {}, selectors)


def _parse_binding(obj: Object) -> _Binding:
    key = key_of(obj)
    parse = partial(_parse_subject, namespace=key[0])
    subjects = (parse(subject) for subject in obj.get("subjects") or ())
    return _Binding(key, role_ref(obj), tuple(subject for subject in subjects if subject is not None))


def _parse_subject(subject: Mapping[str, Any], *, namespace: str) -> tuple[tuple[str, str], str] | None:
    kind: Literal["User", "Group", "ServiceAccount"] = subject["kind"]
    name = subject["name"]
    if kind == "ServiceAccount":
        # A service account without a namespace belongs to the binding's own namespace.
        home = subject.get("namespace") or namespace
        if not home:
            return None
        return ("User", serviceaccounts.username(home, name)), f'ServiceAccount "{name}/{home}"'
    return (kind, name), f'{kind} "{name}"'
