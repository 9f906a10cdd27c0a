"""Describes the settings of a cluster that its users must know of: what it opens, and whether it keeps its data.

The settings are stored. A later user of the cluster may not have chosen them, or may have forgotten them. Therefore
`hatchway up` and `hatchway status` show each setting that differs from its default.
"""

from __future__ import annotations

from typing import Any

from hatchway.cluster.state import EGRESS_STARTS, ClusterConfig, StateDir

NOTHING_IS_KEPT = "nothing is kept: `hatchway down` removes its objects and data; images stay"


def settings(config: ClusterConfig) -> dict[str, Any]:
    """Return the settings for programs, under the names that they have in `ClusterConfig`."""
    return {
        "ephemeral": config.ephemeral,
        "host_paths": list(config.host_paths),
        "publish": list(config.publish),
        "host_programs": config.host_programs,
        "egress_to_host": config.egress_to_host,
    }


def removed(state: StateDir) -> str:
    """Return the text that a command prints after it has ended an ephemeral cluster."""
    return f"removed {state.path}: the cluster was ephemeral, so nothing of it is kept"


def lines(found: dict[str, Any]) -> list[tuple[str, str]]:
    """Return (label, description) for each setting that is not the default. found: the result of `settings`.

    `egress_to_host` has no line here: it is part of `describe_egress`.
    """
    told = []
    if found["ephemeral"]:
        told.append(("ephemeral", NOTHING_IS_KEPT))
    if paths := found["host_paths"]:
        told.append(("host paths", f"pods may write in {', '.join(paths)} (--host-path)"))
    if addresses := found["publish"]:
        told.append(("published", f"node ports are open to other machines on {', '.join(addresses)} (--publish)"))
    if found["host_programs"]:
        told.append(("images", "the command of any image runs with this machine's programs (--host-programs)"))
    return told


def describe_egress(found: dict[str, Any], *, to_host: bool) -> str:
    """Return in words whether pods reach other networks.

    found: the result of `StateDir.load_egress`. to_host: whether pods may reach this machine's own addresses.
    """
    if not found["up"]:
        return f"pods reach nothing outside the cluster: {found['why']}"
    machine = ", and this machine's own addresses (--egress-to-host)" if to_host else ""
    return f"pods reach other networks through {found['tool']}{machine}"


def egress_at_start(found: dict[str, Any] | None, config: ClusterConfig) -> str:
    """Return what `hatchway up` prints about other networks; "" for a state that its user expects.

    found: the result of `StateDir.load_egress`; None on loopback, where --egress has no effect.
    """
    if found is None or config.egress == "none":
        return ""
    if found["up"] or found["why"] == EGRESS_STARTS:
        return describe_egress({**found, "up": True}, to_host=True) if config.egress_to_host else ""
    return describe_egress(found, to_host=config.egress_to_host)
