"""Descriptions for `kubectl explain`, read from an installed dependency; none are kept here.

`lightkube-models` carries Kubernetes' descriptions as docstrings. Its files are read as text: importing them would
load a client and thousands of classes for nothing else.
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
    """The docstrings of one file (`core.v1`) by class; empty when the dependency does not have it."""
    spec = importlib.util.find_spec("lightkube")
    if spec is None or spec.origin is None:
        return {}
    path = Path(spec.origin).parent / "models" / f"{package.replace('.', '_')}.py"
    try:
        return dict(_class.findall(path.read_text(encoding="utf-8")))
    except OSError:
        return {}


def descriptions(name: str) -> tuple[str, dict[str, str]]:
    """What a definition (`core.v1.PodSpec`) and each of its fields mean; empty for what is not described."""
    package, _, kind = name.rpartition(".")
    text = _texts(package).get(kind, "")
    summary, _, parameters = text.partition("**parameters**")
    return _plain(summary), {field: _plain(one) for field, one in _parameter.findall(parameters)}


def _plain(text: str) -> str:
    return _space.sub(" ", text).strip()
