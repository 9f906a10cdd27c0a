"""Reads a stored CustomResourceDefinition: its conditions and its storage version."""

from __future__ import annotations

from hatchway.kube.api import Object

__all__ = ["CLEANUP_FINALIZER", "condition_is_true", "is_ending", "storage_version"]

# This finalizer keeps a definition until its objects are deleted.
CLEANUP_FINALIZER = "customresourcecleanup.apiextensions.k8s.io"


def condition_is_true(definition: Object, kind: str) -> bool:
    """Return True when the definition has this condition with the status True."""
    conditions = (definition.get("status") or {}).get("conditions") or ()
    return any(one.get("type") == kind and one.get("status") == "True" for one in conditions)


def is_ending(definition: Object) -> bool:
    """Return True when the definition is being deleted. New objects of its type are then rejected."""
    return "deletionTimestamp" in definition["metadata"] or condition_is_true(definition, "Terminating")


def storage_version(definition: Object) -> str:
    """Return the version in which the objects of a custom type are stored."""
    found: str = next(one["name"] for one in definition["spec"]["versions"] if one.get("storage"))
    return found
