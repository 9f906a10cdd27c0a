"""The address at which browsers reach the door. All URLs of the door are made from it."""

from __future__ import annotations

from hatchway.target import DEFAULT_PORTS, Target, format_door_url


class DoorAddress:
    """The door's address as browsers use it.

    domain: the domain with which the host names of targets end.
    scheme: "http" or "https": the scheme by which browsers reach the door, or a proxy in front of the door.
    wire_scheme: `scheme` as bytes.
    default_port: the default port of the scheme, in digits.
    port: the TCP port; 0 on a Unix socket, and before the door listens.
    """

    def __init__(self, domain: str = "localhost", scheme: str = "http", port: int = 0) -> None:
        self.domain = domain
        self.scheme = scheme
        self.wire_scheme = scheme.encode()
        self.default_port = b"%d" % DEFAULT_PORTS[scheme]
        self.port = port
        self._origin_start = self.wire_scheme + b"://"

    def origin(self, host: bytes) -> bytes:
        """Return the origin (RFC 6454) of pages that were requested with this `Host`."""
        return self._origin_start + host

    def url_of(self, target: Target) -> str:
        """Return the URL of a target's host name.

        Raises:
            TargetError: the target's name cannot be part of a host name.
        """
        return format_door_url(target, port=self.port, domain=self.domain, scheme=self.scheme)

    @property
    def prefix_url(self) -> str:
        """Return the URL below which targets are shown under their proxy paths."""
        return f"{self.scheme}://prefix.{self.domain}{self._port_suffix}/"

    @property
    def portal_url(self) -> str:
        """Return the URL of the portal; "" when the door has no port."""
        return f"{self.scheme}://{self.domain}{self._port_suffix}/" if self.port else ""

    @property
    def _port_suffix(self) -> str:
        return f":{self.port}" if self.port not in (0, DEFAULT_PORTS[self.scheme]) else ""
