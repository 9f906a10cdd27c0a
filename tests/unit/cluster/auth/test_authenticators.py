"""The user of a request: tokens, certificates, passwords and WebSockets."""

from __future__ import annotations

import asyncio
import base64
import inspect
import json
import threading
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hatchway.cluster.auth import basic, credentialfiles
from hatchway.cluster.auth.authenticators import BEARER_PROTOCOL, Authenticator, Identity
from hatchway.cluster.auth.pki import Pki
from hatchway.cluster.auth.serviceaccounts import ISSUER
from hatchway.cluster.auth.user import ANONYMOUS, UserInfo
from hatchway.cluster.state import StateDir
from hatchway.errors import ApiError, HatchwayError
from hatchway.proxy.routing import RequestHead

from .fakes import FakeSource, request

AUTHENTICATED = "system:authenticated"


def der(path: Any) -> bytes:
    import ssl

    return ssl.PEM_cert_to_DER_cert(path.read_text())


def who(authenticator: Authenticator, head: RequestHead) -> UserInfo:
    found = authenticator.authenticate(head)
    assert isinstance(found, Identity)
    return found.user


def refusal(authenticator: Authenticator, head: RequestHead) -> ApiError:
    with pytest.raises(ApiError) as caught:
        authenticator.authenticate(head)
    return caught.value


def password(user: str, secret: str) -> str:
    return "Basic " + base64.b64encode(f"{user}:{secret}".encode()).decode()


@pytest.fixture
def cheap(monkeypatch: pytest.MonkeyPatch) -> None:
    """Use fast password hashes; the cost of hashes is not tested here."""
    import argon2

    monkeypatch.setattr(basic, "_HASHER", argon2.PasswordHasher(time_cost=1, memory_cost=8, parallelism=1))


# -- tokens


def test_static_tokens(authenticator: Authenticator) -> None:
    assert who(authenticator, request("/", token="alice-token")) == UserInfo("alice", (AUTHENTICATED,), "alice-uid")
    assert who(authenticator, request("/", Authorization="bearer   bob-token ")).groups == (
        "devs",
        "testers",
        AUTHENTICATED,
    )
    # The second request finds the token in the cache.
    assert who(authenticator, request("/", token="alice-token")).name == "alice"


def test_an_unknown_token_is_not_anonymous(authenticator: Authenticator) -> None:
    error = refusal(authenticator, request("/healthz", token="nope"))
    assert error.status()["message"] == "Unauthorized"
    assert error.code == 401
    assert refusal(authenticator, request("/", token="\xff\xfe".encode().decode("latin-1"))).code == 401


def test_requests_without_credentials_are_anonymous(authenticator: Authenticator) -> None:
    assert who(authenticator, request("/")) == ANONYMOUS
    assert who(authenticator, request("/", Authorization="Bearer ")) == ANONYMOUS
    assert who(authenticator, request("/", Authorization="Negotiate abc")) == ANONYMOUS


def test_a_cached_token_that_expires(
    authenticator: Authenticator, state: StateDir, monkeypatch: pytest.MonkeyPatch
) -> None:
    import time

    token = credentialfiles.mint_token(state, user="ada", groups=[], seconds=60)
    assert who(authenticator, request("/", token=token)).name == "ada"
    later = time.time() + 61
    monkeypatch.setattr(time, "time", lambda: later)
    assert refusal(authenticator, request("/", token=token)).code == 401


def test_a_service_account_that_is_deleted_while_its_token_is_cached(
    authenticator: Authenticator, source: FakeSource
) -> None:
    account = {"metadata": {"namespace": "n", "name": "robot", "uid": "u1"}}
    source.put("serviceaccounts", account)
    token, _ = authenticator.service_accounts.issue(account, audiences=[ISSUER], seconds=600)
    for _ in range(2):
        assert who(authenticator, request("/", token=token)).name == "system:serviceaccount:n:robot"
    source.remove("serviceaccounts", "n", "robot")
    assert refusal(authenticator, request("/", token=token)).code == 401


def test_changes_of_the_tokens_file_have_effect_at_once(authenticator: Authenticator, state: StateDir) -> None:
    assert who(authenticator, request("/", token="alice-token")).name == "alice"
    token = credentialfiles.ensure_admin_token(state)
    assert who(authenticator, request("/", token=token)).groups == ("system:masters", AUTHENTICATED)
    state.tokens_file.write_text(json.dumps({"tokens": []}))
    assert refusal(authenticator, request("/", token="alice-token")).code == 401


