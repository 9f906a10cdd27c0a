"""The add-on's settings, from its environment."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from hatchway.errors import HatchwayError

_GIBIBYTE = 1024**3


@dataclass(frozen=True, slots=True)
class LoggingSettings:
    """The settings of one process.

    Attributes:
        logs: the directory of the node's pod logs (HATCHWAY_LOG_DIR).
        data: the directory of the indices (HATCHWAY_LOG_DATA).
        limit: the maximum number of bytes on disk for all indices (HATCHWAY_LOG_LIMIT; 1 GiB if not set).
        host: the node's name (HATCHWAY_NODE_NAME; the machine's name if not set).
        address: the address to listen on (HATCHWAY_LOG_ADDRESS).
        port: the port of Elasticsearch's API (HATCHWAY_LOG_PORT; 9200 if not set).
        explorer_port: the port of the log explorer (HATCHWAY_LOG_EXPLORER_PORT; 5601 if not set).
    """

    logs: Path
    data: Path
    limit: int
    host: str
    address: str
    port: int
    explorer_port: int

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> LoggingSettings:
        """Read the settings from environment variables. Raises HatchwayError when a number is not valid."""
        pod_ip = environment.get("HATCHWAY_POD_IP", "")
        # Without a private network all pods share loopback. Then each pod has its own address to listen on, and volumes
        # are below the directory HATCHWAY_ROOT instead of at their mountPath.
        root = Path(environment.get("HATCHWAY_ROOT", "/"))
        default_address = pod_ip if pod_ip.startswith("127.") else "0.0.0.0"
        return cls(
            logs=Path(environment.get("HATCHWAY_LOG_DIR") or root / "var/log/pods"),
            data=Path(environment.get("HATCHWAY_LOG_DATA") or root / "var/lib/hatchway-logging"),
            limit=_number(environment, "HATCHWAY_LOG_LIMIT", _GIBIBYTE),
            host=environment.get("HATCHWAY_NODE_NAME") or socket.gethostname(),
            address=environment.get("HATCHWAY_LOG_ADDRESS", default_address),
            port=_number(environment, "HATCHWAY_LOG_PORT", 9200),
            explorer_port=_number(environment, "HATCHWAY_LOG_EXPLORER_PORT", 5601),
        )


def _number(environment: Mapping[str, str], name: str, default: int) -> int:
    text = environment.get(name, "")
    if not text:
        return default
    try:
        return int(text)
    except ValueError:
        raise HatchwayError(f"{name} is {text!r}, not a number") from None
