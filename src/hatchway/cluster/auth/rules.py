"""RBAC's policy rules as values: what one allows, what a set of them covers, how they are written in messages.

Pure. The behaviour is that of Kubernetes' `pkg/apis/rbac/v1/evaluation_helpers.go` and
`component-helpers/auth/rbac/validation/policy_comparator.go`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
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
        """As objects and SelfSubjectRulesReviews hold it; empty lists are left out."""
        fields = {
            "verbs": self.verbs,
            "apiGroups": self.api_groups,
            "resources": self.resources,
            "resourceNames": self.resource_names,
            "nonResourceURLs": self.non_resource_urls,
        }
        return {name: list(values) for name, values in fields.items() if values}

    def __str__(self) -> str:
        """As messages write it (`CompactString`)."""
        fields = (
            ("APIGroups", self.api_groups),
            ("Resources", self.resources),
            ("NonResourceURLs", self.non_resource_urls),
            ("ResourceNames", self.resource_names),
            ("Verbs", self.verbs),
        )
        return "{" + ", ".join(f"{name}:{quoted(values)}" for name, values in fields if values) + "}"

    def allows(self, asked: Attributes) -> bool:
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
            # `*/scale` is the subresource of every resource; a plain `pods` never stands for `pods/log`.
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
    """A text as Go's `%q` prints it."""
    return json.dumps(text, ensure_ascii=False)


def quoted(values: Sequence[str]) -> str:
    """A list as Go's `%q` prints it: `["a" "b"]`."""
    return "[" + " ".join(map(quote, values)) + "]"


def covers(owned: Sequence[Rule], wanted: Iterable[Rule]) -> list[Rule]:
    """What of `wanted` no rule of `owned` covers, broken down into the smallest rules."""
    return [part for rule in wanted for part in _breakdown(rule) if not any(_covers(own, part) for own in owned)]


def _breakdown(rule: Rule) -> Iterator[Rule]:
    for group in rule.api_groups:
        for resource in rule.resources:
            for verb in rule.verbs:
                if rule.resource_names:
                    for name in rule.resource_names:
                        yield Rule((verb,), (group,), (resource,), (name,))
                else:
                    yield Rule((verb,), (group,), (resource,))
    for url in rule.non_resource_urls:
        for verb in rule.verbs:
            yield Rule((verb,), non_resource_urls=(url,))


def _covers(own: Rule, part: Rule) -> bool:
    if not _has(own.verbs, part.verbs):
        return False
    if part.non_resource_urls:
        return all(any(_url_covers(item, url) for item in own.non_resource_urls) for url in part.non_resource_urls)
    if not own.resources or not _has(own.api_groups, part.api_groups):
        return False
    if not all(_resource_covers(own.resources, resource) for resource in part.resources):
        return False
    if not own.resource_names:
        return True
    return bool(part.resource_names) and set(part.resource_names) <= set(own.resource_names)


def _has(own: Sequence[str], wanted: Sequence[str]) -> bool:
    return ALL in own or set(wanted) <= set(own)


def _resource_covers(own: Sequence[str], resource: str) -> bool:
    if ALL in own or resource in own:
        return True
    _, slash, subresource = resource.partition("/")
    return bool(slash) and f"*/{subresource}" in own


def _url_covers(own: str, url: str) -> bool:
    return own == url or (own.endswith("*") and url.startswith(own.rstrip("*")))


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
