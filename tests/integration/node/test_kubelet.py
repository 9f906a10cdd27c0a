"""The lifecycle of pods on a real kubelet, with a real API server and real processes."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from hatchway import trees
from hatchway.cluster.node import backoff, kubelet, storagewatch
from hatchway.cluster.node.apiaccess import Access, Denied
from hatchway.cluster.node.container import ContainerWorker
from hatchway.cluster.node.projections import PodFacts
from hatchway.cluster.node.volumes import Volumes
from hatchway.errors import ApiError
from hatchway.kube.api import Object
from hatchway.proxy.routing import Peer, RequestHead
from tests.integration.node.world import NODE, World, container, eventually, open_world, phase, ready, waiting

# A shell that ends on SIGTERM at once.
SERVE = ("sh", "-c", "trap 'exit 0' TERM; echo up; while :; do sleep 0.05; done")

_IDLE: Object = {
    "name": "idle",
    "image": "hatchway/host",
    "command": list(SERVE),
    "resources": {"limits": {"ephemeral-storage": "1Gi"}},
}


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with open_world(tmp_path) as found, found.node():
        yield found


async def test_the_node_is_registered_and_ready(world: World) -> None:
    node = await world.client.get("nodes", NODE.name)
    assert {c["type"]: c["status"] for c in node["status"]["conditions"]}["Ready"] == "True"
    assert node["status"]["daemonEndpoints"] == {"kubeletEndpoint": {"Port": world.runtime.ports[-1]}}
    assert node["status"]["allocatable"]["pods"] == "110"
    lease = await world.client.get("leases.coordination.k8s.io", NODE.name, "kube-node-lease")
    assert lease["spec"]["holderIdentity"] == NODE.name


async def test_a_pod_runs_is_ready_and_ends_gently(world: World) -> None:
    await world.create("web", *SERVE)
    pod = await world.pod("web", ready)
    assert pod["status"]["phase"] == "Running"
    assert pod["status"]["podIPs"] == [{"ip": pod["status"]["podIP"]}]
    assert pod["status"]["hostIP"] == NODE.ip
    found = container(pod)
    assert found["containerID"].startswith("hatchway://") and found["restartCount"] == 0 and found["started"]
    assert [reason for reason, _ in await world.events("web", 3)] == ["Pulled", "Created", "Started"]
    uid = pod["metadata"]["uid"]
    await world.client.delete("pods", "web", "default")
    await world.gone("web")
    assert ("Killing", "Stopping container c") in await world.events("web", 4)
    await eventually(lambda: not (world.state.pods / uid).exists())


async def test_a_program_that_ignores_sigterm_is_killed_after_its_grace_period(world: World) -> None:
    await world.create(
        "deaf", "sh", "-c", "trap '' TERM; echo up; while :; do sleep 0.05; done", terminationGracePeriodSeconds=30
    )
    await world.pod("deaf", ready)
    await world.client.delete("pods", "deaf", "default")
    await world.pod("deaf", lambda pod: pod["metadata"].get("deletionTimestamp"))
    # A second deletion with a shorter grace period shortens the first one's thirty seconds.
    await world.client.delete("pods", "deaf", "default", grace_period=1)
    await world.gone("deaf")


async def test_a_pod_that_is_deleted_by_force_is_killed(world: World) -> None:
    await world.create(
        "web",
        "sh",
        "-c",
        "trap '' TERM; echo $$$$ > $HATCHWAY_ROOT/v/pid; while :; do sleep 0.05; done",
        volumes=[{"name": "v", "emptyDir": {}}],
        volumeMounts=[{"name": "v", "mountPath": "/v"}],
    )
    pod = await world.pod("web", ready)
    file = world.volume(pod, "v") / "pid"
    await eventually(lambda: file.exists() and file.read_text().strip())
    pid = int(file.read_text())
    await world.client.delete("pods", "web", "default", grace_period=0)
    await world.gone("web")
    await eventually(lambda: not _alive(pid))


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


async def test_the_environment_files_and_exit_of_a_pod_that_completes(world: World) -> None:
    await world.client.create("configmaps", {"metadata": {"name": "cm"}, "data": {"A": "1"}}, "default")
    script = (
        "cat $HATCHWAY_ROOT/cm/A $HATCHWAY_ROOT/pod/labels; echo; echo $X $IP; "
        "printf 'last words' > $HATCHWAY_ROOT/dev/termination-log; exit 3"
    )
    await world.create(
        "once",
        "sh",
        "-c",
        script,
        restartPolicy="Never",
        envFrom=[{"configMapRef": {"name": "cm"}}],
        env=[
            {"name": "X", "value": "x$(A)"},
            {"name": "IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
        ],
        volumes=[
            {"name": "cm", "configMap": {"name": "cm"}},
            {
                "name": "pod",
                "downwardAPI": {"items": [{"path": "labels", "fieldRef": {"fieldPath": "metadata.labels"}}]},
            },
        ],
        volumeMounts=[{"name": "cm", "mountPath": "/cm"}, {"name": "pod", "mountPath": "/pod"}],
    )
    pod = await world.pod("once", phase("Failed"))
    terminated = container(pod)["state"]["terminated"]
    assert (terminated["exitCode"], terminated["reason"], terminated["message"]) == (3, "Error", "last words")
    status, text = await world.ask("/containerLogs/default/once/c")
    assert (status, text) == (200, f'1app="once"\nx1 {pod["status"]["podIP"]}\n')
    await world.client.delete("pods", "once", "default")
    await world.gone("once")


async def test_init_containers_run_in_order_before_the_others_and_sidecars_beside_them(world: World) -> None:
    volumes = [{"name": "v", "emptyDir": {}}]
    mounts = [{"name": "v", "mountPath": "/v"}]

    def init(name: str, script: str, **more: object) -> dict[str, object]:
        return {"name": name, "image": "hatchway/host", "command": ["sh", "-c", script], "volumeMounts": mounts, **more}

    await world.create(
        "staged",
        "sh",
        "-c",
        "cat $HATCHWAY_ROOT/v/order",
        restartPolicy="Never",
        volumes=volumes,
        volumeMounts=mounts,
        initContainers=[
            init("one", "echo one >> $HATCHWAY_ROOT/v/order"),
            init(
                "side",
                "trap 'exit 0' TERM; echo side >> $HATCHWAY_ROOT/v/order; while :; do sleep 0.05; done",
                restartPolicy="Always",
                startupProbe={
                    "exec": {"command": ["sh", "-c", "grep -q side $HATCHWAY_ROOT/v/order"]},
                    "periodSeconds": 1,
                },
            ),
            init("two", "echo two >> $HATCHWAY_ROOT/v/order"),
        ],
    )
    pod = await world.pod("staged", phase("Succeeded"))
    assert (await world.ask("/containerLogs/default/staged/c"))[1] == "one\nside\ntwo\n"
    pod = await world.pod("staged", lambda pod: "terminated" in container(pod, "side").get("state", {}))
    assert container(pod, "one")["state"]["terminated"]["reason"] == "Completed"


async def test_a_failed_init_container_fails_a_pod_that_is_never_restarted(world: World) -> None:
    init = {"name": "i", "image": "hatchway/host", "command": ["false"]}
    await world.create("unlucky", "true", restartPolicy="Never", initContainers=[init])
    pod = await world.pod("unlucky", phase("Failed"))
    assert "waiting" in container(pod)["state"]


async def test_crash_loop_and_previous_logs(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backoff.BackOff.__init__, "__defaults__", (0.5, 60.0))
    count = "echo >> $HATCHWAY_ROOT/v/n; echo attempt $(wc -l < $HATCHWAY_ROOT/v/n); exit 1"
    volume = {"volumes": [{"name": "v", "emptyDir": {}}], "volumeMounts": [{"name": "v", "mountPath": "/v"}]}
    await world.create("crash", "sh", "-c", count, **volume)
    pod = await world.pod("crash", lambda pod: waiting("CrashLoopBackOff")(pod) and container(pod)["restartCount"] == 2)
    assert container(pod)["lastState"]["terminated"]["exitCode"] == 1
    assert pod["status"]["phase"] == "Running"
    assert "restarting failed container=c pod=crash_default(" in container(pod)["state"]["waiting"]["message"]
    # While a container waits for its restart, its last run is both the current and the previous one.
    assert (await world.ask("/containerLogs/default/crash/c?previous=true"))[1] == "attempt 3\n"
    assert any(
        message.startswith("Back-off restarting failed container c in pod crash_default(")
        for _, message in await world.events("crash", reason="BackOff")
    )


async def test_containers_that_cannot_start_report_why(world: World) -> None:
    await world.create("noimage", image="nginx")
    await world.create("noprogram", "no-such-program", restartPolicy="Never")
    await world.create("noconfig", *SERVE, envFrom=[{"configMapRef": {"name": "later"}}])
    await world.create("novolume", *SERVE, volumes=[{"name": "v", "secret": {"secretName": "later"}}])
    pod = await world.pod("noimage", lambda pod: waiting("ErrImagePull")(pod) or waiting("ImagePullBackOff")(pod))
    message = 'failed to pull and unpack image "docker.io/library/nginx:latest": this cluster has no store of'
    assert message in container(pod)["state"]["waiting"]["message"]
    assert pod["status"]["phase"] == "Pending"
    pod = await world.pod("noprogram", phase("Failed"))
    assert container(pod)["state"]["terminated"]["reason"] == "StartError"
    assert 'exec: "no-such-program"' in container(pod)["state"]["terminated"]["message"]
    pod = await world.pod("noconfig", waiting("CreateContainerConfigError"))
    assert container(pod)["state"]["waiting"]["message"] == 'configmap "later" not found'
    status, text = await world.ask("/containerLogs/default/noconfig/c")
    assert (status, text) == (400, 'container "c" in pod "noconfig" is waiting to start: CreateContainerConfigError')
    ((_, message),) = await world.events("novolume", reason="FailedMount")
    assert message == 'MountVolume.SetUp failed for volume "v" : secret "later" not found'
    await world.client.create("configmaps", {"metadata": {"name": "later"}, "data": {}}, "default")
    await world.client.create("secrets", {"metadata": {"name": "later"}, "data": {}}, "default")
    await world.pod("noconfig", ready)
    await world.pod("novolume", ready)
    # A pod with a missing image can be repaired by another image.
    await world.client.patch(
        "pods", "noimage", {"spec": {"containers": [{"name": "c", "image": "hatchway/echo"}]}}, "default"
    )
    await world.pod("noimage", ready)


async def test_unsupported_settings_of_a_pod_are_reported_as_events(world: World) -> None:
    privileged = {
        "name": "d",
        "image": "hatchway/host",
        "command": list(SERVE),
        "securityContext": {"privileged": True},
    }
    await world.create("web", *SERVE, more=[privileged], hostPID=True)
    found = await world.events("web", 2, "Unsupported")
    assert sorted(message.split()[0] for _, message in found) == ["hostPID", "privileged"]


async def test_a_failed_worker_is_replaced_and_others_continue(
    world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    real = Volumes.set_up
    broken = True

    async def set_up(volumes: Volumes, pod: Object, facts: PodFacts) -> None:
        if broken and pod["metadata"]["name"] == "unlucky":
            raise RuntimeError("a bug")
        await real(volumes, pod, facts)

    monkeypatch.setattr(Volumes, "set_up", set_up)
    monkeypatch.setattr(kubelet, "_CRASH_SECONDS", 0.05)
    await world.create("unlucky", *SERVE)
    await world.events("unlucky", reason="FailedSync")
    await world.create("lucky", *SERVE)
    await world.pod("lucky", ready)
    broken = False
    await world.pod("unlucky", ready)
    assert "a bug" in caplog.text


async def test_live_volumes(world: World) -> None:
    await world.client.create("configmaps", {"metadata": {"name": "cm"}, "data": {"A": "1"}}, "default")
    labels = {"items": [{"path": "labels", "fieldRef": {"fieldPath": "metadata.labels"}}]}
    await world.create(
        "web", *SERVE, volumes=[{"name": "cm", "configMap": {"name": "cm"}}, {"name": "l", "downwardAPI": labels}]
    )
    pod = await world.pod("web", ready)
    await world.client.patch("configmaps", "cm", {"data": {"A": "2"}}, "default")
    await world.client.patch("pods", "web", {"metadata": {"labels": {"more": "yes"}}}, "default")
    await eventually(lambda: (world.volume(pod, "cm") / "A").read_text() == "2")
    await eventually(lambda: "more" in (world.volume(pod, "l") / "labels").read_text())


async def test_probes_drive_readiness_and_restarts(world: World) -> None:
    def check(file: str) -> dict[str, object]:
        return {
            "exec": {"command": ["sh", "-c", f"test -e $HATCHWAY_ROOT/v/{file}"]},
            "periodSeconds": 1,
            "failureThreshold": 1,
        }

    script = "trap 'exit 0' TERM; touch $HATCHWAY_ROOT/v/alive; while :; do sleep 0.05; done"
    await world.create(
        "probed",
        "sh",
        "-c",
        script,
        volumes=[{"name": "v", "emptyDir": {}}],
        volumeMounts=[{"name": "v", "mountPath": "/v"}],
        readinessProbe=check("ready"),
        livenessProbe={**check("alive"), "initialDelaySeconds": 1},
        startupProbe={**check("alive"), "failureThreshold": 10},
    )
    pod = await world.pod("probed", lambda pod: container(pod).get("started"))
    assert not ready(pod)
    (world.volume(pod, "v") / "ready").touch()
    await world.pod("probed", ready)
    (world.volume(pod, "v") / "ready").unlink()
    await world.pod("probed", lambda pod: not ready(pod))
    (world.volume(pod, "v") / "alive").unlink()
    pod = await world.pod("probed", lambda pod: container(pod)["restartCount"] == 1)
    assert container(pod)["lastState"]["terminated"]["exitCode"] == 0
    events = await world.events("probed", reason="Killing")
    assert events == [("Killing", "Container c failed liveness probe, will be restarted")]


async def test_hooks(world: World) -> None:
    await world.create(
        "hooked",
        "sh",
        "-c",
        "trap 'cat $HATCHWAY_ROOT/v/hooks; exit 0' TERM; while :; do sleep 0.05; done",
        volumes=[{"name": "v", "emptyDir": {}}],
        volumeMounts=[{"name": "v", "mountPath": "/v"}],
        lifecycle={
            "postStart": {"exec": {"command": ["sh", "-c", "echo post >> $HATCHWAY_ROOT/v/hooks"]}},
            "preStop": {"exec": {"command": ["sh", "-c", "echo pre >> $HATCHWAY_ROOT/v/hooks"]}},
        },
    )
    await world.pod("hooked", ready)
    following = asyncio.create_task(world.ask("/containerLogs/default/hooked/c?follow=true"))
    await asyncio.sleep(0)
    await world.client.delete("pods", "hooked", "default")
    assert await following == (200, "post\npre\n")
    await world.gone("hooked")


async def test_a_deadline_ends_a_pod(world: World) -> None:
    await world.create("late", *SERVE, activeDeadlineSeconds=1)
    await world.create("later", *SERVE)
    await world.pod("later", ready)
    # A deadline that is added to a running pod counts from the pod's start.
    await world.client.patch("pods", "later", {"spec": {"activeDeadlineSeconds": 1}}, "default")
    for name in ("late", "later"):
        pod = await world.pod(name, phase("Failed"))
        assert pod["status"]["reason"] == "DeadlineExceeded"


_FILL = "head -c 3000000 /dev/zero > $HATCHWAY_ROOT/{}; trap 'exit 0' TERM; while :; do sleep 0.05; done"
_FULL = {
    "volume": (
        {"volumes": [{"name": "v", "emptyDir": {"sizeLimit": "1Mi"}}]},
        "v/file",
        'Usage of EmptyDir volume "v" exceeds the limit "1Mi". ',
    ),
    "container": (
        {"resources": {"limits": {"ephemeral-storage": "2Mi"}}, "more": [_IDLE]},
        "file",
        'Container c exceeded its local ephemeral storage limit "2Mi". ',
    ),
    "pod": (
        {"resources": {"limits": {"ephemeral-storage": "2Mi"}}, "volumes": [{"name": "v", "emptyDir": {}}]},
        "v/file",
        "Pod ephemeral local storage usage exceeds the total limit of containers 2Mi. ",
    ),
}


@pytest.mark.parametrize("name", _FULL)
async def test_a_pod_with_more_on_disk_than_it_may_have_is_evicted(
    world: World, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr(storagewatch, "INTERVAL_SECONDS", 0.05)
    monkeypatch.setattr(storagewatch, "_TIMES_LONGER", 1.0)
    spec, path, message = _FULL[name]
    mounts = [{"name": volume["name"], "mountPath": "/v"} for volume in spec.get("volumes", ())]
    await world.create(name, "sh", "-c", _FILL.format(path), volumeMounts=mounts, **spec)
    pod = await world.pod(name, phase("Failed"))
    assert (pod["status"]["reason"], pod["status"]["message"]) == ("Evicted", message)
    assert ("Evicted", message) in await world.events(name, reason="Evicted")
    # The pod's files are deleted, its logs are kept.
    await eventually(lambda: not (world.state.pods / pod["metadata"]["uid"]).exists())
    assert (await world.ask(f"/containerLogs/default/{name}/c"))[0] == 200


async def test_a_pod_within_its_limits_stays(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storagewatch, "INTERVAL_SECONDS", 0.02)
    measured = asyncio.Semaphore(0)
    measure_tree = trees.measure_tree
    loop = asyncio.get_running_loop()

    def count(directory: int) -> int:
        loop.call_soon_threadsafe(measured.release)
        return measure_tree(directory)

    monkeypatch.setattr(trees, "measure_tree", count)
    volumes = [{"name": "v", "emptyDir": {"sizeLimit": "1Gi"}}]
    await world.create("small", *SERVE, volumes=volumes, volumeMounts=[{"name": "v", "mountPath": "/v"}])
    await world.pod("small", ready)
    for _ in range(3):
        await measured.acquire()
    assert (await world.client.get("pods", "small", "default"))["status"]["phase"] == "Running"


async def test_a_container_starts_after_the_hook_of_the_previous_one(world: World) -> None:
    mounts = [{"name": "v", "mountPath": "/v"}]
    second = {"name": "d", "image": "hatchway/host", "command": ["sh", "-c", "touch $HATCHWAY_ROOT/v/second; sleep 60"]}
    hook = "touch $HATCHWAY_ROOT/v/hook; until test -e $HATCHWAY_ROOT/v/go; do sleep 0.05; done"
    await world.create(
        "ordered",
        *SERVE,
        more=[{**second, "volumeMounts": mounts}],
        volumes=[{"name": "v", "emptyDir": {}}],
        volumeMounts=mounts,
        lifecycle={"postStart": {"exec": {"command": ["sh", "-c", hook]}}},
    )
    pod = await world.pod("ordered", lambda pod: pod.get("status", {}).get("podIP"))
    volume = world.volume(pod, "v")
    await eventually((volume / "hook").exists)
    pod = await world.client.get("pods", "ordered", "default")
    assert "waiting" in container(pod)["state"] and pod["status"]["phase"] == "Pending"
    assert not (volume / "second").exists()
    (volume / "go").touch()
    await world.pod("ordered", ready)
    await eventually((volume / "second").exists)


async def test_a_failed_hook_ends_its_container_and_its_output_is_not_shown(world: World) -> None:
    await world.create(
        "hooked",
        *SERVE,
        restartPolicy="Never",
        lifecycle={"postStart": {"exec": {"command": ["sh", "-c", "echo secret; exit 1"]}}},
    )
    await world.pod("hooked", phase("Succeeded"))
    assert await world.events("hooked", reason="FailedPostStartHook") == [
        ("FailedPostStartHook", "PostStartHook failed")
    ]


async def test_a_failed_liveness_probe_restarts_a_container_that_exits_with_0(world: World) -> None:
    probe = {"exec": {"command": ["false"]}, "periodSeconds": 1, "failureThreshold": 1}
    await world.create("on-failure", *SERVE, livenessProbe=probe, restartPolicy="OnFailure")
    await world.create("never", *SERVE, livenessProbe=probe, restartPolicy="Never")
    pod = await world.pod("on-failure", lambda pod: container(pod).get("restartCount"))
    assert container(pod)["lastState"]["terminated"]["exitCode"] == 0
    # A container that fails soon after its start waits for its restart, as after a crash. A new image ends the wait.
    pod = await world.pod("on-failure", waiting("CrashLoopBackOff"))
    assert container(pod)["restartCount"] == 1
    mended = [{**pod["spec"]["containers"][0], "image": "docker.io/hatchway/host"}]
    await world.client.patch("pods", "on-failure", {"spec": {"containers": mended}}, "default")
    await world.pod("on-failure", lambda pod: container(pod)["restartCount"] == 2)
    await world.pod("never", phase("Succeeded"))
    assert await world.events("never", reason="Killing") == [("Killing", "Container c failed liveness probe")]


async def test_a_deleted_pod_is_probed_to_its_end_and_gets_the_phase_of_its_containers(world: World) -> None:
    phases: list[str] = []
    world.pods.subscribe(lambda _, pod: phases.append((pod.get("status") or {}).get("phase", "")))
    files = "$HATCHWAY_ROOT/v"
    await world.create(
        "web",
        "sh",
        "-c",
        f"trap 'until test -e {files}/go; do sleep 0.05; done; exit 0' TERM; touch {files}/up; "
        "while :; do sleep 0.05; done",
        terminationGracePeriodSeconds=30,
        volumes=[{"name": "v", "emptyDir": {}}],
        volumeMounts=[{"name": "v", "mountPath": "/v"}],
        readinessProbe={
            "exec": {"command": ["sh", "-c", f"test -e {files}/up"]},
            "periodSeconds": 1,
            "failureThreshold": 1,
        },
    )
    pod = await world.pod("web", ready)
    volume = world.volume(pod, "v")
    await world.client.delete("pods", "web", "default")
    await world.events("web", reason="Killing")
    # While the pod terminates, it still serves and is still ready.
    assert ready(await world.client.get("pods", "web", "default"))
    (volume / "up").unlink()
    await world.pod("web", lambda pod: not ready(pod))
    (volume / "go").touch()
    await world.gone("web")
    assert phases[-1] == "Succeeded"


async def test_sidecars_get_the_rest_of_their_pods_grace_period(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    graces: dict[str, float] = {}
    stop = ContainerWorker.stop

    async def record(self: ContainerWorker, grace: float) -> None:
        graces[self.name] = grace
        await stop(self, grace)

    monkeypatch.setattr(ContainerWorker, "stop", record)
    sidecar = {"name": "s", "image": "hatchway/host", "command": list(SERVE), "restartPolicy": "Always"}
    deaf = ("sh", "-c", "trap 'sleep 0.5; exit 0' TERM; touch $HATCHWAY_ROOT/v/deaf; while :; do sleep 0.05; done")
    volume = {"volumes": [{"name": "v", "emptyDir": {}}], "volumeMounts": [{"name": "v", "mountPath": "/v"}]}
    await world.create("web", *deaf, initContainers=[sidecar], terminationGracePeriodSeconds=20, **volume)
    pod = await world.pod("web", ready)
    await eventually((world.volume(pod, "v") / "deaf").exists)
    await world.client.delete("pods", "web", "default")
    await world.gone("web")
    assert graces["c"] == 20 and 2 <= graces["s"] <= 19.5


async def test_a_new_image_restarts_a_container(world: World) -> None:
    await world.create("web", *SERVE)
    await world.pod("web", ready)
    containers = [{"name": "c", "image": "docker.io/hatchway/host", "command": list(SERVE)}]
    await world.client.patch("pods", "web", {"spec": {"containers": containers}}, "default")
    pod = await world.pod("web", lambda pod: container(pod)["restartCount"] == 1 and ready(pod))
    assert container(pod)["image"] == "docker.io/hatchway/host"


async def test_the_kubelets_api(world: World) -> None:
    probe = {"exec": {"command": ["true"]}, "periodSeconds": 1}
    spin = (
        "trap 'exit 0' TERM; echo up; n=0; while test $n -lt 20000; do n=$((n+1)); done; while :; do sleep 0.05; done"
    )
    await world.create("web", "sh", "-c", spin, readinessProbe=probe, resources={"limits": {"memory": "64Mi"}})
    pod = await world.pod("web", ready)
    assert await world.ask("/healthz") == (200, "ok")
    assert (await world.ask("/healthz?verbose"))[1].endswith("[+]syncloop ok\nhealthz check passed\n")
    assert (await world.ask("/healthz/nope"))[0] == 404
    assert await world.ask("/nope") == (404, "404 page not found\n")
    status, text = await world.ask("/pods")
    assert status == 200 and [pod["metadata"]["name"] for pod in json.loads(text)["items"]] == ["web"]
    (running,) = json.loads((await world.ask("/runningpods/"))[1])["items"]
    assert running["metadata"] == {key: pod["metadata"][key] for key in ("name", "namespace", "uid")}
    assert running["spec"]["containers"] == [{"name": "c", "image": "hatchway/host", "resources": {}}]
    status, text = await world.ask("/metrics")
    assert status == 200 and "kubelet_running_pods 1\n" in text
    labels = f'container="c",namespace="default",pod="web",pod_uid="{pod["metadata"]["uid"]}",probe_type="Readiness"'
    assert f'prober_probe_total{{{labels},result="successful"}} ' in (await world.ask("/metrics/probes"))[1]
    configuration = json.loads((await world.ask("/configz"))[1])["kubeletconfig"]
    assert configuration["port"] == world.runtime.ports[-1] and configuration["maxPods"] == 110
    assert configuration["cgroupsPerQOS"] is False, "this world has no control groups"
    assert (await world.ask("/pods", method="POST"))[0] == 405
    assert (await world.ask("/logs/"))[0] == 404, "this runtime's nodes have no files"
    assert (await world.ask("/containerLogs/default/none/c"))[0] == 404
    assert (await world.ask("/containerLogs/default/web/none"))[0] == 404
    assert (await world.ask("/containerLogs/default/web/c?tailLines=x"))[0] == 400
    assert (await world.ask("/containerLogs/default/web/c?limitBytes=0"))[0] == 422
    assert (await world.ask("/containerLogs/default/web/c?sinceSeconds=1&sinceTime=2026-01-01T00:00:00Z"))[0] == 422
    assert await world.ask("/containerLogs/default/web/c?tail=1") == (200, "up\n")
    assert (await world.ask("/containerLogs/default/web/c?previous=1"))[0] == 400
    assert (await world.ask("/healthz", token="junk")) == (401, "Unauthorized")
    # A node may not ask another kubelet.
    status, text = await world.ask("/pods", cert=world.keys.kubelet(NODE.name))
    assert status == 403 and text.startswith("Forbidden (user=system:node:node-1, verb=get, resource=nodes")


@pytest.mark.skipif(not os.path.exists("/proc/self/stat"), reason="this platform has no /proc")
async def test_the_usage_of_pods_is_measured(world: World) -> None:
    spin = "trap 'exit 0' TERM; n=0; while test $n -lt 60000; do n=$((n+1)); done; while :; do sleep 0.05; done"
    await world.create("web", "sh", "-c", spin, resources={"limits": {"memory": "64Mi"}})
    await world.pod("web", ready)
    labels = '{container="c",namespace="default",pod="web"}'

    async def cpu() -> float:
        text = (await world.ask("/metrics/resource"))[1]
        (line,) = [line for line in text.splitlines() if line.startswith(f"container_cpu_usage_seconds_total{labels} ")]
        value, milliseconds = line.split()[1:]
        assert int(milliseconds) > 1_700_000_000_000
        return float(value)

    async def memory() -> int:
        summary = json.loads((await world.ask("/stats/summary"))[1])
        return sum(one["memory"]["workingSetBytes"] for pod in summary["pods"] for one in pod["containers"])

    # A process that has just been started may use neither processor time nor memory of its own.
    for _ in range(200):
        if await cpu() > 0 and await memory() > 100_000:
            break
        await asyncio.sleep(0.1)
    text = (await world.ask("/metrics/resource"))[1]
    assert "resource_scrape_error 0\n" in text and "\nnode_memory_working_set_bytes " in text
    summary = json.loads((await world.ask("/stats/summary"))[1])
    assert summary["node"]["memory"]["availableBytes"] > 0 and summary["node"]["fs"]["capacityBytes"] > 0
    (pod,) = summary["pods"]
    assert pod["podRef"]["name"] == "web" and pod["process_stats"]["process_count"] >= 1
    (c,) = pod["containers"]
    assert c["cpu"]["usageCoreNanoSeconds"] > 0 and c["memory"]["workingSetBytes"] > 100_000, c
    text = (await world.ask("/metrics/cadvisor"))[1]
    assert 'container_spec_memory_limit_bytes{container="c",' in text and 'cpu="total"' in text
    found = {
        (line.partition("{")[0], label("container", line), label("pod", line)): float(
            line.rpartition("}")[2].split()[0]
        )
        for line in text.splitlines()
        if line.startswith("container_")
    }
    for name in ("container_memory_working_set_bytes", "container_cpu_usage_seconds_total"):
        # As in cAdvisor, the series of a pod have no container, and the series of the node have no pod.
        assert found[name, "c", "web"] <= found[name, "", "web"] <= found[name, "", ""], name
    usage, kernel = found["container_cpu_usage_seconds_total", "c", "web"], "container_cpu_system_seconds_total"
    user = found["container_cpu_user_seconds_total", "c", "web"]
    assert usage == pytest.approx(user + found[kernel, "c", "web"])
    assert 0 < found["container_memory_rss", "c", "web"] <= found["container_memory_working_set_bytes", "c", "web"]
    assert "process_resident_memory_bytes " in (await world.ask("/metrics"))[1]


def label(name: str, line: str) -> str:
    return line.partition(f'{name}="')[2].partition('"')[0]


async def test_the_kubelet_authenticates_tokens_by_requests_to_the_api(world: World) -> None:
    async with world.over_http() as client:
        access = Access(client, NODE.name)
        request = {"metadata": {}, "spec": {"audiences": [], "expirationSeconds": 600}}
        answer = await world.client.create("serviceaccounts", request, "default", subresource="token", name="default")
        peer = Peer(("127.0.0.1", 1), "https")
        headers = [(b"Authorization", b"Bearer " + answer["status"]["token"].encode())]
        with pytest.raises(Denied) as caught:
            await access.check(RequestHead("GET", b"/pods", b"/pods", None, headers, "1.1", peer))
        user = "system:serviceaccount:default:default"
        assert caught.value.text == f"Forbidden (user={user}, verb=get, resource=nodes, subresource(s)=[pods proxy])"
    with pytest.raises(ApiError) as away:
        await client.get("nodes", NODE.name)
    assert away.value.code == 503
    await client.aclose()


async def test_pods_start_again_after_a_crash_of_the_node(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world:
        async with world.node():
            await world.create("web", *SERVE)
            await world.create("batch", *SERVE, restartPolicy="Never")
            await world.create("once", "true", restartPolicy="OnFailure")
            before = await world.pod("web", ready)
            await world.pod("batch", ready)
            await world.pod("once", phase("Succeeded"))
        # The API still has the status from before the kubelet was killed.
        assert ready(await world.client.get("pods", "web", "default"))
        async with world.node():
            pod = await world.pod("web", lambda pod: container(pod)["restartCount"] == 1 and ready(pod))
            assert pod["metadata"]["uid"] == before["metadata"]["uid"]
            last = container(pod)["lastState"]["terminated"]
            assert (last["exitCode"], last["reason"]) == (255, "Unknown")
            assert (await world.ask("/containerLogs/default/web/c?previous=true"))[1] == "up\n"
            batch = await world.pod("batch", phase("Failed"))
            assert container(batch)["state"]["terminated"]["exitCode"] == 255
            once = await world.client.get("pods", "once", "default")
            assert once["status"]["phase"] == "Succeeded" and container(once)["restartCount"] == 0
            await world.client.delete("pods", "batch", "default")
            await world.gone("batch")


async def test_an_invalid_status_does_not_stop_the_kubelet(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world:
        await world.create("odd", *SERVE)
        statuses = [{"name": "c", "state": {"running": {"startedAt": None}}, "restartCount": -5}, {"name": "other"}]
        status = {"phase": "Running", "startTime": None, "containerStatuses": statuses}
        await world.client.patch("pods", "odd", {"status": status}, "default", subresource="status")
        await world.create("web", *SERVE)
        async with world.node():
            await world.pod("web", ready)
            await world.pod("odd", ready)


async def test_shutting_down_ends_processes_and_keeps_pods(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world, world.node() as kubelet:
        await world.create("web", *SERVE)
        await world.pod("web", ready)
        async with asyncio.timeout(60):
            await kubelet.shut_down(2)
        assert not kubelet.workers
        pod = await world.client.get("pods", "web", "default")
        assert "running" in container(pod)["state"]
