from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
import uvloop

from hatchway.images.pulling import dockerconfig
from hatchway.images.pulling.credentials import Credential
from hatchway.images.pulling.dockerconfig import config_paths, find_credentials


def write(path: Path, content: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content))


def helper(folder: Path, name: str, script: str) -> dict[str, str]:
    """Write a credential helper; return an environment with the helper's directory in PATH."""
    program = folder / "bin" / f"docker-credential-{name}"
    write(program, f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    return {"HOME": str(folder), "PATH": f"{folder / 'bin'}:{os.environ['PATH']}"}


async def test_files_of_docker_and_podman(tmp_path: Path) -> None:
    write(tmp_path / ".docker/config.json", {"auths": {"a.test": {"username": "u", "password": "docker"}}})
    write(tmp_path / "run/containers/auth.json", {"auths": {"a.test": {"username": "u", "password": "podman"}}})
    write(tmp_path / ".config/containers/auth.json", {"auths": {"b.test": {"identitytoken": "t"}}})
    found = await find_credentials([], {"HOME": str(tmp_path), "XDG_RUNTIME_DIR": str(tmp_path / "run")})
    assert found.credentials == [
        Credential("a.test", "u", "docker"),
        Credential("a.test", "u", "podman"),
        Credential("b.test", identity_token="t"),
    ]
    assert found.problems == []


def test_the_order_in_which_files_are_searched() -> None:
    environment = {
        "HOME": "/h",
        "DOCKER_CONFIG": "/d",
        "REGISTRY_AUTH_FILE": "/r.json",
        "XDG_RUNTIME_DIR": "/run/user/1",
        "XDG_CONFIG_HOME": "/c",
    }
    assert list(map(str, config_paths(environment))) == [
        "/d/config.json",
        "/r.json",
        "/run/user/1/containers/auth.json",
        "/c/containers/auth.json",
    ]


async def test_without_files(tmp_path: Path) -> None:
    found = await find_credentials(["a.test"], {"HOME": str(tmp_path)})
    assert (found.credentials, found.problems) == ([], [])


async def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    write(tmp_path / ".docker/config.json", '{"secret')
    found = await find_credentials(["a.test"], {"HOME": str(tmp_path)})
    assert found.problems == [f"{tmp_path}/.docker/config.json cannot be used: it is not valid JSON"]


async def test_each_host_has_its_helper(tmp_path: Path) -> None:
    environment = helper(tmp_path, "one", """printf '{"Username": "%s", "Secret": "one"}' "$(cat)" """)
    helper(tmp_path, "all", """printf '{"Username": "%s", "Secret": "all"}' "$(cat)" """)
    config = {"credHelpers": {"a.test": "one", "https://index.docker.io/v1/": "one"}, "credsStore": "all"}
    write(tmp_path / ".docker/config.json", config)
    found = await find_credentials(["a.test", "b.test:5000", "docker.io", "a.test"], environment)
    hub = "https://index.docker.io/v1/"
    assert found.credentials == [
        Credential("a.test", "a.test", "one"),
        Credential("b.test:5000", "b.test:5000", "all"),
        Credential(hub, hub, "one"),
    ]


@pytest.mark.parametrize(
    ("script", "problem"),
    [
        ("echo credentials not found in native keychain; exit 1", None),
        ("echo the key ring is locked; exit 1", "docker-credential-x failed: the key ring is locked"),
        ("exit 3", "docker-credential-x failed: exit code 3"),
        ("echo secret", "it is not valid JSON"),
        ("echo '{\"Username\": [1]}'", "is not a string"),
        ('printf \'{"Username": "<token>", "Secret": "a\\\\nb"}\'', "a token with characters that are not allowed"),
        ("yes", "did not end in 0.5 s"),
        ("exec sleep 1000", "did not end in 0.5 s"),
    ],
)
async def test_helpers_that_fail(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, problem: str | None
) -> None:
    if "did not end" in (problem or ""):
        monkeypatch.setattr(dockerconfig, "_PATIENCE", 0.5)
    environment = helper(tmp_path, "x", script)
    write(tmp_path / ".docker/config.json", {"credsStore": "x"})
    found = await find_credentials(["a.test"], environment)
    assert found.credentials == []
    assert [problem in one for one in found.problems] == ([True] if problem else []), found.problems
    assert "secret" not in " ".join(found.problems)


@pytest.mark.parametrize("name", ["../../bin/sh", "a/b", "-x", "a b", ["x"]])
async def test_invalid_names_of_helpers(tmp_path: Path, name: object) -> None:
    write(tmp_path / ".docker/config.json", {"credHelpers": {"a.test": name}})
    found = await find_credentials(["a.test"], {"HOME": str(tmp_path), "PATH": os.environ["PATH"]})
    assert "has no valid name" in found.problems[0]


async def test_an_identity_token_of_a_helper(tmp_path: Path) -> None:
    environment = helper(tmp_path, "x", """echo '{"Username": "<token>", "Secret": "refresh"}' """)
    write(tmp_path / ".docker/config.json", {"credsStore": "x"})
    found = await find_credentials(["a.test"], environment)
    assert found.credentials == [Credential("a.test", identity_token="refresh")]


@pytest.mark.parametrize(
    ("script", "credentials", "problem"),
    [
        ("""echo '{"Username": "u", "Secret": "p"}' """, [Credential("a.test", "u", "p")], ""),
        ("exit 3", [], "exit code 3"),
        ("yes", [], "did not end in 0.5 s"),
    ],
)
def test_helpers_in_a_process_with_uvloop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, credentials: list[Credential], problem: str
) -> None:
    """The process that pulls images for nodes uses uvloop."""
    if problem.startswith("did not end"):
        monkeypatch.setattr(dockerconfig, "_PATIENCE", 0.5)
    environment = helper(tmp_path, "x", script)
    write(tmp_path / ".docker/config.json", {"credsStore": "x"})
    found = uvloop.run(find_credentials(["a.test"], environment))
    assert found.credentials == credentials
    assert problem in " ".join(found.problems)
