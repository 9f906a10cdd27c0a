"""The objects that all exchanges with one target share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from hatchway.door.address import DoorAddress
from hatchway.door.cookiejar import CookieJar
from hatchway.door.diagnosis import Diagnosis
from hatchway.door.knowledge import TargetKnowledge
from hatchway.door.targetattempt import Retry, TargetAttempt
from hatchway.door.usersession import UserSession
from hatchway.proxy.routing import Forward
from hatchway.target import Target, format_proxy_path


@dataclass(frozen=True, slots=True)
class SiteContext:
    """The objects that an exchange reads, and in which it records new facts.

    knowledge: the facts about the target.
    session: the user who sends the request.
    cookies: the user's cookies for this host name.
    diagnosis: makes the door's own answers.
    address: the address at which browsers reach the door.
    prefix: the path under which the target is shown, without a slash at its end; b"" under a host name of its own.
    retry: returns the decision for another attempt.
    """

    knowledge: TargetKnowledge
    session: UserSession
    cookies: CookieJar
    diagnosis: Diagnosis
    address: DoorAddress
    prefix: bytes
    retry: Callable[[TargetAttempt, Retry], Forward]

    def url_of_port(self, target: Target) -> bytes:
        """Return the URL of the target with another of its ports, without a slash at its end.

        Raises:
            TargetError: the port's name cannot be part of a host name.
        """
        if self.prefix:
            return format_proxy_path(target, "").encode()
        return self.address.url_of(target).removesuffix("/").encode()
