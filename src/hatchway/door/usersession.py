"""A user of the door: credentials and cookies, but nothing about targets."""

from __future__ import annotations

from hatchway.door.cookiejar import CookieJar, CookieJars
from hatchway.kube.connection import Connection
from hatchway.kube.lookup import ObjectLookup
from hatchway.route.chooser import RouteChooser


class UserSession:
    """One user of the door; `hatchway proxy` has a single one.

    connection: the API server with this user's credentials.
    routes: chooses how this user's exchanges reach targets.
    lookup: reads objects with this user's rights.
    """

    def __init__(self, connection: Connection, routes: RouteChooser, domain: str) -> None:
        """Begin without cookies. domain: the domain with which the door's host names end."""
        self.connection = connection
        self.routes = routes
        self.lookup = ObjectLookup(connection)
        self._jars = CookieJars(domain.encode())

    def cookies_of(self, host: bytes) -> CookieJar:
        """Return this user's cookie jar for a host name (without a port, in lower case)."""
        return self._jars.get_or_add(host)
