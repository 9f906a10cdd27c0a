"""Pulls from a registry that follows the specification, and from one with failures."""

from __future__ import annotations

import asyncio
import gc
import hashlib
import json
import os
import random
import threading
from typing import Any

import pytest

from hatchway.images.contents import BadImage
from hatchway.images.layers.layerstore import LayerStore
from hatchway.images.platforms import Platform
from hatchway.images.pulling.pull import PullError
from hatchway.images.pulling.registries import Registries, RegistrySettings
from hatchway.images.pullservice.service import explain
from hatchway.images.store.blobs import BlobWriter
from hatchway.images.store.store import BlobOrigin, ImageStore
from tests.images.making import BuiltImage, built, digest_of, index_of
from tests.images.registrystub import Answer, Request, StubRegistry, error, redirect, serving
from tests.integration.images.conftest import Puller

WEB = built("web:1", {"etc/motd": "hello"}, {"bin/web": "#!/bin/sh\n"}, Cmd=["/bin/web"], User="33")
# One of the three layers has 3 MB that cannot be compressed.
LARGE = built("large:1", {"a": "a"}, {"noise": random.Random(1).randbytes(3_000_000)}, {"b": "b"})
AMD64, ARM64 = {"os": "linux", "architecture": "amd64"}, {"os": "linux", "architecture": "arm64", "variant": "v8"}


def stub_with(image: BuiltImage = WEB, repository: str = "team/web") -> StubRegistry:
    stub = StubRegistry()
    stub.add(repository, image, "1")
    return stub


@pytest.mark.parametrize("docker", [False, True])
@pytest.mark.parametrize("compression", ["", "gzip"])
async def test_an_image(puller: Puller, docker: bool, compression: str) -> None:
    built_here = built("x", {"a": "1"}, {"b": "2"}, docker=docker, compression=compression, Cmd=["/b"])
    stub = stub_with(built_here)
    async with serving(stub):
        image = await puller(f"{stub.address}/team/web:1")
    name = f"{stub.address}/team/web"
    assert image.tags == (f"{name}:1",)
    assert image.digests == (f"{name}@{built_here.manifest}",)
    assert image.image_id == built_here.config
    assert [layer.digest for layer in image.layers] == list(built_here.layers)
    assert image.config.command == ("/b",)
    for digest, blob in built_here.blobs.items():
        assert puller.store.read_blob(digest, 1 << 20) == blob
    assert puller.states(built_here.layers[0]) == ["waiting", "downloading", "complete"]
    assert puller.leftovers() == []


async def test_zstd_layers(puller: Puller) -> None:
    # A pull stores blobs unchanged; invalid zstd is found when the layer is unpacked.
    layer = b"\x28\xb5\x2f\xfd" + bytes(20)
    manifest = json.loads(WEB.blobs[WEB.manifest])
    manifest["layers"][0] = {
        "mediaType": "application/vnd.oci.image.layer.v1.tar+zstd",
        "digest": digest_of(layer),
        "size": len(layer),
    }
    stub = stub_with()
    stub.blobs[digest_of(layer)] = layer
    stub.add_manifest("team/web", json.dumps(manifest).encode(), "zstd")
    async with serving(stub):
        image = await puller(f"{stub.address}/team/web:zstd")
    assert image.layers[0].media_type.endswith("+zstd")


async def test_the_entry_of_an_index_for_this_machine(puller: Puller) -> None:
    amd, arm = built("", {"a": "amd"}, platform=AMD64), built("", {"a": "arm"}, platform=ARM64)
    stub = StubRegistry()
    stub.blobs = {**amd.blobs, **arm.blobs}
    for image in (amd, arm):
        stub.add_manifest("web", image.blobs[image.manifest])
    index = stub.add_manifest("web", index_of(amd, arm, platforms=[AMD64, ARM64]), "1")
    async with serving(stub):
        found = await puller(f"{stub.address}/web:1", platform=Platform("linux", "arm64"))
        assert found.image_id == arm.config
        assert found.digests == (f"{stub.address}/web@{index}", f"{stub.address}/web@{arm.manifest}")
        assert puller.store.has_blob(index)
        assert not puller.store.has_blob(amd.manifest)
        by_digest = await puller(f"{stub.address}/web@{index}", platform=Platform("linux", "amd64"))
        assert by_digest.image_id == amd.config
        with pytest.raises(
            PullError, match=r"no match for platform in manifest: .*linux/riscv64.*linux/amd64"
        ) as caught:
            await puller(f"{stub.address}/web:1", platform=Platform("linux", "riscv64"))
    assert caught.value.kind == "unsupported"


