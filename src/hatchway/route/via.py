"""The values of `--via`. They are not in the routes' modules, so that `--help` does not wait for their imports."""

from __future__ import annotations

from enum import StrEnum


class Via(StrEnum):
    """The values of `--via`.

    auto: by the API server's proxy verb if that carries everything; else by port-forward if the user may use it; else
        by the proxy verb.
    api: by the API server's proxy verb.
    forward: by port-forward.
    ssh: from a node, to which the user logs in.
    relay: through a pod that is made for this command; used only when the user chooses it.
    """

    auto = "auto"
    api = "api"
    forward = "forward"
    ssh = "ssh"
    relay = "relay"
