"""Authenticates at registries: Basic, and Bearer tokens (distribution's `docs/spec/auth/token.md` and `oauth.md`)."""

from __future__ import annotations

import asyncio
import base64
import json
import time
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import SplitResult, parse_qsl, urlencode, urlsplit

from hatchway.images.pulling.challenge import AuthChallenge
from hatchway.images.pulling.credentials import Credential, is_token
from hatchway.images.pulling.pullerror import PullError, denied, explain_body, refusal, status_text
from hatchway.images.pulling.registryhttp import PATIENCE, Host, RegistryHttp, unreachable
from hatchway.kube.http import HttpAnswer
from hatchway.proxy.routing import ProxyError

_CLIENT = "hatchway"
# The longest answer with a token, and the longest token, in bytes.
LARGEST_ANSWER = 128 * 1024
_LONGEST_TOKEN = 64 * 1024
# In seconds: the lifetime of a token without a stated lifetime (token.md); how long before its end a token is renewed;
# the longest lifetime.
_LIFETIME = 60.0
_NEAR_END = 10.0
_LONGEST_LIFETIME = 3600.0
# The most tokens in the cache.
_MOST_TOKENS = 64
_OAUTH_MISSING = frozenset({404, 405})

_Key = tuple[str, str, str, str, Credential | None]


class TokenCache:
    """A cache of tokens by registry, realm, service, scope and credential.

    Drops the least recently used token first.
    """

    def __init__(self) -> None:
        self._tokens: OrderedDict[_Key, tuple[str, float]] = OrderedDict()

    def get(self, key: _Key) -> str | None:
        """Return a token that is still valid, or None."""
        token, expires = self._tokens.get(key, ("", 0.0))
        if time.monotonic() >= expires:
            self._tokens.pop(key, None)
            return None
        self._tokens.move_to_end(key)
        return token

    def put(self, key: _Key, token: str, lifetime: float) -> None:
        """Add a token. lifetime: in seconds."""
        self._tokens[key] = (token, time.monotonic() + min(lifetime, _LONGEST_LIFETIME) - _NEAR_END)
        while len(self._tokens) > _MOST_TOKENS:
            self._tokens.popitem(last=False)

    def drop(self, key: _Key) -> None:
        """Remove a token that the registry has refused."""
        self._tokens.pop(key, None)


# Shared by all pulls of a process.
_tokens = TokenCache()


