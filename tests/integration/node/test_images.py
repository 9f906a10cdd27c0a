"""Containers of images on a real kubelet: pulls, statuses and Events, and the settings of started containers.

The store is real, but no registry is contacted: the tests answer pulls. Containers run on the loopback runtime with
this machine's files. Tests with a private network (tests/integration/network) use the roots of images.
"""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from types import MethodType
from typing import Any

import pytest

from hatchway.cluster.node import backoff, imagemanager
from hatchway.cluster.node.imagestock import ImageStock
from hatchway.cluster.runtime import ContainerConfig, ContainerProcess, ImageRoot, Privileges, Sandbox, SandboxConfig
from hatchway.images.contents import BadImage, Image
from hatchway.images.pulling.credentials import Credential
from hatchway.images.pullservice.pullmessages import Pulled, PullRequest
from hatchway.images.store.store import ImageStore
from tests.images.making import built, make_image, put_image
from tests.integration.node.test_kubelet import SERVE
from tests.integration.node.world import PATIENCE, World, container, eventually, open_world, phase, ready, waiting

LATEST = "docker.io/library/web:latest"


class Registry:
    """Answers each pull by an image, which it puts into the store, or by an error."""

    def __init__(self, store: ImageStore) -> None:
        self.store = store
        self.requests: list[PullRequest] = []
        self.refusal = ""
        self.private = False
        self.released = asyncio.Event()
        self.released.set()
        self.config: dict[str, Any] = {"Cmd": list(SERVE)}

    async def pull(self, request: PullRequest) -> Pulled:
        self.requests.append(request)
        await self.released.wait()
        if self.refusal or (self.private and not request.credentials):
            raise BadImage(self.refusal or "pull access denied")
        made = built(str(request.reference), {"etc/motd": "hello"}, **self.config)
        image = put_image(self.store, made, request.credentials[0].grant if request.credentials else None)
        return Pulled(image.image_id, 1234, 1.2)


class Unpacker:
    """Reports layers as unpacked, but does not unpack them. failure: the error of unpacking; "" for none."""

    def __init__(self) -> None:
        self.failure = ""

    def directories(self, image: Image) -> tuple[str, ...] | None:
        return None if self.failure else tuple(f"/layers/{layer.digest}" for layer in image.layers)

    async def unpack(self, image: Image) -> tuple[str, ...]:
        raise BadImage(self.failure)


class Node:
    """A world with one kubelet. started: the settings of all containers that were started."""

    def __init__(self, world: World, store: ImageStore) -> None:
        self.world = world
        self.store = store
        self.registry = Registry(store)
        self.unpacker = Unpacker()
        self.stock = ImageStock(store, self.registry, lambda: self.unpacker, cluster="test")
        self.started: list[ContainerConfig] = []
        create = world.runtime.create_sandbox

        async def create_sandbox(config: SandboxConfig) -> Sandbox:
            sandbox = await create(config)
            start = sandbox.start

            async def record(_: Sandbox, config: ContainerConfig) -> ContainerProcess:
                self.started.append(config)
                return await start(replace(config, root=None, privileges=Privileges()))

            sandbox.start = MethodType(record, sandbox)  # type: ignore[method-assign]
            return sandbox

        world.runtime.create_sandbox = create_sandbox  # type: ignore[assignment]

    async def events(self, pod: str, count: int) -> list[tuple[str, str]]:
        return await self.world.events(pod, count)


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[Node]:
    async with open_world(tmp_path) as world:
        found = Node(world, ImageStore(tmp_path / ".images"))
        async with world.node(found.stock, host_programs=False):
            yield found


async def test_an_image_is_pulled_once_and_reported_as_the_kubelet_does(node: Node) -> None:
    await node.world.create("web", image="web:1")
    pod = await node.world.pod("web", ready)
    events = await node.events("web", 4)
    assert [reason for reason, _ in events] == ["Pulling", "Pulled", "Created", "Started"]
    assert events[0][1] == 'Pulling image "web:1"'
    assert events[1][1].startswith('Successfully pulled image "web:1" in 1.2s (')
    assert events[1][1].endswith(" including waiting). Image size: 1234 bytes.")
    image = node.store.images()[0]
    assert container(pod)["image"] == "docker.io/library/web:1"
    assert container(pod)["imageID"] == f"docker.io/library/web@{image.manifest_digest}"
    await node.world.create("again", image="web:1", imagePullPolicy="IfNotPresent")
    await node.world.pod("again", ready)
    assert (await node.events("again", 3))[0] == (
        "Pulled",
        'Container image "web:1" already present on machine and can be accessed by the pod',
    )
    assert len(node.registry.requests) == 1


