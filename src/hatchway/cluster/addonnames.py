"""The names of the add-ons in `hatchway up --addons` and in a cluster's configuration."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from hatchway.errors import HatchwayError

__all__ = ["ADDONS", "ALL", "NONE", "enabled", "parse_list"]

ADDONS: Final = ("dns", "logging", "metrics", "ingress", "dashboards")
# ALL means all add-ons, including add-ons of later releases.
ALL: Final = "all"
NONE: Final = "none"


def parse_list(text: str) -> list[str]:
    """Parse a list of add-ons. Return names, or only ALL, for the configuration. Raises HatchwayError.

    text: names with commas between them, or `all`, or `none`. A list of all names becomes ALL.
    """
    names = [name.strip().lower() for name in text.split(",")]
    if len(names) == 1 and names[0] in (ALL, NONE):
        return [ALL] if names[0] == ALL else []
    hint = f"choose from {', '.join(ADDONS)} with commas between them, or {ALL}, or {NONE}"
    for name in names:
        if name in (ALL, NONE):
            raise HatchwayError(f'"{name}" excludes other names', hint)
        if name not in ADDONS:
            raise HatchwayError(f'there is no add-on "{name}"' if name else "a name is missing", hint)
    found: list[str] = [name for name in ADDONS if name in names]
    return [ALL] if len(found) == len(ADDONS) else found


def enabled(kept: Sequence[str]) -> tuple[str, ...]:
    """Return the add-ons that a configuration switches on, without names that this release does not have."""
    return tuple(name for name in ADDONS if name in kept or ALL in kept)
