"""Which route an exchange takes."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING

from hatchway.errors import HatchwayError

if TYPE_CHECKING:
    from hatchway.kube.connection import Connection
    from hatchway.route.ways import Route


class Via(StrEnum):
    """What a person may ask for with `--via`."""

    auto = "auto"
    api = "api"
    forward = "forward"


def choose(via: Via, connection: Connection) -> Route:
    """The route for all targets of an API server. Raises HatchwayError for one that does not exist."""
    if via is Via.forward:
        raise HatchwayError(
            "--via forward: this version has no port-forward streams", "leave --via out, or say --via api"
        )
    # `hatchway proxy --help` knows the names above, and is not to wait for what they stand for.
    from hatchway.route.api import ApiProxyRoute

    return ApiProxyRoute(connection)
