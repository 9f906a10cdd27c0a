"""A registry on loopback that follows the specifications, with Basic or tokens; tests can replace its answers.

The protocol is OCI's distribution specification 1.1; the tokens are those of distribution's `docs/spec/auth/token.md`
and `oauth.md`, as Docker Hub and GHCR have them.
"""

from __future__ import annotations

import asyncio
import base64
import json
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, urlsplit

from tests.images.making import BuiltImage, digest_of


@dataclass(frozen=True)
class Request:
    """A request to the stub. fields: names in lower case. path: without the query."""

    method: str
    path: str
    query: dict[str, list[str]]
    fields: dict[str, str]
    body: bytes

    @property
    def authorization(self) -> str:
        return self.fields.get("authorization", "")


Body = bytes | Callable[[asyncio.StreamWriter], Awaitable[None]]


@dataclass
class Answer:
    """A response of the stub. body: bytes, or a function that writes them. length: a false Content-Length."""

    status: int = 200
    fields: dict[str, str] = field(default_factory=dict)
    body: Body = b""
    length: int | None = None


Handler = Callable[[Request], Answer | None]


class StubRegistry:
    """The registry and its token server.

    images: repository -> tag or digest -> manifest. blobs: by digest. auth: "", "basic" or "token".
    users: name -> password. identity_tokens: accepted by the OAuth endpoint. readable: the repositories that
    anonymous users may read. handler: may answer a request in place of the stub. requests: the received requests.
    realm: the realm in challenges; by default the stub's own token server. ranges: False to ignore Range.
    """

    def __init__(self) -> None:
        self.manifests: dict[str, dict[str, bytes]] = {}
        self.blobs: dict[str, bytes] = {}
        self.auth = ""
        self.users: dict[str, str] = {}
        self.identity_tokens: set[str] = set()
        self.readable: set[str] = set()
        self.handler: Handler | None = None
        self.requests: list[Request] = []
        self.realm = ""
        self.service = "registry.test"
        self.ping_scope = ""
        self.ranges = True
        self.address = ""
        self.scheme = "http"
        self._tokens: dict[str, str] = {}

    def add(self, repository: str, image: BuiltImage, *tags: str) -> None:
        """Add an image."""
        self.blobs |= image.blobs
        self.add_manifest(repository, image.blobs[image.manifest], *tags)

    def add_manifest(self, repository: str, content: bytes, *tags: str) -> str:
        """Add a manifest or an index; return its digest."""
        digest = digest_of(content)
        self.manifests.setdefault(repository, {}).update(dict.fromkeys([digest, *tags], content))
        return digest

    def asked(self, what: str) -> list[Request]:
        """Return the requests whose path contains this text."""
        return [request for request in self.requests if what in request.path]

    # -- serving -------------------------------------------------------------------------------------------------------

    def answer(self, request: Request) -> Answer:
        """Return the answer to a request."""
        if self.handler is not None and (found := self.handler(request)) is not None:
            return found
        if request.path == "/token":
            return self._token(request)
        if not request.path.startswith("/v2/"):
            return Answer(404)
        if (refused := self._challenge(request)) is not None:
            return refused
        if request.path == "/v2/":
            return Answer(body=b"{}")
        repository, _, rest = request.path.removeprefix("/v2/").rpartition("/manifests/")
        if repository:
            return self._manifest(repository, rest)
        _, _, digest = request.path.rpartition("/blobs/")
        return self._blob(request, digest)

    def _manifest(self, repository: str, name: str) -> Answer:
        content = self.manifests.get(repository, {}).get(name)
        if content is None:
            return error(404, "MANIFEST_UNKNOWN", "manifest unknown")
        document = json.loads(content)
        media_type = document.get("mediaType", "application/vnd.oci.image.index.v1+json")
        return Answer(200, {"Content-Type": media_type, "Docker-Content-Digest": digest_of(content)}, content)

    def _blob(self, request: Request, digest: str) -> Answer:
        blob = self.blobs.get(digest)
        if blob is None:
            return error(404, "BLOB_UNKNOWN", "blob unknown to registry")
        wanted = request.fields.get("range", "")
        if self.ranges and wanted:
            start = int(wanted.removeprefix("bytes=").removesuffix("-"))
            said = {"Content-Range": f"bytes {start}-{len(blob) - 1}/{len(blob)}"}
            return Answer(206, said, blob[start:]) if start < len(blob) else Answer(416)
        return Answer(200, {"Content-Type": "application/octet-stream"}, blob)

    def _challenge(self, request: Request) -> Answer | None:
        kind, _, value = request.authorization.partition(" ")
        if self.auth == "basic" and not (kind == "Basic" and self._user(value)):
            return unauthorized('Basic realm="stub"')
        if self.auth != "token":
            return None
        path = request.path.removeprefix("/v2/")
        repository = path.rpartition("/manifests/")[0] or path.rpartition("/blobs/")[0]
        scope = f"repository:{repository}:pull" if repository else self.ping_scope
        realm = self.realm or f"{self.scheme}://{self.address}/token"
        said = f'Bearer realm="{realm}",service="{self.service}"' + (f',scope="{scope}"' if scope else "")
        if kind != "Bearer" or value not in self._tokens:
            return unauthorized(said)
        if repository and self._tokens[value] != scope:
            return unauthorized(f'{said},error="insufficient_scope"')
        return None

    def _user(self, basic: str) -> str:
        name, _, password = base64.b64decode(basic).decode().partition(":")
        return name if self.users.get(name) == password else ""

    def _token(self, request: Request) -> Answer:
        form = parse_qs(request.body.decode()) if request.method == "POST" else request.query
        user = ""
        if request.method == "POST":
            if form["grant_type"] != ["refresh_token"] or form["refresh_token"][0] not in self.identity_tokens:
                return Answer(401, {}, b'{"error":"invalid_grant","error_description":"unknown refresh token"}')
            user = "oauth"
        elif request.authorization:
            user = self._user(request.authorization.removeprefix("Basic "))
            if not user:
                return Answer(401, {}, b'{"details":"incorrect username or password"}')
        # As at Docker Hub, the token for a scope that is not granted does not have that scope.
        scope = form.get("scope", [""])[0]
        granted = scope if user or (scope.split(":")[1:2] and scope.split(":")[1] in self.readable) else ""
        token = f"token-{len(self._tokens)}"
        self._tokens[token] = granted
        key = "access_token" if request.method == "POST" else "token"
        return Answer(200, {}, json.dumps({key: token, "expires_in": 300}).encode())

    def expire_tokens(self) -> None:
        """Make all issued tokens invalid."""
        self._tokens = {f"expired-{number}": "" for number in range(len(self._tokens))}

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection."""
        try:
            while (request := await _read(reader)) is not None:
                self.requests.append(request)
                await _write(writer, request, self.answer(request))
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError, ssl.SSLError):
            pass  # The task of a cancelled server would be reported as failed.
        finally:
            writer.close()


async def _read(reader: asyncio.StreamReader) -> Request | None:
    try:
        first = await reader.readexactly(1)
        if first == b"\x16":
            return None  # A TLS handshake with a server without TLS: Go's servers close the connection, too.
        head = (first + await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
    except (asyncio.IncompleteReadError, asyncio.LimitOverrunError):
        return None
    method, target, _ = head[0].split(" ")
    pairs = (line.partition(": ") for line in head[1:] if line)
    fields = {name.lower(): value for name, _, value in pairs}
    parts = urlsplit(target)
    body = await reader.readexactly(int(fields.get("content-length", 0)))
    return Request(method, parts.path, parse_qs(parts.query), fields, body)


async def _write(writer: asyncio.StreamWriter, request: Request, answer: Answer) -> None:
    length = answer.length
    if length is None and isinstance(answer.body, bytes):
        length = len(answer.body)
    fields = dict(answer.fields) | ({} if length is None else {"Content-Length": str(length)})
    if length is None:
        fields["Connection"] = "close"
    head = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    writer.write(f"HTTP/1.1 {answer.status} Status\r\n{head}\r\n".encode())
    if request.method != "HEAD":
        if isinstance(answer.body, bytes):
            writer.write(answer.body)
        else:
            await answer.body(writer)
    await writer.drain()
    cut = isinstance(answer.body, bytes) and answer.length not in (None, len(answer.body))
    if length is None or cut:
        raise ConnectionError("the answer ends with its connection")


def error(status: int, code: str, message: str, **fields: str) -> Answer:
    """Return a registry's error."""
    body = json.dumps({"errors": [{"code": code, "message": message}]}).encode()
    return Answer(status, {"Content-Type": "application/json", **fields}, body)


