"""Helm 3 and 4: a chart with what charts have is installed, upgraded, rolled back, tested and uninstalled."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Cluster
from tests.kubectllayers import tool_of

_CHART = Path(__file__).parent / "chart"
# The layers for Kubernetes 1.32 and 1.37 have Helm 3.17 and Helm 4.3.
_RELEASES = ("32", "37")
_NUMBERS = itertools.count(1)


class Helm:
    """Helm for one namespace of a cluster, with files of its own."""

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
        """Return the Deployment's replicas and ready replicas, and the page that its pods have."""
        found: dict[str, Any] = json.loads(self.kubectl("get", "deployment", "shop-web", "-o", "json"))
        page = self.kubectl("get", "configmap", "shop-page", "-o", "jsonpath={.data.index\\.html}")
        return found["spec"]["replicas"], found["status"].get("readyReplicas", 0), page


@pytest.fixture(params=_RELEASES)
def helm(request: pytest.FixtureRequest, cluster: Cluster) -> Iterator[Helm]:
    assert request.config.cache is not None
    program = tool_of("helm", request.param, request.config.cache.mkdir("kubectls"))
    found = Helm(program, cluster, f"helm-{next(_NUMBERS)}")
    yield found
    cluster.kubectl("delete", "namespace", found.namespace, "--wait=false", "--ignore-not-found")


def test_a_release_lives_and_ends(helm: Helm) -> None:
    chart, wait = str(_CHART), ("--wait", "--timeout", "80s")
    # The type of `crds/` must be served before the chart's object of it is made.
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
    # A test's pod asks the Service: its log is the page.
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


def test_a_wrong_object_is_refused_and_upgraded_over(helm: Helm) -> None:
    chart = str(_CHART)
    refused = helm.run("install", "shop", chart, "--create-namespace", "--no-hooks", "--set", "percent=101")
    assert refused.returncode != 0
    assert "spec.percent: Invalid value: 101" in refused.stderr
    helm("upgrade", "--install", "shop", chart, "--no-hooks", "--reset-values")
    assert helm.kubectl("get", "coupon", "shop", "-o", "jsonpath={.spec.percent}") == "10"
