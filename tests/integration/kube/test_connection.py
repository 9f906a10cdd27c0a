"""A connection follows changes of its files, plugins, proxies and server."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import uvloop
import yaml

from hatchway.errors import ApiError, HatchwayError, NoCredentials
from hatchway.kube import connection as connections
from hatchway.kube import contexts, serversettings
from hatchway.kube.connection import Connection
from hatchway.proxy.limits import Limits
from hatchway.proxy.pool import Pool
from hatchway.proxy.routing import ProxyError
from tests.conftest import find_kubectl
from tests.descriptors import open_descriptors
from tests.integration.kube.world import (
    ApiServer,
    FakePlugin,
    ForwardProxy,
    eventually,
    followed,
    replace_file,
    write_kubeconfig,
)
from tests.integration.proxy.conftest import Authority

Made = Callable[..., Connection]


@pytest.fixture(params=["asyncio", "uvloop"])
def event_loop_policy(request: pytest.FixtureRequest) -> asyncio.AbstractEventLoopPolicy:
    """Run on both loops: the door uses uvloop, commands asyncio's own loop."""
    return uvloop.EventLoopPolicy() if request.param == "uvloop" else asyncio.DefaultEventLoopPolicy()


@pytest.fixture
def config(tmp_path: Path) -> Path:
    return tmp_path / "config"


@pytest.fixture
def cluster(api: ApiServer, authority: Authority) -> dict[str, Any]:
    """Return the kubeconfig's cluster entry for `api`."""
    return {"server": f"https://127.0.0.1:{api.port}", "certificate-authority": str(authority.file)}


def made(config: Path, cluster: dict[str, Any], user: dict[str, Any], **more: Any) -> Connection:
    write_kubeconfig(config, cluster, user, **more)
    return Connection.load(str(config))


def soon(seconds: float) -> str:
    return (datetime.now(UTC) + timedelta(seconds=seconds)).isoformat().replace("+00:00", "Z")


async def test_a_token_and_impersonation_are_sent(config: Path, cluster: dict[str, Any], api: ApiServer) -> None:
    user = {"token": "secret", "as": "jane", "as-groups": ["a", "b"]}
    connection = made(config, cluster, user, namespace="team")
    await connection.client.list("pods")
    fields = [(name.lower(), value) for name, value in api.seen[-1].headers if name.lower().startswith((b"a", b"i"))]
    assert (b"authorization", b"Bearer secret") in fields
    assert fields[-3:] == [
        (b"impersonate-user", b"jane"),
        (b"impersonate-group", b"a"),
        (b"impersonate-group", b"b"),
    ]
    assert connection.host == f"127.0.0.1:{api.port}".encode()
    assert (connection.context, connection.namespace, connection.base_path) == ("work", "team", b"")
    assert connection.fields() is connection.fields()
    await connection.aclose()


async def test_basic_authentication_and_a_base_path(config: Path, cluster: dict[str, Any], api: ApiServer) -> None:
    cluster["server"] += "/k8s/clusters/c-1/"
    connection = made(config, cluster, {"username": "me", "password": "p:w"})
    await connection.client.list("pods")
    assert api.fields()["authorization"] == "Basic " + base64.b64encode(b"me:p:w").decode()
    assert api.seen[-1].path == b"/k8s/clusters/c-1/api/v1/pods"
    assert connection.base_path == b"/k8s/clusters/c-1"
    await connection.aclose()


@pytest.mark.parametrize("inline", [True, False])
async def test_a_client_certificate(
    config: Path, cluster: dict[str, Any], authority: Authority, inline: bool, tmp_path: Path
) -> None:
    pem = authority.file.parent / "client.pem"
    if inline:
        data = base64.b64encode(pem.read_bytes()).decode()
        user = {"client-certificate-data": data, "client-key-data": data}
    else:
        user = {"client-certificate": str(pem), "client-key": str(pem)}
    strict = authority.server()
    strict.load_verify_locations(authority.file)
    strict.verify_mode = ssl.CERT_REQUIRED
    server = ApiServer()
    await server.start(strict)
    cluster["server"] = f"https://127.0.0.1:{server.port}"
    connection = made(config, cluster, user)
    await connection.client.list("pods")
    assert server.seen[-1].peer.certificate == authority.client_der
    await connection.aclose()
    await server.stop()


