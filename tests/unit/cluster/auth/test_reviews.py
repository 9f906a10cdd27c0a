"""Access reviews and token requests, compared with recordings and with Kubernetes' sources."""

from __future__ import annotations

import json
from typing import Any

import pytest

from hatchway.cluster.auth.authenticators import Authenticator, Identity
from hatchway.cluster.auth.bootstrap import bootstrap_objects
from hatchway.cluster.auth.rbac import Authorizer
from hatchway.cluster.auth.reviews import Reviews
from hatchway.cluster.auth.serviceaccounts import ISSUER
from hatchway.cluster.auth.user import LOOPBACK_USER, UserInfo
from hatchway.errors import ApiError
from tests.conformance.replay import Recording, load

from .fakes import FakeSource, request, rule

USERS = {
    "admin": UserInfo("admin", ("system:masters", "system:authenticated")),
    "alice": UserInfo("alice", ("system:authenticated",), "alice-uid"),
    "bob": UserInfo("bob", ("devs", "testers", "system:authenticated")),
}


@pytest.fixture
def reviews(authenticator: Authenticator, source: FakeSource) -> Reviews:
    for resource, obj in bootstrap_objects():
        source.put(resource, obj)
    source.role(
        "web-proxy",
        rule("get list watch", "services endpoints pods"),
        rule("get", "services/proxy", names="web web:http plain"),
        namespace="team-a",
    )
    source.bind("alice-web-proxy", "web-proxy", "User:alice", namespace="team-a")
    source.bind("devs-edit", "edit", "Group:devs", namespace="team-b", kind="ClusterRole")
    source.put("serviceaccounts", {"metadata": {"namespace": "n", "name": "robot", "uid": "u1"}})
    source.put(
        "pods",
        {
            "metadata": {"namespace": "n", "name": "web-0", "uid": "p1"},
            "spec": {"serviceAccountName": "robot", "nodeName": "node-1"},
        },
    )
    source.put("nodes", {"metadata": {"name": "node-1", "uid": "n1"}})
    return Reviews(authenticator, Authorizer(source), source)


async def ask(
    reviews: Reviews, resource: str, spec: Any, *, user: UserInfo = LOOPBACK_USER, namespace: str = "", name: str = ""
) -> Any:
    return (await reviews.handlers[resource](user, namespace, name, {"spec": spec}))["status"]


async def refusal(reviews: Reviews, resource: str, spec: Any, **more: Any) -> dict[str, Any]:
    with pytest.raises(ApiError) as caught:
        await ask(reviews, resource, spec, **more)
    return caught.value.status()


RECORDED = [one for one in load("api.jsonl") if one["method"] == "POST" and "reviews" in one["path"]]


@pytest.mark.parametrize("recording", RECORDED, ids=[one["id"] for one in RECORDED])
async def test_recorded(reviews: Reviews, recording: Recording) -> None:
    _, _, group, _, resource = recording["path"].split("/")
    obj = json.loads(recording["body"])
    wanted = json.loads(recording["response"]["body"])
    handler = reviews.handlers[f"{resource}.{group}"]
    if wanted["kind"] == "Status":
        with pytest.raises(ApiError) as caught:
            await handler(USERS[recording["user"]], "", "", obj)
        assert caught.value.status() == wanted
        return
    got = await handler(USERS[recording["user"]], "", "", obj)
    if resource == "selfsubjectrulesreviews":
        # The order of rules follows the bindings, so it may differ. The recorded distribution also lets every user read
        # /.well-known.
        for wanted_rule in wanted["status"]["resourceRules"][1:]:
            assert wanted_rule in got["status"]["resourceRules"]
        urls = [item for item in wanted["status"]["nonResourceRules"] if "/.well-known" not in item["nonResourceURLs"]]
        assert all(item in got["status"]["nonResourceRules"] for item in urls)
        assert got["spec"] == {}
        assert got["status"]["incomplete"] is False
        return
    if recording["id"] == "196":
        # Two bindings allow this request, and the reason may name either of them.
        del got["status"]["reason"], wanted["status"]["reason"]
    assert got["status"] == wanted["status"]
    # Kubernetes has already omitted the request's empty strings. Hatchway omits them later, when it encodes the answer.
    assert got["spec"] == obj["spec"]
    assert "creationTimestamp" not in got["metadata"]


async def test_whoami(reviews: Reviews) -> None:
    status = await ask(
        reviews, "selfsubjectreviews.authentication.k8s.io", {}, user=UserInfo("ada", ("g",), "u", {"k": ("v",)})
    )
    assert status == {"userInfo": {"username": "ada", "uid": "u", "groups": ["g"], "extra": {"k": ["v"]}}}


