"""Registries whose data are false or endless, or that redirect to other servers."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from hatchway.images.pulling import download, registryauth
from hatchway.images.pulling.destinations import Reach
from hatchway.images.pulling.pull import PullError
from hatchway.images.pulling.registries import Registries, RegistrySettings
from hatchway.images.pulling.registryhttp import Host, RegistryHttp
from tests.images.making import built, digest_of
from tests.images.registrystub import Answer, Request, StubRegistry, endless, index_with, redirect, serving
from tests.integration.images.conftest import Puller
from tests.integration.images.test_pull import LARGE, WEB, stub_with


async def refused(puller: Puller, stub: StubRegistry, words: str, name: str = "team/web:1") -> PullError:
    """Pull; return the error. Afterwards the store may have only verified content."""
    with pytest.raises(PullError, match=words) as caught:
        await puller(f"{stub.address}/{name}")
    assert puller.store.images() == []
    return caught.value


def answering(part: str, answer: Answer) -> object:
    return lambda request: answer if part in request.path else None


@pytest.mark.parametrize("path", ["/v2/team/web/manifests", "/token"])
async def test_an_endless_document(puller: Puller, path: str) -> None:
    stub = stub_with()
    stub.auth = "token" if path == "/token" else ""
    stub.handler = answering(path, Answer(body=endless()))  # type: ignore[assignment]
    async with serving(stub):
        await refused(puller, stub, "longer than")


async def test_an_endless_page_and_an_endless_error(puller: Puller) -> None:
    stub = stub_with()
    stub.handler = lambda request: Answer(404, {}, endless(b"x" * 65536)) if "/manifests/" in request.path else None
    async with serving(stub):
        await refused(puller, stub, "not found")


async def test_an_endless_blob(puller: Puller) -> None:
    stub = stub_with()
    stub.handler = answering(WEB.layers[0], Answer(body=endless()))  # type: ignore[assignment]
    async with serving(stub):
        await refused(puller, stub, "is longer than the .* bytes of its manifest")


async def test_a_blob_with_another_content(puller: Puller) -> None:
    blob = WEB.blobs[WEB.layers[0]]
    stub = stub_with()
    stub.handler = answering(WEB.layers[0], Answer(body=b"\0" * len(blob)))  # type: ignore[assignment]
    async with serving(stub):
        await refused(puller, stub, "has another content")
    assert not puller.store.has_blob(WEB.layers[0])
    assert WEB.layers[0].removeprefix("sha256:") not in puller.leftovers()


async def test_a_blob_that_is_shorter(puller: Puller) -> None:
    stub = stub_with()
    stub.handler = answering(WEB.layers[0], Answer(body=b"\0"))  # type: ignore[assignment]
    async with serving(stub):
        await refused(puller, stub, "failed to copy: unexpected EOF")


async def test_a_blob_with_a_content_coding(puller: Puller) -> None:
    blob = WEB.blobs[WEB.layers[0]]
    stub = stub_with()
    stub.handler = answering(WEB.layers[0], Answer(200, {"Content-Encoding": "gzip"}, blob))  # type: ignore[assignment]
    async with serving(stub):
        await refused(puller, stub, "content coding gzip")


async def test_a_slow_blob(puller: Puller, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "PATIENCE", 0.2)

    async def drop_by_drop(writer: asyncio.StreamWriter) -> None:
        while True:
            writer.write(b"x")
            await writer.drain()
            await asyncio.sleep(0.05)

    stub = stub_with(LARGE)
    size = len(LARGE.blobs[LARGE.layers[1]])
    stub.handler = answering(LARGE.layers[1], Answer(200, {}, drop_by_drop, size))  # type: ignore[assignment]
    stub.ranges = False
    async with serving(stub), asyncio.timeout(60):
        error = await refused(puller, stub, "failed to copy: less than 16384 bytes in 0.2 s")
    assert error.retryable


def _slowly(content: bytes) -> Callable[[asyncio.StreamWriter], Awaitable[None]]:
    async def write(writer: asyncio.StreamWriter) -> None:
        for start in range(0, len(content), 1000):
            writer.write(content[start : start + 1000])
            await writer.drain()
            await asyncio.sleep(0.01)

    return write


async def test_a_blob_whose_end_is_hours_away(puller: Puller, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bytes arrive all the time, but too few for the size of the blob. The next pull continues the download."""
    layer = LARGE.layers[1]
    content = LARGE.blobs[layer]
    stub = stub_with(LARGE)
    stub.handler = answering(layer, Answer(200, {}, _slowly(content), len(content)))  # type: ignore[assignment]
    async with serving(stub), asyncio.timeout(60):
        with monkeypatch.context() as patch:
            patch.setattr(download, "_SPAN", 0.3)
            error = await refused(puller, stub, "failed to copy: the registry has sent [0-9]{4,} bytes in [0-9]+ s")
        assert error.retryable
        assert layer.removeprefix("sha256:") in puller.leftovers()
        stub.handler = None
        await puller(f"{stub.address}/team/web:1")
        assert int(stub.asked(layer)[-1].fields["range"].removeprefix("bytes=").removesuffix("-")) > 0


