"""The portal's files: read once, served under names that carry a hash of their content. Pure but for reading them."""

from __future__ import annotations

import functools
import hashlib
import re
from dataclasses import dataclass
from pathlib import Path

PREFIX = "/-/hatchway/"

_DIRECTORY = Path(__file__).parent / "static"
_TYPES = {".css": "text/css; charset=utf-8", ".js": "text/javascript; charset=utf-8", ".svg": "image/svg+xml"}
# In index.html, and between the files: {{name}} becomes the file's address.
_REFERENCE = re.compile(r"\{\{([a-z.-]+)\}\}")


@dataclass(frozen=True, slots=True)
class Asset:
    """A file. path: its address, which changes with its content, so that it may be kept for ever."""

    path: str
    type: str
    body: bytes


def read(name: str) -> str:
    return (_DIRECTORY / name).read_text("utf-8")


@functools.cache
def assets() -> dict[str, Asset]:
    """All files but pages, by name."""
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
    """A page, with the addresses of the files that it names filled in."""
    return _REFERENCE.sub(lambda reference: assets()[reference[1]].path, read(name)).encode()
