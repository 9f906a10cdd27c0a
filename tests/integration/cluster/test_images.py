"""Container images with stock kubectl: loaded from a file, pulled from a private registry, run, and kept while they run."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hatchway.images.reference import parse
from hatchway.images.store.store import ImageStore
from tests.conftest import Cluster, wait_for
from tests.images.making import BuiltImage, Layer, built, oci_archive, programs_root, whiteout
from tests.integration.images.dockerregistry import needs_registry, running

NAMESPACE = "images"
# The number of the capability (capabilities(7)).
_NET_BIND_SERVICE = 10
# Prints its user, and ends at once after SIGTERM.
SERVE = "id; echo $COLOR in $PWD; trap 'exit 0' TERM; while :; do sleep 0.1; done"


@pytest.fixture(scope="module")
def kube(cluster: Cluster) -> Iterator[Cluster]:
    if not cluster.run["private"]:
        pytest.skip("on loopback only this machine's programs run")
    cluster.kubectl("create", "namespace", NAMESPACE)
    yield cluster
    cluster.kubectl("delete", "namespace", NAMESPACE, "--wait=false")


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    found = programs_root(tmp_path_factory.mktemp("root"), "sh", "sleep", "cat", "id", "tar", "ls")
    (found / "etc/passwd").write_text("root:x:0:0:root:/root:/bin/sh\nweb:x:101:102:web:/tmp:/bin/sh\n")
    (found / "etc/group").write_text("root:x:0:\nweb:x:102:\nstaff:x:50:web\n")
    return found


def image(name: str, root: Path, **config: Any) -> BuiltImage:
    return built(name, root, **{"Cmd": ["sh", "-c", SERVE], "Env": ["COLOR=blue"], "WorkingDir": "/tmp", **config})


def kubectl(cluster: Cluster, *arguments: str, **options: Any) -> str:
    return cluster.kubectl("-n", NAMESPACE, *arguments, **options)


def has_one_user(cluster: Cluster) -> bool:
    """Return True if all users of images are one user; then containers have no other groups (docs/users.md)."""
    return str(cluster.run["users"]).startswith("one")


def messages(cluster: Cluster, pod: str) -> list[tuple[str, str]]:
    found = kubectl(cluster, "get", "events", "-o", "json", f"--field-selector=involvedObject.name={pod}")
    return [(event["reason"], event["message"]) for event in json.loads(found)["items"]]


def test_a_loaded_image_runs_and_its_files_are_visible(kube: Cluster, root: Path, tmp_path: Path) -> None:
    archive = oci_archive(tmp_path / "web.tar", image("loaded:1", root, User="web"))
    kube.hatchway("image", "load", "--state-dir", str(kube.base), str(archive))
    kubectl(kube, "create", "deployment", "web", "--image=loaded:1", "--replicas=2")
    kubectl(kube, "rollout", "status", "deployment/web", "--timeout=60s")
    one = has_one_user(kube)
    groups = "102(web)" if one else "102(web),50(staff)"
    assert kubectl(kube, "logs", "deployment/web").splitlines()[-2:] == [
        f"uid=101(web) gid=102(web) groups={groups}",
        "blue in /tmp",
    ]
    assert kubectl(kube, "exec", "deployment/web", "--", "sh", "-c", "id -un; echo $COLOR") == "web\nblue\n"
    pod = json.loads(kubectl(kube, "get", "pods", "-l", "app=web", "-o", "json"))["items"][0]
    name, status = pod["metadata"]["name"], pod["status"]["containerStatuses"][0]
    store = ImageStore(kube.base / ".images")
    stored = store.find(parse("loaded:1"))
    assert stored is not None
    assert status["image"] == "docker.io/library/loaded:1"
    assert status["imageID"] == f"docker.io/library/loaded@{stored.manifest_digest}"
    assert status["user"]["linux"] == {"uid": 101, "gid": 102, "supplementalGroups": [102] if one else [102, 50]}
    assert (
        "Pulled",
        'Container image "loaded:1" already present on machine and can be accessed by the pod',
    ) in messages(kube, name)
    (tmp_path / "file").write_text("copied\n")
    kubectl(kube, "cp", str(tmp_path / "file"), f"{name}:/tmp/file")
    assert kubectl(kube, "exec", name, "--", "cat", "/tmp/file") == "copied\n"
    # A file that a container has written is not in the image, and not in another container of the image.
    other = kubectl(kube, "get", "pods", "-l", "app=web", "-o", "jsonpath={.items[1].metadata.name}")
    assert "file" not in kubectl(kube, "exec", other, "--", "ls", "/tmp")
    refused = kube.hatchway("image", "rm", "--state-dir", str(kube.base), "loaded:1", check=False)
    assert refused.returncode and f"pod {NAMESPACE}/web-" in refused.stderr
    kubectl(kube, "delete", "deployment", "web")
    wait_for(lambda: not store.users(stored))
    kube.hatchway("image", "rm", "--state-dir", str(kube.base), "loaded:1")


def test_security_settings_reach_the_process(kube: Cluster, root: Path, tmp_path: Path) -> None:
    archive = oci_archive(tmp_path / "web.tar", image("secured:1", root))
    kube.hatchway("image", "load", "--state-dir", str(kube.base), str(archive))
    script = (
        "id -u; id -g; id -G; while read name value; do case $name in CapBnd:|NoNewPrivs:) echo $name $value;; esac; "
        "done < /proc/self/status; echo > /written || true; echo done > /dev/termination-log"
    )
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "secured"},
        "spec": {
            "restartPolicy": "Never",
            "securityContext": {"runAsUser": 1000, "runAsGroup": 3000, "fsGroup": 2000, "supplementalGroups": [4000]},
            "containers": [
                {
                    "name": "c",
                    "image": "secured:1",
                    "command": ["sh", "-c", script],
                    "securityContext": {
                        "capabilities": {"drop": ["ALL"], "add": ["NET_BIND_SERVICE"]},
                        "allowPrivilegeEscalation": False,
                        "readOnlyRootFilesystem": True,
                    },
                }
            ],
        },
    }
    kubectl(kube, "create", "-f", "-", stdin=json.dumps(pod))
    kubectl(kube, "wait", "pod/secured", "--for=jsonpath={.status.phase}=Succeeded", "--timeout=60s")
    lines = kubectl(kube, "logs", "secured").splitlines()
    assert "NoNewPrivs: 1" in lines and f"CapBnd: {1 << _NET_BIND_SERVICE:016x}" in lines
    assert any("Read-only file system" in line for line in lines)
    assert lines[:2] == ["1000", "3000"]
    assert set(lines[2].split()) == ({"3000"} if has_one_user(kube) else {"3000", "2000", "4000"})
    status = json.loads(kubectl(kube, "get", "pod", "secured", "-o", "json"))["status"]["containerStatuses"][0]
    assert status["state"]["terminated"]["message"] == "done\n"
    assert status["user"]["linux"]["uid"] == 1000


def test_a_volume_with_an_images_files(kube: Cluster, tmp_path: Path) -> None:
    layers: list[Layer] = [{"data/old": "old\n", "data/kept": "kept\n"}, [whiteout("data/old")], {"data/new": "new\n"}]
    archive = oci_archive(tmp_path / "data.tar", built("data:1", *layers))
    kube.hatchway("image", "load", "--state-dir", str(kube.base), str(archive))
    script = "cd /v; ls data; cat /part/new; echo x > /v/data/x || echo read-only; sleep 1000"
    mounts = [{"name": "v", "mountPath": "/v"}, {"name": "v", "mountPath": "/part", "subPath": "data"}]
    container = {"name": "c", "image": "hatchway/host", "command": ["sh", "-c", script], "volumeMounts": mounts}
    volume = {"name": "v", "image": {"reference": "data:1", "pullPolicy": "IfNotPresent"}}
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "volume"},
        "spec": {"containers": [container], "volumes": [volume], "terminationGracePeriodSeconds": 0},
    }
    kubectl(kube, "create", "-f", "-", stdin=json.dumps(pod))
    kubectl(kube, "wait", "pod/volume", "--for=condition=Ready", "--timeout=60s")
    lines = wait_for(lambda: len(found := kubectl(kube, "logs", "volume").splitlines()) >= 5 and found)
    assert lines[:3] == ["kept", "new", "new"] and "read-only" in lines
    store = ImageStore(kube.base / ".images")
    stored = store.find(parse("data:1"))
    assert stored is not None and store.users(stored)
    uid = kubectl(kube, "get", "pod", "volume", "-o", "jsonpath={.metadata.uid}")
    kubectl(kube, "delete", "pod", "volume")
    wait_for(lambda: not store.users(stored) and not (kube.state / "pods" / uid).exists())


def test_an_image_that_must_not_be_root_is_not_started(kube: Cluster, root: Path, tmp_path: Path) -> None:
    archive = oci_archive(tmp_path / "web.tar", image("root:1", root))
    kube.hatchway("image", "load", "--state-dir", str(kube.base), str(archive))
    overrides = {"spec": {"securityContext": {"runAsNonRoot": True}}}
    kubectl(kube, "run", "asroot", "--image=root:1", f"--overrides={json.dumps(overrides)}")
    reason = "jsonpath={.status.containerStatuses[0].state.waiting.reason}=CreateContainerConfigError"
    kubectl(kube, "wait", "pod/asroot", f"--for={reason}", "--timeout=60s")
    assert any("container has runAsNonRoot and image will run as root" in text for _, text in messages(kube, "asroot"))


@needs_registry
def test_a_private_image_is_pulled_with_the_pods_secret(kube: Cluster, root: Path, tmp_path: Path) -> None:
    archive = oci_archive(tmp_path / "web.tar", image("private:1", root, Labels={"of": "private"}))
    with running(tmp_path, user=("u", "secret")) as registry:
        registry.push(archive, "team/private:1")
        name = f"{registry.address}/team/private:1"
        kubectl(kube, "run", "refused", f"--image={name}")
        waiting = "jsonpath={.status.containerStatuses[0].state.waiting.reason}"
        kubectl(kube, "wait", "pod/refused", f"--for={waiting}=ImagePullBackOff", "--timeout=60s")
        told = messages(kube, "refused")
        assert ("Pulling", f'Pulling image "{name}"') in told and ("Failed", "Error: ErrImagePull") in told
        assert any(f'Failed to pull image "{name}": failed to pull and unpack image' in text for _, text in told)
        access = ["--docker-server", registry.address, "--docker-username=u", "--docker-password=secret"]
        kubectl(kube, "create", "secret", "docker-registry", "access", *access)
        overrides = {"spec": {"imagePullSecrets": [{"name": "access"}, {"name": "missing"}]}}
        kubectl(kube, "run", "private", f"--image={name}", f"--overrides={json.dumps(overrides)}")
        kubectl(kube, "wait", "pod/private", "--for=condition=Ready", "--timeout=60s")
        told = messages(kube, "private")
        assert any(text.startswith(f'Successfully pulled image "{name}" in ') for _, text in told)
        assert any(reason == "FailedToRetrieveImagePullSecret" and "(missing)" in text for reason, text in told)
        assert "blue in /tmp" in kubectl(kube, "logs", "private")
        # The image is on the node now, but only pods with the Secret may use it.
        kubectl(kube, "run", "again", f"--image={name}", f"--overrides={json.dumps(overrides)}")
        kubectl(kube, "wait", "pod/again", "--for=condition=Ready", "--timeout=60s")
        present = f'Container image "{name}" already present on machine and can be accessed by the pod'
        assert ("Pulled", present) in messages(kube, "again")
        kubectl(kube, "run", "stranger", f"--image={name}")
        kubectl(kube, "wait", "pod/stranger", f"--for={waiting}=ImagePullBackOff", "--timeout=60s")
        assert "Pulled" not in {reason for reason, _ in messages(kube, "stranger")}
        node = kubectl(kube, "get", "pod", "private", "-o", "jsonpath={.spec.nodeName}")
        wait_for(lambda: name in kubectl(kube, "get", "node", node, "-o", "jsonpath={.status.images}"))
