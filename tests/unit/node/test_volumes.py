"""Volumes: the content of their files, changes of all files at once, and paths that lead out of a volume."""

from __future__ import annotations

import base64
import dataclasses
import os
import stat
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hatchway import beneath
from hatchway.cluster.node import clock
from hatchway.cluster.node import volumes as volumes_module
from hatchway.cluster.node.atomic import Content, check_path, write_payload
from hatchway.cluster.node.env import ConfigError
from hatchway.cluster.node.projections import PodFacts, Projector
from hatchway.cluster.node.volumeownership import VolumeOwnership, find_user
from hatchway.cluster.node.volumes import MountError, Volumes
from hatchway.kube.api import Object

FACTS = PodFacts("172.18.0.3", "10.0.0.9", {"cpu": "4"})


class Files:
    """The file systems of nodes, below the directory `node`. mounted: the sizes of file systems in memory, by path."""

    def __init__(self, node: Path) -> None:
        self.node = node
        self.mounted: dict[str, int | None] = {}

    def locate(self, node_index: int, path: str) -> tuple[str, str]:
        return str(self.node), path

    def mount_memory(self, path: str, size: int | None = None) -> bool:
        self.mounted[path] = size
        return True

    def unmount(self, path: str) -> None:
        self.mounted.pop(path, None)


def write(directory: Path, payload: dict[str, Content]) -> bool:
    directory.mkdir(exist_ok=True)
    return write_payload(directory, payload, staging=directory.parent / "staging")


def shown(directory: Path) -> dict[str, bytes]:
    """Return the content of the files in a volume, by path."""
    return {
        str(path.relative_to(directory)): path.read_bytes()
        for path in directory.rglob("*")
        if path.is_file() and not path.relative_to(directory).parts[0].startswith("..")
    } | {
        f"{entry.name}/{path.relative_to(entry.resolve())}": path.read_bytes()
        for entry in directory.iterdir()
        if entry.is_dir() and not entry.name.startswith("..")
        for path in entry.resolve().rglob("*")
        if path.is_file()
    }


@pytest.fixture
def volume(tmp_path: Path) -> Path:
    path = tmp_path / "volume"
    path.mkdir()
    return path


def test_files_are_visible_through_one_link(volume: Path) -> None:
    assert write(volume, {"a": Content(b"1"), "dir/b": Content(b"2", 0o400)})
    assert shown(volume) == {"a": b"1", "dir/b": b"2"}
    assert (volume / "dir/b").stat().st_mode & 0o777 == 0o400
    first = (volume / "..data").readlink()
    assert not write(volume, {"a": Content(b"1"), "dir/b": Content(b"2", 0o400)})
    assert (volume / "..data").readlink() == first
    assert write(volume, {"a": Content(b"new")})
    assert shown(volume) == {"a": b"new"}
    assert not (volume / first).exists()
    assert not (volume / "dir").is_symlink()


def test_a_different_mode_counts_as_a_change(volume: Path) -> None:
    write(volume, {"a": Content(b"1")})
    assert write(volume, {"a": Content(b"1", 0o600)})


def test_remains_of_an_interrupted_write_are_removed(volume: Path) -> None:
    (volume / "..2020_01_01_00_00_00.1").mkdir()
    (volume / "..data_tmp").symlink_to("nowhere")
    write(volume, {"a": Content(b"1")})
    assert {entry.name for entry in volume.iterdir()} == {"a", "..data", str((volume / "..data").readlink())}


@pytest.mark.parametrize("path", ["", "/etc/passwd", "..", "a/../../b", "..data", "..x/y"])
def test_paths_out_of_the_volume_are_refused(path: str, volume: Path) -> None:
    with pytest.raises(ValueError, match="path"):
        write(volume, {path: Content(b"")})


@given(st.lists(st.sampled_from(["a", "..", ".", "", "b", "..b"]), min_size=1, max_size=5).map("/".join))
def test_every_accepted_path_is_in_the_volume(path: str) -> None:
    try:
        check_path(path)
    except ValueError:
        return
    root = Path("/volume")
    assert root in Path(str(root / path)).resolve().parents or Path(root / path).resolve() == root


