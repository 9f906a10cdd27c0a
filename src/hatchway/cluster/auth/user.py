"""Who asks, and what for: the values that authentication, authorization and audit share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class UserInfo:
    """An authenticated user (authentication.k8s.io/v1 UserInfo). Anonymous is a user too."""

    name: str
    groups: tuple[str, ...] = ()
    uid: str = ""
    extra: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


ANONYMOUS = UserInfo("system:anonymous", ("system:unauthenticated",))
# Controllers and other parts of the control plane that call the API in process.
LOOPBACK_USER = UserInfo("system:apiserver", ("system:masters", "system:authenticated"))


@dataclass(frozen=True, slots=True)
class Attributes:
    """What an authorizer decides on (apiserver's `authorizer.Attributes`).

    resource is "" for a non-resource request, which then has `path`. `name` is verbatim, as it stood in the URL after
    percent-decoding (`https:web:` for the proxy verb). fields: what a list's or a watch's field selector demands, as
    (field, value).
    """

    user: UserInfo
    verb: str
    resource: str = ""
    subresource: str = ""
    api_group: str = ""
    api_version: str = ""
    namespace: str = ""
    name: str = ""
    path: str = ""
    fields: tuple[tuple[str, str], ...] = ()
