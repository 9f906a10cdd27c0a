"""Decides which policies and bindings match a write, and finds their parameters.

Source: apiserver's `pkg/admission/plugin/policy/matching/matching.go` and `generic/policy_dispatcher.go`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from hatchway.cluster.api.admission.contract import AdmissionAttributes
from hatchway.cluster.api.admission.policies.source import Matching
from hatchway.cluster.api.admission.webhooks.matching import request_namespace, rule_matches
from hatchway.cluster.api.registry.resource import Resource
from hatchway.cluster.api.registry.selectors import label_selector_matches
from hatchway.cluster.api.storage.store import Store
from hatchway.errors import not_found
from hatchway.kube.api import Object

__all__ = ["ConfigurationError", "PolicyMatcher"]

Json = dict[str, Any]
# The maximum number of objects that one binding may use as parameters.
_MOST_PARAMS = 1000


class ConfigurationError(Exception):
    """Raised when a policy or a binding cannot be applied to a write. The text says why."""


class PolicyMatcher:
    """Matches policies and bindings with writes. rows: returns the rows of all types."""

    def __init__(self, store: Store, rows: Callable[[], Iterable[Resource]]) -> None:
        self._store = store
        self._rows = rows

    def match(self, matching: Matching, attributes: AdmissionAttributes, *, all_if_empty: bool) -> Resource | None:
        """Return the resource that matches (the write's, or an equivalent one); None when the write does not match.

        all_if_empty: True if every write matches when there are no rules, as for bindings.

        Raises:
            ConfigurationError: when the namespace of the request does not exist.
        """
        if not self._selected(matching, attributes):
            return None
        for row in self._candidates(matching, attributes):
            if any(_named_rule_matches(rule, names, attributes, row) for rule, names in matching.excluded):
                return None
        if not matching.rules:
            return attributes.row if all_if_empty else None
        for row in self._candidates(matching, attributes):
            if any(_named_rule_matches(rule, names, attributes, row) for rule, names in matching.rules):
                return row
        return None

    def _candidates(self, matching: Matching, attributes: AdmissionAttributes) -> list[Resource]:
        row = attributes.row
        if not matching.is_equivalent or row.virtual:
            return [row]
        others = [one for one in self._rows() if one.stored_as == row.stored_as and one.gvk != row.gvk]
        return [row, *others]

    def _selected(self, matching: Matching, attributes: AdmissionAttributes) -> bool:
        if matching.namespace_selector is not None:
            labels = self._namespace_labels(attributes)
            if labels is not None and not matching.selects(labels, matching.namespace_selector):
                return False
        if matching.object_selector is None:
            return True
        return any(
            obj is not None and matching.selects((obj.get("metadata") or {}).get("labels"), matching.object_selector)
            for obj in (attributes.object, attributes.old_object)
        )

    def _namespace_labels(self, attributes: AdmissionAttributes) -> Json | None:
        """Return the labels of the request's namespace; None for objects outside of namespaces."""
        is_namespace = attributes.resource == "namespaces"
        if not attributes.namespace and not is_namespace:
            return None
        obj = attributes.object
        if not (is_namespace and not attributes.subresource and attributes.operation in ("CREATE", "UPDATE")):
            name = request_namespace(attributes)
            obj = self._store.latest("namespaces", "", name)
            if obj is None:
                raise ConfigurationError(not_found("namespaces", name).message)
        return ((obj or {}).get("metadata") or {}).get("labels") or {}

    def namespace(self, attributes: AdmissionAttributes) -> Object | None:
        """Return the namespace of the object; None outside of namespaces. Raises ApiError 404."""
        if not attributes.namespace or attributes.resource == "namespaces":
            return None
        found = self._store.latest("namespaces", "", attributes.namespace)
        if found is None:
            raise not_found("namespaces", attributes.namespace)
        return found

    def params(self, kind: Json | None, reference: Json | None, attributes: AdmissionAttributes) -> list[Object | None]:
        """Return the parameter objects of a policy. The policy is evaluated once per object. Raises ConfigurationError.

        Parameters of a custom type with conversions are returned in the stored version. A policy without parameters is
        evaluated once, so the list is then [None].
        """
        if kind is None or reference is None:
            return [None]
        row = self._row_of(kind)
        if row is None:
            raise ConfigurationError(f"failed to find resource referenced by paramKind: '{_shown(kind)}'")
        namespace = reference.get("namespace") or ""
        if namespace and not row.namespaced:
            raise ConfigurationError("paramRef.namespace must not be provided for a cluster-scoped `paramKind`")
        if row.namespaced and not namespace:
            namespace = attributes.namespace
            if not namespace:
                text = "cannot use namespaced paramRef in policy binding that matches cluster-scoped resources"
                raise ConfigurationError(text)
        found = self._referenced(row, namespace if row.namespaced else "", reference)
        if not found and reference.get("parameterNotFoundAction") == "Deny":
            raise ConfigurationError("no params found for policy binding with `Deny` parameterNotFoundAction")
        return list(found)

    def _referenced(self, row: Resource, namespace: str, reference: Json) -> list[Object]:
        name = reference.get("name") or ""
        if name:
            one = self._store.latest(row.stored_as, namespace, name)
            objects = [one] if one is not None else []
        else:
            selector = reference.get("selector") or {}
            objects = [
                one
                for one in self._store.list(row.stored_as, namespace or None)
                if label_selector_matches(selector, (one.get("metadata") or {}).get("labels") or {})
            ]
            if len(objects) > _MOST_PARAMS:
                raise ConfigurationError(f"the binding's selector finds more than {_MOST_PARAMS} params")
        convert = row.from_storage
        return [convert(one) for one in objects] if convert is not None else objects

    def param_row(self, kind: Json | None) -> Resource | None:
        """Return the type of a policy's parameters; None without parameters, or when the type is not served."""
        return self._row_of(kind) if kind is not None else None

    def _row_of(self, kind: Json) -> Resource | None:
        wanted = (kind.get("apiVersion"), kind.get("kind"))
        return next((one for one in self._rows() if (one.api_version, one.kind) == wanted and not one.virtual), None)


def _shown(kind: Json) -> str:
    group, _, version = (kind.get("apiVersion") or "").rpartition("/")
    return f"{group}/{version}, Kind={kind.get('kind')}"


def _named_rule_matches(rule: Any, names: frozenset[str], attributes: AdmissionAttributes, row: Resource) -> bool:
    return rule_matches(rule, attributes, row) and (not names or attributes.object_name in names)