async def test_a_server_of_another_authority_is_refused_with_advice(
    config: Path, cluster: dict[str, Any], stranger: Authority
) -> None:
    connection = made(config, {**cluster, "certificate-authority": str(stranger.file)}, {})
    with pytest.raises(ApiError, match="failed to verify certificate") as caught:
        await connection.client.list("pods")
    assert caught.value.code == 503
    assert 'context "work" (https://127.0.0.1' in caught.value.message
    assert "certificate-authority" in caught.value.hint
    assert connection.trouble is not None
    await connection.aclose()


async def test_insecure_and_tls_server_name(config: Path, cluster: dict[str, Any], authority: Authority) -> None:
    insecure = made(config, {"server": cluster["server"], "insecure-skip-tls-verify": True}, {})
    await insecure.client.list("pods")
    wrong = made(config, {**cluster, "tls-server-name": "elsewhere.example"}, {})
    with pytest.raises(ApiError, match="certificate"):
        await wrong.client.list("pods")
    named = made(config, {**cluster, "tls-server-name": "localhost"}, {})
    await named.client.list("pods")
    assert named.upstream.server_hostname == "localhost"
    for connection in (insecure, wrong, named):
        await connection.aclose()


async def test_files_that_are_not_certificates(config: Path, cluster: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "ca").write_text("no PEM")
    with pytest.raises(HatchwayError, match="certificates or key cannot be used"):
        made(config, {**cluster, "certificate-authority": str(tmp_path / "ca")}, {})
    with pytest.raises(HatchwayError, match=r"cannot read .*/none") as caught:
        made(config, {**cluster, "certificate-authority": str(tmp_path / "none")}, {})
    assert 'context "work"' in caught.value.message


# Plugins


async def test_a_plugin_runs_once_for_all_waiting_requests(
    config: Path, cluster: dict[str, Any], api: ApiServer, plugin: FakePlugin
) -> None:
    plugin.answer(token="t1")
    (plugin.directory / "slow").touch()
    connection = made(config, cluster, plugin.user)
    assert not connection.fresh
    assert connection.fields() == []
    await asyncio.gather(*(connection.client.list("pods") for _ in range(5)), connection.ready())
    assert connection.fields() == [(b"Authorization", b"Bearer t1")]
    (told,) = plugin.runs
    assert told["apiVersion"] == "client.authentication.k8s.io/v1"
    assert told["spec"]["cluster"]["server"] == cluster["server"]
    assert told["spec"]["cluster"]["certificate-authority-data"]
    assert told["spec"]["interactive"] is False
    assert (plugin.directory / "given").read_text() == "more one\n"
    assert {head.header(b"authorization") for head in api.seen} == {b"Bearer t1"}
    await connection.aclose()


async def test_a_401_asks_the_plugin_once_more(
    config: Path, cluster: dict[str, Any], api: ApiServer, plugin: FakePlugin
) -> None:
    plugin.answer(token="old")
    connection = made(config, cluster, plugin.user)
    await connection.client.list("pods")
    api.accepts = {"Bearer new"}
    plugin.answer(token="new")
    before = connection.fields()
    generation = connection.generation
    await asyncio.gather(*(connection.client.list("pods") for _ in range(8)))
    assert len(plugin.runs) == 2
    assert connection.fields() is not before
    assert connection.generation != generation
    # A request that failed with the old credentials may be sent again, but the plugin does not run again for it.
    assert await connection.renew()
    assert len(plugin.runs) == 2
    await connection.aclose()


async def test_a_401_remains_if_the_plugin_has_no_new_credentials(
    config: Path, cluster: dict[str, Any], api: ApiServer, plugin: FakePlugin
) -> None:
    plugin.answer(token="same")
    connection = made(config, cluster, plugin.user)
    api.accepts = set()
    for _ in range(3):
        with pytest.raises(ApiError) as caught:
            await connection.client.list("pods")
        assert caught.value.code == 401
    # Three refusals in a row do not cause three further runs of the plugin.
    assert len(plugin.runs) == 2
    assert len(api.seen) == 3
    await connection.aclose()


