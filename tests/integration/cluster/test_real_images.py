"""Images of Debian's programs, with stock kubectl, for each kind of user map (docs/users.md)."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Cluster, wait_for
from tests.images import debianimages
from tests.images.making import NoPackages, oci_archive
from tests.integration.network.conftest import NOBODY, nobody, why_not_private

NAMESPACE = "real-images"
_PRIVATELY = 'mount --bind "$1" /etc/subuid && mount --bind "$1" /etc/subgid; shift; exec "$@"'
_SUBIDS = {"mapped": f"{NOBODY}:300000:65536\n", "one": ""}

# Image -> (port of its Service, a part of the page that it serves there).
PAGES = {
    "nginx": (80, "Welcome to nginx!"),
    "python": (8000, "owned"),
    "busybox": (80, "busybox"),
    "static": (8080, "static"),
    "layers": (80, "59"),
    "changed": (80, "first"),
}
# A program for a container of the image `python`: it sends a request to each server by the name of its Service.
_ASK = """
import json, socket, sys, urllib.request
found = {}
for name, port in json.loads(sys.argv[1]).items():
    found[name] = urllib.request.urlopen(f"http://{name}:{port}/", timeout=30).read().decode()
with socket.create_connection(("redis", 6379), timeout=30) as redis:
    redis.sendall(b"SET who image\\r\\nGET who\\r\\nSAVE\\r\\n")
    answer = b""
    while answer.count(b"\\r\\n") < 4:
        answer += redis.recv(100)