async def test_token_reviews_for_audiences(reviews: Reviews, source: FakeSource, authenticator: Authenticator) -> None:
    resource = "tokenreviews.authentication.k8s.io"
    account = source.get("serviceaccounts", "n", "robot")
    assert account is not None
    token, _ = authenticator.service_accounts.issue(account, audiences=["vault"], seconds=600)
    found = await ask(reviews, resource, {"token": token, "audiences": ["vault", "x"]})
    assert found["authenticated"] is True
    assert found["audiences"] == ["vault"]
    assert found["user"]["username"] == "system:serviceaccount:n:robot"
    assert found["user"]["groups"] == ["system:serviceaccounts", "system:serviceaccounts:n", "system:authenticated"]
    assert (await ask(reviews, resource, {"token": token})).get("authenticated") is None
    assert (await ask(reviews, resource, {"token": "alice-token", "audiences": ["vault"]})).get("authenticated") is None
    assert (await ask(reviews, resource, {"token": "alice-token", "audiences": [ISSUER]}))["audiences"] == [ISSUER]
    assert (await refusal(reviews, resource, {}))["message"] == "token is required for TokenReview in authentication"


async def test_access_reviews_are_checked(reviews: Reviews) -> None:
    resource = "subjectaccessreviews.authorization.k8s.io"
    attributes = {"verb": "get", "resource": "pods", "namespace": "team-b"}
    found = await refusal(reviews, resource, {"resourceAttributes": attributes})
    assert found["details"]["causes"][0]["field"] == "spec.user"
    found = await refusal(
        reviews, resource, {"user": "x", "resourceAttributes": attributes, "nonResourceAttributes": {}}
    )
    assert found["details"]["causes"][0]["field"] == "spec.nonResourceAttributes"
    assert (await ask(reviews, resource, {"groups": ["devs"], "resourceAttributes": attributes}))["allowed"] is True
    assert (
        await ask(
            reviews, resource, {"groups": ["system:masters"], "nonResourceAttributes": {"path": "/x", "verb": "get"}}
        )
    )["allowed"] is True
    local = "localsubjectaccessreviews.authorization.k8s.io"
    assert (
        await ask(
            reviews, local, {"user": "x", "groups": ["devs"], "resourceAttributes": attributes}, namespace="team-b"
        )
    )["allowed"] is True
    found = await refusal(reviews, local, {"user": "x", "resourceAttributes": attributes}, namespace="team-a")
    assert found["message"] == "spec.resourceAttributes.namespace must match namespace: team-a"
    found = await refusal(reviews, local, {"user": "x", "nonResourceAttributes": {"path": "/"}}, namespace="team-a")
    assert found["code"] == 422
    found = await refusal(reviews, "selfsubjectrulesreviews.authorization.k8s.io", {})
    assert found["message"] == "no namespace on request"


async def test_a_requested_token_is_valid(reviews: Reviews, authenticator: Authenticator, source: FakeSource) -> None:
    bound = {"kind": "Pod", "apiVersion": "v1", "name": "web-0", "uid": "p1"}
    obj = {"spec": {"boundObjectRef": bound, "expirationSeconds": 3607}}
    answer = await reviews.token_request(LOOPBACK_USER, "n", "robot", obj)
    assert answer["spec"] == {"audiences": [ISSUER], "expirationSeconds": 3607, "boundObjectRef": bound}
    assert answer["status"]["expirationTimestamp"].endswith("Z")
    head = request("/", token=answer["status"]["token"])
    found = authenticator.authenticate(head)
    assert isinstance(found, Identity)
    assert found.user.extra["authentication.kubernetes.io/node-name"] == ("node-1",)
    source.remove("pods", "n", "web-0")
    with pytest.raises(ApiError):
        authenticator.authenticate(head)


@pytest.mark.parametrize(
    ("name", "spec", "code", "message"),
    [
        ("nope", {}, 404, 'serviceaccounts "nope" not found'),
        ("robot", {"expirationSeconds": 60}, 422, "may not specify a duration less than 10 minutes"),
        ("robot", {"expirationSeconds": 1 << 33}, 422, "may not specify a duration larger than 2^32 seconds"),
        ("robot", {"boundObjectRef": {"kind": "Pod", "apiVersion": "v1", "name": "gone"}}, 404, 'pods "gone" not found'),
        ("robot", {"boundObjectRef": {"kind": "Pod", "apiVersion": "v1", "name": "web-0", "uid": "x"}}, 409, "does not match the UID in record"),
        ("robot", {"boundObjectRef": {"kind": "ConfigMap", "apiVersion": "v1", "name": "x"}}, 400, "cannot bind token to object of type /v1, Kind=ConfigMap"),
        ("other", {"boundObjectRef": {"kind": "Pod", "apiVersion": "v1", "name": "web-0"}}, 400, "different serviceaccount name"),
    ],
)  # fmt: skip
async def test_refused_token_requests(
    reviews: Reviews, source: FakeSource, name: str, spec: dict[str, Any], code: int, message: str
) -> None:
    source.put("serviceaccounts", {"metadata": {"namespace": "n", "name": "other", "uid": "u2"}})
    found = await refusal(reviews, "serviceaccounts/token", spec, namespace="n", name=name)
    assert found["code"] == code
    assert message in found["message"]