async def test_credentials_are_renewed_before_they_expire(
    config: Path, cluster: dict[str, Any], plugin: FakePlugin, impatient: None
) -> None:
    plugin.answer(token="short", expirationTimestamp=soon(5))
    connection = made(config, cluster, plugin.user)
    await connection.ready()
    assert not connection.fresh
    plugin.answer(token="long", expirationTimestamp=soon(3600))
    (plugin.directory / "slow").touch()
    await connection.ready()
    # Requests do not wait for the plugin while its credentials are valid.
    assert connection.fields() == [(b"Authorization", b"Bearer short")]
    await eventually(lambda: connection.fresh)
    assert connection.fields() == [(b"Authorization", b"Bearer long")]
    await connection.ready()
    assert len(plugin.runs) == 2
    await connection.aclose()


async def test_requests_wait_for_the_renewal_of_expired_credentials(
    config: Path, cluster: dict[str, Any], plugin: FakePlugin, impatient: None
) -> None:
    plugin.answer(token="gone", expirationTimestamp=soon(-1))
    connection = made(config, cluster, plugin.user)
    await connection.ready()
    plugin.answer(token="new", expirationTimestamp=soon(3600))
    (plugin.directory / "slow").touch()
    await connection.ready()
    assert connection.fields() == [(b"Authorization", b"Bearer new")]
    await connection.aclose()


async def test_a_certificate_of_a_plugin_is_shown(
    config: Path, cluster: dict[str, Any], api: ApiServer, authority: Authority, plugin: FakePlugin
) -> None:
    pem = (authority.file.parent / "client.pem").read_text()
    plugin.answer(clientCertificateData=pem, clientKeyData=pem)
    connection = made(config, cluster, plugin.user)
    before = connection.upstream
    await connection.ready()
    assert connection.upstream is not before
    assert connection.upstream.key != before.key
    assert connection.fields() == []
    await connection.client.list("pods")
    await connection.aclose()


@pytest.mark.parametrize(
    ("answer", "code", "said", "words"),
    [
        ("", 3, "log in first", "failed with exit code 3: log in first"),
        ("no json", 0, "", "did not print an ExecCredential"),
        ('{"kind": "ExecCredential", "apiVersion": "client.authentication.k8s.io/v1beta1"}', 0, "", "v1beta1"),
        ('{"kind": "ExecCredential", "apiVersion": "client.authentication.k8s.io/v1"}', 0, "", "no credentials"),
        (
            '{"kind": "ExecCredential", "apiVersion": "client.authentication.k8s.io/v1", "status": {"token": ""}}',
            0,
            "",
            "neither a token nor a certificate",
        ),
    ],
)
async def test_plugins_that_fail(
    config: Path, cluster: dict[str, Any], plugin: FakePlugin, answer: str, code: int, said: str, words: str
) -> None:
    plugin.say(answer)
    plugin.fail(code, said)
    connection = made(config, cluster, plugin.user)
    with pytest.raises(NoCredentials) as caught:
        await connection.ready()
    assert words in caught.value.message
    assert 'context "work"' in caught.value.message
    assert str(plugin.script) in caught.value.message
    # A second call soon after gives the same error, without another run.
    with pytest.raises(NoCredentials):
        await connection.ready()
    with pytest.raises(NoCredentials) as refused:
        await connection.client.list("pods")
    assert refused.value.code == 401
    assert len(plugin.runs) == 1
    await connection.aclose()


async def test_valid_credentials_are_used_when_their_renewal_fails(
    config: Path, cluster: dict[str, Any], plugin: FakePlugin, impatient: None
) -> None:
    plugin.answer(token="good", expirationTimestamp=soon(8))
    connection = made(config, cluster, plugin.user)
    await connection.ready()
    plugin.fail(1, "offline")
    await connection.ready()
    await eventually(lambda: connection.problem)
    await connection.ready()
    assert connection.fields() == [(b"Authorization", b"Bearer good")]
    assert connection.problem is not None
    assert "offline" in connection.problem.message
    assert not await connection.renew()
    await connection.aclose()


async def test_a_missing_plugin_is_reported_with_its_install_hint(
    config: Path, cluster: dict[str, Any], plugin: FakePlugin
) -> None:
    plugin.script.unlink()
    connection = made(config, cluster, plugin.user)
    with pytest.raises(HatchwayError, match="is not installed") as caught:
        await connection.ready()
    assert caught.value.hint == "get it from the shelf"
    await connection.aclose()


# Proxies