class RegistryAuthenticator:
    """Makes the Authorization field of requests to one registry, from its challenges.

    host: the registry. registry: its name, for messages. scope: the scope to request when a challenge has no scope.
    credential: None for an anonymous pull.
    """

    def __init__(
        self, http: RegistryHttp, host: Host, registry: str, scope: str, credential: Credential | None
    ) -> None:
        self._http = http
        self._host = host
        self._registry = registry
        self._scope = scope
        self._credential = credential
        self._authorization = ""
        if credential is not None and credential.registry_token:
            self._authorization = f"Bearer {credential.registry_token}"

    @property
    def with_credentials(self) -> bool:
        """Return True when there are credentials."""
        return self._credential is not None

    def fields(self) -> dict[str, str]:
        """Return the header fields that authenticate a request."""
        return {"Authorization": self._authorization} if self._authorization else {}

    async def respond(self, challenges: Sequence[AuthChallenge], said: str, sent: Mapping[str, str]) -> bool:
        """Prepare the Authorization field that a registry requires by its answer 401.

        Args:
            challenges: the challenges of the answer. said: the reason in the answer.
            sent: the return value of `fields` that was used for the refused request.

        Returns:
            True when the field is new: another 401 is then final. False when another request had already
            prepared it.

        Raises:
            PullError: no credential or token can be sent.
        """
        if self.fields() != sent:
            return False  # Another request has already renewed the field.
        bearer = _bearer(challenges)
        if bearer is not None:
            return await self._use_token(bearer.parameters, sent)
        credential = self._credential
        basic = any(one.scheme == "basic" for one in challenges)
        if basic and credential is not None and (credential.username or credential.password):
            self._authorization = _basic(credential)
            if self.fields() != sent:
                return True
        raise self.refused(challenges, said)

    def refused(self, challenges: Sequence[AuthChallenge], said: str) -> PullError:
        """Return the error for a registry that accepts neither this credential nor an anonymous pull."""
        bearer = _bearer(challenges)
        error = bearer.parameters.get("error", "") if bearer is not None else ""
        words = f"{error}: authorization failed" if error else said or "authorization failed"
        return denied(words, self._registry, with_credentials=self.with_credentials)

    async def _use_token(self, parameters: Mapping[str, str], sent: Mapping[str, str]) -> bool:
        realm, service = parameters["realm"], parameters.get("service", "")
        scope = parameters.get("scope") or self._scope
        key = (self._host.authority, realm, service, scope, self._credential)
        token = _tokens.get(key)
        fresh = token is None or sent.get("Authorization") == f"Bearer {token}"
        if token is None or fresh:
            _tokens.drop(key)
            token, lifetime = await self._fetch(realm, service, scope)
            _tokens.put(key, token, lifetime)
        self._authorization = f"Bearer {token}"
        return fresh

    async def _fetch(self, realm: str, service: str, scope: str) -> tuple[str, float]:
        """Return (a new token, its lifetime in seconds)."""
        parts = self._realm(realm)
        credential = self._credential if self._may_send(parts) else None
        if self._credential is not None and credential is None:
            raise PullError(
                "denied",
                f"credentials are not sent to {parts.scheme}://{parts.netloc}, which {self._host.authority} names for "
                "its tokens: it is another host, without TLS",
            )
        if credential is not None and credential.identity_token:
            found = await self._oauth(realm, service, scope, {
                "grant_type": "refresh_token", "refresh_token": credential.identity_token,
            })  # fmt: skip
            return self._token(found)
        query = [*parse_qsl(parts.query, keep_blank_values=True)[:32]]
        query += [("service", service)] if service else []
        query += [("scope", part) for part in scope.split(" ")[:8] if part]
        fields = {"Accept": "application/json"}
        if credential is not None and (credential.username or credential.password):
            query += [("account", credential.username)]
            fields["Authorization"] = _basic(credential)
        status, body = await self._ask("GET", parts._replace(query=urlencode(query), fragment="").geturl(), fields)
        if status in _OAUTH_MISSING and "Authorization" in fields:
            # Some servers only have the OAuth 2 endpoint (POST).
            assert credential is not None
            form = {"grant_type": "password", "username": credential.username, "password": credential.password}
            found = await self._oauth(realm, service, scope, form)
            return self._token(found)
        if status != 200:
            raise self._refused("GET", parts, status, body)
        return self._token(_object(body))

    async def _oauth(self, realm: str, service: str, scope: str, form: Mapping[str, str]) -> dict[str, Any]:
        content = urlencode({**form, "service": service, "scope": scope, "client_id": _CLIENT}).encode()
        fields = {"Content-Type": "application/x-www-form-urlencoded", "Accept": "application/json"}
        status, body = await self._ask("POST", realm, fields, content)
        if status != 200:
            raise self._refused("POST", urlsplit(realm), status, body)
        return _object(body)

    def _realm(self, realm: str) -> SplitResult:
        """Return the realm's parts. A registry that is reached by TLS must name a realm that has TLS, too."""
        try:
            parts = urlsplit(realm)
            good = parts.scheme in ("http", "https") and bool(parts.hostname) and "@" not in parts.netloc
        except ValueError:
            good = False
        if not good or not realm.isprintable():
            raise PullError("invalid", f'the registry names a realm for its tokens that is no URL: "{realm[:200]}"')
        if parts.scheme == "http" and self._host.scheme == "https":
            raise PullError("invalid", f"the registry names a realm for its tokens that has no TLS: {parts.netloc}")
        return parts

    def _may_send(self, parts: SplitResult) -> bool:
        """Return True when credentials may be sent to the realm: by TLS, or to the registry's own host."""
        return parts.scheme == "https" or parts.hostname == urlsplit(f"//{self._host.authority}").hostname

    async def _ask(self, method: str, url: str, fields: Mapping[str, str], content: bytes = b"") -> tuple[int, bytes]:
        try:
            answer, _ = await self._http.send(self._host, method, url, fields, content)
            try:
                return answer.status, await read_all(answer, LARGEST_ANSWER)
            finally:
                answer.leave()
        except ProxyError as error:
            raise unreachable(error, method, url, self._registry) from error

    def _refused(self, method: str, parts: SplitResult, status: int, body: bytes) -> PullError:
        kind = "oauth" if method == "POST" else "anonymous" if self._credential is None else "basic"
        where = parts._replace(query="", fragment="").geturl()
        said = explain_body(status, body)
        if status in (400, 401, 403):
            words = f"failed to fetch {kind} token: unexpected status from {method} request to {where}: "
            words += status_text(status) + (f": {said}" if said else "")
            return denied(f"authorization failed: {words}", self._registry, with_credentials=self.with_credentials)
        return refusal(
            status, body, f"the token server {where}", self._registry, with_credentials=self.with_credentials
        )

    def _token(self, found: dict[str, Any]) -> tuple[str, float]:
        token = found.get("token") or found.get("access_token")
        if not isinstance(token, str) or not is_token(token) or len(token) > _LONGEST_TOKEN:
            raise PullError("invalid", "authorization server did not include a token in the response")
        seconds = found.get("expires_in")
        good = isinstance(seconds, int | float) and not isinstance(seconds, bool)
        return token, max(float(seconds), _LIFETIME) if good and seconds is not None else _LIFETIME


def _bearer(challenges: Sequence[AuthChallenge]) -> AuthChallenge | None:
    return next((one for one in challenges if one.scheme == "bearer" and one.parameters.get("realm")), None)


def _basic(credential: Credential) -> str:
    return "Basic " + base64.b64encode(f"{credential.username}:{credential.password}".encode()).decode()


def _object(body: bytes) -> dict[str, Any]:
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise PullError("invalid", "the token server's answer is not a JSON object")
    return found


async def read_all(answer: HttpAnswer, limit: int, patience: float = PATIENCE) -> bytes:
    """Return an answer's whole body.

    limit: the most bytes. patience: the most seconds for the whole body.

    Raises:
        PullError: the body is longer.
        ProxyError: the body is cut off, or takes longer.
    """
    found = bytearray()
    try:
        async with asyncio.timeout(patience):
            async for piece in answer.pieces(None):
                found += piece
                if len(found) > limit:
                    raise PullError("invalid", f"the answer is longer than {limit} bytes")
    except TimeoutError:
        raise ProxyError("read", f"no complete answer in {patience:g} s", silent=patience) from None
    return bytes(found)