async def test_an_image_of_another_machine_needs_the_platform_to_be_named(puller: Puller) -> None:
    other = built("", {"a": "1"}, platform={"os": "linux", "architecture": "s390x"})
    stub = stub_with(other)
    async with serving(stub):
        with pytest.raises(PullError, match="made for linux/s390x"):
            await puller(f"{stub.address}/team/web:1")
        image = await puller(f"{stub.address}/team/web:1", platform=Platform("linux", "s390x"))
    assert image.config.architecture == "s390x"


async def test_stored_blobs_are_not_fetched_again(puller: Puller) -> None:
    stub = stub_with()
    async with serving(stub):
        await puller(f"{stub.address}/team/web:1")
        stub.requests.clear()
        await puller(f"{stub.address}/team/web:1")
    # Docker Hub counts a GET of a manifest as a pull, but not a HEAD.
    assert [(one.method, one.path) for one in stub.requests] == [
        ("GET", "/v2/"),
        ("HEAD", "/v2/team/web/manifests/1"),
    ]
    assert puller.states(WEB.layers[0]) == ["waiting", "exists"]


async def test_a_tag_that_has_moved(puller: Puller) -> None:
    stub = stub_with()
    newer = built("", {"etc/motd": "hello"}, {"bin/web": "#!/bin/sh\n# 2\n"})
    async with serving(stub):
        old = await puller(f"{stub.address}/team/web:1")
        stub.add("team/web", newer, "1")
        stub.requests.clear()
        new = await puller(f"{stub.address}/team/web:1")
    assert (old.image_id, new.image_id) == (WEB.config, newer.config)
    assert not stub.asked(WEB.layers[0]), "the common layer was fetched again"


async def test_a_digest(puller: Puller) -> None:
    stub = stub_with()
    async with serving(stub):
        image = await puller(f"{stub.address}/team/web@{WEB.manifest}")
        assert image.tags == ()
        with pytest.raises(PullError, match="not found: manifest unknown"):
            await puller(f"{stub.address}/team/web@sha256:{'0' * 64}")


async def test_three_layers_at_a_time(puller: Puller) -> None:
    image = built("", *({f"file{number}": str(number)} for number in range(9)))
    stub = stub_with(image)
    under_way, most = 0, 0
    all_three = asyncio.Event()

    async def slowly(writer: asyncio.StreamWriter) -> None:
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        if under_way == 3:
            all_three.set()
        await all_three.wait()
        under_way -= 1

    def handler(request: Request) -> Answer | None:
        digest = request.path.rpartition("/")[2]
        if digest not in image.layers:
            return None
        blob = image.blobs[digest]

        async def body(writer: asyncio.StreamWriter) -> None:
            await slowly(writer)
            writer.write(blob)

        return Answer(200, {}, body, len(blob))

    stub.handler = handler
    async with serving(stub), asyncio.timeout(60):
        await puller(f"{stub.address}/team/web:1")
    assert most == 3


# -- interruptions -----------------------------------------------------------------------------------------------------


