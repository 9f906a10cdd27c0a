"""Free ports for programs of tests and benchmarks that must know their port before they listen."""

from __future__ import annotations

import random
import socket

# These ports are below those that the kernel chooses for other sockets (`ip_local_port_range` begins at 32768).
# Otherwise another process may get the port before the program listens on it.
_PORTS = range(20_000, 32_000)
_TRIES = 100


def free_port(kind: socket.SocketKind = socket.SOCK_STREAM) -> int:
    """Return a port of 127.0.0.1 that no socket of this kind uses. Raises RuntimeError if none is found."""
    for _ in range(_TRIES):
        port = random.choice(_PORTS)
        with socket.socket(socket.AF_INET, kind) as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise RuntimeError(f"none of {_TRIES} ports is free")
