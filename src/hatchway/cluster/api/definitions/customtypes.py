"""Keeps the registry's rows of custom types up to date with the stored CustomResourceDefinitions."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any

from hatchway.cluster.api.definitions.customrows import custom_rows
from hatchway.cluster.api.registry.custom.conversionwebhooks import ConversionWebhooks
from hatchway.cluster.api.registry.custom.definition import condition_is_true, is_ending
from hatchway.cluster.api.registry.resource import Resource
from hatchway.cluster.api.registry.types import ROWS, Registry
from hatchway.cluster.api.storage.store import Store
from hatchway.cluster.api.work import HEAVY, run_apart
from hatchway.kube.api import Object

__all__ = ["DEFINITIONS", "CustomTypes", "is_built_in"]

DEFINITIONS = "customresourcedefinitions.apiextensions.k8s.io"

_log = logging.getLogger(__name__)
_BUILT_IN = frozenset(name for row in ROWS for name in (row.group_resource, row.stored_as))
_BUILT_IN_KINDS = frozenset((row.group, row.kind) for row in ROWS)
# If a definition has more patterns than this, its rows are made on a thread, because compiling patterns takes long.
_FEW_PATTERNS = 32
# The parts of a definition on which its rows depend.
_Basis = tuple[Any, ...]


def is_built_in(resource: str) -> bool:
    """Return True for a type of Kubernetes itself, such as `roles.rbac.authorization.k8s.io`."""
    return resource in _BUILT_IN


def _is_taken(row: Resource) -> bool:
    return is_built_in(row.group_resource) or (row.group, row.kind) in _BUILT_IN_KINDS


class CustomTypes:
    """Watches the definitions in a store, and sets the rows of their types.

    The types of definitions that are already stored are served immediately. When a large definition changes later, its
    new rows are made on a thread. Until they are ready, the former rows are served.

    Args:
        store: has the definitions and the objects.
        registry: gets the rows.
        webhooks: calls the webhooks that convert objects.
    """

    def __init__(self, store: Store, registry: Registry, webhooks: ConversionWebhooks) -> None:
        self._store = store
        self._registry = registry
        self._webhooks = webhooks
        self._rows: dict[str, tuple[Resource, ...]] = {}
        self._basis: dict[str, _Basis] = {}
        # Rows of large definitions that are about to be established.
        self._prepared: dict[str, tuple[_Basis, tuple[Resource, ...]]] = {}
        self._making: set[asyncio.Task[None]] = set()
        for definition in store.list(DEFINITIONS):
            name = definition["metadata"]["name"]
            self._basis[name] = _basis(definition)
            self._rows[name] = self._make(definition)
        self._publish()
        self._end: Callable[[], None] = store.subscribe(DEFINITIONS, self._follow)

    def close(self) -> None:
        """Stop watching the store."""
        self._end()
        for task in self._making:
            task.cancel()

    async def prepare(self, definition: Object) -> None:
        """Make the rows of a large definition before it is stored. They can then be served as soon as it is stored."""
        name, basis = definition["metadata"]["name"], _basis(definition)
        if self._basis.get(name) != basis and self._is_large(definition):
            rows = await run_apart(self._make, definition)
            if name in self._basis:
                self._prepared[name] = basis, rows

    def _is_large(self, definition: Object) -> bool:
        weight = self._store.weight(DEFINITIONS, "", definition["metadata"]["name"])
        return weight >= HEAVY or _patterns(definition) > _FEW_PATTERNS

    def _make(self, definition: Object) -> tuple[Resource, ...]:
        resource = definition["metadata"]["name"]

        def weight(obj: Object) -> int:
            metadata = obj["metadata"]
            return self._store.weight(resource, metadata.get("namespace") or "", metadata["name"])

        try:
            return tuple(row for row in custom_rows(definition, self._webhooks, weight) if not _is_taken(row))
        except Exception:  # noqa: BLE001  other definitions must be served, even if this one is invalid
            _log.exception("the definition %s cannot be served", definition["metadata"]["name"])
            return ()

    def _follow(self, _type: str, old: Object | None, new: Object | None) -> None:
        if new is None:
            assert old is not None
            self._basis.pop(old["metadata"]["name"], None)
            self._prepared.pop(old["metadata"]["name"], None)
            self._set(old["metadata"]["name"], ())
            return
        name, basis = new["metadata"]["name"], _basis(new)
        if self._basis.get(name) == basis:
            return
        self._basis[name] = basis
        prepared = self._prepared.pop(name, None)
        if prepared is not None and prepared[0] == basis:
            self._set(name, prepared[1])
            return
        if not self._is_large(new):
            self._set(name, self._make(new))
            return
        task = asyncio.get_running_loop().create_task(self._make_apart(name, new, basis), name=f"type {name}")
        self._making.add(task)
        task.add_done_callback(self._making.discard)

    async def _make_apart(self, name: str, definition: Object, basis: _Basis) -> None:
        rows = await run_apart(self._make, definition)
        if self._basis.get(name) == basis:
            self._set(name, rows)

    def _set(self, name: str, rows: tuple[Resource, ...]) -> None:
        before = self._rows.pop(name, ())
        if rows:
            self._rows[name] = rows
        if before or rows:
            self._publish()
        for gone in {row.stored_as for row in before} - {row.stored_as for row in rows}:
            self._store.end_watches_of(gone)

    def _publish(self) -> None:
        self._registry.set_custom(row for rows in self._rows.values() for row in rows)


def _patterns(definition: Object) -> int:
    """Return an upper bound of the number of patterns in a small definition."""
    return str(definition["spec"]["versions"]).count("'pattern'")


def _basis(definition: Object) -> _Basis:
    metadata, status = definition["metadata"], definition.get("status") or {}
    return (
        metadata.get("uid"),
        metadata.get("generation"),
        condition_is_true(definition, "Established"),
        is_ending(definition),
        repr(status.get("acceptedNames")),
    )
