"""What the addon is told by its environment."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from hatchway.errors import HatchwayError

_GIBIBYTE = 1024**3


@dataclass(frozen=True, slots=True)
class Settings:
    """logs: HATCHWAY_LOG_DIR, the node's pod logs. data: HATCHWAY_LOG_DATA, where indices are kept. limit:
    HATCHWAY_LOG_LIMIT, bytes on disk. host: HATCHWAY_NODE_NAME. address, port: HATCHWAY_LOG_ADDRESS, HATCHWAY_LOG_PORT.
    """

    logs: Path
    data: Path
    limit: int
    host: str
    address: str
    port: int

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> Settings:
        """Raises HatchwayError when a value is no number."""
        pod_ip = environment.get("HATCHWAY_POD_IP", "")
        # Without a private network all pods share loopback, and each one has an address of its own to bind to.
        # There, volumes lie below a directory instead of at their mountPath, too.
        root = Path(environment.get("HATCHWAY_ROOT", "/"))
        default_address = pod_ip if pod_ip.startswith("127.") else "0.0.0.0"
        return cls(
            logs=Path(environment.get("HATCHWAY_LOG_DIR") or root / "var/log/pods"),
            data=Path(environment.get("HATCHWAY_LOG_DATA") or root / "var/lib/hatchway-logging"),
            limit=_number(environment, "HATCHWAY_LOG_LIMIT", _GIBIBYTE),
            host=environment.get("HATCHWAY_NODE_NAME") or socket.gethostname(),
            address=environment.get("HATCHWAY_LOG_ADDRESS", default_address),
            port=_number(environment, "HATCHWAY_LOG_PORT", 9200),
        )


def _number(environment: Mapping[str, str], name: str, default: int) -> int:
    text = environment.get(name, "")
    if not text:
        return default
    try:
        return int(text)
    except ValueError:
        raise HatchwayError(f"{name} is {text!r}, not a number") from None
