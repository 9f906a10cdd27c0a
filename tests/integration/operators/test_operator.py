"""An operator of two processes: leader election, watches with bookmarks, finalizers, owned objects."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Cluster, wait_for

NS = "greeter"
_DEFINITION: dict[str, Any] = {
    "apiVersion": "apiextensions.k8s.io/v1",
    "kind": "CustomResourceDefinition",
    "metadata": {"name": "greetings.greeter.example.com"},
    "spec": {
        "group": "greeter.example.com",
        "scope": "Namespaced",
        "names": {"plural": "greetings", "singular": "greeting", "kind": "Greeting"},
        "versions": [
            {
                "name": "v1",
                "served": True,
                "storage": True,
                "subresources": {"status": {}},
                "schema": {
                    "openAPIV3Schema": {
                        "type": "object",
                        "properties": {
                            "spec": {"type": "object", "properties": {"to": {"type": "string"}}},
                            "status": {
                                "type": "object",
                                "properties": {"observedGeneration": {"type": "integer"}, "by": {"type": "string"}},
                            },
                        },
                    }
                },
            }
        ],
    },
}


class Operator:
    """One process of the operator (`greeter.py`), and the lines that it has printed."""

    def __init__(self, cluster: Cluster, identity: str) -> None:
        self.identity = identity
        self.lines: list[str] = []
        program = Path(__file__).with_name("greeter.py")
        self.process = subprocess.Popen(
            [sys.executable, program, identity, NS],
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "KUBECONFIG": str(cluster.kubeconfig)},
        )
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.append(line.strip())

    def until(self, beginning: str) -> str:
        """Wait for a line with this beginning; return it."""

        def found() -> str:
            ended = self.process.poll()
            assert ended is None, f"{self.identity} ended with {ended}: {self.lines}"
            return next((line for line in self.lines if line.startswith(beginning)), "")

        line: str = wait_for(found)
        return line

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()
        self._thread.join()
        assert self.process.stdout is not None
        self.process.stdout.close()


@pytest.fixture
def operators(cluster: Cluster) -> Iterator[list[Operator]]:
    cluster.kubectl("create", "namespace", NS)
    cluster.kubectl("apply", "-f", "-", stdin=json.dumps(_DEFINITION))
    cluster.kubectl("wait", "--for=condition=Established", "crd/greetings.greeter.example.com", "--timeout=60s")
    found = [Operator(cluster, name) for name in ("first", "second")]
    yield found
    for one in found:
        if one.process.poll() is None:
            one.kill()
    cluster.kubectl("delete", "crd", "greetings.greeter.example.com", "--wait=false")
    cluster.kubectl("delete", "namespace", NS, "--wait=false")


def test_another_process_becomes_the_leader(cluster: Cluster, operators: list[Operator]) -> None:
    def kubectl(*arguments: str, **more: Any) -> str:
        return cluster.kubectl("-n", NS, *arguments, **more)

    def greeting(to: str) -> str:
        spec = {"metadata": {"name": "g"}, "spec": {"to": to}}
        return json.dumps({"apiVersion": "greeter.example.com/v1", "kind": "Greeting", **spec})

    def text() -> str:
        return kubectl("get", "configmap", "g", "-o", "jsonpath={.data.text}")

    leader = wait_for(lambda: next((one for one in operators if "leads" in one.lines), None))
    (other,) = (one for one in operators if one is not leader)
    holder = ("get", "lease", "greeter", "-o", "jsonpath={.spec.holderIdentity}")
    assert kubectl(*holder) == leader.identity

    kubectl("apply", "-f", "-", stdin=greeting("world"))
    leader.until("greeted g world")
    assert text() == "hello world"
    # A watch that ended without events continues from its last bookmark.
    leader.until("bookmark")
    assert "leads" not in other.lines

    leader.kill()
    kubectl("apply", "-f", "-", stdin=greeting("moon"))
    other.until("greeted g moon")
    assert kubectl(*holder) == other.identity
    assert text() == "hello moon"
    assert kubectl("get", "greeting", "g", "-o", "jsonpath={.status.by}") == other.identity

    # The object exists until its finalizer is removed; the objects that it owns are deleted with it.
    kubectl("delete", "greeting", "g", "--timeout=60s")
    other.until("forgot g")
    wait_for(lambda: kubectl("get", "configmaps", "-o", "name").split() == ["configmap/kube-root-ca.crt"])
