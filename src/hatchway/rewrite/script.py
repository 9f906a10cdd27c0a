"""Builds the two scripts for browsers: `prefix.js` with its parts `browser/*.js`, and the short `ownaddress.js`.

The build needs only Python, and runs when the script is needed for the first time, so the served script always matches
the files. Each `//= NAME` in `prefix.js` is replaced by `browser/NAME.js`, and `//= vocabulary` by the lists of
`vocabulary.py`; comments and indentation are removed.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from functools import lru_cache
from importlib import resources
from typing import Final

from hatchway.rewrite.vocabulary import OF_THE_BROWSER

_VOCABULARY: Final = "vocabulary"
# The placeholder for the addresses in both scripts.
_HOSTS: Final = b'["__HOSTS__"]'
_PLAIN_HOST = re.compile(rb"[A-Za-z0-9._:\[\]-]+")


def vocabulary() -> str:
    """Return the lists that both rewriters share, in JavaScript."""
    return "\n".join(f"var {name} = {json.dumps(value)};" for name, value in OF_THE_BROWSER.items())


@lru_cache(maxsize=1)
def template() -> bytes:
    """Return the script without a prefix, comments and indentation."""
    home = resources.files(__package__)
    lines: list[str] = []
    for line in home.joinpath("prefix.js").read_text().splitlines():
        found = line.strip()
        if found.startswith("//= "):
            part = found[4:]
            text = vocabulary() if part == _VOCABULARY else home.joinpath("browser", f"{part}.js").read_text()
            lines += text.splitlines()
        else:
            lines.append(line)
    return _bare(lines)


@lru_cache(maxsize=1)
def _own_template() -> bytes:
    return _bare(resources.files(__package__).joinpath("ownaddress.js").read_text().splitlines())


def _bare(lines: Iterable[str]) -> bytes:
    """Return the lines of a script without comments and indentation."""
    stripped = (line.strip() for line in lines)
    return "\n".join(line for line in stripped if line and not line.startswith("//")).encode()


@lru_cache(maxsize=64)
def script(prefix: bytes, hosts: tuple[bytes, ...]) -> bytes:
    """Return the complete script for an application, which works in workers, too.

    prefix: as in `PrefixRewriter`.
    hosts: `host:port` by which the application may be named; hosts that need escaping are left out.
    """
    return template().replace(b'"/__PREFIX__"', b'"' + prefix + b'"').replace(_HOSTS, _listed(hosts))


@lru_cache(maxsize=64)
def own_address_script(hosts: tuple[bytes, ...]) -> bytes:
    """Return the script for pages under a host name of their own. hosts: as in `script`."""
    return _own_template().replace(_HOSTS, _listed(hosts))


def _listed(hosts: Iterable[bytes]) -> bytes:
    names = (b'"' + host + b'"' for host in dict.fromkeys(hosts) if _PLAIN_HOST.fullmatch(host))
    return b"[" + b",".join(names) + b"]"
