"""Blobs of images that were pulled with a pod's Secret; other registries know their digests, but lack the blobs."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import Callable

import pytest

from hatchway.images.platforms import Platform
from hatchway.images.pulling.credentials import Credential
from hatchway.images.pulling.pull import PullError
from hatchway.images.store.store import ImageStore
from tests.images.registrystub import Answer, Request, StubRegistry, index_with, serving
from tests.integration.images.conftest import Puller
from tests.integration.images.test_pull import AMD64, LARGE, WEB, stub_with


def _private_registry() -> tuple[StubRegistry, Callable[[], Credential]]:
    """Return a registry that only ann may use, and a function that makes her credential, from a pod's Secret."""
    private = stub_with()
    private.auth, private.users = "basic", {"ann": "right"}
    return private, lambda: Credential(private.address, "ann", "right", secret="uid-1")


def _thief(*has: str) -> StubRegistry:
    """Return a registry whose manifest names the blobs of the private image. has: the digests of blobs that it has."""
    evil = StubRegistry()
    evil.add_manifest("web", WEB.blobs[WEB.manifest], "1")
    evil.blobs |= {digest: WEB.blobs[digest] for digest in has}
    return evil


@pytest.mark.parametrize("secret", ["", "uid-2"])
async def test_a_registry_that_names_blobs_of_an_unfinished_private_pull(puller: Puller, secret: str) -> None:
    """Blobs that belong to no complete image yet must be downloaded by other repositories, too."""
    private, ann = _private_registry()
    first, second = WEB.layers

    async def late(writer: asyncio.StreamWriter) -> None:
        # A failed download cancels the others, so it fails only when the first layer is stored.
        while not puller.store.has_blob(first):  # noqa: ASYNC110
            await asyncio.sleep(0.005)

    private.handler = lambda request: Answer(404, {}, late) if second in request.path else None
    evil = _thief(WEB.config, second)
    async with serving(private, evil):
        with pytest.raises(PullError, match="not found"):
            await puller(f"{private.address}/team/web:1", ann())
        assert puller.store.has_blob(first)
        own = [Credential(evil.address, "eve", "x", secret=secret)] if secret else []
        for _ in range(2):
            with pytest.raises(PullError, match="not found"):
                await puller(f"{evil.address}/web:1", *own)
        assert puller.store.images() == []
        # The next pull of the private image uses the layer that was fetched before.
        private.handler = None
        await puller(f"{private.address}/team/web:1", ann())
        assert puller.states(first) == ["waiting", "exists"]
        # The other repository must still serve each blob itself.
        evil.blobs |= WEB.blobs
        await puller(f"{evil.address}/web:1", *own)
        assert puller.states(first) == ["waiting", "downloading", "complete"]


async def test_a_registry_that_names_blobs_of_a_removed_private_image(puller: Puller) -> None:
    private, ann = _private_registry()
    evil = _thief(WEB.config)
    async with serving(private, evil):
        image = await puller(f"{private.address}/team/web:1", ann())
        use = puller.store.use(image, "pod default/web")
        puller.store.remove(image)
        assert all(puller.store.has_blob(digest) for digest in WEB.layers)
        with pytest.raises(PullError, match="not found"):
            await puller(f"{evil.address}/web:1")
        # After a registry without users has served the blobs, other repositories get them without a download.
        evil.blobs |= WEB.blobs
        await puller(f"{evil.address}/web:1")
        other = _thief(WEB.config)
        async with serving(other):
            await puller(f"{other.address}/web:1")
        assert puller.states(WEB.layers[0]) == ["waiting", "exists"]
        use.close()


async def test_a_registry_that_has_only_the_second_part_of_a_private_blob(puller: Puller) -> None:
    """The received part of a private download is not completed by a download from another repository."""
    private, ann = _private_registry()
    private.blobs |= LARGE.blobs
    private.add_manifest("team/web", LARGE.blobs[LARGE.manifest], "1")
    large = max(LARGE.layers, key=lambda digest: len(LARGE.blobs[digest]))
    content = LARGE.blobs[large]
    evil = StubRegistry()
    evil.add("web", LARGE, "1")
    known = len(content) - 100

    def cut(request: Request) -> Answer | None:
        if large in request.path and request.authorization and "range" not in request.fields:
            return Answer(200, {}, content[:known], length=len(content))
        return Answer(404) if large in request.path else None

    def rest(request: Request) -> Answer | None:
        if large not in request.path:
            return None
        if request.fields.get("range") != f"bytes={known}-":
            return Answer(404)
        span = f"bytes {known}-{len(content) - 1}/{len(content)}"
        return Answer(206, {"Content-Range": span}, content[known:])

    private.handler, evil.handler = cut, rest
    async with serving(private, evil):
        with pytest.raises(PullError):
            await puller(f"{private.address}/team/web:1", ann())
        assert large.removeprefix("sha256:") in puller.leftovers()
        with pytest.raises(PullError, match="not found"):
            await puller(f"{evil.address}/web:1")
        assert puller.store.images() == []


