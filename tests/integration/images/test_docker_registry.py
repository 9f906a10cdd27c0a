"""`hatchway image pull` from Debian's docker-registry, filled by skopeo."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from hatchway.images.pulling.credentials import Credential
from hatchway.images.pulling.pull import PullError
from hatchway.images.pulling.registries import Registries, RegistrySettings, TlsFiles
from tests.conformance.tls import self_signed
from tests.images.making import built, oci_archive
from tests.integration.images.conftest import Puller
from tests.integration.images.dockerregistry import DockerRegistry, needs_registry, running

pytestmark = needs_registry
WEB = built("web:1", {"etc/motd": "hello"}, {"bin/web": "#!/bin/sh\n"}, Cmd=["/bin/web"])
ANN = ("ann", "it is:secret")


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DockerRegistry]:
    """Run a registry without TLS and users, with one image in three forms."""
    directory = tmp_path_factory.mktemp("registry")
    with running(directory) as found:
        archive = oci_archive(directory / "web.tar", WEB)
        found.push(archive, "team/web:oci")
        found.push(archive, "team/web:docker", "--format=v2s2")
        yield found


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DockerRegistry]:
    """Run a registry with TLS and one user."""
    directory = tmp_path_factory.mktemp("secured")
    with running(directory, tls=self_signed(directory, ["127.0.0.1"]), user=ANN) as found:
        found.push(oci_archive(directory / "web.tar", WEB), "team/web:1")
        yield found


@pytest.mark.parametrize("form", ["oci", "docker"])
async def test_both_forms(registry: DockerRegistry, puller: Puller, form: str) -> None:
    image = await puller(f"{registry.address}/team/web:{form}")
    assert image.image_id == WEB.config
    assert image.config.command == ("/bin/web",)
    media = json.loads(puller.store.read_blob(image.manifest_digest, 1 << 20))["mediaType"]
    assert ("docker" in media) == (form == "docker")


async def test_the_error_of_a_missing_tag(registry: DockerRegistry, puller: Puller) -> None:
    with pytest.raises(PullError, match="team/web:nope: not found: manifest unknown"):
        await puller(f"{registry.address}/team/web:nope")


async def test_tls_with_its_ca(secured: DockerRegistry, puller: Puller) -> None:
    credential = Credential(secured.address, *ANN)
    settings = {secured.address: RegistrySettings(files=TlsFiles(ca=str(secured.tls)))}
    image = await puller(f"{secured.address}/team/web:1", credential, registries=Registries(settings))
    assert image.image_id == WEB.config
    # The certificate is trusted for every host.
    await puller(f"{secured.address}/team/web:1", credential, registries=Registries({}, str(secured.tls)))


async def test_tls_with_another_ca(secured: DockerRegistry, puller: Puller, tmp_path: Path) -> None:
    other, _ = self_signed(tmp_path, ["127.0.0.1"])
    settings = {secured.address: RegistrySettings(files=TlsFiles(ca=str(other)))}
    with pytest.raises(PullError, match="tls: failed to verify certificate") as caught:
        await puller(
            f"{secured.address}/team/web:1", Credential(secured.address, *ANN), registries=Registries(settings)
        )
    assert f'ca-file of [registry."{secured.address}"]' in caught.value.hint


async def test_a_registry_without_tls_that_must_have_it(
    registry: DockerRegistry, puller: Puller, tmp_path: Path
) -> None:
    ca, _ = self_signed(tmp_path, ["127.0.0.1"])
    settings = {registry.address: RegistrySettings(files=TlsFiles(ca=str(ca)))}
    with pytest.raises(PullError, match="http: server gave HTTP response to HTTPS client") as caught:
        await puller(f"{registry.address}/team/web:oci", registries=Registries(settings))
    assert f"--insecure-registry {registry.address}" in caught.value.hint


@pytest.mark.parametrize("credentials", [(), (Credential("127.0.0.1", *ANN),)])
async def test_basic_authentication_is_needed(
    secured: DockerRegistry, puller: Puller, credentials: tuple[Credential, ...]
) -> None:
    with pytest.raises(PullError, match="server message: unauthorized: authentication required") as caught:
        await puller(f"{secured.address}/team/web:1", *credentials)
    assert caught.value.kind == "denied"


# -- the command -------------------------------------------------------------------------------------------------------


def hatchway(*arguments: str, home: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run `hatchway image` with another home directory."""
    kept = {name: value for name, value in os.environ.items() if name in ("PATH", "LANG")}
    return subprocess.run(
        [sys.executable, "-c", "from hatchway.cli import main; main()", "image", *arguments],
        env={**kept, "HOME": str(home), **environment},
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_the_command(registry: DockerRegistry, tmp_path: Path) -> None:
    name = f"{registry.address}/team/web:oci"
    done = hatchway("pull", name, home=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"{name}: {WEB.manifest}, 2 layers, ")
    assert f"{WEB.layers[0][7:19]}: fetched, " in done.stderr
    again = hatchway("pull", "--quiet", name, home=tmp_path)
    assert (again.stdout, again.stderr) == (f"{name}\n", "")
    assert "team/web   oci" in hatchway("ls", home=tmp_path).stdout


def test_the_command_fails_with_the_reason(registry: DockerRegistry, tmp_path: Path) -> None:
    done = hatchway("pull", f"{registry.address}/team/web:nope", home=tmp_path)
    assert done.returncode == 1
    assert "not found: manifest unknown" in done.stderr
    assert "check its name and tag" in done.stderr
    assert "Traceback" not in done.stderr
    bad = hatchway("pull", "--platform", "plan9/amd64", "x", home=tmp_path)
    assert bad.returncode == 2
    assert 'operating system "plan9"' in bad.stderr


def test_the_command_uses_docker_s_credentials(secured: DockerRegistry, tmp_path: Path) -> None:
    name = f"{secured.address}/team/web:1"
    refused = hatchway("pull", name, home=tmp_path)
    assert refused.returncode == 1
    assert f"docker login {secured.address}" in refused.stderr
    (tmp_path / ".docker").mkdir()
    auth = base64.b64encode(":".join(ANN).encode()).decode()
    config = tmp_path / ".docker" / "config.json"
    config.write_text(json.dumps({"auths": {secured.address: {"auth": auth}}}))
    assert hatchway("pull", name, home=tmp_path).returncode == 0
    # A missing credential helper is not an error, but is named if the registry refuses.
    config.write_text(json.dumps({"credsStore": "nowhere"}))
    done = hatchway("pull", name, home=tmp_path)
    assert "the credential helper docker-credential-nowhere is not installed" in done.stderr


def test_the_command_uses_a_credential_helper(secured: DockerRegistry, tmp_path: Path) -> None:
    helper = tmp_path / "docker-credential-test"
    answer = json.dumps({"ServerURL": secured.address, "Username": ANN[0], "Secret": ANN[1]})
    helper.write_text(f'#!/bin/sh\ntest "$1" = get && test "$(cat)" = {secured.address} && echo \'{answer}\'\n')
    helper.chmod(0o755)
    config = tmp_path / "config.json"
    config.write_text(json.dumps({"credHelpers": {secured.address: "test"}}))
    path = f"{tmp_path}:{os.environ['PATH']}"
    done = hatchway("pull", f"{secured.address}/team/web:1", home=tmp_path, DOCKER_CONFIG=str(tmp_path), PATH=path)
    assert done.returncode == 0, done.stderr


def test_the_command_uses_registries_toml(secured: DockerRegistry, registry: DockerRegistry, tmp_path: Path) -> None:
    folder = tmp_path / ".config" / "hatchway"
    folder.mkdir(parents=True)
    file = folder / "registries.toml"
    nobody = "127.0.0.1:1"
    file.write_text(f'[registry."{nobody}"]\nmirrors = ["http://{registry.address}/other"]\n')
    failed = hatchway("pull", f"{nobody}/web:oci", home=tmp_path)
    assert failed.returncode == 1
    assert f"dial tcp {nobody}: connect: connection refused" in failed.stderr
    assert f"mirror {registry.address}/other: " in failed.stderr
    file.write_text(f'[registry."{nobody}"]\nmirrors = ["http://{registry.address}/team"]\n')
    done = hatchway("pull", f"{nobody}/web:oci", home=tmp_path)
    assert done.stdout.startswith(f"{nobody}/web:oci: sha256:"), done.stderr
    file.write_text("[registry.x]\nmirror = 1\n")
    wrong = hatchway("pull", f"{nobody}/web:oci", home=tmp_path)
    assert 'unknown key "mirror"' in wrong.stderr
