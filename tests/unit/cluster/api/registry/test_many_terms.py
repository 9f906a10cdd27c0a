"""A selector of many terms has the same result as a check of each term."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from hatchway.cluster.api.registry.selectors import FieldSelector, FieldTerm, LabelSelector, Requirement

_keys = st.sampled_from(["a", "b", "c"])
_values = st.sampled_from(["", "1", "2", "3", "x"])
_labels = st.none() | st.dictionaries(_keys, _values)
_requirement = st.one_of(
    st.builds(Requirement, _keys, st.sampled_from(["in", "notin"]), st.frozensets(_values, min_size=1)),
    st.builds(Requirement, _keys, st.sampled_from(["exists", "!"])),
    st.builds(Requirement, _keys, st.sampled_from(["gt", "lt"]), _values.map(lambda one: frozenset((one,)))),
)


@given(st.lists(_requirement, max_size=12), st.lists(_labels, max_size=8))
def test_labels(requirements: list[Requirement], objects: list[dict[str, str] | None]) -> None:
    selector = LabelSelector(tuple(requirements))
    matches = selector.matcher()
    for labels in objects:
        assert matches(labels) is selector.matches(labels)


@given(
    st.lists(st.builds(FieldTerm, _keys, _values, st.booleans()), max_size=12),
    st.lists(st.fixed_dictionaries(dict.fromkeys("abc", _values)), max_size=8),
)
def test_fields(terms: list[FieldTerm], objects: list[dict[str, str]]) -> None:
    selector = FieldSelector(tuple(terms))
    matches = selector.matcher()
    for found in objects:
        assert matches(found.__getitem__) is selector.matches(found.__getitem__)
