"""PersistentVolumes in a real cluster, with kubectl: files are kept for the next pod, and after `down` and `up`."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from tests.conftest import Cluster, wait_for

MakeCluster = Callable[..., Cluster]

STATEFUL = """
apiVersion: apps/v1
kind: StatefulSet
metadata: {name: db}
spec:
  serviceName: db
  replicas: 1
  selector: {matchLabels: {app: db}}
  template:
    metadata: {labels: {app: db}}
    spec:
      terminationGracePeriodSeconds: 0
      nodeSelector: {kubernetes.io/hostname: node-1}
      containers:
      - name: c
        image: hatchway/host
        command: [sh, -c, 'echo started >> $HATCHWAY_ROOT/data/log; cat $HATCHWAY_ROOT/data/log; exec sleep 100000']
        volumeMounts: [{name: data, mountPath: /data}]
  volumeClaimTemplates:
  - metadata: {name: data}
    spec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 1Gi}}}
"""
PODS = """
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {name: shared}
spec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 1Mi}}}
---
apiVersion: v1
kind: Pod
metadata: {name: writer}
spec:
  terminationGracePeriodSeconds: 0
  containers:
  - name: c
    image: hatchway/host
    command: [sh, -c, 'cd $HATCHWAY_ROOT/; echo hello > w/file; touch s/scratch; echo done; exec sleep 100000']
    volumeMounts: [{name: v, mountPath: /w, subPath: a/b}, {name: scratch, mountPath: /s}]
  volumes:
  - {name: v, persistentVolumeClaim: {claimName: shared}}
  - name: scratch
    ephemeral:
      volumeClaimTemplate: {spec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 1Mi}}}}
---
apiVersion: v1
kind: Pod
metadata: {name: reader}
spec:
  terminationGracePeriodSeconds: 0
  containers:
  - name: c
    image: hatchway/host
    command: [sh, -c, 'cd $HATCHWAY_ROOT/; until cat v/a/b/file; do sleep 0.1; done; touch v/x; exec sleep 100000']
    volumeMounts: [{name: v, mountPath: /v}]
  volumes: [{name: v, persistentVolumeClaim: {claimName: shared, readOnly: true}}]
---
apiVersion: v1
kind: Pod
metadata: {name: waits}
spec:
  containers: [{name: c, image: hatchway/host, command: [sleep, '1'], volumeMounts: [{name: v, mountPath: /v}]}]
  volumes: [{name: v, persistentVolumeClaim: {claimName: missing}}]
"""


@pytest.fixture
def namespace(cluster: Cluster) -> Iterator[str]:
    cluster.kubectl("create", "namespace", "volumes")
    yield "volumes"
    cluster.kubectl("delete", "namespace", "volumes", "--wait=false")


def directories(cluster: Cluster, node: str = "*") -> list[str]:
    return [path.name for path in cluster.state.glob(f"nodes/{node}/var/local-path-provisioner/*")]


def started(cluster: Cluster, times: int) -> bool:
    return cluster.kubectl("logs", "db-0", check=False).splitlines() == ["started"] * times


def test_data_stays_until_its_claim_is_deleted(make_cluster: MakeCluster) -> None:
    cluster = make_cluster("kept", "--addons", "none", "--nodes", "1")
    assert "standard (default)   rancher.io/local-path   Delete" in cluster.kubectl("get", "storageclasses")
    cluster.kubectl("apply", "-f", "-", stdin=STATEFUL)
    wait_for(lambda: started(cluster, 1))
    [name] = directories(cluster, "node-1")
    assert name.endswith("_default_data-db-0")
    cluster.kubectl("delete", "pod", "db-0")
    wait_for(lambda: started(cluster, 2))
    cluster.hatchway("down")
    assert directories(cluster) == [name]
    cluster.hatchway("up", "--detach")
    wait_for(lambda: started(cluster, 3))
    shown = cluster.kubectl("describe", "pvc", "data-db-0")
    assert "Used By:       db-0" in shown
    cluster.kubectl("delete", "statefulset", "db")
    cluster.kubectl("wait", "--for=delete", "pod/db-0", "--timeout=60s")
    assert directories(cluster) == [name]
    # Files as a pod could leave them, which could disturb the deletion: a directory without permissions, a link that
    # leads out of the volume.
    volume = next(cluster.state.glob(f"nodes/*/var/local-path-provisioner/{name}"))
    kept = cluster.base / "outside"
    kept.mkdir()
    (volume / "closed").mkdir()
    (volume / "closed/file").write_text("x")
    (volume / "closed").chmod(0)
    (volume / "link").symlink_to(kept)
    cluster.kubectl("delete", "pvc", "data-db-0")
    wait_for(lambda: directories(cluster) == [] and "pvc-" not in cluster.kubectl("get", "pv"))
    assert kept.is_dir()


def test_pods_mount_claims(cluster: Cluster, namespace: str) -> None:
    cluster.kubectl("apply", "-n", namespace, "-f", "-", stdin=PODS)
    # The first of the two pods to be scheduled chooses the node.
    wait_for(lambda: "hello" in cluster.kubectl("logs", "reader", "-n", namespace, check=False))
    claims = cluster.kubectl("get", "pvc", "-n", namespace, "-o", "custom-columns=N:.metadata.name,P:.status.phase")
    assert claims.split() == ["N", "P", "shared", "Bound", "writer-scratch", "Bound"]
    event = cluster.kubectl("get", "events", "-n", namespace, "--field-selector=involvedObject.name=waits")
    assert 'persistentvolumeclaim "missing" not found' in event
    if cluster.run["private"]:
        wait_for(lambda: "Read-only file system" in cluster.kubectl("logs", "reader", "-n", namespace))
    # The deletion of a claim waits for its pods; the claim of an ephemeral volume is deleted with its pod.
    cluster.kubectl("delete", "pvc", "shared", "-n", namespace, "--wait=false")
    assert "Terminating" in cluster.kubectl("get", "pvc", "shared", "-n", namespace)
    cluster.kubectl("delete", "pod", "writer", "reader", "-n", namespace)
    cluster.kubectl("wait", "--for=delete", "pvc", "--all", "-n", namespace, "--timeout=60s")
    wait_for(lambda: not [one for one in directories(cluster) if "_volumes_" in one])