async def test_changes_of_a_pod_do_not_disturb_a_pull_and_another_image_replaces_it(node: Node) -> None:
    node.registry.released.clear()
    await node.world.create("web", image="web")
    await eventually(lambda: node.registry.requests)
    pod = await node.world.client.patch("pods", "web", {"metadata": {"labels": {"a": "b"}}}, "default")
    await node.world.pod(
        "web", lambda found: found["metadata"]["resourceVersion"] >= pod["metadata"]["resourceVersion"]
    )
    node.registry.released.set()
    await node.world.pod("web", ready)
    assert len(node.registry.requests) == len(node.started) == 1
    node.registry.released.clear()
    other = await node.world.create("other", image="web")
    await eventually(lambda: len(node.registry.requests) == 2)
    containers = [{**other["spec"]["containers"][0], "image": "hatchway/echo"}]
    await node.world.client.patch("pods", "other", {"spec": {"containers": containers}}, "default")
    await node.world.pod("other", lambda pod: pod["spec"]["containers"][0]["image"] == "hatchway/echo")
    node.registry.released.set()
    await node.world.pod("other", ready)
    assert len(node.started) == 2 and node.started[1].root is None


async def test_the_policy_always_sends_a_request_to_the_registry(node: Node) -> None:
    make_image(node.store, "web", {"a": "b"}, Cmd=list(SERVE))
    # The tag `latest` implies the pull policy Always.
    await node.world.create("web", image="web")
    await node.world.pod("web", ready)
    assert [str(request.reference) for request in node.registry.requests] == [LATEST]


