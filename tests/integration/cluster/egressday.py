"""Run a cluster in the simulated host of `network/pretendhost.py`: python egressday.py DIRECTORY TOOL.

Pods try to reach names and addresses; the results are written to DIRECTORY/result.json.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.integration.network.egress import CLIENT

BIN = Path(sys.executable).parent
FAR, WEB = "192.0.2.1", "203.0.113.5"
# Pods without a network policy, with one, with this machine's resolver, and in the network of its node.
PODS: dict[str, dict[str, Any]] = {
    "free": {},
    "bound": {},
    "plain": {"dnsPolicy": "Default"},
    "on-node": {"hostNetwork": True},
}
POLICY = {
    "apiVersion": "networking.k8s.io/v1",
    "kind": "NetworkPolicy",
    "metadata": {"name": "bound"},
    "spec": {
        "podSelector": {"matchLabels": {"app": "bound"}},
        "policyTypes": ["Egress"],
        "egress": [
            {"to": [{"ipBlock": {"cidr": "203.0.113.0/24", "except": ["203.0.113.53/32"]}}]},
            {"to": [{"namespaceSelector": {}}], "ports": [{"port": 53, "protocol": "UDP"}]},
        ],
    },
}
OUTSIDE = {
    "apiVersion": "v1",
    "kind": "Service",
    "metadata": {"name": "outside"},
    "spec": {"type": "ExternalName", "externalName": "web.example.test"},
}


def pod(name: str, spec: dict[str, Any]) -> dict[str, Any]:
    container = {"name": "main", "image": "hatchway/host", "command": ["sleep", "100000"]}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": {"app": name}},
        "spec": {"containers": [container], "terminationGracePeriodSeconds": 0, **spec},
    }


def run(*command: str, **more: Any) -> str:
    done = subprocess.run(command, capture_output=True, text=True, **more)
    assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
    return done.stdout


def up(*options: str) -> None:
    run(str(BIN / "hatchway"), "up", "--detach", "--nodes", "1", "--addons", "dns", "--api-port", "0", *options)
    run("kubectl", "wait", "--for=create", "serviceaccount/default", "--timeout=60s")


def apply(*objects: dict[str, Any]) -> None:
    made = {"apiVersion": "v1", "kind": "List", "items": list(objects)}
    run("kubectl", "apply", "-f", "-", input=json.dumps(made))
    run("kubectl", "wait", "--for=condition=Ready", "pod", "--all", "--timeout=60s")


def attempts(name: str, *wanted: list[Any]) -> Any:
    return json.loads(run("kubectl", "exec", name, "--", "python3", "-c", CLIENT, json.dumps(wanted)))


def status() -> Any:
    return json.loads(run(str(BIN / "hatchway"), "status", "-o", "json"))["egress"]


def day(directory: Path, tool: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    up("--egress", tool)
    apply(POLICY, OUTSIDE, *(pod(name, spec) for name, spec in PODS.items()))
    by_name = ["tcp", "web.example.test", 8080]
    found["free"] = attempts(
        "free",
        by_name,
        ["tcp", FAR, 8080],
        ["name", "kubernetes.default"],
        ["name", "inner"],
        ["name", "outside"],
        ["count", "long.example.test"],
        ["name", "absent.example.test"],
    )
    found["bound"] = attempts("bound", by_name, ["tcp", FAR, 8080], ["udp", FAR, 9000, 10])
    found["plain"] = attempts("plain", by_name, ["name", "kubernetes.default"])
    found["on-node"] = attempts("on-node", by_name)
    found["resolv"] = {
        name: run("kubectl", "exec", name, "--", "cat", "/etc/resolv.conf") for name in ("free", "plain")
    }
    found["status"] = status()
    run(str(BIN / "hatchway"), "down")
    found["kept"] = json.loads((directory / "state/hatchway/cluster.json").read_text())["egress"]
    up("--egress", "none")
    run("kubectl", "wait", "--for=condition=Ready", "pod/free", "--timeout=60s")
    found["none"] = attempts(
        "free", ["tcp", WEB, 8080], ["name_once", "web.example.test"], ["name", "kubernetes.default"]
    )
    found["none in status"] = run(str(BIN / "hatchway"), "status")
    return found


def main() -> None:
    directory = Path(sys.argv[1])
    os.environ |= {"HATCHWAY_STATE_DIR": str(directory / "state"), "KUBECONFIG": str(directory / "kubeconfig")}
    try:
        found = day(directory, sys.argv[2])
        (directory / "result.json").write_text(json.dumps(found))
    finally:
        subprocess.run([str(BIN / "hatchway"), "down"], capture_output=True)


if __name__ == "__main__":
    main()