def cutting(image: BuiltImage, *lengths: int) -> tuple[list[str], object]:
    """Return (a list of the Range of each request for the large layer, a handler that cuts off the first responses)."""
    layer = image.layers[1]
    ranges: list[str] = []
    left = list(lengths)

    def handler(request: Request) -> Answer | None:
        if not request.path.endswith(layer):
            return None
        ranges.append(request.fields.get("range", ""))
        blob = image.blobs[layer]
        if not left:
            return None
        start = int(ranges[-1].removeprefix("bytes=").removesuffix("-") or 0)
        said = {"Content-Range": f"bytes {start}-{len(blob) - 1}/{len(blob)}"} if start else {}
        return Answer(206 if start else 200, said, blob[start : start + left.pop(0)], len(blob) - start)

    return ranges, handler


async def test_a_broken_download_continues_where_it_was(puller: Puller) -> None:
    stub = stub_with(LARGE)
    ranges, stub.handler = cutting(LARGE, 1_000_000, 500_000)  # type: ignore[assignment]
    async with serving(stub):
        await puller(f"{stub.address}/team/web:1")
    assert ranges == ["", "bytes=1000000-", "bytes=1500000-"]
    assert "retrying" in puller.states(LARGE.layers[1])
    assert puller.leftovers() == []


async def test_a_server_without_ranges_sends_the_whole_blob_again(puller: Puller) -> None:
    stub = stub_with(LARGE)
    ranges, stub.handler = cutting(LARGE, 1_000_000)  # type: ignore[assignment]
    stub.ranges = False
    async with serving(stub):
        await puller(f"{stub.address}/team/web:1")
    assert ranges == ["", "bytes=1000000-"]
    assert puller.store.read_blob(LARGE.layers[1], 1 << 22) == LARGE.blobs[LARGE.layers[1]]


@pytest.mark.parametrize(
    "answer", [Answer(416), Answer(206, {"Content-Range": "bytes 0-9/10"}, b"x" * 10), Answer(206, {}, b"x")]
)
async def test_a_wrong_answer_to_a_range_is_not_used(puller: Puller, answer: Answer) -> None:
    stub = stub_with(LARGE)
    ranges, cut = cutting(LARGE, 1_000_000)

    def handler(request: Request) -> Answer | None:
        if request.fields.get("range"):
            ranges.append("wrong")
            return answer
        return cut(request)  # type: ignore[operator]

    stub.handler = handler
    async with serving(stub):
        await puller(f"{stub.address}/team/web:1")
    assert ranges == ["", "wrong", ""]


async def test_the_next_pull_continues_a_failed_one(puller: Puller) -> None:
    stub = stub_with(LARGE)
    _, stub.handler = cutting(LARGE, 1_500_000, 0, 0, 0, 0, 0, 0)  # type: ignore[assignment]
    async with serving(stub):
        with pytest.raises(PullError, match="failed to copy: EOF") as caught:
            await puller(f"{stub.address}/team/web:1")
        assert caught.value.retryable
        # There may also be parts of the other layers, whose downloads were cancelled.
        assert LARGE.layers[1].removeprefix("sha256:") in puller.leftovers()
        assert puller.store.images() == []
        stub.handler = None
        stub.requests.clear()
        await puller(f"{stub.address}/team/web:1")
    assert [one.fields["range"] for one in stub.asked(LARGE.layers[1])] == ["bytes=1500000-"]
    assert puller.leftovers() == []


@pytest.mark.parametrize("damage", ["cut off", "changed"])
@pytest.mark.parametrize("what", ["manifest", "config", "layer"])
async def test_a_damaged_file_is_fetched_again(puller: Puller, what: str, damage: str) -> None:
    digest = {"manifest": WEB.manifest, "config": WEB.config, "layer": WEB.layers[0]}[what]
    stub = stub_with()
    async with serving(stub):
        image = await puller(f"{stub.address}/team/web:1")
        path = puller.store.path / "blobs" / digest.replace(":", "/")
        content = path.read_bytes()
        path.write_bytes(content[:-10] if damage == "cut off" else content[:-10] + bytes(10))
        if what == "layer":
            # Layers are large, so their files are verified only when they are read.
            layers = LayerStore(puller.store.path, "real" if os.geteuid() == 0 else "one")
            with pytest.raises(BadImage) as caught:
                await layers.unpack(image)
            assert str(caught.value) == (
                f"the file of the layer {digest} was damaged and is deleted; pull or load the image again"
            )
            await layers.close()
        # A new process has no documents in memory.
        puller.store = ImageStore(puller.store.path)
        assert puller.store.images() == []
        again = await puller(f"{stub.address}/team/web:1")
    assert again == image
    assert path.read_bytes() == content
    assert len(puller.store.images()) == 1


