"""What `hatchway proxy` was told: `kubectl proxy`'s flags with the same meaning and defaults, and the door's own."""

from __future__ import annotations

from dataclasses import dataclass, field

from hatchway.door.filter import ACCEPT_HOSTS, ACCEPT_PATHS, REJECT_METHODS, REJECT_PATHS, Filter
from hatchway.route.chooser import Via

DEFAULT_PORT = 8001


def default_filter() -> Filter:
    return Filter.of(
        accept_paths=ACCEPT_PATHS,
        reject_paths=REJECT_PATHS,
        accept_hosts=ACCEPT_HOSTS,
        reject_methods=REJECT_METHODS,
    )


@dataclass(frozen=True, slots=True)
class Options:
    """address: an IP address, or "localhost" for both loopback addresses. port: 0 for any free one. unix_socket: a path,
    instead of address and port. www: a directory to serve under www_prefix, or "". api_prefix: where the API is.
    filter: None when it is off. keepalive: seconds between TCP keep-alive probes of the API server, 0 for
    `kube/dial.py`'s own. append_server_path: put the path of the server's URL before every request's. domain: what host
    names end with. host_header: what applications are told as Host: "auto", "external", "cluster", "localhost", or a name.
    """

    address: str = "127.0.0.1"
    port: int = DEFAULT_PORT
    unix_socket: str = ""
    www: str = ""
    www_prefix: str = "/static/"
    api_prefix: str = "/"
    filter: Filter | None = field(default_factory=default_filter)
    keepalive: float = 0.0
    append_server_path: bool = False
    domain: str = "localhost"
    via: Via = Via.auto
    host_header: str = "auto"
