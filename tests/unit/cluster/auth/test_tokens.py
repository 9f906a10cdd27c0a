"""Bearer tokens of all kinds: a valid token gives a user, an invalid token does not."""

from __future__ import annotations

import base64
import json
import time
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hatchway.cluster.auth import credentialfiles, tokens
from hatchway.cluster.auth.authenticators import Authenticator
from hatchway.cluster.auth.pki import Pki, load_key
from hatchway.cluster.auth.serviceaccounts import ISSUER, ServiceAccountTokens, split_username
from hatchway.cluster.auth.tokens import InvalidToken
from hatchway.cluster.auth.user import UserInfo
from hatchway.cluster.state import StateDir
from hatchway.errors import HatchwayError

from .fakes import FakeSource

KEY = ec.generate_private_key(ec.SECP256R1())


def b64(value: Any) -> str:
    raw = value if isinstance(value, bytes) else json.dumps(value).encode()
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def claims(**changes: Any) -> dict[str, Any]:
    now = int(time.time())
    found = {
        "iss": tokens.USER_ISSUER,
        "aud": [tokens.USER_AUDIENCE],
        "sub": "ada",
        "groups": ["devs"],
        "iat": now,
        "nbf": now,
        "exp": now + 60,
    }
    return {key: value for key, value in (found | changes).items() if value is not None}


def signed(key: Any = KEY, algorithm: str = "ES256", **changes: Any) -> str:
    return jwt.encode(claims(**changes), key, algorithm=algorithm)


def refused(token: str) -> bool:
    try:
        tokens.verify_minted(KEY.public_key(), token)
    except InvalidToken:
        return True
    return False


# -- minted tokens


def test_a_minted_token_has_its_user_and_groups() -> None:
    token = tokens.mint(KEY, user="ada", groups=["devs", "ops"], seconds=60)
    user, expires = tokens.verify_minted(KEY.public_key(), token)
    assert user == UserInfo("ada", ("devs", "ops"))
    assert 0 < expires - time.time() <= 60


@pytest.mark.parametrize(
    "changes",
    [
        {"exp": int(time.time()) - 1},
        {"exp": None},
        {"exp": "soon"},
        {"exp": True},
        {"exp": float("inf")},
        {"exp": float("nan")},
        {"nbf": int(time.time()) + 3600},
        {"aud": ["someone-else"]},
        {"aud": None},
        {"iss": ISSUER},
        {"iss": None},
        {"sub": ""},
        {"sub": None},
        {"sub": 7},
        {"groups": "devs"},
        {"groups": [1]},
    ],
)
def test_bad_claims(changes: dict[str, Any]) -> None:
    assert not refused(signed())
    assert refused(signed(**changes))


def test_another_key() -> None:
    assert refused(signed(ec.generate_private_key(ec.SECP256R1())))


def test_no_algorithm() -> None:
    token = f"{b64({'alg': 'none', 'typ': 'JWT'})}.{b64(claims())}."
    assert refused(token)
    assert refused(token + "x")


def test_a_public_key_is_no_shared_secret(keys: Pki) -> None:
    """A known attack: HS256 with the public key as the secret (RFC 8725, section 2.1)."""
    import hashlib
    import hmac

    public = keys.user_tokens_pub.read_bytes()
    body = f"{b64({'alg': 'HS256', 'typ': 'JWT'})}.{b64(claims())}"
    token = f"{body}.{b64(hmac.new(public, body.encode(), hashlib.sha256).digest())}"
    with pytest.raises(InvalidToken):
        tokens.verify_minted(load_key(keys.user_tokens_key).public_key(), token)


def test_another_algorithm_of_the_same_family() -> None:
    assert refused(signed(ec.generate_private_key(ec.SECP384R1()), "ES384"))


@given(st.integers(0, 10_000), st.integers(1, 255))
def test_a_token_with_a_changed_byte_is_refused(position: int, change: int) -> None:
    token = tokens.mint(KEY, user="ada", groups=[], seconds=60).encode()
    at = position % len(token)
    changed = token[:at] + bytes([token[at] ^ change]) + token[at + 1 :]
    text = changed.decode("latin-1")
    # The last character of a part has unused bits. A change of only these bits does not change the token.
    padded = [part + b"=" * (-len(part) % 4) for part in changed.split(b".")]
    try:
        same = [base64.urlsafe_b64decode(part) for part in padded] == [
            base64.urlsafe_b64decode(part + b"=" * (-len(part) % 4)) for part in token.split(b".")
        ]
    except ValueError:
        same = False
    assert same or refused(text)


