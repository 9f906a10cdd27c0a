"""The problems that the door reports if it has no credentials for the cluster, or if the cluster refuses them."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import cast

import pytest

from hatchway.door.address import DoorAddress
from hatchway.door.diagnosis import Diagnosis
from hatchway.door.pages import error_answer
from hatchway.door.problems.problem import DoorProblem
from hatchway.errors import ApiError, HatchwayError, NoCredentials
from hatchway.kube.connection import Connection
from hatchway.kube.lookup import ObjectLookup
from hatchway.proxy.routing import Peer, RequestHead, get_header
from hatchway.route.contract import TargetUnreached, Unreached
from hatchway.target import Target

LABEL = 'context "work" (https://10.0.0.1:6443)'
WEB = Target("services", "web", "shop", port="http")
HEAD = RequestHead("GET", b"/", b"/", None, [], "1.1", Peer(("127.0.0.1", 1), "http"))
PLUGIN = f'{LABEL}: the credential plugin "login" is not installed'


@pytest.fixture
def diagnosis() -> Diagnosis:
    found = SimpleNamespace(trouble=None, context="work", label=LABEL)
    return Diagnosis(cast(Connection, found), cast(ObjectLookup, None), DoorAddress("localhost"))


@pytest.mark.parametrize(
    ("error", "status", "kind", "words"),
    [
        (
            NoCredentials(PLUGIN, "install it"),
            503,
            "no-credentials",
            f'getting credentials for {LABEL}: the credential plugin "login" is not installed',
        ),
        (
            ApiError(401, "Unauthorized", "Unauthorized"),
            401,
            "credentials-expired",
            'the cluster of context "work" refuses the credentials: Unauthorized',
        ),
        (HatchwayError("svc/web cannot be reached"), 502, "error", "svc/web cannot be reached"),
    ],
)
def test_only_an_answer_of_the_cluster_counts_as_refused_credentials(
    diagnosis: Diagnosis, error: HatchwayError, status: int, kind: str, words: str
) -> None:
    answer = diagnosis.failed(error, HEAD, html=False)
    assert (answer.status, get_header(answer.headers, b"x-hatchway-problem")) == (status, kind.encode())
    assert json.loads(answer.body)["message"] == words
    page = diagnosis.failed(error, HEAD, html=True).body
    assert (b"not accepted any more" in page) == (status == 401)


async def test_a_route_without_credentials_is_not_a_refusal(diagnosis: Diagnosis) -> None:
    async def found(cause: Unreached) -> DoorProblem:
        return await diagnosis.of_unreached(TargetUnreached(cause, PLUGIN, "install it"), WEB)

    missing, refused = await found(Unreached.NO_CREDENTIALS), await found(Unreached.CREDENTIALS)
    assert (missing.kind, refused.kind) == ("no-credentials", "credentials-expired")
    assert missing.hint.startswith("Install it. Nothing was sent to the cluster.")
    assert "not accepted" not in error_answer(missing, True).body.decode()


@pytest.mark.parametrize("cause", [Unreached.NODE_AWAY, Unreached.NODE_REFUSES])
async def test_a_failing_ssh_node_is_not_reported_as_the_cluster(diagnosis: Diagnosis, cause: Unreached) -> None:
    problem = await diagnosis.of_unreached(
        TargetUnreached(cause, "ssh node-1: Permission denied", "load your key"), WEB
    )
    assert (problem.kind, problem.hint) == ("no-route", "Load your key.")
    assert problem.message.endswith("is reached from a node by SSH: ssh node-1: Permission denied")
