"""Authentication at registries: Basic, and tokens as at Docker Hub and GHCR, by the specifications."""

from __future__ import annotations

import json
from dataclasses import replace
from urllib.parse import parse_qs

import pytest

from hatchway.images.contents import PullGrant
from hatchway.images.pulling.credentials import Credential
from hatchway.images.pulling.pull import PullError
from hatchway.images.pulling.registries import Registries, RegistrySettings
from tests.images.registrystub import Answer, Request, StubRegistry, redirect, serving
from tests.integration.images.conftest import Puller
from tests.integration.images.test_pull import LARGE, WEB, cutting, stub_with


def hub() -> StubRegistry:
    """Return a stub registry with tokens and one user."""
    stub = stub_with()
    stub.auth, stub.users = "token", {"ann": "right:with colon"}
    return stub


def ann(stub: StubRegistry, password: str = "right:with colon") -> Credential:
    return Credential(stub.address, "ann", password)


async def test_an_anonymous_token(puller: Puller) -> None:
    stub = hub()
    stub.readable = {"team/web"}
    async with serving(stub):
        await puller(f"{stub.address}/team/web:1")
        [token] = stub.asked("/token")
        assert token.query == {"service": ["registry.test"], "scope": ["repository:team/web:pull"]}
        assert not token.authorization
        # The token is kept for the next pull of the same repository.
        await puller(f"{stub.address}/team/web:1")
    assert len(stub.asked("/token")) == 1


async def test_ghcr_names_an_imaginary_scope_at_first(puller: Puller) -> None:
    stub = hub()
    stub.readable, stub.ping_scope = {"team/web"}, "repository:user/image:pull"
    async with serving(stub):
        await puller(f"{stub.address}/team/web:1")
    assert [one.query["scope"] for one in stub.asked("/token")] == [["repository:team/web:pull"]]


async def test_a_token_for_a_user(puller: Puller) -> None:
    stub = hub()
    async with serving(stub):
        await puller(f"{stub.address}/team/web:1", ann(stub))
        [token] = stub.asked("/token")
        assert token.query["account"] == ["ann"]
        assert token.authorization.startswith("Basic ")
    assert {one.authorization for one in stub.requests if "blobs" in one.path} == {"Bearer token-0"}


async def test_a_private_repository_without_credentials(puller: Puller) -> None:
    stub = hub()
    async with serving(stub):
        with pytest.raises(PullError) as caught:
            await puller(f"{stub.address}/team/web:1")
    assert caught.value.reason == (
        "pull access denied, repository does not exist or may require authorization: server message: "
        "insufficient_scope: authorization failed"
    )
    assert caught.value.kind == "denied"
    assert not caught.value.retryable
    assert f"docker login {stub.address}" in caught.value.hint


async def test_a_wrong_password(puller: Puller) -> None:
    stub = hub()
    async with serving(stub):
        with pytest.raises(PullError, match="401 Unauthorized: incorrect username or password") as caught:
            await puller(f"{stub.address}/team/web:1", ann(stub, "wrong"))
        assert "wrong" not in caught.value.message + caught.value.hint
        assert "are not accepted" in caught.value.hint
        # Like the kubelet, the pull tries the next credential that matches.
        await puller(f"{stub.address}/team/web:1", ann(stub, "wrong"), ann(stub))


async def test_an_identity_token(puller: Puller) -> None:
    stub = hub()
    stub.identity_tokens = {"refresh-me"}
    async with serving(stub):
        await puller(f"{stub.address}/team/web:1", Credential(stub.address, identity_token="refresh-me"))
        with pytest.raises(PullError, match="invalid_grant: unknown refresh token"):
            await puller(f"{stub.address}/team/web:1", Credential(stub.address, identity_token="old"))
    token = stub.asked("/token")[0]
    assert token.method == "POST"
    assert b"grant_type=refresh_token&refresh_token=refresh-me&service=registry.test" in token.body


@pytest.mark.parametrize("status", [404, 405])
async def test_a_token_server_with_oauth_only(puller: Puller, status: int) -> None:
    stub = hub()
    stub._tokens["granted"] = "repository:team/web:pull"

    def handler(request: Request) -> Answer | None:
        if request.path != "/token":
            return None
        if request.method == "GET":
            return Answer(status)
        form = parse_qs(request.body.decode())
        good = form["grant_type"] == ["password"] and form["username"] == ["ann"] and form["password"] == ["p&w"]
        return Answer(body=b'{"access_token":"granted"}') if good else Answer(401)

    stub.handler = handler
    async with serving(stub):
        await puller(f"{stub.address}/team/web:1", ann(stub, "p&w"))