async def test_a_damaged_part_is_fetched_again(puller: Puller) -> None:
    layer = LARGE.layers[1]
    stub = stub_with(LARGE)
    async with serving(stub):
        origin = BlobOrigin(f"{stub.address}/team/web", is_private=False)
        with puller.store.begin_blob(layer, len(LARGE.blobs[layer]), origin) as writer:
            writer.write(b"not the beginning of this layer")
        await puller(f"{stub.address}/team/web:1")
    assert [one.fields.get("range") for one in stub.asked(layer)] == ["bytes=31-", None]


async def test_cancelling_keeps_the_part_and_the_store_clean(puller: Puller) -> None:
    stub = stub_with(LARGE)
    layer = LARGE.layers[1]
    sent = asyncio.Event()

    async def body(writer: asyncio.StreamWriter) -> None:
        writer.write(LARGE.blobs[layer][:2_000_000])
        await writer.drain()
        sent.set()
        await asyncio.Event().wait()

    def handler(request: Request) -> Answer | None:
        return Answer(200, {}, body, len(LARGE.blobs[layer])) if request.path.endswith(layer) else None

    stub.handler = handler
    async with serving(stub):
        pulling = asyncio.create_task(puller(f"{stub.address}/team/web:1"))
        await sent.wait()
        while not any(one.digest == layer and one.done >= 1_000_000 for one in puller.seen):  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        pulling.cancel()
        with pytest.raises(asyncio.CancelledError):
            await pulling
        assert layer.removeprefix("sha256:") in puller.leftovers()
        assert puller.store.images() == []
        stub.handler = None
        image = await puller(f"{stub.address}/team/web:1")
    assert image.image_id == LARGE.config
    assert stub.asked(layer)[-1].fields["range"].startswith("bytes=1")


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
async def test_temporary_faults_are_retried(puller: Puller, status: int) -> None:
    stub = stub_with()
    faults = {"/v2/": 1, "/v2/team/web/manifests/1": 2, f"/v2/team/web/blobs/{WEB.layers[0]}": 3}

    def handler(request: Request) -> Answer | None:
        if not faults.get(request.path):
            return None
        faults[request.path] -= 1
        return error(status, "UNAVAILABLE", "later", **{"Retry-After": "0"})

    stub.handler = handler
    async with serving(stub):
        await puller(f"{stub.address}/team/web:1")
    assert not any(faults.values())


async def test_a_pull_limit_is_reported_at_once(puller: Puller) -> None:
    stub = stub_with()
    said = "You have reached your unauthenticated pull rate limit."
    stub.handler = lambda request: (
        error(429, "TOOMANYREQUESTS", said, **{"Retry-After": "21600"}) if "manifests" in request.path else None
    )
    async with serving(stub):
        with pytest.raises(PullError, match=f"toomanyrequests: {said}") as caught:
            await puller(f"{stub.address}/team/web:1")
    assert caught.value.kind == "limited"
    assert len(stub.asked("manifests")) == 1


async def test_a_lasting_fault_ends_the_pull_after_some_tries(puller: Puller) -> None:
    stub = stub_with()
    stub.handler = lambda request: Answer(503, {}, b"<html>down</html>") if "manifests" in request.path else None
    async with serving(stub):
        with pytest.raises(PullError, match=r"unexpected status code 503 Service Unavailable$") as caught:
            await puller(f"{stub.address}/team/web:1")
    assert caught.value.retryable
    assert len(stub.asked("manifests")) == 4


