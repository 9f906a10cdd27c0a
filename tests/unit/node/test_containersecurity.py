"""securityContext: the user and the rights of a container. Also stop signals, and users in a container's status."""

from __future__ import annotations

import signal
from typing import Any

import pytest

from hatchway.cluster.capabilitynames import ALL_CAPABILITIES, DEFAULT_CAPABILITIES
from hatchway.cluster.node import unsupported
from hatchway.cluster.node.containersecurity import CreateError, privileges_of
from hatchway.cluster.node.containeruser import container_user, parse_user
from hatchway.cluster.node.stopsignals import parse_signal, stop_signal
from hatchway.cluster.runtime import Privileges
from hatchway.kube.api import Object


def privileges(own: Object | None = None, pod: Object | None = None, user: str = "") -> Privileges:
    container = {"name": "c", "securityContext": own or {}}
    found: Object = {"metadata": {"name": "web"}, "spec": {"containers": [container], "securityContext": pod or {}}}
    return privileges_of(found, container, user)


def test_without_settings_the_images_user_counts() -> None:
    assert privileges(user="web:staff") == Privileges(user="web:staff")


@pytest.mark.parametrize(
    ("own", "pod", "image", "user"),
    [
        ({"runAsUser": 5}, {}, "web:staff", "5"),
        ({"runAsUser": 0}, {"runAsUser": 7}, "web", "0"),
        ({}, {"runAsUser": 7, "runAsGroup": 8}, "web", "7:8"),
        ({"runAsGroup": 9}, {"runAsGroup": 8}, "web:staff", "web:9"),
        ({"runAsGroup": 9}, {}, "", "0:9"),
    ],
)
def test_users_and_groups(own: Object, pod: Object, image: str, user: str) -> None:
    assert privileges(own, pod, image).user == user


def test_supplementary_groups() -> None:
    found = privileges({}, {"fsGroup": 5, "supplementalGroups": [6, 5, 7]})
    assert found.groups == (5, 6, 7) and found.merge_groups
    assert not privileges({}, {"supplementalGroupsPolicy": "Strict"}).merge_groups
    assert privileges({}, {"fsGroup": 0}).groups == (0,)


@pytest.mark.parametrize(
    ("add", "drop", "present", "absent"),
    [
        (["NET_ADMIN"], [], {"NET_ADMIN", "CHOWN"}, {"SYS_ADMIN"}),
        (["CAP_NET_ADMIN", "sys_time"], [], {"NET_ADMIN", "SYS_TIME"}, set()),
        ([], ["CHOWN"], {"SETUID"}, {"CHOWN"}),
        ([], ["ALL"], set(), {"CHOWN", "SETUID"}),
        (["NET_BIND_SERVICE"], ["ALL"], {"NET_BIND_SERVICE"}, {"CHOWN"}),
        (["ALL"], ["SYS_ADMIN"], {"NET_ADMIN", "CHOWN", "BPF"}, {"SYS_ADMIN"}),
    ],
)
def test_capabilities(add: list[str], drop: list[str], present: set[str], absent: set[str]) -> None:
    found = privileges({"capabilities": {"add": add, "drop": drop}}).capabilities
    assert found is not None and present <= set(found) and not absent & set(found)


def test_dropping_all_leaves_no_capabilities() -> None:
    assert privileges({"capabilities": {"drop": ["ALL"]}}).capabilities == ()


def test_a_capability_that_does_not_exist() -> None:
    with pytest.raises(CreateError, match='unknown capability "CAP_FLY"'):
        privileges({"capabilities": {"add": ["FLY"]}})


def test_privileged_containers_have_all_rights() -> None:
    found = privileges(
        {"privileged": True, "capabilities": {"drop": ["CHOWN"]}}, {"seccompProfile": {"type": "RuntimeDefault"}}
    )
    assert found.capabilities is not None and {"SYS_ADMIN", "CHOWN"} <= set(found.capabilities)
    assert found.seccomp == "" and found.unmasked_proc and not found.no_new_privileges