class Api:
    """The API: the objects to which pods refer, and tokens."""

    def __init__(self) -> None:
        self.objects: dict[tuple[str, str], Object] = {
            ("configmaps", "cm"): {"data": {"a": "1", "b": "2"}, "binaryData": {"c": base64.b64encode(b"\0").decode()}},
            ("secrets", "sec"): {"data": {"pw": base64.b64encode(b"hunter2").decode()}},
        }
        self.requests: list[Object] = []
        self.life = 3600.0

    async def get(self, resource: str, namespace: str, name: str) -> Object | None:
        return self.objects.get((resource, name))

    async def create(self, resource: str, obj: Object, namespace: str | None = None, **more: Any) -> Object:
        assert (resource, more) == ("serviceaccounts", {"subresource": "token", "name": "default"})
        self.requests.append(obj)
        status = {
            "token": f"token-{len(self.requests)}",
            "expirationTimestamp": clock.rfc3339_epoch(time.time() + self.life),
        }
        return {"status": status}


def pod(*volumes: Object) -> Object:
    return {
        "metadata": {"name": "web", "namespace": "shop", "uid": "u1", "labels": {"app": "web"}},
        "spec": {"volumes": list(volumes), "containers": [{"name": "c"}]},
    }


@pytest.fixture
def api() -> Api:
    return Api()


WARNINGS: list[str] = []


@pytest.fixture
def volumes(tmp_path: Path, api: Api) -> Volumes:
    WARNINGS.clear()
    (tmp_path / "node").mkdir()
    files, projector = Files(tmp_path / "node"), Projector(api, api.get)  # type: ignore[arg-type]
    return Volumes(
        tmp_path / "u1",
        projector,
        memory=tmp_path / "memory" / "u1",
        files=files,
        node_index=0,
        node_name="n1",
        read=api.get,
        warn=WARNINGS.append,
    )


async def mounted(volumes: Volumes, volume: Object, **mount: Any) -> Path:
    """Set up the volume for a container that mounts it; return the directory that is mounted."""
    await volumes.set_up(pod(volume), FACTS)
    container = {"name": "c", "volumeMounts": [{"name": volume["name"], "mountPath": "/v", **mount}]}
    (found,) = volumes.prepare_mounts(container, {"NAME": "x"})
    return Path(found.source) / found.inside / found.sub_path


@pytest.mark.parametrize(
    ("volume", "wanted"),
    [
        ({"configMap": {"name": "cm"}}, {"a": b"1", "b": b"2", "c": b"\0"}),
        ({"configMap": {"name": "cm", "items": [{"key": "a", "path": "x/y"}]}}, {"x/y": b"1"}),
        ({"configMap": {"name": "none", "optional": True}}, {}),
        ({"secret": {"secretName": "sec"}}, {"pw": b"hunter2"}),
        (
            {"downwardAPI": {"items": [{"path": "l", "fieldRef": {"fieldPath": "metadata.labels"}}]}},
            {"l": b'app="web"'},
        ),
        (
            {
                "downwardAPI": {
                    "items": [{"path": "cpu", "resourceFieldRef": {"containerName": "c", "resource": "limits.cpu"}}]
                }
            },
            {"cpu": b"4"},
        ),
        (
            {
                "projected": {
                    "sources": [
                        {"serviceAccountToken": {"path": "token", "expirationSeconds": 3607}},
                        {"configMap": {"name": "cm", "items": [{"key": "a", "path": "ca.crt"}]}},
                        {"secret": {"name": "sec"}},
                    ]
                }
            },
            {"token": b"token-1", "ca.crt": b"1", "pw": b"hunter2"},
        ),
        ({"emptyDir": {}}, {}),
    ],
)
async def test_the_content_of_volumes(volumes: Volumes, volume: Object, wanted: dict[str, bytes]) -> None:
    assert shown(await mounted(volumes, {"name": "v", **volume})) == wanted