async def test_two_pulls_of_one_layer_fetch_it_once(puller: Puller) -> None:
    stub = stub_with(LARGE)
    stub.add("team/other", built("", {"a": "a"}, {"noise": random.Random(1).randbytes(3_000_000)}, Cmd=["x"]), "1")
    async with serving(stub):
        await asyncio.gather(puller(f"{stub.address}/team/web:1"), Puller(puller.store)(f"{stub.address}/team/other:1"))
    assert len(stub.asked(LARGE.layers[1])) == 1


# -- refusals ----------------------------------------------------------------------------------------------------------


async def test_a_tag_that_does_not_exist(puller: Puller) -> None:
    stub = stub_with()
    async with serving(stub):
        name = f"{stub.address}/team/web:nope"
        with pytest.raises(PullError) as caught:
            await puller(name)
    assert caught.value.message == (f'failed to resolve reference "{name}": {name}: not found: manifest unknown')
    assert caught.value.kind == "not-found"
    assert "docker login" in caught.value.hint


async def test_no_server_there(puller: Puller) -> None:
    stub = stub_with()
    async with serving(stub):
        address = stub.address
    with pytest.raises(PullError, match=rf"dial tcp {address}: connect: connection refused$") as caught:
        await puller(f"{address}/team/web:1")
    assert caught.value.kind == "unreachable"


def artifact(**changes: object) -> bytes:
    manifest = json.loads(WEB.blobs[WEB.manifest])
    manifest.update(changes)
    return json.dumps(manifest).encode()


LAYER = json.loads(WEB.blobs[WEB.manifest])["layers"][0]
HELM = {"mediaType": "application/vnd.cncf.helm.config.v1+json", "digest": f"sha256:{'1' * 64}", "size": 2}
SCHEMA_1 = b'{"schemaVersion":1,"name":"library/old","tag":"1","fsLayers":[],"history":[],"signatures":[]}'


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (SCHEMA_1, r"manifest.v1\+prettyjws\" is not supported, please rebuild the image"),
        (artifact(config=HELM), r"it is not a container image: .*helm.*\(a Helm chart\)"),
        (
            artifact(layers=[{**LAYER, "mediaType": "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"}]),
            "is a foreign one",
        ),
        (artifact(layers=[{**LAYER, "mediaType": f"{LAYER['mediaType']}+encrypted"}]), "which is not supported"),
        (artifact(layers=[LAYER] * 2000), "has 2000 layers; at most"),
        (artifact(manifests=[]), "both the parts of an index and those of an image"),
        (artifact(layers=[{**LAYER, "digest": "sha256:../../etc"}]), "no valid digest"),
        (artifact(layers=[{**LAYER, "size": -1}]), "no valid size"),
        (artifact(layers=[LAYER]), "mismatched image rootfs and manifest layers: 2 and 1"),
        (b"[" * 10_000, "not valid JSON"),
        (b"[" * 100_000, "more than 20000 values"),
        (b"{}", "no schemaVersion"),
        (b"<html>captive portal</html>", "not valid JSON"),
    ],
)
async def test_manifests_that_are_refused(puller: Puller, content: bytes, words: str) -> None:
    stub = stub_with()
    stub.handler = lambda request: Answer(body=content) if request.path.endswith("/manifests/odd") else None
    async with serving(stub):
        with pytest.raises(PullError, match=words) as caught:
            await puller(f"{stub.address}/team/web:odd")
    assert caught.value.kind in ("unsupported", "invalid")
    assert not caught.value.retryable


