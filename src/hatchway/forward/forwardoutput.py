"""Forwards as JSON, as variables of the environment, and as lines for people. Pure."""

from __future__ import annotations

import re
import shlex
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from hatchway.forward.forwarder import LocalForward
from hatchway.target import WORDS

_NO_VARIABLE = re.compile(r"[^A-Z0-9]")


def as_json(forwards: Sequence[LocalForward]) -> list[dict[str, Any]]:
    """Return one object for each forward.

    kind, name, namespace (absent for nodes and hosts), port (number; absent where only its name is known), portName,
    protocol (UDP; absent for TCP) describe the target. address and localPort, or unixSocket: where the forward listens.
    """
    out = []
    for one in forwards:
        planned, listen = one.planned, one.listen
        target = planned.target
        out.append(
            {
                "kind": WORDS[target.kind],
                "name": target.name,
                **({"namespace": target.namespace} if target.namespace else {}),
                **({"port": planned.number} if planned.number else {}),
                **({"portName": planned.port_name} if planned.port_name else {}),
                **({"protocol": planned.protocol} if planned.protocol != "TCP" else {}),
                **(
                    {"unixSocket": listen.path}
                    if listen.path
                    else {"address": listen.address, "localPort": listen.port}
                ),
            }
        )
    return out


def as_env(forwards: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return `NAME=value` lines, quoted for a shell, with names like those of Kubernetes' variables in pods.

    WEB_SERVICE_HOST and WEB_SERVICE_PORT are for the first port, WEB_SERVICE_PORT_HTTP is for the port `http`. Targets
    with the same name get their namespace before the name. A target that is not a service gets its kind before the name
    (`POD_WEB_0_PORT`, `DEPLOYMENT_WEB_PORT`). WEB_SERVICE_SOCKET is for a Unix socket, DNS_SERVICE_PORT_53_UDP for UDP.

    forwards: as from `as_json`.
    """
    names = {(str(one["name"]), str(one.get("namespace", ""))) for one in forwards}
    shared = Counter(name for name, _ in names)
    lines: list[str] = []
    seen: set[str] = set()

    def add(variable: str, value: str) -> None:
        if variable not in seen:
            seen.add(variable)
            lines.append(f"{variable}={shlex.quote(value)}")

    for one in forwards:
        name, kind = str(one["name"]), str(one["kind"])
        prefix = f"{one.get('namespace', '')}_{name}" if shared[name] > 1 else name
        base = f"{_variable(prefix)}_SERVICE" if kind == "service" else f"{kind.upper()}_{_variable(prefix)}"
        protocol = f"_{one['protocol']}" if "protocol" in one else ""
        suffixes = ["", f"_{_variable(str(one.get('portName') or one.get('port', 0)))}{protocol}"]
        if "unixSocket" in one:
            for suffix in suffixes:
                add(f"{base}_SOCKET{suffix}", str(one["unixSocket"]))
            continue
        add(f"{base}_HOST", str(one["address"]))
        for suffix in suffixes:
            add(f"{base}_PORT{suffix}", str(one["localPort"]))
    return lines


def _variable(text: str) -> str:
    return _NO_VARIABLE.sub("_", text.upper())


def as_line(forward: LocalForward) -> str:
    """Return a description of a forward, as one line."""
    planned = forward.planned
    number = f" (port {planned.number})" if planned.port_name and planned.number else ""
    where = f" in namespace {planned.target.namespace}" if planned.target.namespace else ""
    return f"Forwarding {forward.listen} -> {planned.label}{number}{where}"