async def test_modes(volumes: Volumes) -> None:
    source = {
        "name": "cm",
        "defaultMode": 0o440,
        "items": [{"key": "a", "path": "a", "mode": 0o400}, {"key": "b", "path": "b"}],
    }
    path = await mounted(volumes, {"name": "v", "configMap": source})
    assert [(path / name).stat().st_mode & 0o777 for name in "ab"] == [0o400, 0o440]


@pytest.mark.parametrize(
    ("volume", "message"),
    [
        ({"configMap": {"name": "none"}}, 'MountVolume.SetUp failed for volume "v" : configmap "none" not found'),
        (
            {"secret": {"secretName": "sec", "items": [{"key": "no", "path": "x"}]}},
            'MountVolume.SetUp failed for volume "v" : references non-existent config key: no',
        ),
        ({"nfs": {"server": "s", "path": "/"}}, "nfs volumes are not supported"),
        ({"configMap": {"name": "cm", "items": [{"key": "a", "path": "../x"}]}}, "invalid path"),
        ({"hostPath": {"path": "relative"}}, "must be absolute"),
        ({"hostPath": {"path": "/no/such", "type": "Directory"}}, "is not a directory in the node's own file system"),
        ({"hostPath": {"path": "/no/such", "type": "Socket"}}, "is not a socket in the node's own file system"),
    ],
)
async def test_errors_of_setting_up(volumes: Volumes, volume: Object, message: str) -> None:
    with pytest.raises(MountError) as caught:
        await volumes.set_up(pod({"name": "v", **volume}), FACTS)
    assert message in str(caught.value)


async def test_volumes_follow_changes_of_their_sources(volumes: Volumes, api: Api) -> None:
    volume: Object = {"name": "v", "configMap": {"name": "cm"}}
    path = await mounted(volumes, volume)
    api.objects["configmaps", "cm"] = {"data": {"a": "changed"}}
    await volumes.refresh(pod(volume), FACTS)
    assert shown(path) == {"a": b"changed"}
    del api.objects["configmaps", "cm"]
    with pytest.raises(MountError):
        await volumes.refresh(pod(volume), FACTS)
    assert shown(path) == {"a": b"changed"}


async def test_tokens_are_kept_until_they_must_be_renewed(volumes: Volumes, api: Api) -> None:
    volume: Object = {
        "name": "v",
        "projected": {"sources": [{"serviceAccountToken": {"path": "t", "audience": "vault"}}]},
    }
    path = await mounted(volumes, volume)
    await volumes.refresh(pod(volume), FACTS)
    assert len(api.requests) == 1
    assert api.requests[0]["spec"]["audiences"] == ["vault"]
    assert api.requests[0]["spec"]["boundObjectRef"]["uid"] == "u1"
    assert (path / "t").stat().st_mode & 0o777 == 0o644
    due = volumes.next_refresh()
    assert due is not None and 0.7 * 3600 < due < 0.9 * 3600


async def test_an_expired_token_is_renewed(volumes: Volumes, api: Api) -> None:
    api.life = -1
    volume: Object = {"name": "v", "projected": {"sources": [{"serviceAccountToken": {"path": "t"}}]}}
    path = await mounted(volumes, volume)
    await volumes.refresh(pod(volume), FACTS)
    assert (path / "t").read_bytes() == b"token-2"


def with_context(volume: Object, **context: Any) -> Object:
    found = pod(volume)
    found["spec"]["securityContext"] = context
    return found


