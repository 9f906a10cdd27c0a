"""Authentication: finds the user who sends a request.

Credentials are tried in the order of the API server's `kubeapiserver/authenticator/config.go`: client certificate,
bearer token (also as a WebSocket's sub-protocol), HTTP basic, anonymous.

A request with a bad credential gets a 401; it is never anonymous. A limited number of verified credentials is cached,
by keyed hashes, so that the next request needs only a look-up. Only the first check of a password is asynchronous.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import logging
import math
import os
import time
from collections import OrderedDict
from collections.abc import Awaitable, Sequence
from dataclasses import dataclass
from pathlib import Path

from hatchway.cluster.auth import certificates, tokens
from hatchway.cluster.auth.basic import BasicAuthenticator
from hatchway.cluster.auth.pki import Pki, load_key
from hatchway.cluster.auth.serviceaccounts import API_AUDIENCES, ISSUER, ServiceAccountTokens, VerifiedToken
from hatchway.cluster.auth.source import StoredObjects
from hatchway.cluster.auth.tokens import InvalidToken, StaticTokens
from hatchway.cluster.auth.user import ANONYMOUS, UserInfo
from hatchway.errors import ApiError, HatchwayError, unauthorized
from hatchway.proxy.routing import RequestHead

AUTHENTICATED_GROUP = "system:authenticated"
BEARER_PROTOCOL = b"base64url.bearer.authorization.k8s.io."

_log = logging.getLogger(__name__)
# The maximum number of credentials that are cached.
_CACHE_SIZE = 1024
_CHALLENGE = (b"www-authenticate", b'Basic realm="hatchway", charset="UTF-8"')


class Challenge(ApiError):
    """The error 401 with a challenge, so that a browser asks for a password."""

    def __init__(self) -> None:
        super().__init__(401, "Unauthorized", "Unauthorized")

    def headers(self) -> list[tuple[bytes, bytes]]:
        """Return the header fields of the answer, with the challenge."""
        return [_CHALLENGE, *super().headers()]


@dataclass(frozen=True, slots=True)
class TokenUser:
    """The user of a bearer token, and the audiences for which it was issued."""

    user: UserInfo
    audiences: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Identity:
    """The user of a request, and the time until which this result is valid.

    until: POSIX seconds. Until then, the same credential means the same user, unless an object of the cluster or a
    credential file (`Authenticator.version`) changes.
    """

    user: UserInfo
    until: float = math.inf


@dataclass(slots=True)
class _KnownCredential:
    """A verified credential. expires: POSIX seconds. bound: a token whose objects must exist at each use, or None."""

    user: UserInfo
    expires: float
    bound: VerifiedToken | None = None


class Authenticator:
    """The authenticators of one API server. Call `close` when the server ends.

    file_check_seconds: how often the credential files are checked for changes.
    version: a number that changes whenever a changed credential file has been read.
    """

    file_check_seconds = 0.25

    def __init__(self, pki: Pki, tokens_file: Path, basic_file: Path, objects: StoredObjects) -> None:
        """Read the keys and the files. Raises HatchwayError when one of them cannot be read."""
        # The states of the files are recorded before the files are read, so that no later change is missed.
        self._files = {path: _stamp(path) for path in (tokens_file, basic_file)}
        self._next_file_check = 0.0
        self.version = 0
        self.service_accounts = ServiceAccountTokens(load_key(pki.sa_key), objects)
        self.basic = BasicAuthenticator(basic_file)
        self._static = StaticTokens(tokens_file)
        self._user_tokens = load_key(pki.user_tokens_key).public_key()
        self._secret = os.urandom(32)
        self._tokens: OrderedDict[bytes, _KnownCredential] = OrderedDict()
        self._certificates: OrderedDict[bytes, _KnownCredential] = OrderedDict()

    def close(self) -> None:
        """End the thread that checks passwords."""
        self.basic.close()

    # -- requests

    def authenticate(self, head: RequestHead) -> Identity | Awaitable[UserInfo]:
        """Return the user of a request, or an awaitable for the user when a password must be checked.

        Raises ApiError 401, 403 (a page of another site uses a browser's credentials) and 429 (too many failures).
        """
        self.reload_changed_files()
        if head.peer.certificate is not None:
            known = self._certificate(head.peer.certificate)
            if known is not None:
                _refuse_foreign_pages(head)
                return Identity(known.user, known.expires)
        authorization = head.header(b"authorization")
        if authorization is not None:
            scheme, _, value = authorization.strip().partition(b" ")
            scheme = scheme.lower()
            if scheme == b"bearer":
                token = value.strip()
                if token:
                    return self._request_token(token)
            elif scheme == b"basic":
                return self._basic(head, value)
        if head.upgrade is not None:
            offered = _protocol_token(head)
            if offered is not None:
                return self._request_token(offered)
        if head.peer.certificate is not None:
            # TLS has verified the certificate, but no user follows from it: it is not for clients, or has expired.
            raise unauthorized()
        if self.basic.enabled and _can_be_asked(head):
            raise Challenge()
        return Identity(ANONYMOUS)

    def _request_token(self, token: bytes) -> Identity:
        try:
            return self._token(token)
        except InvalidToken:
            raise unauthorized() from None

    def _basic(self, head: RequestHead, value: bytes) -> Identity | Awaitable[UserInfo]:
        if not self.basic.enabled:
            raise unauthorized()
        _refuse_foreign_pages(head)
        encoded = value.decode("latin-1")
        user = self.basic.cached(encoded)
        return (
            Identity(_authenticated(user)) if user is not None else self._check_password(encoded, _can_be_asked(head))
        )

    async def _check_password(self, encoded: str, ask_again: bool) -> UserInfo:
        try:
            return _authenticated(await self.basic.authenticate(encoded))
        except ApiError as error:
            if error.code == 401 and ask_again:
                raise Challenge() from None
            raise

    # -- certificates

    def _certificate(self, der: bytes) -> _KnownCredential | None:
        known = self._certificates.get(der)
        if known is None:
            found = certificates.user_of(der)
            if found is None:
                return None
            known = _KnownCredential(_authenticated(found.user), found.not_after)
            _remember(self._certificates, der, known)
        else:
            self._certificates.move_to_end(der)
            # The certificate may expire while the connection is open.
            if time.time() > known.expires:
                return None
        return known

    # -- tokens

    def authenticate_token(self, token: str, audiences: Sequence[str] = ()) -> TokenUser:
        """Return a token's user (TokenReview).

        audiences: the token must be issued for one of these; if empty, for one of the API server's audiences.

        Raises InvalidToken.
        """
        self.reload_changed_files()
        wanted = tuple(audiences) or API_AUDIENCES
        if tokens.issuer_of(token) == ISSUER:
            verified = self.service_accounts.verify(token, wanted)
            self.service_accounts.check(verified)
            return TokenUser(_authenticated(verified.user), verified.audiences)
        meant = tuple(item for item in wanted if item in API_AUDIENCES)
        if not meant:
            raise InvalidToken("the token is only for the API server, which is not among the requested audiences")
        return TokenUser(self._token(token.encode("utf-8", "surrogateescape")).user, meant)

    def _token(self, token: bytes) -> Identity:
        key = hashlib.blake2b(token, key=self._secret, digest_size=16).digest()
        known = self._tokens.get(key)
        if known is None:
            known = self._verify(token.decode("utf-8", "surrogateescape"))
            _remember(self._tokens, key, known)
        else:
            self._tokens.move_to_end(key)
            if time.time() >= known.expires:
                raise InvalidToken("the token has expired")
        until = known.expires
        if known.bound is not None:
            until = self.service_accounts.check(known.bound)
        return Identity(known.user, until)

    def _verify(self, token: str) -> _KnownCredential:
        issuer = tokens.issuer_of(token)
        if issuer == ISSUER:
            verified = self.service_accounts.verify(token)
            return _KnownCredential(_authenticated(verified.user), verified.expires, verified)
        if issuer == tokens.USER_ISSUER:
            user, expires = tokens.verify_minted(self._user_tokens, token)
            return _KnownCredential(_authenticated(user), expires)
        found = self._static.authenticate(token)
        if found is None:
            raise InvalidToken("unknown token")
        return _KnownCredential(_authenticated(found), float("inf"))

    # -- files

    def reload_changed_files(self) -> None:
        """Read the credential files that `hatchway password` or `hatchway token` has changed.

        The files are checked at most once in `file_check_seconds`; calls in between do nothing.
        """
        now = time.monotonic()
        if now < self._next_file_check:
            return
        self._next_file_check = now + self.file_check_seconds
        for path, before in self._files.items():
            stamp = _stamp(path)
            if stamp == before:
                continue
            self._files[path] = stamp
            self.version += 1
            try:
                if path == self.basic.path:
                    self.basic.reload()
                else:
                    self._static.reload()
                    self._tokens.clear()
            except HatchwayError as error:
                _log.error("%s; its former content stays in use", error.message)


def _stamp(path: Path) -> tuple[int, int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino


def _authenticated(user: UserInfo) -> UserInfo:
    """Return the user with the group `system:authenticated` (apiserver `group/authenticated_group_adder.go`)."""
    if AUTHENTICATED_GROUP in user.groups or user.groups == ANONYMOUS.groups:
        return user
    return UserInfo(user.name, (*user.groups, AUTHENTICATED_GROUP), user.uid, user.extra)


def _remember(cache: OrderedDict[bytes, _KnownCredential], key: bytes, known: _KnownCredential) -> None:
    cache[key] = known
    if len(cache) > _CACHE_SIZE:
        cache.popitem(last=False)


def _protocol_token(head: RequestHead) -> bytes | None:
    """Return the token that a WebSocket offers as a sub-protocol; None if there is none.

    Scripts in browsers cannot set header fields of a WebSocket, so they send the token in this way. The client must
    also offer another sub-protocol, which the server can choose (apiserver `request/websocket/protocol.go`).

    Raises ApiError 401.
    """
    offered = [
        protocol.strip()
        for name, value in head.headers
        if name.lower() == b"sec-websocket-protocol"
        for protocol in value.split(b",")
    ]
    found = [protocol for protocol in offered if protocol.startswith(BEARER_PROTOCOL)]
    if not found:
        return None
    encoded = found[0].removeprefix(BEARER_PROTOCOL)
    try:
        token = base64.b64decode(encoded + b"=" * (-len(encoded) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        raise unauthorized() from None
    if len(found) > 1 or len(offered) < 2 or b"=" in encoded or not token:
        raise unauthorized()
    return token


def _can_be_asked(head: RequestHead) -> bool:
    """Return True if the client is a browser that asks its user for a password when it gets a challenge.

    This is so for navigations and for requests of this server's own pages. As in Kubernetes, other clients get no
    challenge.
    """
    mode = head.header(b"sec-fetch-mode")
    if mode is not None:
        return mode == b"navigate" or head.header(b"sec-fetch-site") == b"same-origin"
    return head.method in ("GET", "HEAD") and b"text/html" in (head.header(b"accept") or b"")


def _refuse_foreign_pages(head: RequestHead) -> None:
    """Raise ApiError 403 for a request that a page of another site makes with the browser's own credentials.

    Browsers add passwords and client certificates to the requests of every page. So a request of another site with
    these credentials may only open a page. Kubernetes has no such check.

    A proxy such as `kubectl proxy` adds its own credentials and X-Forwarded-For, and must check its clients' requests.
    A page cannot add X-Forwarded-For without a preflight request.
    """
    site = head.header(b"sec-fetch-site")
    if site is not None:
        foreign = site not in (b"same-origin", b"none")
    else:
        # Old browsers do not send Sec-Fetch-Site. The User-Agent is checked, because programs may send an Origin, too:
        # Go's WebSocket package always does.
        origin = head.header(b"origin")
        if origin is None or not (head.header(b"user-agent") or b"").startswith(b"Mozilla/"):
            return
        foreign = origin.partition(b"://")[2] != (head.header(b"host") or b"")
    if not foreign or head.header(b"x-forwarded-for") is not None:
        return
    if head.method in ("GET", "HEAD") and head.upgrade is None and head.header(b"sec-fetch-mode") == b"navigate":
        return
    raise ApiError(
        403,
        "Forbidden",
        "forbidden: a page of another site may not use this browser's credentials for the API server",
        {},
    )