@pytest.mark.parametrize("what", ["manifest", "layers"])
async def test_a_registry_that_names_the_private_image_of_another_one(puller: Puller, what: str) -> None:
    """For an image of another repository, stored blobs of a private image are downloaded again."""
    private, evil = stub_with(), StubRegistry()
    private.auth, private.users = "basic", {"ann": "right"}
    if what == "manifest":
        evil.add_manifest("web", index_with([{**WEB.descriptor, "platform": AMD64}]), "1")
    else:
        evil.add_manifest("web", WEB.blobs[WEB.manifest], "1")
        evil.blobs[WEB.config] = WEB.blobs[WEB.config]
    async with serving(private, evil):
        await puller(f"{private.address}/team/web:1", Credential(private.address, "ann", "right", secret="uid-1"))
        with pytest.raises(PullError, match="not found"):
            await puller(f"{evil.address}/web:1", platform=Platform("linux", "amd64"))
        assert [one.tags for one in puller.store.images()] == [(f"{private.address}/team/web:1",)]
        # If the other registry has all blobs, the pull succeeds, and the private image stays complete and private.
        evil.blobs |= WEB.blobs
        evil.add("web", WEB)
        image = await puller(f"{evil.address}/web:1", platform=Platform("linux", "amd64"))
        assert image.may_use(f"{evil.address}/web", []) and not image.may_use(f"{private.address}/team/web", [])
        assert puller.leftovers() == []


class _Story:
    """Steps of the owner of a private image (ann), and of a registry that only knows its digests (eve).

    Both use the same store. Each public method is a step. stolen: the images that eve could pull.
    """

    def __init__(self, puller: Puller) -> None:
        self.puller = puller
        self.private, self.ann = _private_registry()
        self.secret, self.other = WEB.layers
        content = WEB.blobs[self.secret]
        self.known = len(content) // 2
        self.evil = _thief(WEB.config)
        self.evil.handler = self._rest
        self.stolen: list[str] = []

    def _rest(self, request: Request) -> Answer | None:
        """Answer requests for the second half of the secret layer; None for all others."""
        content, known = WEB.blobs[self.secret], self.known
        if self.secret not in request.path or request.fields.get("range") != f"bytes={known}-":
            return None
        return Answer(206, {"Content-Range": f"bytes {known}-{len(content) - 1}/{len(content)}"}, content[known:])

    def eve(self) -> Credential:
        return Credential(self.evil.address, "eve", "x", secret="uid-2")

    async def _steal(self, name: str, *credentials: Credential) -> bool:
        try:
            await Puller(self.puller.store)(f"{self.evil.address}/{name}", *credentials)
        except PullError as error:
            assert "not found" in str(error), error
            return False
        self.stolen.append(name)
        return True

    async def claim(self) -> None:
        """Pull images of eve that name each of the blobs, in two repositories, with eve's Secret, before ann's pull."""
        for digest in WEB.blobs:
            manifest = json.loads(WEB.blobs[WEB.manifest])
            manifest["config"]["digest"] = digest
            for repository in ("web", "web2"):
                tag = digest[7:19]
                self.evil.add_manifest(repository, json.dumps(manifest).encode(), tag)
                with pytest.raises(PullError):
                    await self.puller(f"{self.evil.address}/{repository}:{tag}", self.eve())

    async def steal(self) -> None:
        await self._steal("web:1")
        await self._steal("web:1", self.eve())

    async def steal_from_index(self) -> None:
        entry = {**WEB.descriptor, "platform": AMD64}
        self.evil.add_manifest("web2", index_with([entry]), "1")
        with pytest.raises(PullError):
            await self.puller(f"{self.evil.address}/web2:1", self.eve(), platform=Platform("linux", "amd64"))

    async def first_layer(self) -> None:
        """Let ann's pull fail after its first layer."""

        async def late(writer: asyncio.StreamWriter) -> None:
            # A failed download cancels the others, so it fails only when the first layer is stored.
            while not self.puller.store.has_blob(self.secret):  # noqa: ASYNC110
                await asyncio.sleep(0.005)

        self.private.handler = lambda request: Answer(404, {}, late) if self.other in request.path else None
        with pytest.raises(PullError, match="not found"):
            await self.puller(f"{self.private.address}/team/web:1", self.ann())
        self.private.handler = None

    async def half_layer(self) -> None:
        """Let ann's pull fail in the middle of its first layer."""
        content = WEB.blobs[self.secret]

        def cut(request: Request) -> Answer | None:
            if self.secret not in request.path or not request.authorization:
                return None
            is_first = "range" not in request.fields
            return Answer(200, {}, content[: self.known], length=len(content)) if is_first else Answer(404)

        self.private.handler = cut
        with pytest.raises(PullError, match="not found"):
            await self.puller(f"{self.private.address}/team/web:1", self.ann())
        self.private.handler = None
        assert self.puller.leftovers()

    async def cancel(self) -> None:
        """Cancel ann's pull when half of its first layer has arrived; eve tries to steal before."""
        content, arrived = WEB.blobs[self.secret], asyncio.Event()

        async def body(writer: asyncio.StreamWriter) -> None:
            writer.write(content[: self.known])
            await writer.drain()
            arrived.set()
            await asyncio.Event().wait()

        self.private.handler = lambda request: (
            Answer(200, {}, body, len(content)) if self.secret in request.path and request.authorization else None
        )
        pulling = asyncio.create_task(self.puller(f"{self.private.address}/team/web:1", self.ann()))
        await arrived.wait()
        await self.steal()
        pulling.cancel()
        with pytest.raises(asyncio.CancelledError):
            await pulling
        self.private.handler = None

    async def at_once(self) -> None:
        """Begin eve's pull before ann's; eve's registry answers only after the end of ann's pull."""
        ended = asyncio.Event()

        async def wait(writer: asyncio.StreamWriter) -> None:
            await ended.wait()

        layers = tuple(WEB.layers)
        self.evil.handler = lambda request: Answer(404, {}, wait) if request.path.endswith(layers) else None
        stealing = asyncio.create_task(self._steal("web:1", self.eve()))
        while not self.evil.asked(self.secret):  # noqa: ASYNC110
            await asyncio.sleep(0.005)
        async with asyncio.timeout(30):
            await self.pull()
        ended.set()
        await stealing
        self.evil.handler = self._rest

    async def pull(self) -> None:
        await self.puller(f"{self.private.address}/team/web:1", self.ann())

    async def remove(self) -> None:
        """Remove ann's image while it is in use."""
        image = self.puller.store.images()[0]
        self.puller.store.use(image, "pod default/web")
        self.puller.store.remove(image)
        assert all(self.puller.store.has_blob(digest) for digest in WEB.layers)

    async def prune(self) -> None:
        self.puller.store.prune(every=True)

    async def upgrade(self) -> None:
        """Make the store like one of an earlier release, which did not record the origins of blobs."""
        shutil.rmtree(self.puller.store.path / "origins")
        self.puller.store = ImageStore(self.puller.store.path)