async def test_the_policy_never_waits_until_the_image_is_loaded(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(imagemanager, "LOOK_SECONDS", 0.05)
    monkeypatch.setattr("hatchway.cluster.node.container.LOOK_SECONDS", 0.05)
    await node.world.create("web", image="web:1", imagePullPolicy="Never")
    pod = await node.world.pod("web", waiting("ErrImageNeverPull"))
    message = 'Container image "web:1" is not present with pull policy of Never'
    assert container(pod)["state"]["waiting"]["message"] == message
    assert await node.events("web", 2) == [("ErrImageNeverPull", message), ("Failed", "Error: ErrImageNeverPull")]
    make_image(node.store, "web:1", {"a": "b"}, Cmd=list(SERVE))
    pod = await node.world.pod("web", ready)
    assert container(pod)["imageID"] == f"docker.io/library/web@{node.store.images()[0].manifest_digest}"
    assert node.registry.requests == []


async def test_a_failing_pull_says_why_and_is_tried_again_later(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hatchway.cluster.node.container.LOOK_SECONDS", 0.05)
    node.registry.refusal = "pull access denied"
    await node.world.create("web", image="web:1")
    pod = await node.world.pod("web", waiting("ImagePullBackOff"))
    why = 'failed to pull and unpack image "docker.io/library/web:1": pull access denied'
    assert container(pod)["state"]["waiting"]["message"] == f'Back-off pulling image "web:1": ErrImagePull: {why}'
    assert await node.events("web", 5) == [
        ("Pulling", 'Pulling image "web:1"'),
        ("Failed", f'Failed to pull image "web:1": {why}'),
        ("Failed", "Error: ErrImagePull"),
        ("BackOff", 'Back-off pulling image "web:1"'),
        ("Failed", "Error: ImagePullBackOff"),
    ]
    assert container(pod)["image"] == "web:1" and pod["status"]["phase"] == "Pending"
    status, text = await node.world.ask("/containerLogs/default/web/c")
    assert (status, text) == (
        400,
        'container "c" in pod "web" is waiting to start: trying and failing to pull image',
    )
    # An image that is loaded meanwhile is used at once.
    make_image(node.store, "web:1", {"a": "b"}, Cmd=list(SERVE))
    await node.world.pod("web", ready)
    assert len(node.registry.requests) == 1


def test_the_delays_between_pulls_grow_up_to_five_minutes() -> None:
    delay, waits = backoff.PullDelay(), []
    for _ in range(7):
        delay.record_failure(100.0, "no")
        waits.append(delay.until - 100.0)
    assert waits == [10, 20, 40, 80, 160, 300, 300]


async def test_an_image_that_cannot_be_unpacked(node: Node) -> None:
    node.unpacker.failure = "layer 1 leads out of the image"
    await node.world.create("web", image="web:1")
    pod = await node.world.pod("web", lambda pod: waiting("ErrImagePull")(pod) or waiting("ImagePullBackOff")(pod))
    assert "layer 1 leads out of the image" in container(pod)["state"]["waiting"]["message"]
    await node.world.create("again", image="web:1")
    pod = await node.world.pod("again", waiting("CreateContainerError"))
    message = "failed to create container: layer 1 leads out of the image"
    assert container(pod)["state"]["waiting"]["message"] == message


async def test_an_invalid_image_name(node: Node) -> None:
    await node.world.create("web", image="Web:1")
    pod = await node.world.pod("web", waiting("InvalidImageName"))
    message = (
        'Failed to apply default image tag "Web:1": couldn\'t parse image name "Web:1": invalid reference format: '
        "repository name must be lowercase"
    )
    assert container(pod)["state"]["waiting"]["message"] == message
    assert await node.events("web", 2) == [("InspectFailed", message), ("Failed", "Error: InvalidImageName")]


async def test_a_mistyped_name_of_an_own_image_is_not_pulled(node: Node) -> None:
    await node.world.create("web", image="hatchway/hots:1")
    pod = await node.world.pod("web", waiting("InvalidImageName"))
    message = container(pod)["state"]["waiting"]["message"]
    assert message.startswith(
        'There is no image "hatchway/hots:1": Hatchway\'s own images are hatchway/dns, hatchway/echo, '
    )
    assert message.endswith("An image of this name at Docker Hub is docker.io/hatchway/hots:1")
    assert await node.events("web", 2) == [("InspectFailed", message), ("Failed", "Error: InvalidImageName")]
    assert node.registry.requests == []
    # With the registry in front, the name is an ordinary one.
    await node.world.create("hub", image="docker.io/hatchway/hots:1")
    await node.world.pod("hub", ready)
    assert [str(request.reference) for request in node.registry.requests] == ["docker.io/hatchway/hots:1"]


async def test_a_store_that_cannot_be_read(node: Node) -> None:
    node.store.path.mkdir()
    (node.store.path / "names.json").write_text("{")
    await node.world.create("web", image="web:1")
    pod = await node.world.pod("web", waiting("ImageInspectError"))
    assert container(pod)["state"]["waiting"]["message"].startswith('Failed to inspect image "web:1": ')


async def test_pull_secrets_of_the_pod_reach_the_registry_and_missing_ones_are_named(node: Node) -> None:
    config = {"auths": {"ghcr.io": {"username": "u", "password": "p"}}}
    secret = {
        "metadata": {"name": "one"},
        "type": "kubernetes.io/dockerconfigjson",
        "data": {".dockerconfigjson": base64.b64encode(json.dumps(config).encode()).decode()},
    }
    made = await node.world.client.create("secrets", secret, "default")
    await node.world.create("web", image="ghcr.io/web:1", imagePullSecrets=[{"name": "one"}, {"name": "two"}])
    await node.world.pod("web", ready)
    assert node.registry.requests[0].credentials == (Credential("ghcr.io", "u", "p", secret=made["metadata"]["uid"]),)
    assert await node.world.events("web", 1, "FailedToRetrieveImagePullSecret") == [
        (
            "FailedToRetrieveImagePullSecret",
            "Unable to retrieve some image pull secrets (two); attempting to pull the image may not succeed.",
        )
    ]


async def test_pull_secrets_of_the_service_account_reach_the_registry(node: Node) -> None:
    config = {"ghcr.io": {"auth": base64.b64encode(b"u:p").decode()}}
    secret = {
        "metadata": {"name": "one"},
        "type": "kubernetes.io/dockercfg",
        "data": {".dockercfg": base64.b64encode(json.dumps(config).encode()).decode()},
    }
    made = await node.world.client.create("secrets", secret, "default")
    account = {"imagePullSecrets": [{"name": "one"}]}
    await node.world.client.patch("serviceaccounts", "default", account, "default")
    await node.world.create("web", image="ghcr.io/web:1")
    await node.world.pod("web", ready)
    assert node.registry.requests[0].credentials == (Credential("ghcr.io", "u", "p", secret=made["metadata"]["uid"]),)


async def test_a_private_image_is_only_for_pods_with_the_credentials(node: Node) -> None:
    """As the kubelet's KubeletEnsureSecretPulledImages, with the policy NeverVerifyPreloadedImages."""

    async def secret(name: str, password: str) -> None:
        config = {"auths": {"ghcr.io": {"username": "u", "password": password}}}
        data = {".dockerconfigjson": base64.b64encode(json.dumps(config).encode()).decode()}
        wanted = {"metadata": {"name": name}, "type": "kubernetes.io/dockerconfigjson", "data": data}
        await node.world.client.create("secrets", wanted, "default")

    for name, password in (("mine", "p"), ("copy", "p"), ("other", "q")):
        await secret(name, password)
    node.registry.private = True
    options: dict[str, Any] = {"image": "ghcr.io/team/web:1", "imagePullPolicy": "IfNotPresent"}
    await node.world.create("first", imagePullSecrets=[{"name": "mine"}], **options)
    await node.world.pod("first", ready)
    assert len(node.registry.requests) == 1
    # The same Secret, or another Secret with the same credential: no request to the registry.
    await node.world.create("same", imagePullSecrets=[{"name": "mine"}], **options)
    await node.world.create("copy", imagePullSecrets=[{"name": "copy"}], **options)
    await node.world.pod("same", ready)
    await node.world.pod("copy", ready)
    assert len(node.registry.requests) == 1
    assert (
        "Pulled",
        'Container image "ghcr.io/team/web:1" already present on machine and can be accessed by the pod',
    ) in (await node.events("copy", 3))
    # Other credentials: the registry decides.
    await node.world.create("other", imagePullSecrets=[{"name": "other"}], **options)
    await node.world.pod("other", ready)
    assert len(node.registry.requests) == 2
    # A pod without credentials.
    await node.world.create("none", **options)
    refused = await node.world.pod("none", waiting("ErrImagePull"))
    assert "pull access denied" in container(refused)["state"]["waiting"]["message"]
    await node.world.create("never", **{**options, "imagePullPolicy": "Never"})
    refused = await node.world.pod("never", waiting("ErrImageNeverPull"))
    message = 'Container image "ghcr.io/team/web:1" is not present with pull policy of Never'
    assert container(refused)["state"]["waiting"]["message"] == message
    # After this machine's user has loaded the image, all pods may use it.
    put_image(node.store, built("ghcr.io/team/web:1", {"etc/motd": "hello"}, **node.registry.config))
    await node.world.pod("never", ready)


async def test_the_configuration_of_the_image_sets_the_command_of_a_container(node: Node) -> None:
    make_image(
        node.store,
        "web:1",
        {"a": "b"},
        Entrypoint=["sh", "-c"],
        Cmd=["exit 7"],
        Env=["A=image $(B)", "B=image", "PATH=/image:/usr/bin:/bin"],
        WorkingDir="/",
        User="web:staff",
        Volumes={"/data": {}, "/mine": {}},
    )
    await node.world.create(
        "web",
        image="web:1",
        args=["exit $(CODE)$(A)"],
        env=[{"name": "CODE", "value": "3; : "}, {"name": "B", "value": "own"}],
        restartPolicy="Never",
        volumes=[{"name": "v", "emptyDir": {}}],
        volumeMounts=[{"name": "v", "mountPath": "/mine/"}],
    )
    pod = await node.world.pod("web", phase("Failed"))
    config = node.started[0]
    # `$(VAR)` is expanded only with the container's variables, and only in the pod's part of the command line.
    assert config.argv == ["sh", "-c", "exit 3; : $(A)"]
    assert config.env["A"] == "image $(B)" and config.env["B"] == "own" and config.env["PATH"].startswith("/image:")
    assert config.cwd == "/" and config.privileges.user == "web:staff"
    assert config.root is not None and config.root.volumes == ("/data",)
    assert config.root.layers == tuple(f"/layers/{layer.digest}" for layer in node.store.images()[0].layers)
    assert container(pod)["state"]["terminated"]["exitCode"] == 3
    changes = Path(config.root.changes)
    assert changes.is_relative_to(node.world.state.pods / pod["metadata"]["uid"])
    # The changes of a pod that has ended are deleted, and its image may be deleted.
    await eventually(lambda: not changes.exists())
    assert node.store.users(node.store.images()[0]) == []


async def test_a_restart_begins_with_the_image_as_it_is(node: Node) -> None:
    make_image(node.store, "web:1", {"a": "b"}, Cmd=["sh", "-c", "exit 1"])
    await node.world.create("web", image="web:1", restartPolicy="OnFailure")
    await node.world.pod("web", lambda pod: container(pod).get("restartCount") == 1)
    first, second = (config.root for config in node.started[:2])
    assert first is not None and second is not None and list(Path(second.changes).iterdir()) == []


async def test_a_running_container_keeps_its_image(node: Node) -> None:
    make_image(node.store, "web:1", {"a": "b"}, Cmd=list(SERVE))
    await node.world.create("web", image="web:1")
    await node.world.pod("web", ready)
    image = node.store.images()[0]
    assert node.store.users(image) == ["pod default/web of cluster test"]
    node.store.prune(every=True)
    assert node.store.images() == [image]
    await node.world.client.delete("pods", "web", "default")
    await node.world.gone("web")
    await eventually(lambda: node.store.users(image) == [])


async def test_the_images_stop_signal(node: Node) -> None:
    script = "trap 'exit 5' QUIT; echo up; while :; do sleep 0.05; done"
    make_image(node.store, "web:1", {"a": "b"}, Cmd=["sh", "-c", script], StopSignal="SIGQUIT")
    await node.world.create("web", image="web:1", restartPolicy="Never")
    await node.world.pod("web", ready)
    async with asyncio.timeout(PATIENCE):
        while (await node.world.ask("/containerLogs/default/web/c"))[1] != "up\n":  # noqa: ASYNC110  logs have no events
            await asyncio.sleep(0.01)
    await node.world.client.patch("pods", "web", {"spec": {"activeDeadlineSeconds": 1}}, "default")
    pod = await node.world.pod("web", lambda pod: container(pod).get("state", {}).get("terminated"))
    assert container(pod)["state"]["terminated"]["exitCode"] == 5


@pytest.mark.parametrize(
    ("user", "security", "message"),
    [
        ("", {}, "container has runAsNonRoot and image will run as root"),
        ("0:5", {}, "container has runAsNonRoot and image will run as root"),
        (
            "web",
            {},
            "container has runAsNonRoot and image has non-numeric user (web), cannot verify user is non-root",
        ),
        ("5", {"runAsUser": 0}, "container's runAsUser breaks non-root policy"),
    ],
)
async def test_a_container_that_must_not_be_root(node: Node, user: str, security: dict[str, Any], message: str) -> None:
    make_image(node.store, "web:1", {"a": "b"}, Cmd=list(SERVE), User=user)
    await node.world.create("web", image="web:1", securityContext={"runAsNonRoot": True, **security})
    pod = await node.world.pod("web", waiting("CreateContainerConfigError"))
    where = f'(pod: "web_default({pod["metadata"]["uid"]})", container: c)'
    assert container(pod)["state"]["waiting"]["message"] == f"{message} {where}"
    assert node.started == []


async def test_an_image_without_a_command(node: Node) -> None:
    make_image(node.store, "web:1", {"a": "b"})
    await node.world.create("web", image="web:1")
    pod = await node.world.pod("web", waiting("CreateContainerError"))
    message = "failed to generate container spec: no command specified"
    assert container(pod)["state"]["waiting"]["message"] == message
    assert ("Failed", f"Error: {message}") in await node.events("web", 2)
    # With a command in the pod, the image needs none.
    await node.world.create("own", *SERVE, image="web:1")
    await node.world.pod("own", ready)


async def test_host_programs_beside_images(node: Node) -> None:
    await node.world.create("web", *SERVE, image="hatchway/host")
    pod = await node.world.pod("web", ready)
    assert node.started[0].root is None and container(pod)["image"] == "hatchway/host"
    await node.world.create("idle", image="hatchway/host")
    pod = await node.world.pod("idle", waiting("CreateContainerError"))
    assert "this machine's programs" in container(pod)["state"]["waiting"]["message"]


async def test_a_node_without_namespaces_reports_why_it_runs_no_images(node: Node) -> None:
    make_image(node.store, "web:1", {"a": "b"}, Cmd=list(SERVE))
    node.stock.why_not = "there are no namespaces here"
    await node.world.create("web", image="web:1")
    pod = await node.world.pod("web", lambda pod: waiting("ErrImagePull")(pod) or waiting("ImagePullBackOff")(pod))
    assert "there are no namespaces here" in container(pod)["state"]["waiting"]["message"]
    assert node.registry.requests == []


async def test_a_nodes_status_has_its_images(node: Node) -> None:
    small = make_image(node.store, "small:1", {"a": "b"})
    large = make_image(node.store, "large:1", {"a": bytes(10_000).hex()})
    make_image(node.store, None, {"c": "d"})
    found = await node.stock.summary()
    assert found[0]["sizeBytes"] == large.size
    assert found[0]["names"] == [f"docker.io/library/large@{large.manifest_digest}", "docker.io/library/large:1"]
    assert {"names": [*small.digests, *small.tags], "sizeBytes": small.size} in found


async def test_with_host_programs_every_image_with_a_command_runs_them(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world:
        node = Node(world, ImageStore(tmp_path / ".images"))
        make_image(node.store, "web:1", {"a": "b"}, Cmd=list(SERVE))
        async with world.node(node.stock, host_programs=True):
            await world.create("host", *SERVE, image="any")
            pod = await world.pod("host", ready)
            assert container(pod)["imageID"] == "hatchway://host-programs" and node.started[0].root is None
            # Without a command, the name is that of a container image.
            await world.create("image", image="web:1")
            await world.pod("image", ready)
            assert node.started[1].root is not None


async def test_an_event_explains_that_host_programs_are_switched_off(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world:
        node = Node(world, ImageStore(tmp_path / ".images"))
        async with world.node(node.stock, host_programs=True):
            await world.create("old", *SERVE, image="any")
            await world.pod("old", ready)
        node.registry.refusal = "no such host"
        async with world.node(node.stock, host_programs=False):
            await world.create("new", *SERVE, image="any")
            for pod in ("old", "new"):
                await world.pod(pod, lambda pod: waiting("ImagePullBackOff")(pod))
            [(_, told)] = await world.events("old", reason="HostProgramsOff")
            assert "the image hatchway/host" in told and "`hatchway up --host-programs`" in told
            assert "HostProgramsOff" not in [reason for reason, _ in await node.events("new", 4)]


async def test_a_pod_waits_for_the_image_of_a_volume(node: Node, tmp_path: Path) -> None:
    (tmp_path / "files").mkdir()
    (tmp_path / "files/motd").write_text("hello")
    roots: list[ImageRoot] = []

    async def show_image(root: ImageRoot, path: str) -> str:
        roots.append(root)
        return str(tmp_path / "files")

    node.world.runtime.show_image = show_image  # type: ignore[method-assign]
    volume = {"name": "v", "image": {"reference": "data:1", "pullPolicy": "Never"}}
    await node.world.create(
        "web",
        *SERVE,
        image="hatchway/host",
        volumes=[volume],
        volumeMounts=[{"name": "v", "mountPath": "/v"}],
    )
    pod = await node.world.pod("web", waiting("ErrImageNeverPull"))
    message = 'Container image "data:1" is not present with pull policy of Never'
    assert container(pod)["state"]["waiting"]["message"] == message and node.started == []
    assert await node.events("web", 2) == [("ErrImageNeverPull", message), ("Failed", "Error: ErrImageNeverPull")]
    image = make_image(node.store, "data:1", {"etc/motd": "hello"})
    await node.world.pod("web", ready)
    assert [mount.source for mount in node.started[0].mounts if mount.path == "/v"] == [str(tmp_path / "files")]
    assert all(mount.read_only for mount in node.started[0].mounts if mount.path == "/v")
    assert len(roots) == 1 and roots[0].layers and node.store.users(image) == ["pod default/web of cluster test"]
    await node.world.client.delete("pods", "web", "default")
    await node.world.gone("web")
    await eventually(lambda: node.store.users(image) == [])
