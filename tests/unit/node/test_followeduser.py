from __future__ import annotations

import pytest

from hatchway.cluster.node.followeduser import followed_user
from hatchway.cluster.node.podstatus import ContainerState
from hatchway.cluster.runtime import Users

REDIS = {"linux": {"uid": 999, "gid": 998, "supplementalGroups": [998]}}
ROOT = {"linux": {"uid": 0, "gid": 0, "supplementalGroups": [0]}}


@pytest.mark.parametrize(
    ("user", "wanted", "users", "expected"),
    [
        (REDIS, "", "one", "999:998"),
        (REDIS, "root", "one", "999:998"),
        (REDIS, "0:0", "one", "999:998"),
        (ROOT, "", "one", ""),
        (REDIS, "1000", "one", ""),
        (REDIS, "redis", "one", ""),
        (REDIS, "", "mapped", ""),
        (REDIS, "", "real", ""),
        ({}, "", "one", ""),
        ({"linux": {"uid": "999", "gid": None}}, "", "one", ""),
    ],
)
def test_the_user_of_an_earlier_run(user: dict[str, object], wanted: str, users: Users, expected: str) -> None:
    state = ContainerState("c", "redis:7", image_id="one", user=user)
    assert followed_user("", state, "one", wanted, users) == expected
    assert followed_user("", state, "another", wanted, users) == "", "another image may have other users"


def test_the_user_of_the_present_run() -> None:
    state = ContainerState("c", "redis:7", image_id="one", user=ROOT)
    assert followed_user("999:998", state, "one", "", "one") == "999:998"
    assert followed_user("999:998", state, "another", "", "one") == ""