def unauthorized(challenge: str) -> Answer:
    """Return a 401 with a challenge."""
    found = error(401, "UNAUTHORIZED", "authentication required")
    found.fields["WWW-Authenticate"] = challenge
    return found


def redirect(location: str, status: int = 307) -> Answer:
    """Return a redirect."""
    return Answer(status, {"Location": location})


@asynccontextmanager
async def serving(
    *stubs: StubRegistry, host: str = "127.0.0.1", tls: ssl.SSLContext | None = None
) -> AsyncIterator[None]:
    """Serve the stubs during a block; each stub's `address` is set."""
    servers = []
    try:
        for stub in stubs:
            server = await asyncio.start_server(stub.serve, host, 0, ssl=tls)
            servers.append(server)
            stub.address = f"{host}:{server.sockets[0].getsockname()[1]}"
            stub.scheme = "https" if tls else "http"
        yield
    finally:
        for server in servers:
            server.close()
        # Connections that the client keeps open must not delay the end of the test.
        await asyncio.sleep(0)


def endless(chunk: bytes = bytes(65536)) -> Callable[[asyncio.StreamWriter], Awaitable[None]]:
    """Return a body that does not end."""

    async def write(writer: asyncio.StreamWriter) -> None:
        while True:
            writer.write(chunk)
            await writer.drain()

    return write


def index_with(entries: Iterable[dict[str, Any]]) -> bytes:
    """Return an index with these entries."""
    return json.dumps(
        {"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": list(entries)}
    ).encode()