@given(
    st.text(max_size=300)
    | st.from_regex(r"[A-Za-z0-9_-]{0,40}\.[A-Za-z0-9_-]{0,40}\.[A-Za-z0-9_-]{0,40}", fullmatch=True)
)
def test_any_text_is_refused_as_an_invalid_token(text: str) -> None:
    assert refused(text)
    tokens.issuer_of(text)


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=5),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(["iss", "aud", "exp", "nbf", "iat", "sub", "groups", "kubernetes.io"]),
                inner,
                max_size=5,
            )
        ),
        max_leaves=10,
    )
)
def test_malformed_signed_tokens_are_refused(payload: Any) -> None:
    """The signature is valid, so the payload is parsed; this must not cause an internal error."""
    token = jwt.api_jws.encode(json.dumps(payload).encode(), KEY, algorithm="ES256")
    tokens.issuer_of(token)
    assert refused(token)


def test_a_token_that_is_too_long_is_not_parsed() -> None:
    assert tokens.issuer_of("a." + "b" * tokens.MAX_LENGTH + ".c") is None


# -- tokens for the command line


def test_the_administrators_token_is_made_once(state: StateDir) -> None:
    token = credentialfiles.ensure_admin_token(state)
    assert credentialfiles.ensure_admin_token(state) == token
    assert state.tokens_file.stat().st_mode & 0o777 == 0o600
    assert tokens.parse_static(state.tokens_file)[tokens.sha256(token)] == UserInfo(
        "kubernetes-admin", ("system:masters",)
    )


def test_minting_needs_a_started_cluster(state: StateDir) -> None:
    with pytest.raises(HatchwayError, match="no certificates"):
        credentialfiles.mint_token(state, user="ada", groups=[], seconds=60)


def test_minting(state: StateDir, authenticator: Authenticator) -> None:
    token = credentialfiles.mint_token(state, user="ada", groups=["devs"], seconds=60)
    found = authenticator.authenticate_token(token)
    assert found.user == UserInfo("ada", ("devs", "system:authenticated"))
    with pytest.raises(HatchwayError):
        credentialfiles.mint_token(state, user="", groups=[], seconds=60)


@pytest.mark.parametrize(
    "text", ["[", "[]", '{"tokens": [{}]}', '{"tokens": 3}', '{"tokens": [{"token": "secret-x"}]}']
)
def test_the_error_names_a_damaged_token_file_without_its_content(state: StateDir, text: str) -> None:
    state.tokens_file.write_text(text)
    with pytest.raises(HatchwayError, match=r"tokens\.json") as caught:
        tokens.StaticTokens(state.tokens_file)
    assert "secret-x" not in str(caught.value) + caught.value.hint


def test_hashed_tokens(state: StateDir) -> None:
    state.tokens_file.write_text(json.dumps({"tokens": [{"user": "eve", "sha256": tokens.sha256("s3cret")}]}))
    static = tokens.StaticTokens(state.tokens_file)
    assert static.authenticate("s3cret") == UserInfo("eve")
    assert static.authenticate(tokens.sha256("s3cret")) is None


# -- service accounts

ACCOUNT = {"metadata": {"namespace": "n", "name": "robot", "uid": "u1"}}
POD = {
    "metadata": {"namespace": "n", "name": "web-0", "uid": "p1"},
    "spec": {"serviceAccountName": "robot", "nodeName": "node-1"},
}
NODE = {"metadata": {"name": "node-1", "uid": "n1"}}


@pytest.fixture
def accounts(source: FakeSource) -> ServiceAccountTokens:
    source.put("serviceaccounts", ACCOUNT)
    source.put("pods", POD)
    source.put("nodes", NODE)
    return ServiceAccountTokens(KEY, source)


def test_a_pods_token(accounts: ServiceAccountTokens, source: FakeSource) -> None:
    token, _ = accounts.issue(ACCOUNT, audiences=[ISSUER], seconds=600, bound=("pod", POD), node=NODE)
    found = accounts.verify(token)
    accounts.check(found)
    assert found.user.name == "system:serviceaccount:n:robot"
    assert found.user.groups == ("system:serviceaccounts", "system:serviceaccounts:n")
    assert found.user.uid == "u1"
    assert found.user.extra["authentication.kubernetes.io/pod-name"] == ("web-0",)
    assert found.user.extra["authentication.kubernetes.io/node-uid"] == ("n1",)
    # The token names the node, but is not bound to the node.
    source.remove("nodes", "", "node-1")
    accounts.check(found)
    source.put("pods", {**POD, "metadata": {**POD["metadata"], "uid": "p2"}})
    with pytest.raises(InvalidToken, match="another one"):
        accounts.check(found)
    source.remove("pods", "n", "web-0")
    with pytest.raises(InvalidToken, match="gone"):
        accounts.check(found)


