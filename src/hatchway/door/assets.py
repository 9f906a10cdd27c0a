"""The portal's files, which are read once and served under names with a hash of their content."""

from __future__ import annotations

import functools
import hashlib
import re
from dataclasses import dataclass
from pathlib import Path

PREFIX = "/-/hatchway/"
# The portal's list of the hosts of Ingresses.
INGRESSES = PREFIX + "ingresses"

_DIRECTORY = Path(__file__).parent / "portal" / "static"
_TYPES = {".css": "text/css; charset=utf-8", ".js": "text/javascript; charset=utf-8", ".svg": "image/svg+xml"}
# `{{NAME}}` in a page is replaced by the path of the file NAME.
_REFERENCE = re.compile(r"\{\{([a-z.-]+)\}\}")


@dataclass(frozen=True, slots=True)
class Asset:
    """A file.

    path: its path at the door. It contains a hash of the content, so browsers may keep the file for ever.
    type: its media type.
    """

    path: str
    type: str
    body: bytes


def read(name: str) -> str:
    """Return a file of the portal as text."""
    return (_DIRECTORY / name).read_text("utf-8")


@functools.cache
def assets() -> dict[str, Asset]:
    """Return all files except pages, by their names."""
    found = {}
    for file in sorted(_DIRECTORY.iterdir()):
        if file.suffix in _TYPES:
            body = file.read_bytes()
            digest = hashlib.sha256(body).hexdigest()[:16]
            path = f"{PREFIX}static/{file.stem}.{digest}{file.suffix}"
            found[file.name] = Asset(path, _TYPES[file.suffix], body)
    return found


@functools.cache
def page(name: str = "index.html") -> bytes:
    """Return a page, with each `{{NAME}}` replaced by the path of that file."""
    return _REFERENCE.sub(lambda reference: assets()[reference[1]].path, read(name)).encode()
