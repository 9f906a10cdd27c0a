"""`auth-provider: oidc`, compared with kubectl: requests to the API server and the issuer, and the kubeconfig."""

from __future__ import annotations

import asyncio
import base64
import json
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import pytest

from hatchway.errors import HatchwayError
from hatchway.kube import connection as connections
from hatchway.kube import goyaml, kubeconfig
from hatchway.kube.connection import Connection
from tests.conftest import find_kubectl
from tests.integration.kube.world import ApiServer, write_kubeconfig
from tests.integration.proxy.conftest import Authority


def jwt(seconds: float, name: str = "") -> str:
    """Return an ID token that expires after a number of seconds."""

    def part(content: dict[str, Any]) -> str:
        return base64.urlsafe_b64encode(json.dumps(content).encode()).rstrip(b"=").decode()

    return f"{part({'alg': 'none'})}.{part({'exp': time.time() + seconds, 'name': name})}.c2ln"


class Issuer:
    """An OpenID Connect provider. answer: its response to a refresh request, as (status, document).

    asked: (Authorization, form) of each refresh request. header: whether the provider accepts the client's credentials
    in the Authorization field.
    """

    def __init__(self) -> None:
        self.fresh = jwt(3600, "fresh")
        self.answer: tuple[int, dict[str, Any]] = (
            200,
            {"access_token": "a", "token_type": "bearer", "id_token": self.fresh, "refresh_token": "second"},
        )
        self.asked: list[tuple[str, dict[str, list[str]]]] = []
        self.header = True
        self.configuration_status = 200

    async def start(self, authority: Authority) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=authority.server())
        self.url = f"https://127.0.0.1:{self._server.sockets[0].getsockname()[1]}/dex"

    async def stop(self) -> None:
        self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            first, *lines = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
            fields = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
            body = await reader.readexactly(int(fields.get("content-length", "0")))
            if first.startswith("GET /dex/.well-known/openid-configuration "):
                status, document = (
                    self.configuration_status,
                    {"issuer": self.url, "token_endpoint": self.url + "/token"},
                )
            elif first.startswith("POST /dex/token "):
                self.asked.append((fields.get("authorization", ""), parse_qs(body.decode())))
                await asyncio.sleep(0)
                refused = not self.header and "authorization" in fields
                status, document = (401, {"error": "invalid_client"}) if refused else self.answer
            else:
                status, document = 404, {}
            text = json.dumps(document).encode()
            head = f"HTTP/1.1 {status} X\r\nContent-Type: application/json\r\nContent-Length: {len(text)}\r\n"
            writer.write(head.encode() + b"Connection: close\r\n\r\n" + text)
            await writer.drain()
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()


@pytest.fixture
async def issuer(authority: Authority) -> AsyncIterator[Issuer]:
    found = Issuer()
    await found.start(authority)
    yield found
    await found.stop()


