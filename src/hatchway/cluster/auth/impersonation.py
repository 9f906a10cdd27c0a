"""Lets a user with the right to `impersonate` act as another user (`Impersonate-User`, `-Group`, `-Uid`, `-Extra-*`).

The behaviour is that of apiserver's `pkg/endpoints/filters/impersonation`, with one difference: a request with other
`Impersonate-*` headers but without Impersonate-User gets a 400 that explains this. A kube-apiserver answers 500.
"""

from __future__ import annotations

from urllib.parse import unquote

from hatchway.cluster.auth import serviceaccounts
from hatchway.cluster.auth.authenticators import AUTHENTICATED_GROUP
from hatchway.cluster.auth.rbac import Authorizer
from hatchway.cluster.auth.user import ANONYMOUS, Attributes, UserInfo
from hatchway.errors import bad_request
from hatchway.proxy.routing import RequestHead

_PREFIX = b"impersonate-"
_EXTRA = b"impersonate-extra-"
_GROUP = "authentication.k8s.io"
_UNAUTHENTICATED_GROUP = ANONYMOUS.groups[0]


def impersonate(authorizer: Authorizer, user: UserInfo, head: RequestHead) -> UserInfo:
    """Return the user as whom the request is made: `user` itself if the request has no `Impersonate-*` header.

    Raises ApiError 400 (`Impersonate-*` headers without Impersonate-User) and 403 (not allowed).
    """
    name = uid = ""
    groups: list[str] = []
    extra: dict[str, list[str]] = {}
    asked = False
    for field, value in head.headers:
        lower = field.lower()
        if not lower.startswith(_PREFIX):
            continue
        text = value.decode("utf-8", "replace")
        if lower == b"impersonate-user":
            name = name or text
        elif lower == b"impersonate-group":
            groups.append(text)
        elif lower == b"impersonate-uid":
            uid = uid or text
        elif lower.startswith(_EXTRA):
            key = unquote(lower.removeprefix(_EXTRA).decode("latin-1"))
            extra.setdefault(key, []).append(text)
        else:
            continue
        asked = True
    if not asked:
        return user
    if not name:
        raise bad_request("impersonating groups, a uid or extras needs the header Impersonate-User")
    account = serviceaccounts.split_username(name)
    if account is not None:
        authorizer.require(_asked(user, "serviceaccounts", account[1], namespace=account[0]))
        groups_of = tuple(groups) or serviceaccounts.groups(account[0])
    else:
        authorizer.require(_asked(user, "users", name))
        groups_of = tuple(groups)
    for group in groups:
        authorizer.require(_asked(user, "groups", group))
    for key, values in extra.items():
        for text in values:
            authorizer.require(_asked(user, "userextras", text, subresource=key, group=_GROUP))
    if uid:
        authorizer.require(_asked(user, "uids", uid, group=_GROUP))
    if name == ANONYMOUS.name:
        if _UNAUTHENTICATED_GROUP not in groups_of:
            groups_of += (_UNAUTHENTICATED_GROUP,)
    elif AUTHENTICATED_GROUP not in groups_of and _UNAUTHENTICATED_GROUP not in groups_of:
        groups_of += (AUTHENTICATED_GROUP,)
    return UserInfo(name, groups_of, uid, {key: tuple(values) for key, values in extra.items()})


def _asked(
    user: UserInfo, resource: str, name: str, *, namespace: str = "", subresource: str = "", group: str = ""
) -> Attributes:
    return Attributes(
        user,
        "impersonate",
        resource=resource,
        subresource=subresource,
        api_group=group,
        api_version="v1",
        namespace=namespace,
        name=name,
    )
