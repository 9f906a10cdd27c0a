"""The options of `hatchway proxy`: the flags of `kubectl proxy`, with the same meaning and defaults, and others."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from hatchway.door.requestfilter import ACCEPT_HOSTS, ACCEPT_PATHS, REJECT_METHODS, REJECT_PATHS, RequestFilter
from hatchway.route.sshdestination import SshDestination
from hatchway.route.via import Via

DEFAULT_PORT = 8001


def default_filter() -> RequestFilter:
    """Return the filter that `kubectl proxy` has by default."""
    return RequestFilter.of(
        accept_paths=ACCEPT_PATHS,
        reject_paths=REJECT_PATHS,
        accept_hosts=ACCEPT_HOSTS,
        reject_methods=REJECT_METHODS,
    )


def _unknown_addresses(server: str) -> Sequence[str]:
    """Return addresses that fit any API server: its node ports may be open on every network of this machine."""
    return "127.0.0.1", "0.0.0.0"


@dataclass(frozen=True, slots=True)
class DoorOptions:
    """The options of a door.

    address: the IP address to listen on. 127.0.0.1 and "localhost" stand for both loopback addresses.
    port: the TCP port to listen on; 0 for any free one.
    unix_socket: the path of a Unix socket to listen on instead; "" for none.
    www: a directory whose files are served; "" for none.
    www_prefix: the path below which they are served.
    api_prefix: the path below which the API is served.
    filter: `kubectl proxy`'s filter; None when it is off.
    keepalive: seconds between TCP keep-alive probes of the API server; 0 for the default of `kube/dial.py`.
    append_server_path: True to put the path of the server's URL before the path of every request.
    domain: the domain with which the host names of targets end.
    scheme: "http" or "https", the scheme that browsers use to reach the door.
    via: the route to targets.
    ssh: the node to log in to, for `Via.ssh`.
    host_header: the choice of the Host that applications get, as `hostheader.parse_host_option` returns it.
    published: takes the URL of an embedded cluster's API server, and returns the addresses of this machine at which
        that cluster opens node ports.
    """

    address: str = "127.0.0.1"
    port: int = DEFAULT_PORT
    unix_socket: str = ""
    www: str = ""
    www_prefix: str = "/static/"
    api_prefix: str = "/"
    filter: RequestFilter | None = field(default_factory=default_filter)
    keepalive: float = 0.0
    append_server_path: bool = False
    domain: str = "localhost"
    scheme: str = "http"
    via: Via = Via.auto
    ssh: SshDestination | None = None
    host_header: str = "auto"
    published: Callable[[str], Sequence[str]] = _unknown_addresses