@pytest.mark.parametrize("scheme", ["http", "https", "socks5", "socks5h"])
@pytest.mark.parametrize("credentials", ["", "me:se cret"])
async def test_a_proxy_of_the_kubeconfig(
    config: Path, cluster: dict[str, Any], api: ApiServer, authority: Authority, scheme: str, credentials: str
) -> None:
    proxy = ForwardProxy(credentials)
    await proxy.start(authority.server() if scheme == "https" else None)
    login = credentials.replace(" ", "%20") + "@" if credentials else ""
    # Only the proxy can resolve this name.
    cluster |= {"server": f"https://k8s.invalid:{api.port}", "tls-server-name": "localhost"}
    connection = made(config, {**cluster, "proxy-url": f"{scheme}://{login}127.0.0.1:{proxy.port}"}, {"token": "t"})
    await connection.client.list("pods")
    assert proxy.asked == [f"k8s.invalid:{api.port}"]
    assert connection.host == f"k8s.invalid:{api.port}".encode()
    await connection.aclose()
    await proxy.stop()


async def test_a_proxy_of_the_environment(
    config: Path, cluster: dict[str, Any], api: ApiServer, proxy: ForwardProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{proxy.port}")
    loopback = made(config, cluster, {})
    await loopback.client.list("pods")
    assert proxy.asked == []
    cluster |= {"server": f"https://k8s.invalid:{api.port}", "tls-server-name": "localhost"}
    outside = made(config, cluster, {})
    await outside.client.list("pods")
    assert proxy.asked == [f"k8s.invalid:{api.port}"]
    await loopback.aclose()
    await outside.aclose()


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("http://127.0.0.1:PORT", "it refused to connect to 127.0.0.1:API: HTTP/1.1 407 Proxy Authentication Required"),
        (
            "https://127.0.0.1:PORT",
            "it refused to connect to 127.0.0.1:API: HTTP/1.1 407 Proxy Authentication Required",
        ),
        ("socks5://me:wrong@127.0.0.1:PORT", "it refused the user name and password"),
    ],
)
async def test_proxies_that_refuse_are_named(
    config: Path, cluster: dict[str, Any], api: ApiServer, authority: Authority, url: str, words: str
) -> None:
    proxy = ForwardProxy("me:secret")
    await proxy.start(authority.server() if url.startswith("https") else None)
    port = proxy.port
    connection = made(config, {**cluster, "proxy-url": url.replace("PORT", str(port))}, {})
    with pytest.raises(ApiError) as caught:
        await connection.client.list("pods")
    assert f"proxy 127.0.0.1:{port}: {words.replace('API', str(api.port))}" in caught.value.message
    await proxy.stop()
    with pytest.raises(ApiError, match=rf"proxy 127\.0\.0\.1:{port}: .*refused"):
        await connection.client.list("pods")
    await connection.aclose()


async def test_a_proxy_of_a_stranger_is_refused(config: Path, cluster: dict[str, Any], stranger: Authority) -> None:
    """A proxy with an invalid certificate gets neither data nor a password."""
    proxy = ForwardProxy()
    await proxy.start(stranger.server())
    connection = made(config, {**cluster, "proxy-url": f"https://me:secret@127.0.0.1:{proxy.port}"}, {})
    with pytest.raises(ApiError, match=rf"proxy 127\.0\.0\.1:{proxy.port}: .*failed to verify certificate"):
        await connection.client.list("pods")
    await connection.aclose()
    assert proxy.asked == []
    await proxy.stop()


async def test_large_responses_pass_a_proxy_over_tls(
    config: Path, cluster: dict[str, Any], api: ApiServer, authority: Authority
) -> None:
    """Ten connections at once carry ten megabytes each; afterwards all tunnels are closed."""
    from hatchway.kube import tunnel

    proxy = ForwardProxy()
    await proxy.start(authority.server())
    much = {"items": ["x" * 10_000] * 1000}
    api.answers["/much"] = (200, much)
    connection = made(config, {**cluster, "proxy-url": f"https://127.0.0.1:{proxy.port}"}, {})
    answers = await asyncio.gather(*(connection.client.exchange("GET", "/much") for _ in range(10)))
    assert [(status, len(body)) for status, body in answers] == [(200, len(json.dumps(much)))] * 10
    await connection.aclose()
    await eventually(lambda: not tunnel._running)
    await proxy.stop()