async def test_a_slow_connection_reaches_the_end(puller: Puller, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "_SPAN", 0.05)
    monkeypatch.setattr(download, "_LEAST", 500)
    image = built("web:1", {"noise": random.Random(2).randbytes(30_000)})
    stub = stub_with(image)
    content = image.blobs[image.layers[0]]
    stub.handler = answering(image.layers[0], Answer(200, {}, _slowly(content), len(content)))  # type: ignore[assignment]
    async with serving(stub):
        await puller(f"{stub.address}/team/web:1")
    assert len(stub.asked(image.layers[0])) == 1


async def test_a_slow_registry_delays_no_pull_from_another_one(puller: Puller) -> None:
    """Pulls from other registries are not delayed even if the slow one names the same layers."""
    good, evil = stub_with(), StubRegistry()
    evil.add_manifest("web", WEB.blobs[WEB.manifest], "1")
    ended = asyncio.Event()

    async def wait(writer: asyncio.StreamWriter) -> None:
        await ended.wait()

    evil.handler = lambda request: Answer(404, {}, wait) if "/blobs/" in request.path else None
    async with serving(good, evil):
        waiting = asyncio.create_task(Puller(puller.store)(f"{evil.address}/web:1"))
        while not evil.asked("/blobs/"):  # noqa: ASYNC110
            await asyncio.sleep(0.005)
        async with asyncio.timeout(30):
            await puller(f"{good.address}/team/web:1")
        assert not waiting.done()
        ended.set()
        with pytest.raises(PullError, match="not found"):
            await waiting


@pytest.mark.parametrize("path", ["/v2/team/web/manifests/1", "/token"])
async def test_a_slow_document(puller: Puller, monkeypatch: pytest.MonkeyPatch, path: str) -> None:
    """Each byte arrives within its timeout, but the document never ends."""

    async def drop_by_drop(writer: asyncio.StreamWriter) -> None:
        while True:
            writer.write(b" ")
            await writer.drain()
            await asyncio.sleep(0.01)

    monkeypatch.setattr(registryauth.read_all, "__defaults__", (0.2,))
    stub = stub_with()
    stub.auth = "token" if path == "/token" else ""
    stub.handler = answering(path, Answer(200, {}, drop_by_drop, 1000))  # type: ignore[assignment]
    async with serving(stub), asyncio.timeout(60):
        await refused(puller, stub, "no complete answer in 0.2 s")


async def test_a_silent_blob(puller: Puller, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "PATIENCE", 0.1)

    async def nothing(_: asyncio.StreamWriter) -> None:
        await asyncio.Event().wait()

    stub = stub_with()
    size = len(WEB.blobs[WEB.layers[0]])
    stub.handler = answering(WEB.layers[0], Answer(200, {}, nothing, size))  # type: ignore[assignment]
    async with serving(stub), asyncio.timeout(60):
        await refused(puller, stub, "no answer in 0.1 s")


async def test_a_manifest_with_another_digest(puller: Puller) -> None:
    stub = stub_with()
    other = built("", {"x": "y"})
    stub.manifests["team/web"][WEB.manifest] = other.blobs[other.manifest]
    async with serving(stub):
        await refused(puller, stub, "unexpected commit digest sha256:.*, expected sha256:", f"team/web@{WEB.manifest}")
        content = WEB.blobs[WEB.manifest]
        lie = Answer(200, {"Docker-Content-Digest": f"sha256:{'0' * 64}"}, content)
        stub.handler = answering("/manifests/1", lie)  # type: ignore[assignment]
        await refused(puller, stub, "unexpected commit digest")


async def test_a_registry_cannot_name_an_image_that_it_does_not_have(puller: Puller) -> None:
    """The answer to HEAD names the digest of a stored image of another registry."""
    secret = stub_with(repository="secret")
    stub = stub_with(built("", {"a": "public"}))
    async with serving(secret, stub):
        await puller(f"{secret.address}/secret:1")
        first = await puller(f"{stub.address}/team/web:1")
        with pytest.raises(PullError, match="not found"):
            await puller(f"{stub.address}/team/web@{WEB.manifest}")
        stub.handler = lambda request: (
            Answer(200, {"Docker-Content-Digest": WEB.manifest}) if request.method == "HEAD" else None
        )
        again = await puller(f"{stub.address}/team/web:1")
    assert first.image_id != WEB.config
    assert again.image_id == first.image_id