def test_a_damaged_file_changes_nothing(
    authenticator: Authenticator, state: StateDir, caplog: pytest.LogCaptureFixture
) -> None:
    state.tokens_file.write_text('{"tokens": [{"token": "s3cret"')
    assert who(authenticator, request("/", token="alice-token")).name == "alice"
    assert "tokens.json" in caplog.text
    assert "s3cret" not in caplog.text


def test_the_number_of_cached_tokens_is_limited(authenticator: Authenticator, state: StateDir) -> None:
    names = [f"t{number}" for number in range(1500)]
    state.tokens_file.write_text(json.dumps({"tokens": [{"user": "u", "token": name} for name in names]}))
    for name in names:
        who(authenticator, request("/", token=name))
    assert len(authenticator._tokens) <= 1024


# -- certificates


def test_client_certificates(authenticator: Authenticator, keys: Pki) -> None:
    found = der(keys.admin.cert)
    for _ in range(2):
        assert who(authenticator, request("/", certificate=found)) == UserInfo(
            "kubernetes-admin", ("system:masters", AUTHENTICATED)
        )
    # A certificate takes precedence over a token.
    assert who(authenticator, request("/", certificate=found, token="alice-token")).name == "kubernetes-admin"


def test_a_server_certificate_is_refused(authenticator: Authenticator, keys: Pki) -> None:
    found = der(keys.apiserver.cert)
    assert refusal(authenticator, request("/", certificate=found)).code == 401
    assert who(authenticator, request("/", certificate=found, token="alice-token")).name == "alice"


def test_a_certificate_that_expires_on_an_open_connection_is_refused(
    authenticator: Authenticator, keys: Pki, monkeypatch: pytest.MonkeyPatch
) -> None:
    import time

    found = der(keys.admin.cert)
    who(authenticator, request("/", certificate=found))
    later = time.time() + 366 * 86400
    monkeypatch.setattr(time, "time", lambda: later)
    assert refusal(authenticator, request("/", certificate=found)).code == 401


# -- WebSockets


def protocol(token: str) -> str:
    return BEARER_PROTOCOL.decode() + base64.urlsafe_b64encode(token.encode()).rstrip(b"=").decode()


def socket(protocols: str, **more: Any) -> RequestHead:
    return request("/", upgrade=b"websocket", Sec_WebSocket_Protocol=protocols, **more)


def test_a_websockets_token(authenticator: Authenticator) -> None:
    assert who(authenticator, socket(f"v4.channel.k8s.io, {protocol('alice-token')}")).name == "alice"
    assert who(authenticator, socket("v4.channel.k8s.io")) == ANONYMOUS
    # The header field without an upgrade has no effect.
    assert who(authenticator, request("/", Sec_WebSocket_Protocol=f"x, {protocol('alice-token')}")) == ANONYMOUS


@pytest.mark.parametrize(
    "protocols",
    [
        protocol("alice-token"),
        f"x, {protocol('nope')}",
        f"x, {protocol('alice-token')}, {protocol('bob-token')}",
        f"x, {BEARER_PROTOCOL.decode()}",
        f"x, {BEARER_PROTOCOL.decode()}!!!",
        f"x, {protocol('alice-token')}=",
    ],
)
def test_bad_tokens_of_websockets(authenticator: Authenticator, protocols: str) -> None:
    assert refusal(authenticator, socket(protocols)).code == 401


# -- HTTP basic


def test_basic_is_off_until_there_is_a_user(authenticator: Authenticator) -> None:
    assert refusal(authenticator, request("/", Authorization=password("ada", "x"))).code == 401
    browser = request("/", Accept="text/html", Sec_Fetch_Mode="navigate")
    assert who(authenticator, browser) == ANONYMOUS


@pytest.mark.usefixtures("cheap")
async def test_basic(authenticator: Authenticator, state: StateDir) -> None:
    credentialfiles.set_password(state, user="ada", groups=["devs"], password="love:lace")
    assert state.basic_file.stat().st_mode & 0o777 == 0o600
    assert "love" not in state.basic_file.read_text()
    good = request("/", Authorization=password("ada", "love:lace"))
    first = authenticator.authenticate(good)
    assert inspect.isawaitable(first)
    assert await first == UserInfo("ada", ("devs", AUTHENTICATED))
    # The password was checked before, so nothing is awaited.
    assert who(authenticator, good) == UserInfo("ada", ("devs", AUTHENTICATED))
    for bad in (
        password("ada", "wrong"),
        password("eve", "love:lace"),
        "Basic !!!",
        "Basic " + base64.b64encode(b"ada").decode(),
    ):
        refused = authenticator.authenticate(request("/", Authorization=bad))
        assert not isinstance(refused, Identity)
        with pytest.raises(ApiError) as caught:
            await refused
        assert caught.value.code == 401
        assert caught.value.headers() == []
    # After a change, the old password is invalid. After its user was removed, the new password is invalid, too.
    credentialfiles.set_password(state, user="ada", groups=[], password="other")
    changed = authenticator.authenticate(good)
    assert not isinstance(changed, Identity)
    with pytest.raises(ApiError):
        await changed
    credentialfiles.remove_password(state, "ada")
    assert refusal(authenticator, good).code == 401
    with pytest.raises(HatchwayError, match="not a user"):
        credentialfiles.remove_password(state, "ada")