@pytest.mark.parametrize(
    ("context", "token", "file", "directory"),
    [
        ({}, 0o644, 0o400, 0o755),
        ({"runAsUser": 1}, 0o600, 0o400, 0o755),
        ({"runAsUser": 1, "fsGroup": 2}, 0o640, 0o440, 0o2755),
        ({"fsGroup": 2}, 0o640, 0o440, 0o2755),
    ],
)
async def test_owners_and_modes_of_the_files_of_a_volume(
    volumes: Volumes, context: Object, token: int, file: int, directory: int
) -> None:
    sources = [
        {"serviceAccountToken": {"path": "in/token"}},
        {"secret": {"name": "sec", "items": [{"key": "pw", "path": "pw", "mode": 0o400}]}},
    ]
    wanted = with_context({"name": "v", "projected": {"sources": sources}}, **context)
    await volumes.set_up(wanted, FACTS)
    (found,) = volumes.prepare_mounts({"name": "c", "volumeMounts": [{"name": "v", "mountPath": "/v"}]}, {})
    path = Path(found.source)
    modes = [stat.S_IMODE((path / name).stat().st_mode) for name in ("in/token", "pw", "in", ".")]
    assert modes == [token, file, directory, directory]
    before = os.readlink(path / "..data")
    await volumes.refresh(wanted, FACTS)
    assert os.readlink(path / "..data") == before, "an unchanged volume must not be written again"


async def test_an_empty_directory_belongs_to_fs_group(volumes: Volumes) -> None:
    volume: Object = {"name": "v", "emptyDir": {}}
    path = await mounted(volumes, volume)
    (path / "deep" / "er").mkdir(parents=True, mode=0o700)
    (path / "deep").chmod(0o700)
    (path / "file").write_text("")
    (path / "file").chmod(0o4700)
    (path / "link").symlink_to("/etc/passwd")
    before = os.stat("/etc/passwd").st_mode
    wanted = with_context(volume, fsGroup=2, fsGroupChangePolicy="OnRootMismatch")
    for _ in range(2):
        await volumes.set_up(wanted, FACTS)
        modes = [stat.S_IMODE((path / name).stat().st_mode) for name in (".", "deep", "deep/er", "file")]
        assert modes == [0o2777, 0o2770, 0o2770, 0o4760]
    assert os.stat("/etc/passwd").st_mode == before


def test_on_root_mismatch_keeps_a_volume_with_the_right_owner(tmp_path: Path) -> None:
    volume = tmp_path / "volume"
    volume.mkdir()
    (volume / "file").write_text("")
    (volume / "file").chmod(0o600)
    always = VolumeOwnership(group=os.getgid())
    lazy = dataclasses.replace(always, on_mismatch=True)
    volume.chmod(0o2770)
    for owner, mode in ((lazy, 0o600), (always, 0o660), (lazy, 0o660)):
        with beneath.closing(beneath.open_directory(volume)) as directory:
            owner.apply(directory)
        assert stat.S_IMODE((volume / "file").stat().st_mode) == mode
    volume.chmod(0o750)
    (volume / "file").chmod(0o600)
    with beneath.closing(os.open(volume, os.O_PATH)) as directory:
        lazy.apply(directory)
    assert stat.S_IMODE((volume / "file").stat().st_mode) == 0o660


@pytest.mark.skipif(os.getuid() != 0, reason="only root gives files to others")
async def test_root_changes_the_group_of_files(volumes: Volumes, tmp_path: Path) -> None:
    volumes._users = "real"
    token = {"name": "t", "projected": {"sources": [{"serviceAccountToken": {"path": "t"}}]}}
    wanted = with_context({"name": "v", "emptyDir": {}}, runAsUser=7, fsGroup=8)
    wanted["spec"]["volumes"].append(token)
    await volumes.set_up(wanted, FACTS)
    await volumes.set_up(wanted, FACTS)
    mounts = [{"name": name, "mountPath": f"/{name}"} for name in "vt"]
    empty, projected = (Path(m.source) for m in volumes.prepare_mounts({"name": "c", "volumeMounts": mounts}, {}))
    (empty / "new").touch()
    owners = [(found.st_uid, found.st_gid) for found in map(os.stat, (empty, empty / "new", projected / "t"))]
    assert owners == [(0, 8), (0, 8), (7, 8)]
    assert stat.S_IMODE((projected / "t").stat().st_mode) == 0o640


