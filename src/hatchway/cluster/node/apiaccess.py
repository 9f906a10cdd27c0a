"""Authentication and authorization of a kubelet's clients by webhook (`pkg/kubelet/server/auth.go`)."""

from __future__ import annotations

import hashlib
import time
from collections import OrderedDict
from typing import Generic, TypeVar

from hatchway.cluster.auth import certificates
from hatchway.cluster.auth.user import UserInfo
from hatchway.errors import ApiError
from hatchway.kube.api import Client, Object
from hatchway.proxy.routing import RequestHead

V = TypeVar("V")

TOKEN_SECONDS = 120.0
ALLOWED_SECONDS, DENIED_SECONDS = 300.0, 30.0
_REMEMBERED = 1024
_MASTERS = "system:masters"
# For each first segment of a path: subresources of nodes. A client needs the right to one of these subresources
# (KubeletFineGrainedAuthz). For all other paths, the client needs the right to `proxy`.
_SUBRESOURCES = {
    "stats": ("stats",),
    "metrics": ("metrics",),
    "logs": ("log",),
    "healthz": ("healthz", "proxy"),
    "pods": ("pods", "proxy"),
    "runningpods": ("pods", "proxy"),
    "configz": ("configz", "proxy"),
    "checkpoint": ("checkpoint",),
}
# The first segments of paths that run commands or reach ports. They need the verb `create`, whatever the request's
# method is.
_CREATING = frozenset(("exec", "attach", "portForward", "run"))
_VERBS = {"POST": "create", "GET": "get", "HEAD": "get", "PUT": "update", "PATCH": "patch", "DELETE": "delete"}


class Denied(Exception):
    """A refused request: the status 401, 403 or 500, and the text of the answer."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status
        self.text = text


class _TimedCache(Generic[V]):
    """A cache of the API server's answers, each with its own lifetime."""

    def __init__(self) -> None:
        self._entries: OrderedDict[object, tuple[float, V]] = OrderedDict()

    def get(self, key: object) -> V | None:
        entry = self._entries.get(key)
        if entry is None or entry[0] < time.monotonic():
            return None
        return entry[1]

    def put(self, key: object, value: V, seconds: float) -> None:
        self._entries[key] = time.monotonic() + seconds, value
        self._entries.move_to_end(key)
        if len(self._entries) > _REMEMBERED:
            self._entries.popitem(last=False)


class Access:
    """Decides which requests to one node's kubelet are allowed.

    The API server's own client certificate is in system:masters, so all its requests are allowed.
    """

    def __init__(self, client: Client, node: str) -> None:
        self._client = client
        self._node = node
        self._users: _TimedCache[UserInfo] = _TimedCache()
        self._verdicts: _TimedCache[bool] = _TimedCache()

    async def check(self, head: RequestHead) -> None:
        """Authenticate and authorize a request. Raises Denied (401, 403; 500 when the API server cannot be reached)."""
        try:
            user = await self._user(head)
            if user is None:
                raise Denied(401, "Unauthorized")
            if _MASTERS in user.groups:
                return
            verb = _VERBS.get(head.method, head.method.lower())
            segment = head.path.split(b"?")[0].strip(b"/").split(b"/")[0].decode("latin-1")
            if segment in _CREATING:
                verb = "create"
            wanted = _SUBRESOURCES.get(segment, ("proxy",))
            for subresource in wanted:
                if await self._allowed(user, verb, subresource):
                    return
        except ApiError as error:
            raise Denied(500, f"the API server cannot be reached: {error.message}") from error
        raise Denied(
            403, f"Forbidden (user={user.name}, verb={verb}, resource=nodes, subresource(s)=[{' '.join(wanted)}])"
        )

    async def _user(self, head: RequestHead) -> UserInfo | None:
        if head.peer.certificate is not None:
            known = certificates.user_of(head.peer.certificate)
            if known is not None:
                return UserInfo(known.user.name, (*known.user.groups, "system:authenticated"))
        scheme, _, token = (head.header(b"authorization") or b"").partition(b" ")
        token = token.strip()
        if scheme.lower() != b"bearer" or not token:
            return None
        key = hashlib.sha256(token).digest()
        user = self._users.get(key)
        if user is None:
            user = await self._review(token.decode("latin-1"))
            if user is not None:
                self._users.put(key, user, TOKEN_SECONDS)
        return user

    async def _review(self, token: str) -> UserInfo | None:
        review: Object = {
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenReview",
            "metadata": {},
            "spec": {"token": token},
        }
        status = (await self._client.create("tokenreviews.authentication.k8s.io", review)).get("status") or {}
        if not status.get("authenticated"):
            return None
        found = status.get("user") or {}
        return UserInfo(
            found.get("username", ""),
            tuple(found.get("groups") or ()),
            found.get("uid", ""),
            {key: tuple(values) for key, values in (found.get("extra") or {}).items()},
        )

    async def _allowed(self, user: UserInfo, verb: str, subresource: str) -> bool:
        extra = tuple(sorted((key, tuple(values)) for key, values in user.extra.items()))
        key = user.name, user.groups, user.uid, extra, verb, subresource
        known = self._verdicts.get(key)
        if known is not None:
            return known
        review: Object = {
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SubjectAccessReview",
            "metadata": {},
            "spec": {
                "user": user.name,
                "groups": list(user.groups),
                "uid": user.uid,
                "extra": {name: list(values) for name, values in user.extra.items()},
                "resourceAttributes": {
                    "verb": verb,
                    "version": "v1",
                    "resource": "nodes",
                    "subresource": subresource,
                    "name": self._node,
                },
            },
        }
        answer = await self._client.create("subjectaccessreviews.authorization.k8s.io", review)
        allowed = bool((answer.get("status") or {}).get("allowed"))
        self._verdicts.put(key, allowed, ALLOWED_SECONDS if allowed else DENIED_SECONDS)
        return allowed