async def test_a_registry_token(puller: Puller) -> None:
    stub = hub()
    stub._tokens["given"] = "repository:team/web:pull"
    async with serving(stub):
        await puller(f"{stub.address}/team/web:1", Credential(stub.address, registry_token="given"))
    assert not stub.asked("/token")


async def test_a_token_that_ends_during_the_pull(puller: Puller) -> None:
    stub = hub()
    stub.add("team/web", LARGE, "1")
    stub.readable = {"team/web"}
    _, cut = cutting(LARGE, 1_000_000)

    def handler(request: Request) -> Answer | None:
        answer: Answer | None = cut(request) if stub._challenge(request) is None else None  # type: ignore[operator]
        if answer is not None:
            stub.expire_tokens()
        return answer

    stub.handler = handler
    async with serving(stub):
        await puller(f"{stub.address}/team/web:1")
    assert len(stub.asked("/token")) >= 2


async def test_basic_authentication(puller: Puller) -> None:
    stub = stub_with()
    stub.auth, stub.users = "basic", {"ann": "right"}
    async with serving(stub):
        await puller(f"{stub.address}/team/web:1", Credential(stub.address, "ann", "right"))
        for credentials in ([], [Credential(stub.address, "ann", "wrong")], [Credential("ghcr.io", "ann", "right")]):
            with pytest.raises(PullError, match="authorization: server message: unauthorized: authentication required"):
                await puller(f"{stub.address}/team/web:1", *credentials)


async def test_who_may_use_what_was_pulled_is_remembered(puller: Puller) -> None:
    stub = hub()
    async with serving(stub):
        name = f"{stub.address}/team/web"
        first = replace(ann(stub), secret="uid-1")
        image = await puller(f"{name}:1", first)
        assert first.grant is not None and dict(image.private) == {name: (first.grant,)}
        assert image.may_use(name, [first.grant]) and not image.may_use(name, [])
        assert image.may_use(name, [PullGrant("uid-1", "changed")]) and image.may_use(
            name, [PullGrant("uid-2", first.grant.credential)]
        )
        assert not image.may_use(name, [PullGrant("uid-2", "other")])
        second = replace(ann(stub), secret="uid-2")
        image = await puller(f"{name}:1", second)
        assert set(image.private[name]) == {first.grant, second.grant}
        assert (puller.store.path / "names.json").read_text().count("right") == 0, "no password is stored"
        # An image that was pulled with the user's own credentials is for all pods, also after later pulls.
        image = await puller(f"{name}:1", ann(stub))
        assert not image.private and image.may_use(name, [])
        assert not (await puller(f"{name}:1", first)).private


async def test_the_account_is_not_locked_by_many_tries(puller: Puller) -> None:
    stub = stub_with()
    stub.auth, stub.users = "basic", {"ann": "right"}
    async with serving(stub):
        with pytest.raises(PullError):
            await puller(f"{stub.address}/team/web:1", Credential(stub.address, "ann", "wrong"))
    assert sum(bool(one.authorization) for one in stub.requests) <= 2


async def test_credentials_of_a_registry_are_not_sent_to_its_mirror(puller: Puller) -> None:
    registry, mirror = stub_with(), stub_with()
    mirror.auth = "basic"
    async with serving(registry, mirror):
        settings = {registry.address: RegistrySettings(mirrors=(f"http://{mirror.address}",))}
        credential = Credential(registry.address, "ann", "right")
        await puller(f"{registry.address}/team/web:1", credential, registries=Registries(settings))
    assert not any(one.authorization for one in mirror.requests)


# -- realms ------------------------------------------------------------------------------------------------------------


async def test_a_realm_without_tls_on_another_host_gets_no_credentials(puller: Puller) -> None:
    stub = hub()
    thief = StubRegistry()
    async with serving(stub), serving(thief, host="127.0.0.2"):
        stub.realm = f"http://{thief.address}/token"
        with pytest.raises(PullError, match=f"credentials are not sent to http://{thief.address}"):
            await puller(f"{stub.address}/team/web:1", ann(stub))
    assert not thief.requests


def leading(stub: StubRegistry, other: StubRegistry) -> Registries:
    """Return settings that allow a registry to redirect to another host on this machine."""
    return Registries({stub.address: RegistrySettings(redirects_to=(other.address,))})


async def test_a_token_server_that_redirects_gets_no_credentials_elsewhere(puller: Puller) -> None:
    stub, thief = hub(), StubRegistry()
    stub.handler = lambda request: redirect(f"http://{thief.address}/x") if request.path == "/token" else None
    thief.handler = lambda request: Answer(body=b'{"token":"stolen"}')
    async with serving(stub, thief):
        with pytest.raises(PullError):
            await puller(f"{stub.address}/team/web:1", ann(stub), registries=leading(stub, thief))
    assert thief.requests
    assert not any(one.authorization for one in thief.requests)