async def test_the_end_of_a_proxy_over_tls_is_noticed(
    config: Path, cluster: dict[str, Any], api: ApiServer, authority: Authority
) -> None:
    from hatchway.kube import tunnel

    proxy = ForwardProxy()
    await proxy.start(authority.server())
    connection = made(config, {**cluster, "proxy-url": f"https://127.0.0.1:{proxy.port}"}, {})
    await connection.client.list("pods")
    assert tunnel._running
    await proxy.stop()
    await eventually(lambda: not tunnel._running)
    with pytest.raises(ApiError, match="refused"):
        await connection.client.list("pods")
    await connection.aclose()


async def test_kubectl_goes_through_the_same_proxies(
    config: Path, cluster: dict[str, Any], api: ApiServer, authority: Authority
) -> None:
    for scheme in ("http", "https", "socks5"):
        proxy = ForwardProxy("" if scheme == "socks5" else "me:se cret")
        await proxy.start(authority.server() if scheme == "https" else None)
        login = "" if scheme == "socks5" else "me:se%20cret@"
        url = f"{scheme}://{login}127.0.0.1:{proxy.port}"
        connection = made(config, {**cluster, "proxy-url": url}, {"token": "t"})
        assert (await connection.client.exchange("GET", "/x"))[0] == 200
        await connection.aclose()
        process = await asyncio.create_subprocess_exec(
            find_kubectl(), f"--kubeconfig={config}", "get", "--raw", "/x", stdout=asyncio.subprocess.DEVNULL
        )
        assert await asyncio.wait_for(process.wait(), 30) == 0
        assert proxy.asked == [f"127.0.0.1:{api.port}"] * 2
        await proxy.stop()


async def test_proxies_that_cannot_be_used(config: Path, cluster: dict[str, Any]) -> None:
    for url, words in (("https://me:secret@proxy:0", "not a proxy"), ("ftp://me:secret@x", "not a proxy")):
        with pytest.raises(HatchwayError, match=words) as refused:
            made(config, {**cluster, "proxy-url": url}, {})
        assert "secret" not in refused.value.message


# Edits of the kubeconfig


async def test_edits_of_the_kubeconfig_are_followed(
    config: Path, cluster: dict[str, Any], api: ApiServer, impatient: None
) -> None:
    told: list[int] = []
    async with followed(made(config, cluster, {"token": "one"})) as connection:
        connection.subscribe(lambda: told.append(connection.generation))
        upstream = connection.upstream
        write_kubeconfig(config, cluster, {"token": "two"})
        await eventually(lambda: connection.fields() == [(b"Authorization", b"Bearer two")])
        # A new token does not need new connections.
        assert connection.upstream is upstream
        write_kubeconfig(config, {**cluster, "tls-server-name": "localhost"}, {"token": "two"})
        await eventually(lambda: connection.upstream is not upstream)
        assert connection.upstream.key != upstream.key
        await connection.client.list("pods")
        assert api.fields()["authorization"] == "Bearer two"
        assert told == sorted(set(told))
        assert len(told) == 2


async def test_an_edit_that_cannot_be_used_changes_nothing(
    config: Path, cluster: dict[str, Any], api: ApiServer, impatient: None
) -> None:
    async with followed(made(config, cluster, {"token": "one"})) as connection:
        replace_file(config, "{ not yaml")
        await eventually(lambda: connection.problem)
        assert str(config) in connection.problem.message
        await connection.client.list("pods")
        assert api.fields()["authorization"] == "Bearer one"
        write_kubeconfig(config, cluster, {"token": "two"})
        await eventually(lambda: connection.problem is None)
        assert connection.fields() == [(b"Authorization", b"Bearer two")]


async def test_a_pinned_context_stays_and_the_current_one_is_followed(
    config: Path, cluster: dict[str, Any], impatient: None
) -> None:
    write_kubeconfig(config, cluster, {"token": "one"})
    document = yaml.safe_load(config.read_text())
    document["contexts"].append({"name": "other", "context": {"cluster": "c", "user": "u", "namespace": "away"}})
    document["current-context"] = "other"
    pinned = Connection.load(str(config), "work")
    async with followed(Connection.load(str(config))) as current, followed(pinned):
        identity = current.identity
        replace_file(config, yaml.safe_dump(document))
        await eventually(lambda: current.context == "other")
        assert (current.namespace, pinned.context) == ("away", "work")
        assert current.identity != identity
        document["contexts"] = document["contexts"][1:]
        replace_file(config, yaml.safe_dump(document))
        await eventually(lambda: pinned.problem)
        assert 'there is no context "work"' in pinned.problem.message
        assert pinned.context == "work"


