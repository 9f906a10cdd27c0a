"""Writes kubeconfigs for tests: with one context only, and with another namespace."""

from __future__ import annotations

from pathlib import Path

from hatchway.errors import HatchwayError
from hatchway.files import write_private
from hatchway.kube import goyaml, kubeconfig


def copy_context(context: str, to: Path) -> None:
    """Write a kubeconfig that has only one context of $KUBECONFIG or ~/.kube/config, as its current context.

    Raises:
        HatchwayError: there is no such context, or no kubeconfig.
    """
    document = kubeconfig.read()
    found = _named(document, "contexts", context)
    if found is None:
        known = ", ".join(sorted(str(one.get("name")) for one in document["contexts"])) or "none"
        raise HatchwayError(f'there is no context "{context}" in the kubeconfig', f"it has {known}")
    content = found.get("context") or {}
    _write(
        to,
        {
            "contexts": [found],
            "clusters": [one for one in (_named(document, "clusters", str(content.get("cluster"))),) if one],
            "users": [one for one in (_named(document, "users", str(content.get("user"))),) if one],
            "current-context": context,
        },
    )


def with_namespace(path: Path, namespace: str) -> Path:
    """Write a kubeconfig beside `path` with the current context of `path`, but another namespace; return its path."""
    made = path.with_name(f"{path.name}-{namespace}")
    if not made.exists():
        document = kubeconfig.read(str(path))
        found = _named(document, "contexts", str(document["current-context"]))
        assert found is not None
        found["context"] = {**found["context"], "namespace": namespace}
        document["contexts"] = [found]
        _write(made, document)
    return made


def _named(document: kubeconfig.Kubeconfig, section: str, name: str) -> kubeconfig.Kubeconfig | None:
    return next((one for one in document[section] if one.get("name") == name), None)


def _write(path: Path, document: kubeconfig.Kubeconfig) -> None:
    lists = {
        section: [{key: value for key, value in one.items() if key != kubeconfig.ORIGIN} for one in document[section]]
        for section in ("clusters", "users", "contexts")
    }
    whole = {"apiVersion": "v1", "kind": "Config", **lists, "current-context": document["current-context"]}
    write_private(path, goyaml.dump(goyaml.Document(goyaml.node_of(whole))))
