"""Exec plugins, compared with kubectl: the input of a plugin, and the outputs that are accepted."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml

from hatchway.errors import HatchwayError
from hatchway.kube.connection import Connection
from tests.conftest import find_kubectl
from tests.integration.kube.world import V1, ApiServer, replace_file
from tests.integration.proxy.conftest import Authority

V1BETA1 = "client.authentication.k8s.io/v1beta1"
# A plugin that writes its input into files of its own directory, and prints the file `answer`.
SCRIPT = """#!/bin/sh
here=${0%/*}
{ for one in "$@"; do echo "<$one>"; done; echo "A=<$A> B=<$B> C=<${C-unset}> HOME=<$HOME>"; } >"$here/told"
echo "$KUBERNETES_EXEC_INFO" >"$here/info"
cat "$here/answer"
"""


class World:
    """A plugin in a directory beside the kubeconfig, and an API server that accepts the token `good`."""

    def __init__(self, api: ApiServer, authority: Authority, place: Path) -> None:
        self.api, self.place = api, place
        self.cluster: dict[str, Any] = {
            "server": f"https://127.0.0.1:{api.port}",
            "certificate-authority": str(authority.file),
        }
        (place / "bin").mkdir()
        (place / "bin/plugin").write_text(SCRIPT)
        (place / "bin/plugin").chmod(0o755)

    def answer(self, text: str) -> None:
        (self.place / "bin/answer").write_text(text)

    async def both(self, plugin: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
        """Run the plugin by kubectl and by Hatchway; return both results."""
        config = self.place / "config"
        document = {
            "current-context": "work",
            "clusters": [{"name": "c", "cluster": self.cluster}],
            "users": [{"name": "u", "user": {"exec": plugin}}],
            "contexts": [{"name": "work", "context": {"cluster": "c", "user": "u"}}],
        }
        replace_file(config, yaml.safe_dump(document))
        found = []
        for run in (_kubectl, _hatchway):
            for name in ("told", "info"):
                (self.place / "bin" / name).unlink(missing_ok=True)
            self.api.seen.clear()
            good, said = await run(config)
            told = {name: (self.place / "bin" / name) for name in ("told", "info")}
            read = {name: path.read_text() if path.exists() else "" for name, path in told.items()}
            sent = self.api.fields().get("authorization") if self.api.seen else None
            info = json.loads(read["info"]) if read["info"] else None
            found.append({"good": good, "sent": sent, "told": read["told"], "info": info, "said": said})
        return found[0], found[1]


async def _kubectl(config: Path) -> tuple[bool, str]:
    process = await asyncio.create_subprocess_exec(
        find_kubectl(), f"--kubeconfig={config}", "get", "--raw", "/x",
        stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    _, said = await asyncio.wait_for(process.communicate(), 30)
    return process.returncode == 0, said.decode()


async def _hatchway(config: Path) -> tuple[bool, str]:
    try:
        connection = Connection.load(str(config))
        try:
            status, _ = await connection.client.exchange("GET", "/x")
        finally:
            await connection.aclose()
        return status == 200, ""
    except HatchwayError as error:
        return False, f"{error.message}\n{error.hint}"


def credential(version: str = V1, **status: Any) -> str:
    return json.dumps({"kind": "ExecCredential", "apiVersion": version, "status": {"token": "good", **status}})


@pytest.fixture
async def world(api: ApiServer, authority: Authority, tmp_path: Path) -> AsyncIterator[World]:
    found = World(api, authority, tmp_path)
    found.answer(credential())
    api.accepts = {"Bearer good"}
    yield found


def soon(form: str) -> str:
    return (datetime.now(UTC) + timedelta(hours=1)).strftime(form)


@pytest.mark.parametrize(
    "plugin",
    [
        {},
        {"env": None, "args": None},
        {"env": [{"name": "A", "value": None}, {"name": "B"}, {"name": "C", "value": ""}]},
        {"env": [{"name": "A", "value": "x"}, {"name": "HOME", "value": "/own"}, {"name": "A", "value": "z"}]},
        {"args": ["a b", "", None, "$A", "*"]},
        {"provideClusterInfo": True},
        {"interactiveMode": "IfAvailable", "provideClusterInfo": None, "installHint": None},
        {"apiVersion": V1BETA1, "interactiveMode": None},
    ],
)
async def test_the_input_of_a_plugin(plugin: dict[str, Any], world: World) -> None:
    """The plugin's command is relative to the kubeconfig's directory."""
    world.cluster["extensions"] = [{"name": "client.authentication.k8s.io/exec", "extension": {"audience": ["x", 1]}}]
    world.cluster["tls-server-name"] = "localhost"
    version = plugin.get("apiVersion", V1)
    world.answer(credential(version))
    theirs, ours = await world.both({"apiVersion": V1, "command": "./bin/plugin", "interactiveMode": "Never", **plugin})
    assert theirs["good"], theirs["said"]
    assert {key: ours[key] for key in theirs if key != "said"} == {key: theirs[key] for key in theirs if key != "said"}


@pytest.mark.parametrize(
    ("answer", "good"),
    [
        (credential(expirationTimestamp=soon("%Y-%m-%dT%H:%M:%SZ")), True),
        (credential(expirationTimestamp=soon("%Y-%m-%dT%H:%M:%S.123456789Z")), True),
        (credential(expirationTimestamp=soon("%Y-%m-%dT%H:%M:%S+00:00")), True),
        (credential(expirationTimestamp=None, clientCertificateData=None, clientKeyData=None), True),
        (credential(expirationTimestamp="tomorrow"), False),
        (credential(V1BETA1), False),
        (credential(token=None), False),
        (credential(token=5), False),
        (credential(clientCertificateData="x"), False),
        ("kind: ExecCredential\napiVersion: client.authentication.k8s.io/v1\nstatus: {token: good}\n", True),
        (json.dumps({"kind": "ExecCredential", "apiVersion": V1}), False),
        (json.dumps({"kind": "Secret", "apiVersion": V1, "status": {"token": "good"}}), False),
        (credential() + "\n\n", True),
        (credential() + "garbage", False),
        ("", False),
        ("garbage", False),
        ("[]", False),
        ("null", False),
    ],
)
async def test_answers(answer: str, good: bool, world: World) -> None:
    world.answer(answer)
    theirs, ours = await world.both({"apiVersion": V1, "command": "bin/plugin", "interactiveMode": "Never"})
    assert (theirs["good"], ours["good"]) == (good, good), (theirs["said"], ours["said"])


@pytest.mark.parametrize(
    "plugin",
    [
        {"command": "./nowhere/plugin"},
        {"command": ""},
        {"env": [{"value": "x"}]},
        {"env": [None]},
        {"interactiveMode": "Maybe"},
        {"apiVersion": "client.authentication.k8s.io/v1alpha1"},
        {"apiVersion": ""},
        {"interactiveMode": "Always"},
    ],
)
async def test_plugins_that_neither_runs(plugin: dict[str, Any], world: World) -> None:
    theirs, ours = await world.both({"apiVersion": V1, "command": "./bin/plugin", "interactiveMode": "Never", **plugin})
    assert (theirs["good"], ours["good"]) == (False, False), theirs["said"]
    assert ours["said"]