@pytest.mark.parametrize(
    "steps",
    [
        "first_layer steal",
        "claim first_layer steal",
        "claim first_layer steal first_layer steal pull steal remove steal",
        "half_layer steal",
        "claim half_layer steal",
        "steal first_layer steal",
        "steal half_layer steal cancel steal",
        "cancel steal",
        "claim cancel steal pull steal",
        "pull steal steal_from_index",
        "claim pull steal steal_from_index",
        "at_once steal remove steal",
        "claim at_once steal remove steal steal_from_index",
        "pull remove steal steal_from_index",
        "claim pull remove steal steal_from_index",
        "claim pull remove prune steal pull steal",
        "pull upgrade steal remove steal steal_from_index",
        "pull upgrade remove prune steal pull steal",
        "pull prune steal first_layer prune steal",
        "claim first_layer prune steal pull remove steal",
    ],
)
async def test_a_registry_that_knows_only_digests_gets_nothing(puller: Puller, steps: str) -> None:
    story = _Story(puller)
    async with serving(story.private, story.evil):
        for step in steps.split():
            await getattr(story, step)()
            assert story.stolen == [], step
        # Eve's requests do not make ann's pull fetch again what it has fetched before.
        before = len(story.private.asked(story.secret))
        had = puller.store.has_blob(story.secret)
        size = puller.downloaded(story.secret)
        await story.pull()
        again = story.private.asked(story.secret)[before:]
        assert bool(again) != had
        if size and not had:
            assert again[0].fields["range"] == f"bytes={size}-"
        await story.steal()
        assert story.stolen == []
        # When the other registry has the whole image, its image may be pulled.
        story.evil.handler = None
        story.evil.blobs |= WEB.blobs
        await story.steal()
        assert story.stolen == ["web:1", "web:1"]


async def test_two_repositories_of_one_registry_at_the_same_time(puller: Puller) -> None:
    """The second download of a blob waits for the first one, and is then still requested from its own repository."""
    private, ann = _private_registry()
    private.add_manifest("eve/web", WEB.blobs[WEB.manifest], "1")
    private.users["eve"] = "x"
    began, asked = asyncio.Event(), asyncio.Event()
    content = WEB.blobs[WEB.config]

    async def body(writer: asyncio.StreamWriter) -> None:
        began.set()
        await asked.wait()
        writer.write(content)

    def handler(request: Request) -> Answer | None:
        if request.path.startswith("/v2/eve/web/blobs/"):
            return Answer(404)
        is_config = request.path.endswith(WEB.config) and bool(request.authorization)
        return Answer(200, {}, body, len(content)) if is_config else None

    private.handler = handler
    async with serving(private):
        pulling = asyncio.create_task(puller(f"{private.address}/team/web:1", ann()))
        await began.wait()
        eve = Puller(puller.store)
        eves = Credential(private.address, "eve", "x", secret="uid-2")
        stealing = asyncio.create_task(eve(f"{private.address}/eve/web:1", eves))
        while not private.asked("/v2/eve/web/manifests/"):  # noqa: ASYNC110
            await asyncio.sleep(0.005)
        asked.set()
        await pulling
        with pytest.raises(PullError, match="not found"):
            await stealing
    assert [one.tags for one in puller.store.images()] == [(f"{private.address}/team/web:1",)]