class World:
    """One API server and one issuer, which kubectl and Hatchway use in turn."""

    def __init__(self, api: ApiServer, issuer: Issuer, authority: Authority, place: Path) -> None:
        self.api, self.issuer, self.place = api, issuer, place
        self.cluster = {"server": f"https://127.0.0.1:{api.port}", "certificate-authority": str(authority.file)}
        self.config = {
            "client-id": "kubernetes",
            "client-secret": "s/e c",
            "idp-issuer-url": issuer.url,
            "idp-certificate-authority-data": base64.b64encode(authority.file.read_bytes()).decode(),
            "extra-scopes": "groups",
        }

    def write(self, name: str, **config: str) -> Path:
        path = self.place / name
        user = {"auth-provider": {"name": "oidc", "config": {**self.config, **config}}}
        write_kubeconfig(path, self.cluster, user)
        return path

    async def kubectl(self, path: Path) -> tuple[bool, str]:
        process = await asyncio.create_subprocess_exec(
            find_kubectl(), f"--kubeconfig={path}", "get", "--raw", "/x",
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        _, said = await asyncio.wait_for(process.communicate(), 30)
        return process.returncode == 0, said.decode()

    async def hatchway(self, path: Path) -> tuple[bool, str]:
        connection = Connection.load(str(path))
        try:
            status, _ = await connection.client.exchange("GET", "/x")
            return status == 200, ""
        except HatchwayError as error:
            return False, f"{error.message}\n{error.hint}"
        finally:
            await connection.aclose()

    async def both(self, **config: str) -> list[dict[str, Any]]:
        """Run kubectl and Hatchway with the same kubeconfig; return both results."""
        found = []
        for name, run in (("kubectl", self.kubectl), ("hatchway", self.hatchway)):
            path = self.write(name, **config)
            self.api.seen.clear()
            self.issuer.asked.clear()
            good, said = await run(path)
            kept = goyaml.value(goyaml.parse(path.read_bytes()).root)["users"][0]["user"]["auth-provider"]["config"]
            sent = self.api.fields().get("authorization") if self.api.seen else None
            found.append({"good": good, "sent": sent, "issuer": list(self.issuer.asked), "kept": kept, "said": said})
        return found


@pytest.fixture
def world(api: ApiServer, issuer: Issuer, authority: Authority, tmp_path: Path) -> World:
    return World(api, issuer, authority, tmp_path)


def alike(found: list[dict[str, Any]]) -> dict[str, Any]:
    """Assert that both results are equal, except for their messages; return one of them."""
    theirs, ours = ({key: item for key, item in one.items() if key != "said"} for one in found)
    assert ours == theirs, found[1]["said"]
    return ours


async def test_a_valid_token_is_sent(world: World) -> None:
    token = jwt(3600)
    found = alike(await world.both(**{"id-token": token, "refresh-token": "first"}))
    assert (found["good"], found["sent"], found["issuer"]) == (True, f"Bearer {token}", [])


@pytest.mark.parametrize("old", ["", jwt(-60), jwt(5)], ids=["none", "ended", "nearly ended"])
async def test_a_token_is_renewed_and_written_back(world: World, old: str) -> None:
    found = alike(await world.both(**({"id-token": old} if old else {}), **{"refresh-token": "first"}))
    assert (found["good"], found["sent"]) == (True, f"Bearer {world.issuer.fresh}")
    assert found["kept"] == {**world.config, "id-token": world.issuer.fresh, "refresh-token": "second"}
    [(header, form)] = found["issuer"]
    assert header == "Basic " + base64.b64encode(b"kubernetes:s%2Fe+c").decode()
    assert form == {"grant_type": ["refresh_token"], "refresh_token": ["first"]}


async def test_an_issuer_that_wants_credentials_in_the_form(world: World) -> None:
    world.issuer.header = False
    found = alike(await world.both(**{"refresh-token": "first"}))
    assert found["good"]
    assert [form.get("client_secret") for _, form in found["issuer"]] == [None, ["s/e c"]]


async def test_the_old_refresh_token_is_kept_where_there_is_no_new_one(world: World) -> None:
    del world.issuer.answer[1]["refresh_token"]
    assert alike(await world.both(**{"refresh-token": "first"}))["kept"]["refresh-token"] == "first"


@pytest.mark.parametrize(
    ("config", "answer", "words"),
    [
        ({"id-token": jwt(-60)}, None, "has expired, and there is no refresh-token"),
        ({}, None, "has expired, and there is no refresh-token"),
        ({"id-token": "abc", "refresh-token": "r"}, None, "is not a valid JWT"),
        ({"refresh-token": "r"}, (200, {"access_token": "a"}), "without an id_token"),
        ({"refresh-token": "r"}, (200, {"id_token": jwt(60)}), "without an access_token"),
        (
            {"refresh-token": "r"},
            (400, {"error": "invalid_grant", "error_description": "gone"}),
            "refused to renew the token (400): invalid_grant gone",
        ),
        ({"refresh-token": "r", "idp-issuer-url": "https://127.0.0.1:1"}, None, "cannot be reached"),
        ({"refresh-token": "r", "idp-certificate-authority-data": ""}, None, "failed to verify certificate"),
    ],
)
async def test_both_report_errors_of_the_issuer(
    world: World, config: dict[str, str], answer: tuple[int, dict[str, Any]] | None, words: str
) -> None:
    world.issuer.answer = answer or world.issuer.answer
    theirs, ours = await world.both(**config)
    assert (theirs["good"], ours["good"]) == (False, False)
    assert ours["sent"] is None
    assert ours["kept"] == {**world.config, **config}
    assert words in ours["said"]
    assert "log in again" in ours["said"]


async def test_an_issuer_without_configuration(world: World) -> None:
    world.issuer.configuration_status = 503
    theirs, ours = await world.both(**{"refresh-token": "r"})
    assert not theirs["good"]
    assert "answers 503 when it is asked for its configuration" in ours["said"]


async def test_many_requests_renew_once(world: World) -> None:
    connection = Connection.load(str(world.write("config", **{"refresh-token": "first"})))
    await asyncio.gather(*(connection.client.exchange("GET", "/x") for _ in range(20)))
    await connection.aclose()
    assert len(world.issuer.asked) == 1
    assert {dict(head.headers).get(b"Authorization") for head in world.api.seen} == {
        b"Bearer " + world.issuer.fresh.encode()
    }


async def test_a_token_that_another_program_has_renewed_is_taken(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "_PAUSE", 0.0)
    path = world.write("config", **{"id-token": jwt(-60), "refresh-token": "first"})
    connection = Connection.load(str(path))
    theirs = jwt(3600, "theirs")
    kubeconfig.update_auth_provider(path, "u", lambda now: {**now, "id-token": theirs, "refresh-token": "used up"})
    await connection.client.exchange("GET", "/x")
    await connection.aclose()
    assert world.issuer.asked == []
    assert world.api.fields()["authorization"] == f"Bearer {theirs}"