@pytest.mark.parametrize(
    ("pod_user", "users", "found"),
    [(None, [None], None), (5, [None, None], 5), (5, [6, None], None), (None, [6, 6], 6), (None, [6, None], None)],
)
def test_tokens_belong_to_the_user_of_all_containers(
    pod_user: int | None, users: list[int | None], found: int | None
) -> None:
    containers = [{"name": "c", "securityContext": {"runAsUser": user} if user else {}} for user in users]
    spec: Object = {"containers": containers, "securityContext": {"runAsUser": pod_user} if pod_user else {}}
    assert find_user({"spec": spec}) == found


async def test_new_directories_of_a_sub_path_have_the_mode_of_the_volume(volumes: Volumes) -> None:
    path = await mounted(volumes, {"name": "v", "emptyDir": {}}, subPath="a/b")
    assert [stat.S_IMODE(one.stat().st_mode) for one in (path.parent, path)] == [0o777, 0o777]


async def test_sub_paths(volumes: Volumes, tmp_path: Path) -> None:
    volume: Object = {"name": "v", "emptyDir": {}}
    root = await mounted(volumes, volume)
    assert await mounted(volumes, volume, subPath="a/b") == root / "a/b"
    assert (root / "a/b").is_dir()
    assert await mounted(volumes, volume, subPathExpr="of-$(NAME)") == root / "of-x"
    (root / "out").symlink_to("/etc")
    for wrong in ({"subPath": "../x"}, {"subPath": "out/passwd"}, {"subPath": "/etc"}, {"subPathExpr": "$(NO)"}):
        with pytest.raises(ConfigError):
            await mounted(volumes, volume, **wrong)


async def test_a_mount_needs_its_volume(volumes: Volumes) -> None:
    with pytest.raises(ConfigError, match='cannot find volume "v"'):
        volumes.prepare_mounts({"name": "c", "volumeMounts": [{"name": "v", "mountPath": "/v"}]}, {})


async def test_the_termination_log_and_removal(volumes: Volumes, tmp_path: Path) -> None:
    mount = volumes.make_termination_log("c", "/dev/termination-log")
    assert volumes.read_termination_log("c") == ""
    Path(mount.source).write_text("x" * 5000 + "end")
    assert volumes.read_termination_log("c").endswith("xend") and len(volumes.read_termination_log("c")) == 4096
    locked = tmp_path / "u1" / "volumes" / "v" / "locked"
    locked.mkdir(parents=True)
    (locked / "file").write_text("")
    locked.chmod(0o500)
    volumes.remove()
    assert not (tmp_path / "u1").exists()
    assert volumes.read_termination_log("c") == ""


def claimed(api: Api, **spec: Any) -> None:
    """Add a claim `c` to the API, and the volume to which it is bound."""
    api.objects["persistentvolumeclaims", "c"] = {
        "metadata": {"name": "c", "namespace": "shop", "uid": "claim"},
        "spec": {"volumeName": "pv"},
        "status": {"phase": "Bound"},
    }
    api.objects["persistentvolumes", "pv"] = {
        "metadata": {"name": "pv"},
        "spec": {"claimRef": {"namespace": "shop", "name": "c", "uid": "claim"}, **spec},
    }


CLAIM = {"name": "v", "persistentVolumeClaim": {"claimName": "c"}}


async def test_a_claim_is_the_directory_of_its_volume(volumes: Volumes, api: Api, tmp_path: Path) -> None:
    claimed(api, hostPath={"path": "/data/x", "type": "DirectoryOrCreate"})
    assert await mounted(volumes, CLAIM) == Path("/data/x")
    assert (tmp_path / "node/data/x").is_dir()


