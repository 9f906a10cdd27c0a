"""Equality of JSON values. Unlike in Python, true does not equal 1."""

from __future__ import annotations

from typing import Any

__all__ = ["same_value"]

Json = Any


def same_value(one: Json, other: Json) -> bool:
    """Return True for equal JSON values. Numbers are equal by value (1 and 1.0), but never to true or false."""
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    if isinstance(one, dict):
        return (
            isinstance(other, dict)
            and one.keys() == other.keys()
            and all(same_value(value, other[name]) for name, value in one.items())
        )
    if isinstance(one, list):
        return (
            isinstance(other, list)
            and len(one) == len(other)
            and all(same_value(left, right) for left, right in zip(one, other, strict=True))
        )
    return bool(one == other)