found["redis"] = answer.decode()
print(json.dumps(found))
"""


@dataclass
class OrdinaryUsersCluster(Cluster):
    """A cluster of user 65534. prefix: the command that runs Python as that user, with entries in /etc/subuid."""

    prefix: list[str] = field(default_factory=list)

    def hatchway(self, *arguments: str, check: bool = True, timeout: float = 60) -> subprocess.CompletedProcess[str]:
        command, *rest = arguments
        own = ["--state-dir", str(self.base)] + ([] if command == "image" else ["--name", self.name])
        own += ["--kubeconfig", str(self.kubeconfig)] if command == "up" else []
        argv = [*self.prefix, "-c", "from hatchway.cli import main; main()", command]
        # Options follow the subcommand of `image`.
        argv += [*rest[:1], *own, *rest[1:]] if command == "image" else [*own, *rest]
        done = subprocess.run(argv, capture_output=True, text=True, env=self.env, timeout=timeout, cwd="/")
        assert not check or not done.returncode, f"hatchway {arguments}: {done.stdout}\n{done.stderr}"
        return done


def _ordinary(way: str, base: Path) -> OrdinaryUsersCluster:
    """Return a cluster of an ordinary user, not started. way: "mapped" or "one", the kind of its user map."""
    if os.geteuid() != 0:
        pytest.skip("only root can run the cluster as other users")
    if way == "real":
        pytest.skip("the shared cluster has another kind of user map")
    found = nobody()
    if isinstance(found, str):
        pytest.skip(found)
    if shutil.which("newuidmap") is None or not os.path.exists("/etc/subuid"):
        pytest.skip("newuidmap (package uidmap) or /etc/subuid is missing")
    (base / "subids").write_text(_SUBIDS[way])
    os.chown(base, int(NOBODY), int(NOBODY))
    command, env = found[0], dict(found[1])
    # Add-ons run in pods, where $PYTHONPATH is not set, so the paths are written into a virtual environment.
    *become, python = command
    subprocess.run([python, "-m", "venv", "--without-pip", str(base / "venv")], check=True)
    site = next((base / "venv/lib").glob("python*/site-packages"))
    (site / "hatchway.pth").write_text(env.pop("PYTHONPATH").replace(":", "\n"))
    prefix = [
        "unshare",
        "-m",
        "sh",
        "-ec",
        _PRIVATELY,
        "sh",
        str(base / "subids"),
        *become,
        str(base / "venv/bin/python"),
    ]
    return OrdinaryUsersCluster(way, base, base / "kubeconfig", env, prefix=prefix)


@pytest.fixture(scope="module")
def archive() -> Iterator[Path]:
    """Make an archive of all images, in a directory that other users may enter."""
    if why_not_private():
        pytest.skip(why_not_private())
    directory = Path(tempfile.mkdtemp(prefix="hatchway-real-"))
    directory.chmod(0o755)
    try:
        made = [
            debianimages.nginx("nginx:1.22"),
            debianimages.redis("redis:7.0"),
            debianimages.postgres("postgres:15"),
            debianimages.python("python:3.11"),
            debianimages.busybox("busybox:1.35"),
            debianimages.static("example.com/static:1"),
            debianimages.many_layers("example.com/layers:60"),
            debianimages.changed_layers("example.com/changed:1"),
        ]
        yield oci_archive(directory / "images.tar", *made)
    except NoPackages as error:
        pytest.skip(str(error))
    finally:
        shutil.rmtree(directory)


@pytest.fixture(scope="module", params=["real", "mapped", "one"])
def kube(request: pytest.FixtureRequest, archive: Path) -> Iterator[Cluster]:
    """Yield a cluster with the images, for each kind of user map; the shared cluster if it has that kind."""
    way: str = request.param
    shared: Cluster = request.getfixturevalue("cluster")
    base: Path | None = None
    if shared.run["users"].startswith(way):
        kube = shared
    else:
        base = Path(tempfile.mkdtemp(prefix="hatchway-real-"))
        try:
            kube = _ordinary(way, base)
        except BaseException:
            shutil.rmtree(base)
            raise
    try:
        if base:
            options = ["--detach", "--api-port", "0", "--egress", "none", "--nodes", "1", "--addons", "dns"]
            kube.hatchway("up", *options)
        assert kube.run["users"].startswith(way), kube.run["users"]
        kube.hatchway("image", "load", "--state-dir", str(kube.base), str(archive))
        kube.kubectl("create", "namespace", NAMESPACE)
        wanted = {"kind": "List", "apiVersion": "v1", "items": _objects()}
        kube.kubectl("-n", NAMESPACE, "apply", "-f", "-", stdin=json.dumps(wanted))
        kube.kubectl("-n", NAMESPACE, "wait", "pod", "--all", "--for=condition=Ready", "--timeout=80s")
        yield kube
        kube.kubectl("delete", "namespace", NAMESPACE, "--wait=false")
    finally:
        if base:
            kube.hatchway("down", "--delete", check=False)
            shutil.rmtree(base)


def _objects() -> list[dict[str, Any]]:
    """Return a pod and a Service for each image, and the claims."""
    volumes = [{"name": "cache", "emptyDir": {}}, {"name": "claim", "persistentVolumeClaim": {"claimName": "python"}}]
    mounts = [{"name": "cache", "mountPath": "/cache"}, {"name": "claim", "mountPath": "/claim"}]
    limited = {"runAsUser": 1000, "runAsGroup": 3000, "fsGroup": 2000, "runAsNonRoot": True}
    serve = ["python3", "-m", "http.server", "-d", "/srv/data", "8000"]
    found = [
        *_served("nginx", "nginx:1.22", 80),
        *_served(
            "redis", "redis:7.0", 6379, [{"name": "data", "emptyDir": {}}], [{"name": "data", "mountPath": "/data"}]
        ),
        *_served(
            "postgres",
            "postgres:15",
            5432,
            [{"name": "data", "persistentVolumeClaim": {"claimName": "postgres"}}],
            [{"name": "data", "mountPath": "/var/lib/postgresql/data"}],
            env=[{"name": "PGDATA", "value": "/var/lib/postgresql/data/own"}],
        ),
        *_served("python", "python:3.11", 8000, volumes, mounts, limited, command=serve),
        *_served("busybox", "busybox:1.35", 80),
        *_served("static", "example.com/static:1", 8080),
        *_served("layers", "example.com/layers:60", 80),
        *_served("changed", "example.com/changed:1", 80),
    ]
    claim = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Mi"}}}
    claims = [
        {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": name}, "spec": claim}
        for name in ("python", "postgres")
    ]
    return [*claims, *found]


def _served(
    name: str,
    image: str,
    port: int,
    volumes: list[Any] | None = None,
    mounts: list[Any] | None = None,
    security: dict[str, Any] | None = None,
    **more: Any,
) -> list[dict[str, Any]]:
    probe = {"tcpSocket": {"port": port}, "periodSeconds": 1}
    container = {"name": "main", "image": image, "readinessProbe": probe, "volumeMounts": mounts or [], **more}
    spec = {"containers": [container], "volumes": volumes or [], "securityContext": security or {}}
    spec |= {"terminationGracePeriodSeconds": 0, "enableServiceLinks": False}
    labels = {"name": name, "labels": {"app": name}}
    return [
        {"apiVersion": "v1", "kind": "Pod", "metadata": labels, "spec": spec},
        {"apiVersion": "v1", "kind": "Service", "metadata": {"name": name},
         "spec": {"selector": {"app": name}, "ports": [{"port": port}]}},
    ]  # fmt: skip


def run(cluster: Cluster, pod: str, *command: str, check: bool = True) -> str:
    return cluster.kubectl("-n", NAMESPACE, "exec", pod, "--", *command, check=check)


def logs(cluster: Cluster, pod: str) -> str:
    return cluster.get(f"/api/v1/namespaces/{NAMESPACE}/pods/{pod}/log").text


def has_one_user(cluster: Cluster) -> bool:
    return str(cluster.run["users"]).startswith("one")


def test_images_serve_at_their_services(kube: Cluster) -> None:
    found = json.loads(run(kube, "python", "python3", "-c", _ASK, json.dumps({name: PAGES[name][0] for name in PAGES})))
    for name, (port, text) in PAGES.items():
        assert text in found[name], found
        # The API server's proxy verb reaches this Service, too.
        proxied = kube.get(f"/api/v1/namespaces/{NAMESPACE}/services/{name}:{port}/proxy/")
        assert proxied.status == 200 and text in proxied.text
    assert found["redis"] == "+OK\r\n$5\r\nimage\r\n+OK\r\n"
    script = "create table t (n int); insert into t values (42); select n from t"
    assert run(kube, "postgres", "psql", "-h", "postgres", "-U", "postgres", "-qAtc", script) == "42\n"
    # Each server has written the request to its log; nginx writes to a file that is a link to /dev/stdout.
    for name, line in {
        "nginx": '"GET / HTTP/1.1" 200',
        "python": '"GET / HTTP/1.1" 200',
        "busybox": "response:200",
        "static": "response:200",
        "layers": "response:200",
        "changed": "response:200",
        "redis": "Ready to accept connections",
        "postgres": "database system is ready to accept connections",
    }.items():
        assert wait_for(lambda name=name, line=line: line in logs(kube, name)), name


def test_processes_and_files_have_the_images_users(kube: Cluster) -> None:
    one = has_one_user(kube)
    # The images have no ps and no sed: the shell reads the files.
    owners = (
        "for file in /proc/[0-9]*/status; do while read -r key real _; do "
        'case $key in Name:) name=$real;; Uid:) echo "$name $real";; esac; done < "$file"; done | sort -u'
    )
    # The master process is root, its workers are www-data; where there is only one user, they stay root.
    nginx = run(kube, "nginx", "sh", "-c", owners).splitlines()
    assert ("nginx 0" in nginx, "nginx 33" in nginx) == (True, not one), nginx
    # The start scripts of these servers switch from root to another user, which then owns their files.
    redis = run(kube, "redis", "sh", "-c", f"redis-cli save; {owners}; stat -c %u:%g /data dump.rdb").splitlines()
    assert "redis-server 101" in redis and redis[-2:] == ["101:101"] * 2, redis
    files = "cd /var/lib/postgresql/data/own && stat -c '%u:%g %a' . PG_VERSION"
    postgres = run(kube, "postgres", "sh", "-c", f"{owners}; {files}").splitlines()
    assert "postgres 999" in postgres and postgres[-2:] == ["999:999 700", "999:999 600"], postgres
    # Where there is only one user, the container was started a second time, as that user.
    path = f"/api/v1/namespaces/{NAMESPACE}/pods/"
    restarts = {name: kube.get(path + name).json["status"]["containerStatuses"][0]["restartCount"] for name in
                ("nginx", "redis", "postgres", "python")}  # fmt: skip
    assert restarts == {"nginx": 0, "redis": int(one), "postgres": int(one), "python": 0}


def test_volumes_have_the_right_owners(kube: Cluster) -> None:
    script = "id -u; id -g; id -G; touch /cache/x /claim/x srv-is-not-mine data/y; stat -c '%n %u:%g %a' "
    script += "/cache /cache/x /claim /claim/x data data/owned data/y"
    found = run(kube, "python", "sh", "-c", script + "; true", check=False).splitlines()
    # Where there is only one user, it owns all files, and has one group (docs/users.md).
    one = has_one_user(kube)
    group, root, app = ("3000", "1000:3000", "1000:3000") if one else ("2000", "0:0", "1000:1000")
    assert [line for line in found if "touch" not in line][:10] == [
        "1000",
        "3000",
        "3000" if one else "3000 2000",
        f"/cache {'1000' if one else '0'}:{group} 2777",
        f"/cache/x 1000:{group} 644",
        f"/claim {root} 777",
        "/claim/x 1000:3000 644",
        f"data {app} 755",
        f"data/owned {app} 644",
        "data/y 1000:3000 644",
    ]
    # /srv belongs to root.
    assert any("cannot touch 'srv-is-not-mine': Permission denied" in line for line in found) != one, found


def test_images_without_a_shell_and_with_many_layers(kube: Cluster) -> None:
    assert run(kube, "static", "/app/busybox", "id", "-u") == "65532\n"
    assert '"sh": executable file not found in $PATH' in run(kube, "static", "sh", check=False)
    script = "ls /www/layer-* | wc -l; ls /www | grep passing; cat /www/index.html"
    assert run(kube, "layers", "sh", "-c", script) == "59\npassing-59\n59\n"
    # /bin/ls and the others are hard links to one program.
    assert int(run(kube, "busybox", "stat", "-c", "%h", "/bin/ls")) > 200


def test_layers_that_delete_hide_replace_and_link(kube: Cluster) -> None:
    script = "cd /www && ls -A . dir && cat kept replaced linked again && [ linked -ef again ] && echo same"
    # A write to a file with hard links in several layers changes only the container's layer.
    script += "; echo changed > linked && rm again && cat linked && ls"
    found = run(kube, "changed", "sh", "-c", script).split("same\n")
    assert found[0] == (
        ".:\nagain\ndir\nindex.html\nkept\nlinked\nreplaced\n\ndir:\nnew\nthird\nsecond\nfirst\nfirst\n"
    )
    assert found[1].split() == ["changed", "dir", "index.html", "kept", "linked", "replaced"]