@pytest.mark.usefixtures("cheap")
async def test_a_browser_is_challenged_and_tools_are_not(authenticator: Authenticator, state: StateDir) -> None:
    credentialfiles.set_password(state, user="ada", groups=[], password="x")
    page = {"Accept": "text/html", "Sec_Fetch_Mode": "navigate", "Sec_Fetch_Site": "none"}
    for head in (
        request("/", **page),
        request("/", Accept="text/html,*/*"),
        request("/style.css", Sec_Fetch_Mode="no-cors", Sec_Fetch_Site="same-origin"),
    ):
        error = refusal(authenticator, head)
        assert error.code == 401
        assert dict(error.headers())[b"www-authenticate"].startswith(b"Basic ")
    again = authenticator.authenticate(request("/", Authorization=password("ada", "wrong"), **page))
    assert not isinstance(again, Identity)
    with pytest.raises(ApiError) as caught:
        await again
    assert b"www-authenticate" in dict(caught.value.headers())
    for head in (
        request("/", Accept="*/*"),
        request("/", "POST", Accept="text/html"),
        request("/", Sec_Fetch_Mode="cors", Sec_Fetch_Site="cross-site"),
    ):
        assert who(authenticator, head) == ANONYMOUS


@pytest.mark.usefixtures("cheap")
async def test_failures_are_limited(
    authenticator: Authenticator, state: StateDir, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(basic, "_REFILL", 1e6)
    credentialfiles.set_password(state, user="ada", groups=[], password="x")
    credentialfiles.set_password(state, user="bob", groups=[], password="y")

    async def attempt(user: str, secret: str) -> int:
        try:
            found = authenticator.authenticate(request("/", Authorization=password(user, secret)))
            if not isinstance(found, Identity):
                await found
        except ApiError as error:
            if error.code == 429:
                assert int(dict(error.headers())[b"retry-after"]) >= 1
            return error.code
        return 200

    assert await attempt("ada", "x") == 200
    assert [await attempt("ada", f"wrong{i}") for i in range(12)].count(429) == 2
    # Parallel attempts count against the limit, too. All unknown users share one limit.
    assert (await asyncio.gather(*(attempt(f"nobody{i}", "z") for i in range(12)))).count(429) == 2
    # A user who was authenticated before, and other users, are still accepted.
    assert await attempt("ada", "x") == 200
    assert await attempt("bob", "y") == 200


@pytest.mark.usefixtures("cheap")
async def test_one_check_for_many_requests(
    authenticator: Authenticator, state: StateDir, monkeypatch: pytest.MonkeyPatch
) -> None:
    credentialfiles.set_password(state, user="ada", groups=[], password="x")
    checks = []
    verify = basic._matches
    monkeypatch.setattr(basic, "_matches", lambda *args: checks.append(1) or verify(*args))
    head = request("/", Authorization=password("ada", "x"))
    asked = [asyncio.ensure_future(authenticator.authenticate(head)) for _ in range(5)]  # type: ignore[arg-type]
    await asyncio.sleep(0)
    # A client that disconnects does not cancel the requests of others.
    asked[0].cancel()
    found = await asyncio.gather(*asked, return_exceptions=True)
    assert isinstance(found[0], asyncio.CancelledError)
    assert all(isinstance(user, UserInfo) for user in found[1:])
    assert len(checks) == 1


@pytest.mark.usefixtures("cheap")
async def test_too_many_different_passwords_at_once(authenticator: Authenticator, state: StateDir) -> None:
    credentialfiles.set_password(state, user="ada", groups=[], password="x")
    asked = []
    for number in range(40):
        found = authenticator.authenticate(request("/", Authorization=password(f"u{number}", "x")))
        assert not isinstance(found, Identity)
        asked.append(asyncio.ensure_future(found))
    codes = [
        error.code for error in await asyncio.gather(*asked, return_exceptions=True) if isinstance(error, ApiError)
    ]
    assert set(codes) == {401, 429}
    assert len(authenticator.basic._running) == 0


@pytest.mark.usefixtures("cheap")
async def test_a_request_after_a_change_does_not_join_a_check_of_the_old_password(
    authenticator: Authenticator, state: StateDir, monkeypatch: pytest.MonkeyPatch
) -> None:
    started, released = threading.Event(), threading.Event()
    verify = basic._matches

    def verify_later(*args: Any) -> bool:
        started.set()
        return released.wait(60) and verify(*args)

    monkeypatch.setattr(basic, "_matches", verify_later)
    good = request("/", Authorization=password("ada", "old"))
    credentialfiles.set_password(state, user="ada", groups=[], password="old")
    before = asyncio.ensure_future(authenticator.authenticate(good))
    assert await asyncio.to_thread(started.wait, 60)
    credentialfiles.set_password(state, user="ada", groups=[], password="new")
    after = asyncio.ensure_future(authenticator.authenticate(good))
    await asyncio.sleep(0)
    released.set()
    assert (await before).name == "ada"
    with pytest.raises(ApiError) as caught:
        await after
    assert caught.value.code == 401


@given(st.binary(max_size=40) | st.text(max_size=20).map(str.encode))
def test_basic_credentials_have_a_name_and_a_password_or_are_ignored(raw: bytes) -> None:
    encoded = base64.b64encode(raw).decode()
    found = basic.decode_credentials(encoded)
    try:
        text = raw.decode()
    except UnicodeDecodeError:
        assert found is None
        return
    assert found == (tuple(text.split(":", 1)) if ":" in text else None)
    basic.decode_credentials(raw.decode("latin-1"))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(protocols=st.lists(st.sampled_from([*"ab,. =-_", BEARER_PROTOCOL.decode()]), max_size=8).map("".join))
def test_any_sub_protocols(authenticator: Authenticator, protocols: str) -> None:
    """Requests with any subprotocols are anonymous or refused; none is an internal error."""
    try:
        assert who(authenticator, socket(protocols)) == ANONYMOUS
    except ApiError as error:
        assert error.code == 401


def test_user_names_that_are_refused(state: StateDir) -> None:
    for name in ("", "a:b", "system:admin"):
        with pytest.raises(HatchwayError):
            credentialfiles.set_password(state, user=name, groups=[], password="x")


@pytest.mark.usefixtures("cheap")
@pytest.mark.parametrize("ambient", ["certificate", "password"])
async def test_pages_of_other_sites_cannot_use_a_browsers_credentials(
    authenticator: Authenticator, state: StateDir, keys: Pki, ambient: str
) -> None:
    credentialfiles.set_password(state, user="ada", groups=[], password="x")
    first = authenticator.authenticate(request("/", Authorization=password("ada", "x")))
    assert not isinstance(first, Identity)
    await first
    more: dict[str, Any] = {"Host": "127.0.0.1:6443"}
    if ambient == "certificate":
        more["certificate"] = der(keys.admin.cert)
    else:
        more["Authorization"] = password("ada", "x")
    old_browser = {**more, "User_Agent": "Mozilla/5.0 (X11; Linux x86_64)"}
    good = [
        request("/", **more),
        request("/", "POST", Origin="https://127.0.0.1:6443", **old_browser),
        request("/", upgrade=b"websocket", Origin="http://localhost", User_Agent="Go-http-client/1.1", **more),
        request("/", "POST", Sec_Fetch_Site="same-origin", Sec_Fetch_Mode="cors", **more),
        request("/", Sec_Fetch_Site="cross-site", Sec_Fetch_Mode="navigate", **more),
        request("/", "POST", Origin="http://localhost:8001", X_Forwarded_For="127.0.0.1", **more),
    ]
    bad = [
        request("/", "POST", Sec_Fetch_Site="cross-site", Sec_Fetch_Mode="navigate", **more),
        request("/", Sec_Fetch_Site="cross-site", Sec_Fetch_Mode="no-cors", **more),
        request("/", Sec_Fetch_Site="same-site", Sec_Fetch_Mode="cors", **more),
        request("/", "POST", Origin="https://evil.example", **old_browser),
        request("/", "POST", Origin="null", **old_browser),
        request("/", upgrade=b"websocket", Sec_Fetch_Site="cross-site", Sec_Fetch_Mode="websocket", **more),
        request("/", upgrade=b"websocket", Origin="https://evil.example", **old_browser),
    ]
    for head in good:
        who(authenticator, head)
    for head in bad:
        assert refusal(authenticator, head).code == 403
