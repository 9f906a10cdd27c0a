"""Makes names and uids."""

from __future__ import annotations

import secrets
import uuid

# No vowels and no digits that look like letters, so that no words appear by accident (apiserver's `names/generate.go`).
_ALPHABET = "bcdfghjklmnpqrstvwxz2456789"
_MAX_BASE = 63 - 5


def random_suffix(length: int = 5) -> str:
    """Return `length` random characters that form no words."""
    return "".join(secrets.choice(_ALPHABET) for _ in range(length))


def generate_name(base: str) -> str:
    """Return a name for an object with `metadata.generateName`."""
    return base[:_MAX_BASE] + random_suffix()


def new_uid() -> str:
    """Return a new object's metadata.uid."""
    return str(uuid.uuid4())
