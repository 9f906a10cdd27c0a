"""Amounts: their sums and texts agree with Kubernetes' quantities."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hatchway.cluster.amounts import Amount, add, amounts_of, greatest, shown, subtract, texts_of, without_zeros
from hatchway.cluster.api.registry.schema import canonical_quantity, quantity_value

TEXTS = st.builds(
    lambda number, suffix: f"{number}{suffix}",
    st.one_of(st.integers(-(10**6), 10**6), st.decimals(-1000, 1000, places=3)),
    st.sampled_from(["", "n", "u", "m", "k", "M", "G", "Ki", "Mi", "Gi", "e3", "E-2"]),
)


@given(TEXTS)
def test_an_amount_is_shown_as_the_server_stores_it(text: str) -> None:
    assert str(Amount.parse(text)) == canonical_quantity(text)


@given(TEXTS, TEXTS)
def test_sums_and_differences_are_exact(one: str, other: str) -> None:
    left, right = Amount.parse(one), Amount.parse(other)
    for found, wanted in (
        (left + right, quantity_value(one) + quantity_value(other)),
        (left - right, quantity_value(one) - quantity_value(other)),
    ):
        assert found.nano == int(wanted * 10**9)
        assert Amount.parse(str(found)).nano == found.nano


@pytest.mark.parametrize(
    ("texts", "total"),
    [
        (["512Mi", "512Mi"], "1Gi"),
        (["500m", "500m"], "1"),
        (["1Gi", "1"], "1073741825"),
        (["0", "1Ki"], "1Ki"),
        (["1e3", "1e3"], "2e3"),
        (["100m", "1k"], "1000100m"),
    ],
)
def test_a_sum_keeps_the_style_of_its_first_amount(texts: list[str], total: str) -> None:
    found = Amount(0)
    for text in texts:
        found = found + Amount.parse(text)
    assert str(found) == total


@pytest.mark.parametrize("text", ["", ".", "x", "1 ", "1Zi", "--1", "1e", "1" * 65, "0x1", "١"])
def test_invalid_quantities_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not a quantity"):
        Amount.parse(text)


def test_lists_of_amounts_are_added_compared_and_shown() -> None:
    one, other = amounts_of({"cpu": "1", "memory": "1Gi"}), amounts_of({"cpu": "1500m", "pods": 2})
    assert texts_of(add(one, other)) == {"cpu": "2500m", "memory": "1Gi", "pods": "2"}
    assert texts_of(subtract(one, other)) == {"cpu": "0", "memory": "1Gi", "pods": "0"}
    assert texts_of(greatest(one, other)) == {"cpu": "1500m", "memory": "1Gi", "pods": "2"}
    assert shown(without_zeros(subtract(other, one))) == "cpu=500m,pods=2"