async def test_a_token_file_is_read_again(
    config: Path, cluster: dict[str, Any], api: ApiServer, tmp_path: Path, impatient: None
) -> None:
    token = tmp_path / "token"
    token.write_text("one\n")
    async with followed(made(config, cluster, {"tokenFile": str(token), "token": "loses"})) as connection:
        await connection.client.list("pods")
        assert api.fields()["authorization"] == "Bearer one"
        replace_file(token, "two\n")
        await eventually(lambda: connection.fields() == [(b"Authorization", b"Bearer two")])


async def test_a_401_reads_the_token_file_at_once(
    config: Path, cluster: dict[str, Any], api: ApiServer, tmp_path: Path
) -> None:
    token = tmp_path / "token"
    token.write_text("one")
    connection = made(config, cluster, {"tokenFile": str(token)})
    api.accepts = {"Bearer two"}
    token.write_text("two")
    await connection.client.list("pods")
    assert len(api.seen) == 2
    assert not await made(config, cluster, {"token": "static"}).renew()
    await connection.aclose()


async def test_a_new_plugin_in_the_kubeconfig_is_used(
    config: Path, cluster: dict[str, Any], plugin: FakePlugin, impatient: None
) -> None:
    plugin.answer(token="one")
    async with followed(made(config, cluster, plugin.user)) as connection:
        await connection.ready()
        plugin.answer(token="two")
        user = plugin.user
        user["exec"]["args"] = ["other"]
        write_kubeconfig(config, cluster, user)
        await eventually(lambda: not connection.fresh)
        await connection.ready()
        assert connection.fields() == [(b"Authorization", b"Bearer two")]
        assert (plugin.directory / "given").read_text() == "more other\n"


async def test_the_answer_of_a_plugin_that_the_kubeconfig_no_longer_names_is_not_used(
    config: Path, cluster: dict[str, Any], plugin: FakePlugin, impatient: None
) -> None:
    plugin.answer(token="one")
    (plugin.directory / "slow").touch()
    async with followed(made(config, cluster, plugin.user)) as connection:
        waiting = asyncio.create_task(connection.ready())
        await eventually(lambda: plugin.runs)
        generation = connection.generation
        user = plugin.user
        user["exec"]["env"] = [{"name": "EXTRA", "value": "else"}]
        write_kubeconfig(config, {**cluster, "tls-server-name": "localhost"}, user)
        await eventually(lambda: connection.generation != generation)
        assert len(plugin.runs) == 1
        await waiting
        assert connection.fresh
        assert (plugin.directory / "given").read_text() == "else one\n"
        assert len(plugin.runs) == 2


async def test_in_a_pod(
    api: ApiServer, authority: Authority, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, impatient: None
) -> None:
    account = tmp_path / "account"
    account.mkdir()
    (account / "token").write_text("pod")
    (account / "namespace").write_text("apps")
    (account / "ca.crt").write_bytes(authority.file.read_bytes())
    monkeypatch.setattr(contexts, "SERVICE_ACCOUNT", account)
    monkeypatch.setattr(serversettings, "SERVICE_ACCOUNT", account)
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "none"))
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "127.0.0.1")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", str(api.port))
    async with followed(Connection.load()) as connection:
        assert (connection.context, connection.namespace) == ("", "apps")
        await connection.client.list("pods")
        assert api.fields()["authorization"] == "Bearer pod"
        # Kubernetes renews the token by changing a symbolic link.
        replace_file(account / "token", "renewed")
        await eventually(lambda: connection.fields() == [(b"Authorization", b"Bearer renewed")])


# Connections


def test_the_import_of_the_client_is_light() -> None:
    """Imports take most of the time of a start. So the test looks at the imports, and measures no time."""
    program = "import sys, hatchway.kube.connection, hatchway.kube.client, hatchway.kube.view; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=30)
    heavy = {"cryptography", "starlette", "typer", "anyio", "email.message"}
    assert not heavy & set(done.stdout.split())


