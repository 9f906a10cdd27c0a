"""RBAC's policy rules as values: which requests they allow, which rules they cover, and their texts in messages.

Pure. The behaviour is that of Kubernetes' `pkg/apis/rbac/v1/evaluation_helpers.go` and
`component-helpers/auth/rbac/validation/policy_comparator.go`.
"""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from hatchway.cluster.auth.user import Attributes

ALL = "*"


@dataclass(frozen=True, slots=True)
class Rule:
    """rbac.authorization.k8s.io/v1 PolicyRule."""

    verbs: tuple[str, ...]
    api_groups: tuple[str, ...] = ()
    resources: tuple[str, ...] = ()
    resource_names: tuple[str, ...] = ()
    non_resource_urls: tuple[str, ...] = ()

    @classmethod
    def parse(cls, value: dict[str, Any]) -> Rule:
        """Return the rule of an object's `rules` item."""

        def strings(field: str) -> tuple[str, ...]:
            return tuple(value.get(field) or ())

        return cls(
            strings("verbs"),
            strings("apiGroups"),
            strings("resources"),
            strings("resourceNames"),
            strings("nonResourceURLs"),
        )

    def as_dict(self) -> dict[str, list[str]]:
        """Return the rule as it is written in objects and SelfSubjectRulesReviews, without empty lists."""
        fields = {
            "verbs": self.verbs,
            "apiGroups": self.api_groups,
            "resources": self.resources,
            "resourceNames": self.resource_names,
            "nonResourceURLs": self.non_resource_urls,
        }
        return {name: list(values) for name, values in fields.items() if values}

    def __str__(self) -> str:
        """Return the text of the rule in messages (`CompactString`)."""
        fields = (
            ("APIGroups", self.api_groups),
            ("Resources", self.resources),
            ("NonResourceURLs", self.non_resource_urls),
            ("ResourceNames", self.resource_names),
            ("Verbs", self.verbs),
        )
        return "{" + ", ".join(f"{name}:{quoted(values)}" for name, values in fields if values) + "}"

    def allows(self, asked: Attributes) -> bool:
        """Return True when the rule alone allows a request."""
        if ALL not in self.verbs and asked.verb not in self.verbs:
            return False
        if not asked.resource:
            return self._url_matches(asked.path)
        return (
            (ALL in self.api_groups or asked.api_group in self.api_groups)
            and self._resource_matches(asked.resource, asked.subresource)
            and (not self.resource_names or asked.name in self.resource_names)
        )

    def _resource_matches(self, resource: str, subresource: str) -> bool:
        combined = f"{resource}/{subresource}" if subresource else resource
        for item in self.resources:
            if item in (ALL, combined):
                return True
            # `*/scale` means this subresource of every resource; a plain `pods` never means `pods/log`.
            if subresource and item == f"*/{subresource}":
                return True
        return False

    def _url_matches(self, path: str) -> bool:
        for item in self.non_resource_urls:
            if item in (ALL, path):
                return True
            if item.endswith("*") and path.startswith(item.rstrip("*")):
                return True
        return False


def quote(text: str) -> str:
    """Return a text as Go's `%q` prints it."""
    return json.dumps(text, ensure_ascii=False)


def quoted(values: Sequence[str]) -> str:
    """Return a list as Go's `%q` prints it: `["a" "b"]`."""
    return "[" + " ".join(map(quote, values)) + "]"


# The maximum number of combinations of values of all rules that are checked, and the maximum number of missing
# combinations that are named.
_MAX_COMBINATIONS = 50_000
_MAX_MISSING = 1000


class TooManyCombinations(Exception):
    """A set of rules has more combinations of groups, resources, verbs and names than can be compared."""


def uncovered(owned: Sequence[Rule], wanted: Iterable[Rule]) -> list[Rule]:
    """Return the parts of `wanted` that no rule of `owned` covers: at most 1,000 rules with one value in each list.

    The work does not grow with the product of a rule's lists, which can be huge even in a small role: values that the
    same owned rules cover are checked together.

    Raises: TooManyCombinations: there are still too many combinations.
    """
    index = _Owned(owned)
    missing: list[Rule] = []
    looked_at = 0
    for rule in wanted:
        for parts in index.masks(rule):
            looked_at += _combinations(parts)
            if looked_at > _MAX_COMBINATIONS:
                raise TooManyCombinations
            if len(missing) < _MAX_MISSING:
                missing += _missing(parts, _MAX_MISSING - len(missing))
    return missing


# The values of one list of a rule, by the set of owned rules that cover them (a bit mask).
_Masks = dict[int, list[str]]


