"""Adds a cluster's context to the kubeconfig when the cluster starts, and removes it when the cluster ends."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

from hatchway.cluster.inventory import context_name
from hatchway.cluster.state import StateDir
from hatchway.errors import HatchwayError
from hatchway.kube import kubeconfig


def entry(state: StateDir, context: str, server: str) -> kubeconfig.KubeconfigEntry:
    """Return a cluster's part of a kubeconfig, with the administrator's credentials. context: the context's name."""

    def encoded(name: str) -> str:
        return base64.b64encode((state.pki / name).read_bytes()).decode()

    return kubeconfig.KubeconfigEntry(context, server, encoded("ca.crt"), encoded("admin.crt"), encoded("admin.key"))


def write_kubeconfig(state: StateDir, path: Path, server: str) -> str:
    """Merge the cluster into a kubeconfig, and record the former current context. Return the cluster's context."""
    context = context_name(state.path.name)
    before = kubeconfig.merge(path, entry(state, context, server))
    known = state.load_kubeconfig()
    if before == context:
        # A cluster that was killed has not removed its context. Keep the record of the former current context.
        before = known["before"] if known else ""
    state.save_kubeconfig({"path": str(path), "context": context, "before": before})
    return context


def restore_kubeconfig(state: StateDir) -> None:
    """Remove the cluster from the kubeconfig into which it was merged. Idempotent."""
    known = state.load_kubeconfig()
    if known is None:
        return
    remove_context(known)
    try:
        state.kubeconfig_file.unlink(missing_ok=True)
    except OSError as error:
        raise HatchwayError(f"cannot remove {state.kubeconfig_file}: {error.strerror}") from error


def remove_context(known: dict[str, Any]) -> None:
    """Remove a cluster's context from a kubeconfig. Idempotent.

    known: the record that `StateDir.load_kubeconfig` returns.
    """
    kubeconfig.remove(Path(known["path"]), known["context"], known["before"])