async def test_a_server_that_stops_and_starts(
    config: Path, cluster: dict[str, Any], api: ApiServer, authority: Authority
) -> None:
    connection = made(config, cluster, {})
    await connection.client.list("pods")
    port = api.port
    await api.stop()
    before = time.time()
    for _ in range(2):
        with pytest.raises(ApiError, match=r"connection refused|EOF|reset"):
            await connection.client.list("pods")
    assert connection.trouble is not None
    assert before <= connection.trouble.since <= time.time()
    assert connection.trouble.hint
    await api.start(authority.server(), port)
    await connection.client.list("pods")
    assert connection.trouble is None
    await connection.aclose()


async def test_a_closed_client_leaves_no_socket(config: Path, cluster: dict[str, Any], api: ApiServer) -> None:
    """`aclose` itself closes the sockets. Later would be too late: in a command, the event loop ends right after it."""
    connection = made(config, cluster, {})
    async with asyncio.TaskGroup() as group:
        for _ in range(3):
            group.create_task(connection.client.list("pods"))
    before = open_descriptors()["socket"]
    await connection.aclose()
    # This process also has the server's sockets, which may close later, so the test expects three closed sockets.
    assert open_descriptors()["socket"] <= before - 3


async def test_the_engines_pool_can_use_the_upstream(
    config: Path, cluster: dict[str, Any], api: ApiServer, authority: Authority
) -> None:
    connection = made(config, cluster, {})
    pool = Pool(Limits())
    opened = await pool.connect(connection.upstream)
    peer = opened.transport.get_extra_info("socket")
    assert peer.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
    opened.transport.abort()
    port = api.port
    await api.stop()
    with pytest.raises(ProxyError, match="connection refused"):
        await pool.connect(connection.upstream)
    assert connection.trouble is not None
    assert str(port) in connection.trouble.reason
    await api.start(authority.server(), port)
    opened = await pool.connect(connection.upstream)
    assert connection.trouble is None
    opened.transport.abort()
    pool.close()


async def test_after_sleep_everything_is_connected_anew(
    config: Path, cluster: dict[str, Any], api: ApiServer, impatient: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    ahead = 0.0
    monkeypatch.setattr(connections, "_wall_clock", lambda: time.time() + ahead)
    async with followed(made(config, cluster, {})) as connection:
        await connection.client.list("pods")
        await connection.client.list("pods")
        assert len(api.connections) == 1
        before = connection.upstream
        ahead = 3600.0
        await eventually(lambda: connection.upstream.key != before.key)
        assert connection.upstream.tls is before.tls
        await connection.client.list("pods")
        assert len(api.connections) == 2


class Unsteady:
    """An HTTP server that answers only the first request of a connection, and closes it at the second.

    silent: whether not to answer the first request either.
    """

    def __init__(self, silent: bool = False) -> None:
        self.requests = 0
        self._silent = silent

    async def __aenter__(self) -> Unsteady:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            await reader.readuntil(b"\r\n\r\n")
            self.requests += 1
            if not self._silent:
                writer.write(b'HTTP/1.1 200 OK\r\nContent-Length: 12\r\n\r\n{"items":[]}')
            await reader.readuntil(b"\r\n\r\n")
            self.requests += 1
        writer.close()


async def test_a_request_on_an_idle_connection_that_is_closed_is_sent_again(config: Path) -> None:
    async with Unsteady() as server:
        connection = made(config, {"server": server.url}, {})
        await connection.client.list("pods")
        await connection.client.list("pods")
        assert server.requests == 3
        assert connection.trouble is None
        # A request that is not idempotent is not sent again.
        with pytest.raises(ApiError, match=r"EOF|reset"):
            await connection.client.create("pods", {"metadata": {"name": "p"}}, "x")
        assert server.requests == 4
        await connection.aclose()


async def test_after_sleep_requests_do_not_wait_for_old_connections(
    config: Path, impatient: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    ahead = 0.0
    monkeypatch.setattr(connections, "_wall_clock", lambda: time.time() + ahead)
    async with Unsteady(silent=True) as server, followed(made(config, {"server": server.url}, {})) as connection:
        asking = asyncio.create_task(connection.client.list("pods"))
        await eventually(lambda: server.requests)
        ahead = 3600.0
        with pytest.raises(ApiError, match="the connection was replaced") as caught:
            await asyncio.wait_for(asking, 10)
        assert caught.value.code == 503
        assert connection.trouble is None