class _Owned:
    """Owned rules, found by the values that they cover."""

    def __init__(self, owned: Sequence[Rule]) -> None:
        rules = list(dict.fromkeys(owned))
        self._verbs: dict[str, int] = {}
        self._groups: dict[str, int] = {}
        self._resources: dict[str, int] = {}
        self._names: dict[str, int] = {}
        self._any_name = 0
        self._urls: dict[str, int] = {}
        self._url_prefixes: dict[int, dict[str, int]] = {}
        for number, rule in enumerate(rules):
            bit = 1 << number
            for known, values in (
                (self._verbs, rule.verbs),
                (self._groups, rule.api_groups),
                (self._resources, rule.resources),
                (self._names, rule.resource_names),
                (self._urls, rule.non_resource_urls),
            ):
                for value in values:
                    known[value] = known.get(value, 0) | bit
            if not rule.resource_names:
                self._any_name |= bit
            for url in rule.non_resource_urls:
                if url.endswith("*"):
                    prefix = url.rstrip("*")
                    prefixes = self._url_prefixes.setdefault(len(prefix), {})
                    prefixes[prefix] = prefixes.get(prefix, 0) | bit

    def masks(self, rule: Rule) -> Iterator[tuple[_Masks, _Masks, _Masks, _Masks]]:
        """Yield (groups, resources or URLs, verbs, names) of a rule: once for its resources, and once for its URLs.

        The groups are empty for URLs. The names contain only "" when the rule is for every name.
        """
        verbs = _grouped(rule.verbs, lambda verb: self._verbs.get(verb, 0) | self._verbs.get(ALL, 0))
        if rule.resources and rule.api_groups:
            groups = _grouped(rule.api_groups, lambda group: self._groups.get(group, 0) | self._groups.get(ALL, 0))
            names: _Masks = {self._any_name: [""]}
            if rule.resource_names:
                names = _grouped(rule.resource_names, lambda name: self._names.get(name, 0) | self._any_name)
            yield groups, _grouped(rule.resources, self._resource), verbs, names
        if rule.non_resource_urls:
            yield {}, _grouped(rule.non_resource_urls, self._url), verbs, {-1: [""]}

    def _resource(self, resource: str) -> int:
        found = self._resources.get(resource, 0) | self._resources.get(ALL, 0)
        _, slash, subresource = resource.partition("/")
        return found | self._resources.get(f"*/{subresource}", 0) if slash else found

    def _url(self, url: str) -> int:
        found = self._urls.get(url, 0)
        for length, prefixes in self._url_prefixes.items():
            found |= prefixes.get(url[:length], 0)
        return found


def _grouped(values: Sequence[str], mask: Callable[[str], int]) -> _Masks:
    found: _Masks = {}
    for value in values:
        found.setdefault(mask(value), []).append(value)
    return found


def _combinations(parts: tuple[_Masks, _Masks, _Masks, _Masks]) -> int:
    return math.prod(len(masks) or 1 for masks in parts)


def _missing(parts: tuple[_Masks, _Masks, _Masks, _Masks], limit: int) -> list[Rule]:
    """Return the combinations of verb, group and resource that no single owned rule covers.

    limit: the maximum number of combinations to return.
    """
    groups, wanted, verbs, names = parts
    uncovered = (
        (group_values, values, verb_values, name_values)
        for group, group_values in (groups.items() if groups else ((-1, [""]),))
        for mask, values in wanted.items()
        for verb, verb_values in verbs.items()
        for name, name_values in names.items()
        if not group & mask & verb & name
    )
    found: Iterator[Rule] = (
        Rule((verb,), (group,), (value,), (name,) if name else ())
        if groups
        else Rule((verb,), non_resource_urls=(value,))
        for lists in uncovered
        for group, value, verb, name in itertools.product(*lists)
    )
    return list(itertools.islice(found, limit))


def compact(rules: Iterable[Rule]) -> list[Rule]:
    """Join rules that differ only in their verbs (`pkg/registry/rbac/validation/policy_compact.go`)."""
    out: list[Rule] = []
    places: dict[tuple[str, str, tuple[str, ...]], int] = {}
    for rule in rules:
        simple = (
            len(rule.api_groups) == 1
            and len(rule.resources) == 1
            and len(rule.resource_names) <= 1
            and not rule.non_resource_urls
        )
        if not simple:
            out.append(rule)
            continue
        key = (rule.api_groups[0], rule.resources[0], rule.resource_names)
        if key in places:
            known = out[places[key]]
            verbs = tuple(dict.fromkeys((*known.verbs, *rule.verbs)))
            out[places[key]] = Rule(verbs, rule.api_groups, rule.resources, rule.resource_names)
        else:
            places[key] = len(out)
            out.append(rule)
    return out