async def test_an_invalid_configuration_is_refused(puller: Puller) -> None:
    config = b"[1, 2]"
    said = {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": digest_of(config), "size": len(config)}
    stub = stub_with()
    stub.blobs[digest_of(config)] = config
    stub.add_manifest("team/web", artifact(config=said), "odd")
    async with serving(stub):
        with pytest.raises(PullError, match="configuration is not a JSON object"):
            await puller(f"{stub.address}/team/web:odd")


# -- mirrors -----------------------------------------------------------------------------------------------------------


async def test_a_mirror_is_asked_first(puller: Puller) -> None:
    mirror = stub_with(repository="hub/library/web")
    async with serving(mirror):
        settings = {"docker.io": RegistrySettings(mirrors=(f"http://{mirror.address}/hub",))}
        image = await puller("web:1", registries=Registries(settings))
    assert image.tags == ("docker.io/library/web:1",)
    assert mirror.asked("manifests")[0].query == {"ns": ["docker.io"]}


async def test_the_registry_is_asked_when_its_mirrors_fail(puller: Puller) -> None:
    empty, broken, registry = StubRegistry(), stub_with(), stub_with()
    broken.blobs.clear()
    async with serving(empty, broken, registry):
        mirrors = tuple(f"http://{one.address}" for one in (empty, broken))
        settings = {registry.address: RegistrySettings(mirrors=mirrors)}
        image = await puller(f"{registry.address}/team/web:1", registries=Registries(settings))
        assert image.image_id == WEB.config
        with pytest.raises(PullError, match="not found") as caught:
            await puller(f"{registry.address}/team/nope:1", registries=Registries(settings))
    assert empty.asked("manifests") and broken.asked("blobs")
    assert caught.value.hint.count("mirror 127.0.0.1:") == 2
    # A pod's Event names them, too.
    reasons = explain(caught.value)
    assert reasons is not None and reasons.startswith(str(caught.value)) and "\n" not in reasons
    assert all(f"; mirror {one.address}: " in reasons for one in (empty, broken))


async def test_disk_full(puller: Puller, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """Three layers are being written: one failure is reported, and asyncio reports no unhandled exceptions."""
    image = built("", *({f"file{number}": random.Random(number).randbytes(10_000)} for number in range(3)))
    stub = stub_with(image)
    writing, is_first = threading.Barrier(3), threading.Lock()
    # Set when a cancelled download begins to wait for its thread, which is writing.
    cancelled = threading.Event()
    write, wait = BlobWriter.write, asyncio.wait

    def full(writer: BlobWriter, data: bytes) -> None:
        if len(data) < 5_000:  # the configuration
            return write(writer, data)
        writing.wait(30)
        if not is_first.acquire(blocking=False):
            assert cancelled.wait(30)
        raise OSError(28, "No space left on device", "/store/partial/x")

    async def wait_and_tell(*arguments: Any, **options: Any) -> Any:
        if is_first.locked():
            cancelled.set()
        return await wait(*arguments, **options)

    monkeypatch.setattr(BlobWriter, "write", full)
    monkeypatch.setattr(asyncio, "wait", wait_and_tell)
    async with serving(stub):
        with pytest.raises(PullError, match="write /store/partial/x: no space left on device") as caught:
            await puller(f"{stub.address}/team/web:1")
    assert caught.value.kind == "storage"
    gc.collect()
    assert caplog.records == []


async def test_a_digest_of_another_algorithm(puller: Puller) -> None:
    content = WEB.blobs[WEB.manifest]
    digest = f"sha512:{hashlib.sha512(content).hexdigest()}"
    stub = stub_with()
    stub.manifests["team/web"][digest] = content
    async with serving(stub):
        image = await puller(f"{stub.address}/team/web@{digest}")
    assert image.manifest_digest == digest


async def test_redirected_blobs(puller: Puller) -> None:
    stub, cdn = stub_with(), StubRegistry()
    cdn.handler = lambda request: Answer(body=WEB.blobs[request.path.removeprefix("/store/")])
    stub.handler = lambda request: (
        redirect(f"http://{cdn.address}/store/{request.path.rpartition('/')[2]}?Signature=a%2Fb%3D&x=1")
        if "/blobs/" in request.path
        else None
    )
    async with serving(stub, cdn):
        settings = {stub.address: RegistrySettings(redirects_to=(cdn.address,))}
        await puller(f"{stub.address}/team/web:1", registries=Registries(settings))
    assert cdn.requests[0].query == {"Signature": ["a/b="], "x": ["1"]}
