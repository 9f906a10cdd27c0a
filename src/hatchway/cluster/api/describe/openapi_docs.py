"""Reads descriptions for `kubectl explain` from an installed package.

`lightkube-models` has Kubernetes' descriptions as docstrings. Its files are read as text, because importing them would
load a client and thousands of classes only for these texts.
"""

from __future__ import annotations

import functools
import importlib.util
import re
from pathlib import Path

__all__ = ["descriptions"]

_class = re.compile(r'^class (\w+)\([^\n]*\):\n    r?"""(.*?)"""', re.M | re.S)
_parameter = re.compile(r"^ *\* \*\*(\w+)\*\* ``.*?`` - (.*?)(?=^ *\* \*\*\w+\*\* ``|\Z)", re.M | re.S)
_space = re.compile(r"\s+")


@functools.cache
def _texts(package: str) -> dict[str, str]:
    """Return the docstrings of one file (`core.v1`) by class; empty when the package does not have the file."""
    # Unless lightkube itself is installed, `lightkube` is a namespace package, which may have several directories.
    spec = importlib.util.find_spec("lightkube")
    places = spec.submodule_search_locations if spec is not None else None
    for place in places or ():
        try:
            text = (Path(place) / "models" / f"{package.replace('.', '_')}.py").read_text(encoding="utf-8")
        except OSError:
            continue
        return dict(_class.findall(text))
    return {}


def descriptions(name: str) -> tuple[str, dict[str, str]]:
    """Return the descriptions of a definition (`core.v1.PodSpec`) and of its fields; "" for no description."""
    package, _, kind = name.rpartition(".")
    text = _texts(package).get(kind, "")
    summary, _, parameters = text.partition("**parameters**")
    return _plain(summary), {field: _plain(one) for field, one in _parameter.findall(parameters)}


def _plain(text: str) -> str:
    return _space.sub(" ", text).strip()
