"""One repository of one registry: manifests and blobs (OCI distribution specification 1.1, "Pull")."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from urllib.parse import urlencode

from hatchway.images.contents import PullGrant
from hatchway.images.documents import (
    DOCKER_INDEX,
    DOCKER_MANIFEST,
    MANIFEST_LIMIT,
    OCI_INDEX,
    OCI_MANIFEST,
)
from hatchway.images.pulling.challenge import AuthChallenge, parse_challenges
from hatchway.images.pulling.credentials import Credential
from hatchway.images.pulling.pullerror import PullError, explain_body, refusal
from hatchway.images.pulling.registries import RegistryServer
from hatchway.images.pulling.registryauth import RegistryAuthenticator, read_all
from hatchway.images.pulling.registryhttp import (
    ATTEMPTS,
    Host,
    RegistryHttp,
    delay_before,
    is_passing,
    retry_after,
    unreachable,
)
from hatchway.images.reference import DEFAULT_REGISTRY, is_digest
from hatchway.images.store.blobs import hash_of
from hatchway.kube.http import HttpAnswer
from hatchway.proxy.routing import ProxyError

_MANIFESTS = ", ".join((OCI_INDEX, OCI_MANIFEST, DOCKER_INDEX, DOCKER_MANIFEST))
# Other manifests are accepted, too, so that they can be refused with a reason.
_ACCEPT = _MANIFESTS + ", application/vnd.docker.distribution.manifest.v1+prettyjws;q=0.5, */*;q=0.1"
# The most bytes that are read of an error's body, and the seconds to wait for them.
_LARGEST_ERROR = 64 * 1024
_ERROR_PATIENCE = 10.0
# The number of answers with status 401 after which a request fails.
_CHALLENGES = 4


@dataclass(frozen=True, slots=True)
class ManifestDocument:
    """A manifest or an index, as a registry sent it.

    digest: of `content`, with its algorithm. is_served: False when it was read from the store.
    """

    content: bytes
    digest: str
    is_served: bool = True


class RepositoryClient:
    """Fetches manifests and blobs from one repository of one endpoint, with at most one credential.

    endpoint: the registry or mirror. repository: its path at the registry. credential: None for an anonymous pull.
    """

    def __init__(
        self, http: RegistryHttp, endpoint: RegistryServer, repository: str, credential: Credential | None
    ) -> None:
        self._http = http
        self._endpoint = endpoint
        self._path = endpoint.prefix + repository
        self._scope = f"repository:{self._path}:pull"
        self._credential = credential
        self._registry = endpoint.name
        # Like containerd, tell a mirror which registry the image belongs to.
        self._query = f"?{urlencode({'ns': endpoint.mirror_of})}" if endpoint.mirror_of else ""
        self._host: Host | None = None
        self._auth: RegistryAuthenticator | None = None

    @property
    def with_credentials(self) -> bool:
        """Return True when there are credentials."""
        return self._credential is not None

    @property
    def grant(self) -> PullGrant | None:
        """Return the grant for images that this client fetches; None when everyone may use them."""
        return None if self._credential is None else self._credential.grant

    async def connect(self) -> None:
        """Find out by `GET /v2/` how to authenticate, and choose between TLS and plain HTTP.

        Raises PullError.
        """
        endpoint = self._endpoint
        for scheme in endpoint.schemes:
            is_last = scheme == endpoint.schemes[-1]
            self._host = Host(scheme, endpoint.name, endpoint.authority, endpoint.verify)
            self._auth = RegistryAuthenticator(self._http, self._host, self._registry, self._scope, self._credential)
            try:
                async with self._answer("GET", "/v2/", {}, ping=True, retry=is_last):
                    return
            except _NoConnection as error:
                if is_last:
                    raise error.error from error

    async def find_digest(self, tag: str) -> str:
        """Return the present digest of a tag (by HEAD); "" when the registry does not send it. Raises PullError."""
        async with self._answer("HEAD", self._manifest_path(tag), {"Accept": _ACCEPT}) as answer:
            return _digest(answer)

    async def fetch_manifest(self, tag_or_digest: str) -> ManifestDocument:
        """Fetch a manifest or an index, and verify its digest. Raises PullError."""
        for attempt in range(1, ATTEMPTS + 1):
            async with self._answer("GET", self._manifest_path(tag_or_digest), {"Accept": _ACCEPT}) as answer:
                try:
                    content = await read_all(answer, MANIFEST_LIMIT)
                except ProxyError as error:
                    if attempt == ATTEMPTS:
                        raise unreachable(
                            error, "GET", self._url(self._manifest_path(tag_or_digest)), self._registry
                        ) from error
                    content = None
                said = _digest(answer)
            if content is None:
                await asyncio.sleep(delay_before(attempt) or 0)
                continue
            wanted = tag_or_digest if is_digest(tag_or_digest) else said or "sha256:"
            found = await asyncio.to_thread(hash_of, wanted, content)
            if wanted not in (found, "sha256:"):
                raise PullError("invalid", f"unexpected commit digest {found}, expected {wanted}: failed precondition")
            return ManifestDocument(content, found)
        raise AssertionError("the last attempt returns or raises")

    @asynccontextmanager
    async def open_blob(self, digest: str, offset: int) -> AsyncIterator[HttpAnswer]:
        """Request a blob, beginning at byte `offset` if the server supports it: the status is then 206, else 200.

        Raises PullError. When the body is interrupted, the answer's `read` raises ProxyError.
        """
        fields = {"Accept": "application/octet-stream, */*;q=0.5", "Accept-Encoding": "identity"}
        if offset:
            fields["Range"] = f"bytes={offset}-"
        path = f"/v2/{self._path}/blobs/{digest}{self._query}"
        async with self._answer("GET", path, fields, plain_redirects=True) as answer:
            yield answer

    def _manifest_path(self, tag_or_digest: str) -> str:
        return f"/v2/{self._path}/manifests/{tag_or_digest}{self._query}"

    def _url(self, path: str) -> str:
        assert self._host is not None
        return self._host.url(path)

    @asynccontextmanager
    async def _answer(
        self,
        method: str,
        path: str,
        fields: Mapping[str, str],
        *,
        plain_redirects: bool = False,
        ping: bool = False,
        retry: bool = True,
    ) -> AsyncIterator[HttpAnswer]:
        """Send an authenticated request, and retry after temporary errors. Yield the answer; its status is 2xx or 416.

        ping: True to send the request without authentication, and to yield answers with permanent errors, too.
        retry: False to raise _NoConnection at once when there is no answer.
        """
        for attempt in range(1, ATTEMPTS + 1):
            delay = delay_before(attempt)
            try:
                if ping:
                    answer = await self._ping(path)
                else:
                    answer = await self._authenticated(method, path, fields, plain_redirects)
            except ProxyError as error:
                failure = unreachable(error, method, self._url(path), self._registry)
                if not retry:
                    raise _NoConnection(failure) from error
                # Retrying at once does not help when the host does not exist or refuses connections.
                if attempt == ATTEMPTS or failure.kind == "unreachable":
                    raise failure from error
            else:
                try:
                    if 200 <= answer.status < 300 or answer.status == 416 or (ping and not is_passing(answer.status)):
                        yield answer
                        return
                    failure = await self._refusal(answer, path)
                    delay = delay_before(attempt, retry_after(answer))
                    if attempt == ATTEMPTS or not is_passing(answer.status) or delay is None:
                        raise failure
                finally:
                    answer.leave()
            await asyncio.sleep(delay or 0)

    async def _ping(self, path: str) -> HttpAnswer:
        """Send a request without authentication, and prepare the authentication that the registry requires.

        An error status is no failure: images may be readable nevertheless.
        """
        assert self._host is not None and self._auth is not None
        sent = self._auth.fields()
        answer, is_own = await self._http.send(self._host, "GET", self._url(path), sent)
        if answer.status != 401 or not is_own:
            return answer
        try:
            challenges, said = await _challenges(answer)
            for challenge in challenges:
                # Replace scopes of repositories: for `/v2/`, GHCR sends the scope of a placeholder. Keep other scopes,
                # such as "aws" of Amazon's public registry.
                if ":" in challenge.parameters.get("scope", ":"):
                    challenge.parameters["scope"] = self._scope
            if self._credential is not None or any(one.scheme == "bearer" for one in challenges):
                await self._auth.respond(challenges, said, sent)
        except BaseException:
            answer.leave()
            raise
        return answer

    async def _authenticated(
        self, method: str, path: str, fields: Mapping[str, str], plain_redirects: bool
    ) -> HttpAnswer:
        """Send a request; after a 401 of the registry itself, send it again with the required authentication."""
        assert self._host is not None and self._auth is not None
        is_final = False
        for _ in range(_CHALLENGES):
            sent = self._auth.fields()
            answer, is_own = await self._http.send(
                self._host, method, self._url(path), {**fields, **sent}, plain_redirects=plain_redirects
            )
            if answer.status != 401 or not is_own:
                return answer
            try:
                challenges, said = await _challenges(answer)
            finally:
                answer.leave()
            if is_final:
                raise self._auth.refused(challenges, said)
            is_final = await self._auth.respond(challenges, said, sent)
        raise self._auth.refused([], "")

    async def _refusal(self, answer: HttpAnswer, path: str) -> PullError:
        body = await _beginning(answer)
        what = path.partition("?")[0].rpartition("/")[2] or "/v2/"
        separator = "@" if is_digest(what) else ":"
        name = f"{self._registry}/{self._path}{separator}{what}" if what != "/v2/" else f"{self._endpoint.shown}/v2/"
        registry = self._endpoint.mirror_of or self._registry
        if self._registry == DEFAULT_REGISTRY:
            registry = DEFAULT_REGISTRY
        return refusal(answer.status, body, name, registry, with_credentials=self.with_credentials)


class _NoConnection(Exception):
    """The host does not answer requests with this scheme. error: the error to raise when no other scheme is left."""

    def __init__(self, error: PullError) -> None:
        super().__init__(error.message)
        self.error = error


def _digest(answer: HttpAnswer) -> str:
    text = (answer.field(b"docker-content-digest") or b"").decode("latin-1").strip()
    return text if is_digest(text) else ""


async def _challenges(answer: HttpAnswer) -> tuple[list[AuthChallenge], str]:
    """Return (the challenges, the reason) of a 401."""
    challenges = parse_challenges(value for name, value in answer.fields if name.lower() == b"www-authenticate")
    return challenges, explain_body(401, await _beginning(answer))


async def _beginning(answer: HttpAnswer) -> bytes:
    """Return the beginning of an error's body: the bytes that arrive within `_ERROR_PATIENCE` seconds."""
    found = bytearray()
    try:
        async with asyncio.timeout(_ERROR_PATIENCE):
            async for piece in answer.pieces(None):
                found += piece
                if len(found) >= _LARGEST_ERROR:
                    break
    except (ProxyError, TimeoutError):
        pass
    return bytes(found[:_LARGEST_ERROR])