def test_other_settings() -> None:
    assert privileges({"allowPrivilegeEscalation": False}).no_new_privileges
    assert not privileges({"allowPrivilegeEscalation": True}).no_new_privileges
    assert privileges({"procMount": "Unmasked"}).unmasked_proc
    assert privileges({"seccompProfile": {"type": "Unconfined"}}).seccomp == ""
    assert privileges(
        {"seccompProfile": {"type": "RuntimeDefault"}}, {"seccompProfile": {"type": "Unconfined"}}
    ).seccomp
    with pytest.raises(CreateError, match="Localhost is not supported by Hatchway"):
        privileges({}, {"seccompProfile": {"type": "Localhost", "localhostProfile": "x.json"}})


def test_the_default_capabilities_are_a_part_of_all_capabilities() -> None:
    assert set(DEFAULT_CAPABILITIES) < set(ALL_CAPABILITIES)
    assert len(ALL_CAPABILITIES) == len(set(ALL_CAPABILITIES)) == 41


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("SIGQUIT", 3),
        ("quit", 3),
        ("3", 3),
        ("SIGRTMIN+3", signal.SIGRTMIN + 3),
        ("RTMAX-1", signal.SIGRTMAX - 1),
        ("SIGRTMIN", signal.SIGRTMIN),
        ("SIGRTMIN+99", None),
        ("0", None),
        ("99999999999999999999", None),
        ("SIG_DFL", None),
        ("SIG", None),
        ("SIGNONE", None),
        ("", None),
        ("٣", None),
    ],
)
def test_signals(text: str, number: int | None) -> None:
    assert parse_signal(text) == number


def test_the_pods_stop_signal_has_precedence_over_the_images() -> None:
    assert stop_signal("", "") == stop_signal("", "SIGNONE") == signal.SIGTERM
    assert stop_signal("", "SIGQUIT") == signal.SIGQUIT
    assert stop_signal("SIGUSR1", "SIGQUIT") == signal.SIGUSR1


def test_the_user_of_a_process() -> None:
    text = "Name:\tx\nUid:\t1000\t1000\t1000\t1000\nGid:\t3000\t3000\t3000\t3000\nGroups:\t3000 4000 50000 \n"
    assert parse_user(text) == {"linux": {"uid": 1000, "gid": 3000, "supplementalGroups": [3000, 4000, 50000]}}
    assert parse_user("Uid:\t5\nGid:\t6\nGroups:\t \n") == {"linux": {"uid": 5, "gid": 6, "supplementalGroups": [6]}}
    # For a process in another user namespace, the user's number inside that namespace is shown.
    nested = parse_user("Uid:\t0\nGid:\t0\nGroups:\t0 65534\n", "  999  0  1\n", "998 0 1\n")
    assert nested == {"linux": {"uid": 999, "gid": 998, "supplementalGroups": [998, 65534]}}
    assert container_user(0)["linux"]["uid"] == parse_user("nonsense")["linux"]["uid"] == 0
    # The process has ended before it could be examined.
    assert container_user(0, "1000:3000") == {"linux": {"uid": 1000, "gid": 3000, "supplementalGroups": [3000]}}
    assert container_user(0, "1000")["linux"] == {"uid": 1000, "gid": 0, "supplementalGroups": [0]}
    assert container_user(0, "web")["linux"]["uid"] == 0


def test_settings_without_effect_are_reported_only_for_host_programs() -> None:
    containers: list[dict[str, Any]] = [
        {"name": "host", "securityContext": {"privileged": True}},
        {"name": "image", "securityContext": {"capabilities": {"add": ["NET_ADMIN"]}, "procMount": "Unmasked"}},
    ]
    pod: Object = {"spec": {"containers": containers, "securityContext": {"runAsUser": 5}}}

    def said(*names: str) -> list[str]:
        found = unsupported.messages(pod, loopback=False, is_host=lambda container: container["name"] in names)
        return sorted(message.split()[0] for message in found)

    assert said() == []
    assert said("host") == ["privileged", "runAsUser"]
    assert said("host", "image") == ["capabilities", "privileged", "procMount", "runAsUser"]
