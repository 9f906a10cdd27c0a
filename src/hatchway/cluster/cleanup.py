"""Cleans up after a cluster has ended: removes its context from the kubeconfig, and its files."""

from __future__ import annotations

import contextlib

from hatchway.cluster import kubecontext
from hatchway.cluster.state import StateDir
from hatchway.errors import HatchwayError
from hatchway.removal import remove_path


def clean_up(state: StateDir, *, delete: bool) -> HatchwayError | None:
    """Remove the context of the (stopped) cluster from the kubeconfig, and delete the cluster's files.

    A full disk or a damaged kubeconfig does not prevent the deletion, which may free the missing space.

    delete: False to keep the files.

    Returns why the context is still in the kubeconfig; None when it was removed.

    Raises HatchwayError when a file of the cluster cannot be removed.
    """
    failure: HatchwayError | None = None
    known = None
    try:
        known = state.load_kubeconfig()
        kubecontext.restore_kubeconfig(state)
    except HatchwayError as error:
        left = f'; the context "{known["context"]}" is still in it' if known is not None else ""
        failure = HatchwayError(error.message + left, error.hint)
    if not delete:
        return failure
    _remove_state(state)
    if failure is not None and known is not None:
        with contextlib.suppress(HatchwayError):
            kubecontext.remove_context(known)
            return None
    return failure


def _remove_state(state: StateDir) -> None:
    """Delete all files of the (stopped) cluster. Raises HatchwayError when a file cannot be removed."""
    try:
        remove_path(state.path)
    except OSError as error:
        # The message does not contain error.filename, because this is only a name in some directory of the tree.
        hint = (
            "files in it belong to another user, or to a range of /etc/subuid that you had: root can remove it"
            if isinstance(error, PermissionError)
            else ""
        )
        raise HatchwayError(f"cannot remove {state.path}: {error.strerror}", hint) from error
