"""The route by SSH: any protocol over TCP, dialed from a node of the cluster to which the user may log in.

It is for clusters whose API server allows neither its proxy nor port-forward, or where these are too slow. Instead of a
node, any machine that reaches the cluster's networks may be used. The address of a target is still read from its
object, at the API server.
"""

from __future__ import annotations

from hatchway.errors import HatchwayError
from hatchway.kube.connection import Connection
from hatchway.route.contract import TargetUnreached, Unreached
from hatchway.route.dialing import DialingRoute
from hatchway.route.dialplan import DialAddress
from hatchway.route.podfinder import PodFinder
from hatchway.route.podport import ReadyPods
from hatchway.route.sshdestination import SshDestination
from hatchway.route.sshlink import SshLink, SshStream, SshUnreached
from hatchway.target import Target, format_argument


class SshRoute(DialingRoute):
    """The route by SSH through one node (`contract.ByteRoute`). `run` ends its connection.

    name: the route's name, as `--via` spells it.
    """

    name = "ssh"

    def __init__(self, connection: Connection, destination: SshDestination) -> None:
        super().__init__(connection)
        self._link = SshLink(destination)
        self._finder = PodFinder(connection, lambda namespace, name: None)

    async def begin(self) -> None:
        """Log in to the node, so that a failed login is reported before any port listens.

        Raises:
            HatchwayError: there is no connection to the node.
        """
        try:
            await self._link.connect()
        except SshUnreached as error:
            raise HatchwayError(error.message, error.hint) from error

    async def run(self) -> None:
        """Follow the pods until cancelled; then end the connection to the node."""
        try:
            await self._finder.run()
        finally:
            await self._link.aclose()

    async def _find_pods(self, target: Target) -> ReadyPods:
        return await self._finder.find(target)

    async def _dial(self, target: Target, place: DialAddress) -> SshStream:
        try:
            return await self._link.open(place.host, place.port)
        except SshUnreached as error:
            cause = Unreached.NODE_REFUSES if error.refused else Unreached.NODE_AWAY
            raise TargetUnreached(cause, error.message, error.hint) from error
        except OSError as error:
            node = self._link.destination
            message = f"{format_argument(target)}: from {node} to {place.host}, port {place.port}: {error}"
            refused = "refused" in str(error).lower()
            hint = "" if refused else "is this machine a node of the cluster, and does its SSH server forward TCP?"
            raise TargetUnreached(Unreached.REFUSED if refused else Unreached.FAILED, message, hint) from error
