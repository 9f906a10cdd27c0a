"""Helm 3 and 4: a chart with hooks, a custom type and a test is installed, upgraded, rolled back and uninstalled."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Cluster
from tests.kubectllayers import tool_of

_CHART = Path(__file__).parent / "chart"
# Numbers of the packages (`tests/kubectllayers.py`) with Helm 3.17 and Helm 4.3.
_RELEASES = ("32", "37")
_NUMBERS = itertools.count(1)
# Taken while a release installs: both install the same custom type, and Helm does not wait for an existing type.
_INSTALLING = threading.Lock()


class Helm:
    """Helm for one namespace of a cluster. Its cache, configuration and data are in the cluster's directory."""

    def __init__(self, program: Path, cluster: Cluster, namespace: str) -> None:
        self._program, self._cluster, self.namespace = program, cluster, namespace
        homes = {f"HELM_{kind}_HOME": str(cluster.base / "helm" / kind) for kind in ("CACHE", "CONFIG", "DATA")}
        self._environment = {**os.environ, **homes, "KUBECONFIG": str(cluster.kubeconfig)}

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        command = [self._program, *arguments, "--namespace", self.namespace]
        return subprocess.run(command, capture_output=True, text=True, env=self._environment, timeout=90, check=False)

    def __call__(self, *arguments: str) -> str:
        done = self.run(*arguments)
        assert done.returncode == 0, f"helm {' '.join(arguments)}: exit {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def kubectl(self, *arguments: str) -> str:
        return self._cluster.kubectl("-n", self.namespace, *arguments)

    def web(self) -> tuple[int, int, str]:
        """Return the Deployment's replicas, its ready replicas, and the page in the ConfigMap of its pods."""
        found: dict[str, Any] = json.loads(self.kubectl("get", "deployment", "shop-web", "-o", "json"))
        page = self.kubectl("get", "configmap", "shop-page", "-o", "jsonpath={.data.index\\.html}")
        return found["spec"]["replicas"], found["status"].get("readyReplicas", 0), page


@pytest.fixture(scope="module")
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor() as made:
        yield made


@pytest.fixture(scope="module")
def programs(pool: ThreadPoolExecutor) -> dict[str, Future[Path]]:
    """Start the download of both Helm programs; return release -> future of the program's path."""
    return {release: pool.submit(tool_of, "helm", release) for release in _RELEASES}


@pytest.fixture(scope="module", autouse=True)
def custom_type(cluster: Cluster) -> Iterator[None]:
    """Delete the chart's custom type (`crds/`) at the end, because Helm does not delete it."""
    yield
    cluster.kubectl("delete", "crd", "coupons.shop.example.com", "--ignore-not-found", "--timeout=60s")


@pytest.fixture(scope="module")
def lives(programs: dict[str, Future[Path]], pool: ThreadPoolExecutor, cluster: Cluster) -> dict[str, Future[None]]:
    """Run the lifecycle of a release with each Helm. Both run at the same time, because Helm mostly waits."""
    return {release: pool.submit(_live, programs[release], cluster) for release in _RELEASES}


def _live(program: Future[Path], cluster: Cluster) -> None:
    helm = Helm(program.result(), cluster, f"helm-{next(_NUMBERS)}")
    chart, wait = str(_CHART), ("--wait", "--timeout", "80s")
    # The type in `crds/` must be served before the chart's object of that type is created.
    with _INSTALLING:
        assert "STATUS: deployed" in helm("install", "shop", chart, "--create-namespace", *wait)
    assert helm.web() == (2, 2, "first")
    assert helm.kubectl("get", "statefulset", "shop-db", "-o", "jsonpath={.status.readyReplicas}") == "1"
    assert helm.kubectl("get", "coupon", "shop", "-o", "jsonpath={.spec.percent}") == "10"
    # Hooks that have succeeded are deleted.
    assert helm.kubectl("get", "jobs", "-o", "name") == ""

    shown = helm("upgrade", "shop", chart, "--set", "page=shown", "--dry-run=server")
    assert "pending-upgrade" in shown and 'index.html: "shown"' in shown

    helm("upgrade", "shop", chart, "--set", "page=second,replicas=1", *wait)
    assert helm.web() == (1, 1, "second")
    # The pod of `helm test` requests the page from the Service, and logs it.
    tested = helm("test", "shop", "--logs")
    assert "Succeeded" in tested and "second" in tested

    failed = helm.run("upgrade", "shop", chart, "--set", "hookFails=true", *wait)
    assert failed.returncode != 0 and "pre-upgrade hooks failed" in failed.stderr
    assert [(one["revision"], one["status"]) for one in json.loads(helm("history", "shop", "-o", "json"))] == [
        (1, "superseded"),
        (2, "deployed"),
        (3, "failed"),
    ]

    helm("rollback", "shop", "1", *wait)
    assert helm.web() == (2, 2, "first")
    assert helm("uninstall", "shop", *wait).startswith('release "shop" uninstalled')
    kept = "deployments,statefulsets,services,ingresses,serviceaccounts,roles,rolebindings,secrets,coupons"
    names = helm.kubectl("get", kept, "-o", "name").split()
    assert names == ["serviceaccount/default"]
    cluster.kubectl("delete", "namespace", helm.namespace, "--wait=false")


@pytest.mark.parametrize("release", _RELEASES)
def test_the_lifecycle_of_a_release(lives: dict[str, Future[None]], release: str) -> None:
    lives[release].result()


@pytest.mark.parametrize("release", _RELEASES)
def test_a_failed_install_is_repaired_by_an_upgrade(
    programs: dict[str, Future[Path]], cluster: Cluster, release: str
) -> None:
    helm = Helm(programs[release].result(), cluster, f"helm-{next(_NUMBERS)}")
    chart = str(_CHART)
    refused = helm.run("install", "shop", chart, "--create-namespace", "--no-hooks", "--set", "percent=101")
    assert refused.returncode != 0
    assert "spec.percent: Invalid value: 101" in refused.stderr
    helm("upgrade", "--install", "shop", chart, "--no-hooks", "--reset-values")
    assert helm.kubectl("get", "coupon", "shop", "-o", "jsonpath={.spec.percent}") == "10"
    cluster.kubectl("delete", "namespace", helm.namespace, "--wait=false")