def test_a_token_is_invalid_after_its_account_is_deleted(accounts: ServiceAccountTokens, source: FakeSource) -> None:
    token, _ = accounts.issue(ACCOUNT, audiences=[ISSUER], seconds=600)
    found = accounts.verify(token)
    for stamp, good in (("2999-01-01T00:00:00Z", True), ("2001-01-01T00:00:00Z", False)):
        source.put("serviceaccounts", {"metadata": {**ACCOUNT["metadata"], "deletionTimestamp": stamp}})
        if good:
            accounts.check(found)
        else:
            with pytest.raises(InvalidToken, match="being deleted"):
                accounts.check(found)
    source.put("serviceaccounts", {"metadata": {**ACCOUNT["metadata"], "uid": "u2"}})
    with pytest.raises(InvalidToken):
        accounts.check(found)
    source.remove("serviceaccounts", "n", "robot")
    with pytest.raises(InvalidToken):
        accounts.check(found)


def test_a_node_bound_token(accounts: ServiceAccountTokens, source: FakeSource) -> None:
    token, _ = accounts.issue(ACCOUNT, audiences=[ISSUER], seconds=600, bound=("node", NODE))
    found = accounts.verify(token)
    accounts.check(found)
    source.remove("nodes", "", "node-1")
    with pytest.raises(InvalidToken):
        accounts.check(found)


def test_other_programs_can_verify_tokens_with_the_published_keys(accounts: ServiceAccountTokens) -> None:
    token, _ = accounts.issue(ACCOUNT, audiences=["vault"], seconds=600)
    keys = jwt.PyJWKSet.from_dict(json.loads(json.dumps(accounts.jwks())))
    key = keys[jwt.get_unverified_header(token)["kid"]]
    configuration = accounts.openid_configuration()
    found = jwt.decode(
        token,
        key,
        algorithms=configuration["id_token_signing_alg_values_supported"],
        audience="vault",
        issuer=configuration["issuer"],
    )
    assert found["sub"] == "system:serviceaccount:n:robot"
    assert "d" not in accounts.jwks()["keys"][0]


def test_audiences(accounts: ServiceAccountTokens) -> None:
    token, _ = accounts.issue(ACCOUNT, audiences=["vault", "db"], seconds=600)
    assert accounts.verify(token, ["db", "other"]).audiences == ("db",)
    with pytest.raises(InvalidToken):
        accounts.verify(token)


@pytest.mark.parametrize(
    "changes",
    [
        {"kubernetes.io": None},
        {"kubernetes.io": []},
        {"kubernetes.io": {"namespace": "n"}},
        {"kubernetes.io": {"namespace": 1, "serviceaccount": {"name": "robot", "uid": "u1"}}},
        {"kubernetes.io": {"namespace": "n", "serviceaccount": {"name": "robot", "uid": "u1"}, "pod": "web-0"}},
        {"sub": "system:serviceaccount:n:other"},
        {"sub": "system:admin"},
        {"iss": tokens.USER_ISSUER},
        {"exp": int(time.time()) - 1},
    ],
)
def test_bad_claims_of_service_accounts(accounts: ServiceAccountTokens, changes: dict[str, Any]) -> None:
    good = claims(
        iss=ISSUER,
        aud=[ISSUER],
        sub="system:serviceaccount:n:robot",
        **{"kubernetes.io": {"namespace": "n", "serviceaccount": {"name": "robot", "uid": "u1"}}},
    )
    accounts.verify(jwt.encode(good, KEY, algorithm="ES256"))
    bad = {key: value for key, value in (good | changes).items() if value is not None}
    with pytest.raises(InvalidToken):
        accounts.verify(jwt.encode(bad, KEY, algorithm="ES256"))


def test_tokens_of_users_and_of_service_accounts_are_not_confused(keys: Pki, authenticator: Authenticator) -> None:
    """A user's token signed with the service accounts' key is refused, and the reverse."""
    as_user = jwt.encode(claims(sub="root", groups=["system:masters"]), load_key(keys.sa_key), algorithm="ES256")
    private = {"namespace": "n", "serviceaccount": {"name": "robot", "uid": "u1"}}
    as_account = jwt.encode(
        claims(iss=ISSUER, aud=[ISSUER], sub="system:serviceaccount:n:robot", **{"kubernetes.io": private}),
        load_key(keys.user_tokens_key),
        algorithm="ES256",
    )
    for token in (as_user, as_account):
        with pytest.raises(InvalidToken):
            authenticator.authenticate_token(token)


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("system:serviceaccount:n:robot", ("n", "robot")),
        ("system:serviceaccount:n", None),
        ("system:serviceaccount:n:", None),
        ("system:serviceaccount::x", None),
        ("system:serviceaccount:n:a:b", None),
        ("alice", None),
    ],
)
def test_user_names_of_service_accounts(name: str, wanted: tuple[str, str] | None) -> None:
    assert split_username(name) == wanted


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(token=st.text(max_size=100))
def test_invalid_tokens_are_refused(authenticator: Authenticator, token: str) -> None:
    with pytest.raises(InvalidToken):
        authenticator.authenticate_token(token)
