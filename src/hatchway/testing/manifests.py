"""Reads manifests: YAML or JSON text, files, directories, and objects as dictionaries.

The separation of documents and the choice of a directory's files are those of kubectl (cli-runtime
`pkg/resource/visitor.go`, apimachinery `pkg/util/yaml/decoder.go`).
"""

from __future__ import annotations

import contextlib
import copy
import json
import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypeAlias

from hatchway.kube import goyaml
from hatchway.kube.api import Object
from hatchway.testing.problems import ClusterError

Manifest: TypeAlias = "str | os.PathLike[str] | Mapping[str, Any] | Iterable[Mapping[str, Any]]"
"""Text with YAML or JSON, the path of a file or directory, an object, or several objects."""

_SUFFIXES = (".json", ".yaml", ".yml")
_SEPARATOR = re.compile(r"^---(?=\s|$).*\n?", re.MULTILINE)
_FIRST = {"Namespace": 0, "CustomResourceDefinition": 0}


def read_manifest(source: Manifest) -> list[Object]:
    """Return the objects of a manifest: Namespaces and CustomResourceDefinitions first, otherwise in their order.

    The objects are copies, so that a caller's dictionaries are not changed later. Lists (`kind: List`) are replaced by
    their items.

    Raises:
        ClusterError: a file cannot be read, or a document is not an object of Kubernetes.
    """
    found: list[Object] = []
    if isinstance(source, str):
        found = _parse(source, "the text")
    elif isinstance(source, os.PathLike):
        for path in _files(Path(source)):
            try:
                text = path.read_text()
            except (OSError, UnicodeDecodeError) as error:
                raise ClusterError(f"cannot read {path}: {getattr(error, 'strerror', None) or error}") from error
            found += _parse(text, str(path))
    elif isinstance(source, Mapping):
        found = _expand(copy.deepcopy(dict(source)), "the object")
    else:
        for number, one in enumerate(source, 1):
            if not isinstance(one, Mapping):
                raise ClusterError(f"object {number} is a {type(one).__name__}, not a dictionary")
            found += _expand(copy.deepcopy(dict(one)), f"object {number}")
    return sorted(found, key=lambda obj: _FIRST.get(obj["kind"], 1))


def _files(path: Path) -> list[Path]:
    if not path.is_dir():
        return [path]
    found = sorted(one for one in path.iterdir() if one.suffix in _SUFFIXES and one.is_file())
    if not found:
        raise ClusterError(f"{path} has no manifest: no file whose name ends with {', '.join(_SUFFIXES)}")
    return found


def _parse(text: str, where: str) -> list[Object]:
    found: list[Object] = []
    for number, part in enumerate(_SEPARATOR.split(text), 1):
        try:
            document = _load(part)
        except (goyaml.YamlError, UnicodeEncodeError) as error:
            raise ClusterError(f"{where}, document {number}, is not valid YAML: {error}") from error
        if document is None:
            continue
        found += _expand(document, f"{where}, document {number},")
    if not found:
        raise ClusterError(f"{where} has no object")
    return found


def _load(text: str) -> Any:
    """Return a document's value. As in kubectl, JSON is tried first, because it has escapes that YAML does not have."""
    if text.lstrip().startswith("{"):
        with contextlib.suppress(ValueError, RecursionError):
            return json.loads(text)
    return goyaml.value(goyaml.parse(text.encode()).root)


def _expand(document: Any, where: str) -> list[Object]:
    """Return the object, or the items of a list. Raises ClusterError."""
    if not isinstance(document, dict):
        hint = "to read a file, pass a pathlib.Path" if isinstance(document, str) else ""
        raise ClusterError(f"{where} is not an object of Kubernetes, but {type(document).__name__}", hint)
    missing = [key for key in ("apiVersion", "kind") if not isinstance(document.get(key), str) or not document[key]]
    if missing:
        raise ClusterError(f"{where} has no {' and no '.join(missing)}")
    if document["kind"].endswith("List") and isinstance(document.get("items"), list):
        return [one for index, item in enumerate(document["items"]) for one in _expand(item, f"{where} item {index}")]
    metadata = document.get("metadata")
    if not isinstance(metadata, dict) or not (metadata.get("name") or metadata.get("generateName")):
        raise ClusterError(f"{where} ({document['kind']}) has no metadata.name")
    return [document]