@pytest.mark.parametrize(
    ("entry", "count", "words"),
    [
        ({"mediaType": "x", "digest": WEB.manifest, "size": 1}, 100_000, "longer than 4194304 bytes"),
        ({"mediaType": "x", "digest": WEB.manifest, "size": 1}, 10_000, "more than 20000 values"),
        ([], 1_000_000, "more than 20000 values"),
    ],
)
async def test_an_index_that_is_too_long(puller: Puller, entry: Any, count: int, words: str) -> None:
    stub = stub_with()
    stub.handler = answering("/manifests/", Answer(body=index_with([entry] * count)))  # type: ignore[assignment]
    async with serving(stub):
        await refused(puller, stub, words)


async def test_indexes_of_indexes(puller: Puller) -> None:
    stub = stub_with()
    content = WEB.blobs[WEB.manifest]
    for _ in range(10):
        entry = {
            "mediaType": "application/vnd.oci.image.index.v1+json",
            "digest": digest_of(content),
            "size": len(content),
        }
        content = index_with([entry])
        stub.add_manifest("team/web", content, "deep")
    async with serving(stub):
        await refused(puller, stub, "more than 4 indexes", "team/web:deep")


async def test_an_index_that_lies_about_sizes(puller: Puller) -> None:
    stub = stub_with()
    platform = {"os": "linux", "architecture": "amd64"}
    entry = {"mediaType": "x", "digest": WEB.manifest, "size": 7, "platform": platform}
    stub.add_manifest("team/web", index_with([entry, {**entry, "platform": {}}]), "lie")
    async with serving(stub):
        await refused(puller, stub, "another size than its index says", "team/web:lie")


async def test_a_config_that_is_too_large(puller: Puller) -> None:
    manifest = json.loads(WEB.blobs[WEB.manifest])
    manifest["config"]["size"] = 1 << 30
    stub = stub_with()
    stub.add_manifest("team/web", json.dumps(manifest).encode(), "large")
    async with serving(stub):
        await refused(puller, stub, "configuration has 1073741824 bytes", "team/web:large")
    assert not stub.asked("/blobs/")


async def test_redirects_in_a_circle(puller: Puller) -> None:
    stub = stub_with()
    stub.handler = lambda request: redirect(request.path) if "/blobs/" in request.path else None
    async with serving(stub):
        await refused(puller, stub, "stopped after 10 redirects")
    assert len(stub.asked("/blobs/")) <= 12


@pytest.mark.parametrize(
    "location",
    [
        "file:///etc/passwd",
        "gopher://127.0.0.1/",
        "http://user:password@127.0.0.1/",
        "http://127.0.0.1:0/",
        "http://[::1/",
        "http://\x01host/",
        "http://127.0.0.1/" + "x" * 20_000,
    ],
)
async def test_redirects_to_invalid_urls(puller: Puller, location: str) -> None:
    stub = stub_with()
    stub.handler = lambda request: redirect(location) if "/manifests/" in request.path else None
    async with serving(stub):
        error = await refused(puller, stub, "is not a URL that can be used|Invalid header value")
    assert len(error.message) < 1000


async def test_a_redirect_to_this_machine(puller: Puller, monkeypatch: pytest.MonkeyPatch) -> None:
    """A registry elsewhere cannot make Hatchway ask servers of this machine."""
    victim, stub = StubRegistry(), stub_with()
    async with serving(victim, stub):
        stub.handler = lambda request: (
            redirect(f"http://{victim.address}/admin") if "/manifests/" in request.path else None
        )
        # The registry is reached through a proxy, so that it counts as remote.
        settings = {"registry.test:80": RegistrySettings(insecure=True)}
        proxy = Tunnel(stub.address)
        async with proxy:
            with pytest.raises(
                PullError, match=rf"registry.test:80 leads to {victim.address}, an address of this machine"
            ):
                await puller(
                    "registry.test:80/team/web:1",
                    registries=Registries(settings),
                    environment={"HTTP_PROXY": proxy.url, "HTTPS_PROXY": proxy.url},
                )
    assert proxy.asked[-1] == "registry.test:80"
    assert victim.requests == []