@pytest.mark.parametrize("part", ["/v2/", "/manifests/", "/blobs/"])
async def test_another_host_that_asks_for_credentials_gets_none(puller: Puller, part: str) -> None:
    """The target of a redirect may answer 401 and name its own realm (compare CVE-2020-15157)."""
    stub, thief = hub(), StubRegistry()
    thief.auth, thief.users = "token", {"ann": "right:with colon"}

    def handler(request: Request) -> Answer | None:
        if (request.path == part or (part != "/v2/" and part in request.path)) and (
            part == "/v2/" or stub._challenge(request) is None
        ):
            return redirect(f"http://{thief.address}{request.path}")
        return None

    stub.handler = handler
    async with serving(stub, thief):
        credential = Credential(stub.address, "ann", "right:with colon")
        registries = leading(stub, thief)
        if part == "/v2/":
            await puller(f"{stub.address}/team/web:1", credential, registries=registries)
        else:
            with pytest.raises(PullError, match="pull access denied"):
                await puller(f"{stub.address}/team/web:1", credential, registries=registries)
    assert thief.asked(part)
    assert not thief.asked("/token")
    assert not any(one.authorization for one in thief.requests)


async def test_blobs_elsewhere_get_no_token(puller: Puller) -> None:
    stub, cdn = hub(), StubRegistry()
    cdn.handler = lambda request: Answer(body=WEB.blobs[request.path.removeprefix("/")])

    def handler(request: Request) -> Answer | None:
        if "/blobs/" in request.path and stub._challenge(request) is None:
            return redirect(f"http://{cdn.address}/{request.path.rpartition('/')[2]}")
        return None

    stub.handler = handler
    async with serving(stub, cdn):
        await puller(f"{stub.address}/team/web:1", ann(stub), registries=leading(stub, cdn))
    assert len(cdn.requests) == 3
    assert not any(one.authorization for one in cdn.requests)


@pytest.mark.parametrize(
    "realm",
    [
        "file:///etc/passwd",
        "/token",
        "http://",
        "http://[::1",
        "http://user:password@127.0.0.1/token",
        "https://127.0.0.1:99999/",
        "javascript:alert(1)",
        "http://127.0.0.1:1/" + "x" * 20_000,
    ],
)
async def test_realms_that_are_not_urls(puller: Puller, realm: str) -> None:
    stub = hub()
    stub.realm = realm
    async with serving(stub):
        with pytest.raises(PullError) as caught:
            await puller(f"{stub.address}/team/web:1", ann(stub))
    assert caught.value.kind in ("invalid", "denied", "unreachable")
    assert len(caught.value.message) < 2000


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"", "not a JSON object"),
        (b"[" * 100_000, "not a JSON object"),
        (b"[]", "not a JSON object"),
        (b"{}", "did not include a token"),
        (json.dumps({"token": "a\r\nX-Injected: 1"}).encode(), "did not include a token"),
        (json.dumps({"token": "ä"}).encode(), "did not include a token"),
        (json.dumps({"token": "x" * 100_000}).encode(), "did not include a token"),
        (json.dumps({"token": ["x"]}).encode(), "did not include a token"),
        (b" " * 2_000_000, "longer than 131072 bytes"),
    ],
)
async def test_answers_without_a_valid_token(puller: Puller, body: bytes, words: str) -> None:
    stub = hub()
    stub.handler = lambda request: Answer(body=body) if request.path == "/token" else None
    async with serving(stub):
        with pytest.raises(PullError, match=words):
            await puller(f"{stub.address}/team/web:1")


@pytest.mark.parametrize("expires", [-5, 0, 1e300, "soon", True, None])
async def test_odd_lifetimes(puller: Puller, expires: object) -> None:
    stub = hub()
    stub._tokens["t"] = "repository:team/web:pull"
    body = json.dumps({"token": "t", "expires_in": expires}).encode()
    stub.handler = lambda request: Answer(body=body) if request.path == "/token" else None
    async with serving(stub):
        await puller(f"{stub.address}/team/web:1")


async def test_a_registry_that_never_accepts_its_tokens(puller: Puller) -> None:
    stub = hub()
    stub.handler = lambda request: Answer(body=b'{"token":"useless"}') if request.path == "/token" else None
    async with serving(stub):
        with pytest.raises(PullError, match="pull access denied"):
            await puller(f"{stub.address}/team/web:1", ann(stub))
    assert len(stub.requests) < 10
