"""Users and requests as values that authentication, authorization and audit share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class UserInfo:
    """An authenticated user (authentication.k8s.io/v1 UserInfo). Anonymous is a user too."""

    name: str
    groups: tuple[str, ...] = ()
    uid: str = ""
    extra: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def as_object(self) -> dict[str, Any]:
        """Return the user as authentication.k8s.io/v1 UserInfo, without empty fields."""
        out: dict[str, Any] = {"username": self.name}
        if self.uid:
            out["uid"] = self.uid
        if self.groups:
            out["groups"] = list(self.groups)
        if self.extra:
            out["extra"] = {key: list(values) for key, values in self.extra.items()}
        return out


ANONYMOUS = UserInfo("system:anonymous", ("system:unauthenticated",))
# Controllers and other parts of the control plane that call the API in process.
LOOPBACK_USER = UserInfo("system:apiserver", ("system:masters", "system:authenticated"))


@dataclass(frozen=True, slots=True)
class Attributes:
    """The facts on which an authorizer decides (apiserver's `authorizer.Attributes`).

    A non-resource request has a `path`, and its `resource` is "". name: the percent-decoded segment of the URL
    (`https:web:` for the proxy verb). fields: the requirements of the field selector of a list or watch, as (field,
    value).
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