async def test_a_claim_with_files_of_unknown_users_is_mounted_with_a_warning(
    volumes: Volumes, api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    claimed(api, hostPath={"path": "/data/x", "type": "DirectoryOrCreate"})
    await mounted(volumes, CLAIM)
    assert WARNINGS == []
    monkeypatch.setattr(volumes_module, "has_unknown_owner", lambda _: True)
    await mounted(volumes, CLAIM)
    await mounted(volumes, CLAIM)
    (warning,) = WARNINGS
    assert warning.startswith('volume "v": files in it belong to users that this cluster does not have')
    assert "/etc/subuid" in warning and len(warning) < 1024


async def test_a_claim_may_be_read_only(volumes: Volumes, api: Api) -> None:
    claimed(api, hostPath={"path": "/data"})
    await volumes.set_up(pod({"name": "v", "persistentVolumeClaim": {"claimName": "c", "readOnly": True}}), FACTS)
    (mount,) = volumes.prepare_mounts({"name": "c", "volumeMounts": [{"name": "v", "mountPath": "/v"}]}, {})
    assert mount.read_only


async def test_a_local_volume_must_be_there(volumes: Volumes, api: Api, tmp_path: Path) -> None:
    claimed(api, local={"path": "/disk"})
    with pytest.raises(MountError, match="path /disk does not exist in the node's own file system"):
        await volumes.set_up(pod(CLAIM), FACTS)
    (tmp_path / "node/disk").mkdir()
    assert await mounted(volumes, CLAIM) == Path("/disk")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"claim": None}, "failed to process volumes=\\[v\\]: error processing PVC shop/c: failed to fetch PVC"),
        ({"claim": {"status": {"phase": "Pending"}}}, "error processing PVC shop/c: PVC is not bound"),
        ({"claim": {"metadata": {"deletionTimestamp": "x"}}}, "PVC is being deleted"),
        ({"volume": None}, 'persistentvolumes "pv" not found'),
        ({"volume": {"claimRef": {"uid": "other"}}}, "a pv.Spec.ClaimRef.UID that is not that of the claim"),
        ({"volume": {"claimRef": None}}, "indicating it is not yet bound to the claim"),
        ({"volume": {"volumeMode": "Block"}}, "no block volumes"),
        ({"volume": {"hostPath": None, "csi": {}}}, "with hostPath and local only"),
        (
            {"volume": {"nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchFields": [
                {"key": "metadata.name", "operator": "In", "values": ["n2"]}]}]}}}},
            "no matching NodeSelectorTerms",
        ),
    ],
)  # fmt: skip
async def test_claims_that_cannot_be_mounted(volumes: Volumes, api: Api, change: Object, message: str) -> None:
    claimed(api, hostPath={"path": "/data"})
    api.objects["nodes", "n1"] = {"metadata": {"name": "n1"}}
    for key, kind in (("claim", ("persistentvolumeclaims", "c")), ("volume", ("persistentvolumes", "pv"))):
        if key not in change:
            continue
        if change[key] is None:
            del api.objects[kind]
        elif key == "volume":
            spec = {**api.objects[kind]["spec"], **change[key]}
            kept = {name: value for name, value in spec.items() if value is not None or name == "claimRef"}
            api.objects[kind]["spec"] = kept
        else:
            for part, fields in change[key].items():
                api.objects[kind][part] = {**api.objects[kind][part], **fields}
    with pytest.raises(MountError, match=message):
        await volumes.set_up(pod(CLAIM), FACTS)


async def test_the_claim_of_an_ephemeral_volume_belongs_to_the_pod(volumes: Volumes, api: Api) -> None:
    claimed(api, hostPath={"path": "/data"})
    claim = api.objects["persistentvolumeclaims", "web-v"] = api.objects.pop(("persistentvolumeclaims", "c"))
    volume = {"name": "v", "ephemeral": {"volumeClaimTemplate": {"spec": {}}}}
    with pytest.raises(MountError, match="pod is not owner"):
        await volumes.set_up(pod(volume), FACTS)
    claim["metadata"]["ownerReferences"] = [{"controller": True, "uid": "u1"}]
    assert await mounted(volumes, volume) == Path("/data")


def test_writable_directories_of_an_image_are_empty_at_first(volumes: Volumes) -> None:
    changes, place = volumes.make_image_places("data")
    assert Path(place).parent.name == "volumes" and list(Path(place).iterdir()) == []
    (Path(changes) / "left").mkdir()
    assert volumes.make_image_places("data") == (changes, place)
    assert list(Path(changes).iterdir()) == []
    with pytest.raises(OSError, match="invalid volume name"):
        volumes.make_image_places("../data")
