"""Reads fields of objects without trust in their types, because a hostile API server may send anything. Pure."""

from __future__ import annotations

from typing import Any


def mapping(value: object) -> dict[str, Any]:
    """Return a JSON object; {} for anything else."""
    return value if isinstance(value, dict) else {}


def sequence(value: object) -> list[Any]:
    """Return a JSON array; [] for anything else."""
    return value if isinstance(value, list) else []


def mappings(value: object) -> list[dict[str, Any]]:
    """Return the JSON objects in a JSON array."""
    return [item for item in sequence(value) if isinstance(item, dict)]


def texts(value: object) -> list[str]:
    """Return the strings in a JSON array."""
    return [item for item in sequence(value) if isinstance(item, str)]


def text(value: object) -> str:
    """Return a string; "" for anything else."""
    return value if isinstance(value, str) else ""


def number(value: object) -> int:
    """Return a whole number from 0 to 65535; 0 for anything else."""
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= 65535 else 0


def pairs(value: object) -> dict[str, str]:
    """Return the entries of a JSON object that are strings (labels, annotations)."""
    return {key: item for key, item in mapping(value).items() if isinstance(item, str)}
