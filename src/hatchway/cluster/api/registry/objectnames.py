"""Generates names and uids of objects."""

from __future__ import annotations

import os
import secrets

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
    # A random UUID (RFC 9562, version 4), made directly because `uuid.uuid4` is slower.
    text = os.urandom(16).hex()
    variant = "89ab"[int(text[16], 16) & 3]
    return f"{text[:8]}-{text[8:12]}-4{text[13:16]}-{variant}{text[17:20]}-{text[20:]}"
