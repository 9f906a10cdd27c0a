"""Lists of type set and map in CEL rules, compared without regard to order (apiserver `pkg/cel/common/values.go`)."""

from __future__ import annotations

from hatchway.cluster.api.cel.equality import contains, equal
from hatchway.cluster.api.cel.state import Evaluation
from hatchway.cluster.api.cel.values import Value

__all__ = ["KeyedList", "SetList"]

# Elements of these types are found by hash, other elements by comparison with each element.
_Hashable = str | int | float | bool


def _token(value: Value) -> object:
    """Return a key that is equal for equal values of one type; None for all values that cannot be hashed."""
    return (type(value), value) if isinstance(value, _Hashable) else None


class SetList(list[Value]):
    """A list of type set."""

    __slots__ = ()

    def equal_to(self, other: list[Value], state: Evaluation) -> bool:
        """Return True when `other` has the same elements. Raises CostExceeded."""
        if len(self) != len(other):
            return False
        state.walk(len(self))
        known = {_token(one) for one in other}
        return all(_token(one) in known and (_token(one) is not None or contains(other, one, state)) for one in self)

    def merged_with(self, other: list[Value], state: Evaluation) -> SetList:
        """Return the union: this list, then the elements that only `other` has. Raises CostExceeded."""
        state.walk(len(self) + len(other))
        known = {_token(one) for one in self}
        found = SetList(self)
        for one in other:
            token = _token(one)
            if token not in known or (token is None and not contains(found, one, state)):
                known.add(token)
                found.append(one)
        return found


class KeyedList(list[Value]):
    """A list of type map. keys: the escaped names of the fields that identify an item."""

    __slots__ = ("keys",)

    def __init__(self, values: list[Value], keys: tuple[str, ...]) -> None:
        super().__init__(values)
        self.keys = keys

    def _key(self, item: Value) -> object:
        return tuple(_token(item.get(key)) if isinstance(item, dict) else None for key in self.keys)

    def equal_to(self, other: list[Value], state: Evaluation) -> bool:
        """Return True when `other` has equal items for the same keys. Raises CostExceeded."""
        if len(self) != len(other):
            return False
        state.walk(len(self))
        known = {self._key(one): one for one in other}
        return all(self._key(one) in known and equal(one, known[self._key(one)], state) for one in self)

    def merged_with(self, other: list[Value], state: Evaluation) -> KeyedList:
        """Return this list with the items of `other`. An item of `other` replaces the item with the same keys.

        Raises CostExceeded.
        """
        state.walk(len(self) + len(other))
        places = {self._key(one): at for at, one in enumerate(self)}
        found = KeyedList(self, self.keys)
        for one in other:
            at = places.get(self._key(one))
            if at is None:
                places[self._key(one)] = len(found)
                found.append(one)
            else:
                found[at] = one
        return found
