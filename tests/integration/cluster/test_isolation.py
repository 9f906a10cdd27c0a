"""The parts of the cluster that a pod can reach: files, kubelets, and the API with the pod's rights."""

from __future__ import annotations

import json

import pytest

from tests.conftest import Cluster

# Prints a JSON object of HTTP statuses, and the paths that could be opened or listed.
_LOOK = r"""
import json, os, ssl, sys, urllib.error, urllib.request
paths, urls = json.loads(sys.argv[1])
token = open("/var/run/secrets/kubernetes.io/serviceaccount/token").read()
context = ssl._create_unverified_context()

def status(url, headers):
    try:
        return urllib.request.urlopen(urllib.request.Request(url, headers=headers), context=context, timeout=10).status
    except urllib.error.HTTPError as error:
        return error.code

def readable(path):
    try:
        return bool(os.listdir(path) if os.path.isdir(path) else open(path).close() is None)
    except OSError:
        return False

print(json.dumps({
    "anonymous": {url: status(url, {}) for url in urls},
    "pod": {url: status(url, {"Authorization": "Bearer " + token}) for url in urls},
    "readable": [path for path in paths if readable(path)],
    "environment": [name for name in os.environ if "HATCHWAY" in name],
}))
"""


def test_a_pod_has_no_more_than_its_own(cluster: Cluster) -> None:
    if not cluster.run["private"]:
        pytest.skip("on loopback pods are not isolated")
    paths = [cluster.base, cluster.state, cluster.kubeconfig, *cluster.state.iterdir(), *cluster.ca.parent.iterdir()]
    urls = {
        "https://172.18.0.3:10250/pods": (401, 403),
        "https://172.18.0.3:10250/containerLogs/kube-system/x/y": (401, 403),
        "https://10.96.0.1/version": (200, 200),
        "https://10.96.0.1/api/v1/namespaces/kube-system/secrets": (403, 403),
        "https://10.96.0.1/api/v1/nodes/node-1/proxy/pods": (403, 403),
        "https://172.18.0.2:6443/api/v1/namespaces/default/pods": (403, 403),
    }
    argv = json.dumps([[str(path) for path in paths], list(urls)])
    cluster.kubectl(
        *("run", "looks", "--image=hatchway/host", "--restart=Never", "--command", "--", "python3", "-c", _LOOK, argv),
    )
    cluster.kubectl("wait", "--for=jsonpath={.status.phase}=Succeeded", "pod/looks", "--timeout=60s")
    found = json.loads(cluster.kubectl("logs", "looks"))
    assert found["anonymous"] == {url: anonymous for url, (anonymous, _) in urls.items()}
    assert found["pod"] == {url: pod for url, (_, pod) in urls.items()}
    assert found["readable"] == []
    assert found["environment"] == []
    cluster.kubectl("delete", "pod", "looks", "--now")