async def test_a_registry_on_this_machine_names_a_link_local_address(puller: Puller) -> None:
    """The registry may be a pod behind a node port. Pods must not reach clouds' metadata services through Hatchway."""
    stub = stub_with()
    location = "http://169.254.169.254/latest/meta-data/"
    stub.handler = lambda request: redirect(location) if "/manifests/" in request.path else None
    # The proxy is set so that no request reaches that address even if this test fails.
    async with serving(stub), Tunnel(stub.address) as proxy:
        with pytest.raises(PullError, match=r"leads to 169[.]254[.]169[.]254, an address of this machine or its link"):
            await puller(f"{stub.address}/team/web:1", environment={"HTTP_PROXY": proxy.url, "HTTPS_PROXY": proxy.url})
    assert proxy.asked == []


@pytest.mark.parametrize("way", ["redirect", "realm", "name"])
async def test_a_registry_on_this_machine_redirects_to_another_port(puller: Puller, way: str) -> None:
    """The registry may be a pod behind a node port. It must not reach this machine's other servers through Hatchway."""
    victim, stub = StubRegistry(), stub_with()
    async with serving(victim, stub):
        port = victim.address.rpartition(":")[2]
        where = f"localhost:{port}" if way == "name" else victim.address
        if way == "realm":
            stub.auth, stub.realm, stub.readable = "token", f"http://{where}/token", {"team/web"}
        else:
            stub.handler = lambda request: redirect(f"http://{where}/admin") if "/manifests/" in request.path else None
        with pytest.raises(PullError, match=f"{stub.address} leads to {where}, an address of this machine") as caught:
            await puller(f"{stub.address}/team/web:1")
        assert f'redirects-to = ["{where}"] below [registry."{stub.address}"]' in caught.value.hint
        assert victim.requests == []
        settings = {stub.address: RegistrySettings(redirects_to=(where,))}
        with pytest.raises(PullError):
            await puller(f"{stub.address}/team/web:1", registries=Registries(settings))
        assert victim.requests != []


async def test_a_registry_whose_name_later_resolves_to_this_machine() -> None:
    stub = stub_with()
    async with serving(stub):
        http = RegistryHttp(Registries(), {})
        host = Host("http", stub.address, stub.address, verify=True)
        http._reach[stub.address] = Reach.PUBLIC
        try:
            with pytest.raises(PullError, match=rf"{stub.address} has moved to 127[.]0[.]0[.]1, an address of this"):
                await http.send(host, "GET", host.url("/v2/"), {})
        finally:
            await http.aclose()
    assert stub.requests == []


async def test_a_public_registry_with_a_private_address_stays_public() -> None:
    """Its name may resolve to a private address first. Once it has had a public one, private ones are refused."""
    http = RegistryHttp(Registries(), {})
    host = Host("https", "registry.test", "registry.test", verify=True)
    try:
        for reach, address in ((Reach.PRIVATE, "10.0.0.1"), (Reach.PUBLIC, "8.8.8.8"), (Reach.PRIVATE, "10.0.0.1")):
            http._note_own(host, reach, address)
        with pytest.raises(PullError, match=r"registry[.]test leads to 10[.]0[.]0[.]1, a private address"):
            http._check(host, "10.0.0.1", Reach.PRIVATE, "10.0.0.1")
        with pytest.raises(PullError, match=r"has moved to 127[.]0[.]0[.]1"):
            http._note_own(host, Reach.LOCAL, "127.0.0.1")
    finally:
        await http.aclose()


async def test_a_registry_on_this_machine_by_its_other_name(puller: Puller) -> None:
    stub = stub_with()
    stub.auth, stub.readable = "token", {"team/web"}
    async with serving(stub):
        port = stub.address.rpartition(":")[2]
        await puller(f"localhost:{port}/team/web:1")
    assert stub.asked("/token")


class Tunnel:
    """A proxy that connects every CONNECT to one address. asked: the hosts that clients asked for."""

    def __init__(self, address: str) -> None:
        self.asked: list[str] = []
        self.url = ""
        self._host, _, self._port = address.partition(":")

    async def __aenter__(self) -> Tunnel:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        self.asked.append(head.decode().split()[1])
        there, back = await asyncio.open_connection(self._host, int(self._port))
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        try:
            await asyncio.gather(_copy(reader, back), _copy(there, writer))
        except (ConnectionError, asyncio.CancelledError):
            pass
        finally:
            back.close()
            writer.close()


async def _copy(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
    while data := await source.read(65536):
        target.write(data)
        await target.drain()
    target.close()


async def test_malformed_challenges(puller: Puller) -> None:
    stub = stub_with()
    for value in ("", "Bearer", "Bearer realm", '"', "Bearer " + 'a="b",' * 2000, "Basic", "Digest x", "," * 9000):

        def handler(request: Request, value: str = value) -> Answer:
            return Answer(401, {"WWW-Authenticate": value}, b"")

        stub.handler = handler
        async with serving(stub):
            await refused(puller, stub, "pull access denied")
