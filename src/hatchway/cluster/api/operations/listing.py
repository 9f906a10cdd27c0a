"""Selects the objects of a list, or of a page of it.

The objects are taken from the store in one turn of the event loop, so that they show one state. The selection may take
many turns.
"""

from __future__ import annotations

import time
from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass

from hatchway.cluster.api.operations.paging import ListExpired, Token, parse_token, position
from hatchway.cluster.api.operations.requestoptions import ListOptions, too_large_version
from hatchway.cluster.api.registry.conversion import ObjectConversion
from hatchway.cluster.api.registry.resource import Resource
from hatchway.cluster.api.storage.history import Event
from hatchway.cluster.api.storage.store import Store
from hatchway.cluster.api.work import Pace, run_apart
from hatchway.errors import ApiError, bad_request, gone
from hatchway.kube.api import Object

__all__ = ["Page", "list_page", "matcher"]

Matcher = Callable[[Object], bool]
# A former state that is computed from at least this many objects and events is computed on the worker thread.
_MANY = 2000
# A bit mask: the clock is checked once every 16 objects.
_STEP = 15
# Objects of a type with conversions are converted in groups of this size before the selection.
_CONVERTED = 100


@dataclass(frozen=True, slots=True)
class Page:
    """A list, or one page of a list.

    revision: the list's resourceVersion.
    remaining: how many items follow; None when this is unknown, or when no items follow.
    is_shown: True if the items are in the client's version; False if they are in the stored version.
    """

    items: list[Object]
    revision: int
    continue_token: str = ""
    remaining: int | None = None
    is_shown: bool = False


def matcher(row: Resource, namespace: str | None, options: ListOptions) -> Matcher:
    """Return a function that returns True for selected objects. It takes custom objects in the row's version only.

    Raises ApiError 400 for fields that selectors cannot use.
    """
    readers = {
        "metadata.name": lambda obj: str(obj["metadata"]["name"]),
        "metadata.namespace": lambda obj: str(obj["metadata"].get("namespace") or ""),
        **row.strategy.selectable,
    }
    for term in options.fields.terms:
        if term.field not in readers:
            if row.strategy.selectable:
                raise bad_request(f"field label not supported: {term.field}")
            raise bad_request(
                f'"{term.field}" is not a known field selector: only "metadata.name", "metadata.namespace"'
            )
    has_labels, has_fields = bool(options.labels.requirements), bool(options.fields.terms)
    labels_match, fields_match = options.labels.matcher(), options.fields.matcher()

    def matches(obj: Object) -> bool:
        metadata = obj["metadata"]
        if namespace is not None and (metadata.get("namespace") or "") != namespace:
            return False
        if has_labels and not labels_match(metadata.get("labels")):
            return False
        return not has_fields or fields_match(lambda name: readers[name](obj))

    return matches


async def list_page(store: Store, row: Resource, namespace: str | None, options: ListOptions) -> Page:
    """Return a page of the matching objects, in the order of namespace and name.

    A continued list shows the objects as they were when its first page was made, as long as the history has that state.
    Raises ApiError 400, 410, 504.
    """
    revision, past = store.revision, None
    # Types without namespaces are listed like a single namespace.
    scope = namespace if row.namespaced else ""
    token = Token(0, ("", ""), time.time())
    if options.continue_token:
        token = parse_token(options.continue_token, scope)
        if options.resource_version not in ("", "0"):
            raise bad_request("specifying resource version is not allowed when using continue")
        if token.revision > 0:
            revision, past = token.revision, _past(store, row, token.revision)
            if past is None or token.expired():
                raise ListExpired(token.latest().format(scope))
        else:
            token = Token(0, token.after, time.time())
    else:
        asked = options.revision or 0
        if asked > revision:
            raise too_large_version(asked, revision)
        if options.resource_version_match == "Exact":
            revision, past = asked, _past(store, row, asked)
            if past is None:
                raise gone(f"The resourceVersion for the provided list is too old: {asked}")
    matches = matcher(row, namespace, options)
    name = options.fields.exact("metadata.name")
    if name is not None and namespace and not past:
        one = store.get(row.stored_as, namespace, name)
        candidates = [one] if one is not None else []
    else:
        candidates = store.list(row.stored_as, namespace)
    if past:
        if len(candidates) + len(past) < _MANY:
            candidates = _rolled_back(candidates, past, namespace)
        else:
            candidates = await run_apart(_rolled_back, candidates, past, namespace)
    begin = bisect_right(candidates, token.after, key=position) if token.after[1] else 0
    selective = bool(options.labels.requirements or options.fields.terms)
    end = len(candidates)
    if not selective:
        if options.limit > 0:
            end = min(end, begin + options.limit)
        found = candidates[begin:end]
    elif row.conversion is None:
        found, end = await _select(candidates, begin, matches, options.limit)
    else:
        found, end = await _select_converted(row.conversion, candidates, begin, matches, options.limit)
    following, remaining = "", None
    if end < len(candidates):
        following = Token(revision, position(found[-1]), token.began).format(scope)
        remaining = None if selective else len(candidates) - end
    return Page(found, revision, following, remaining, is_shown=selective and row.conversion is not None)


async def _select(candidates: list[Object], begin: int, matches: Matcher, limit: int) -> tuple[list[Object], int]:
    """Return the first matching objects from `begin` on, and the index of the next matching object.

    The index is the number of candidates when no more objects match. limit: the maximum number of objects to return; 0
    for all.
    """
    found: list[Object] = []
    pace = Pace()
    for index in range(begin, len(candidates)):
        if not index & _STEP and pace.due():
            await pace.rest()
        if matches(candidates[index]):
            if 0 < limit == len(found):
                return found, index
            found.append(candidates[index])
    return found, len(candidates)


async def _select_converted(
    conversion: ObjectConversion, candidates: list[Object], begin: int, matches: Matcher, limit: int
) -> tuple[list[Object], int]:
    """Select like `_select` from objects in the row's version, which may have other labels than the stored ones.

    Raises ApiError 500 and 504 for a conversion.
    """
    found: list[Object] = []
    pace = Pace()
    for start in range(begin, len(candidates), _CONVERTED):
        if pace.due():
            await pace.rest()
        some = await conversion.read(candidates[start : start + _CONVERTED])
        for index, one in enumerate(some, start):
            if matches(one):
                if 0 < limit == len(found):
                    return found, index
                found.append(one)
    return found, len(candidates)


def _past(store: Store, row: Resource, revision: int) -> list[Event] | None:
    """Return the events of a type's objects since a revision; None when the history no longer has them all."""
    if revision > store.revision:
        return None
    try:
        return store.history(row.stored_as).since(revision)
    except ApiError:
        return None


def _rolled_back(objects: list[Object], events: list[Event], namespace: str | None) -> list[Object]:
    """Return the objects as they were before the events."""
    found = {position(obj): obj for obj in objects}
    for event in reversed(events):
        key = position(event.new)
        if namespace is not None and key[0] != namespace:
            continue
        if event.old is None:
            found.pop(key, None)
        else:
            found[key] = event.old
    return [found[key] for key in sorted(found)]
