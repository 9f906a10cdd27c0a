"""Names and identities that the server makes up."""

from __future__ import annotations

import secrets
import uuid

# No vowels and no digits that look like letters, so that no words come out (apiserver's `names/generate.go`).
_ALPHABET = "bcdfghjklmnpqrstvwxz2456789"
_MAX_BASE = 63 - 5


def random_suffix(length: int = 5) -> str:
    return "".join(secrets.choice(_ALPHABET) for _ in range(length))


def generate_name(base: str) -> str:
    """A name for an object with `metadata.generateName`."""
    return base[:_MAX_BASE] + random_suffix()


def new_uid() -> str:
    return str(uuid.uuid4())
