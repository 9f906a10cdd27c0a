"""The checks of the Pod Security Standards: their violations, and the version that introduced each check.

The cases are those of pod-security-admission's fixtures; the texts are those of its checks.
"""

from __future__ import annotations

import copy
from typing import Any

import pytest

from hatchway.cluster.api.admission.podsecurity.evaluation import CHECKS, evaluate
from hatchway.cluster.api.admission.podsecurity.levels import LATEST, Level, LevelVersion, policy_of

Json = dict[str, Any]

# A pod that meets the level `restricted` in all versions.
SECURE: Json = {
    "securityContext": {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}},
    "initContainers": [{"name": "i"}],
    "containers": [{"name": "c"}],
}
for _one in (*SECURE["initContainers"], *SECURE["containers"]):
    _one["securityContext"] = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}


def changed(spec: Json | None = None, **containers: Json) -> Json:
    """Return the secure pod with changed fields. containers: fields of the containers `c` and `i`; nested objects are merged."""
    pod = copy.deepcopy(SECURE)
    _merge(pod, spec or {})
    for one in (*pod["initContainers"], *pod["containers"]):
        _merge(one, containers.get(one["name"], {}))
    return pod


def _merge(target: Json, source: Json) -> None:
    for key, value in source.items():
        if isinstance(value, dict) and isinstance(target.get(key), dict):
            _merge(target[key], value)
        else:
            target[key] = value


def security(**fields: Any) -> Json:
    return {"securityContext": fields}


def found(level: Level, minor: int, spec: Json, annotations: dict[str, str] | None = None) -> list[str]:
    return [str(one) for one in evaluate(LevelVersion(level, minor), {"annotations": annotations or {}}, spec)]


_HOOK = {"postStart": {"httpGet": {"host": "a"}}, "preStop": {"tcpSocket": {"host": "b"}}}
BASELINE: list[tuple[int, Json, str]] = [
    (0, {"hostNetwork": True}, "host namespaces (hostNetwork=true)"),
    (0, {"hostPID": True, "hostIPC": True}, "host namespaces (hostPID=true, hostIPC=true)"),
    (0, {"volumes": [{"name": "v", "hostPath": {"path": "/"}}]}, 'hostPath volumes (volume "v")'),
    (
        0,
        {"c": {"ports": [{"hostPort": 2}, {"containerPort": 1}]}, "i": {"ports": [{"hostPort": 1}]}},
        'hostPort (containers "i", "c" use hostPorts 1, 2)',
    ),
    (0, {"c": {"ports": [{"hostPort": 8}]}}, 'hostPort (container "c" uses hostPort 8)'),
    (
        34,
        {"c": {"livenessProbe": {"httpGet": {"host": "x"}}}},
        'probe or lifecycle host (container "c" uses probe or lifecycle host "x")',
    ),
    (
        34,
        {"c": {"lifecycle": _HOOK}},
        'probe or lifecycle host (container "c" uses probe or lifecycle hosts "a", "b")',
    ),
    (
        0,
        {"c": security(privileged=True)},
        'privileged (container "c" must not set securityContext.privileged=true)',
    ),
    (
        0,
        {"c": security(procMount="Unmasked")},
        'procMount (container "c" must not set securityContext.procMount to "Unmasked")',
    ),
    (
        0,
        security(seLinuxOptions={"type": "x", "user": "u", "role": "r"}),
        "seLinuxOptions (pod set forbidden securityContext.seLinuxOptions: "
        'type "x"; user may not be set; role may not be set)',
    ),
    (
        0,
        {"c": security(seLinuxOptions={"type": "y"}), "i": security(seLinuxOptions={"user": "u"})},
        'seLinuxOptions (containers "i", "c" set forbidden securityContext.seLinuxOptions: '
        'type "y"; user may not be set)',
    ),
    (
        19,
        security(seccompProfile={"type": "Unconfined"}),
        'seccompProfile (pod must not set securityContext.seccompProfile.type to "Unconfined")',
    ),
    (0, security(sysctls=[{"name": "kernel.sem"}]), "forbidden sysctls (kernel.sem)"),
    (
        0,
        security(appArmorProfile={"type": "Unconfined"}),
        'forbidden AppArmor profile (pod must not set AppArmor profile type to "Unconfined")',
    ),
    (
        0,
        {**security(windowsOptions={"hostProcess": True}), "c": security(windowsOptions={"hostProcess": True})},
        'hostProcess (pod and container "c" must not set securityContext.windowsOptions.hostProcess=true)',
    ),
]


def applied(change: Json) -> Json:
    spec = {key: value for key, value in change.items() if key not in ("c", "i")}
    return changed(spec, **{key: value for key, value in change.items() if key in ("c", "i")})


@pytest.mark.parametrize(("since", "change", "text"), BASELINE)
def test_baseline_refuses_known_privilege_escalations(since: int, change: Json, text: str) -> None:
    pod = applied(change)
    for minor in (since, LATEST):
        assert found("baseline", minor, pod) == [text]
    if since:
        assert found("baseline", since - 1, pod) == []
    assert found("privileged", LATEST, pod) == []
    # The stricter level refuses the pod, too, sometimes with another message.
    assert found("restricted", LATEST, pod)


RESTRICTED: list[tuple[int, Json, str]] = [
    (
        8,
        {"c": security(allowPrivilegeEscalation=None)},
        'allowPrivilegeEscalation != false (container "c" must set securityContext.allowPrivilegeEscalation=false)',
    ),
    (
        22,
        {"c": security(capabilities={"drop": ["CHOWN"], "add": ["SYS_ADMIN", "NET_BIND_SERVICE"]})},
        'unrestricted capabilities (container "c" must set securityContext.capabilities.drop=["ALL"]; '
        'container "c" must not include "SYS_ADMIN" in securityContext.capabilities.add)',
    ),
    (
        0,
        {"volumes": [{"name": "v", "nfs": {}}, {"name": "w", "hostPath": {}}, {"name": "x"}]},
        'restricted volume types (volumes "v", "w", "x" use restricted volume types "hostPath", "nfs", "unknown")',
    ),
    (
        0,
        {**security(runAsNonRoot=False), "c": security(runAsNonRoot=False)},
        'runAsNonRoot != true (pod and container "c" must not set securityContext.runAsNonRoot=false)',
    ),
    (
        0,
        {**security(runAsNonRoot=None), "i": security(runAsNonRoot=True)},
        'runAsNonRoot != true (pod or container "c" must set securityContext.runAsNonRoot=true)',
    ),
    (23, security(runAsUser=0), "runAsUser=0 (pod must not set runAsUser=0)"),
    (
        19,
        {**security(seccompProfile=None)},
        'seccompProfile (pod or containers "i", "c" must set securityContext.seccompProfile.type to '
        '"RuntimeDefault" or "Localhost")',
    ),
]


@pytest.mark.parametrize(("since", "change", "text"), RESTRICTED)
def test_restricted_refuses_pods_that_are_not_hardened(since: int, change: Json, text: str) -> None:
    pod = applied(change)
    for minor in (since, LATEST):
        assert text in found("restricted", minor, pod)
    if since:
        assert text not in found("restricted", since - 1, pod)


def test_a_hardened_pod_meets_every_version_of_every_level() -> None:
    for minor in (*range(45), LATEST):
        assert found("restricted", minor, SECURE) == found("baseline", minor, SECURE) == []


@pytest.mark.parametrize(
    ("since", "name"),
    [
        (0, "net.ipv4.ping_group_range"),
        (27, "net.ipv4.ip_local_reserved_ports"),
        (29, "net.ipv4.tcp_fin_timeout"),
        (32, "net.ipv4.tcp_rmem"),
        (37, "net.ipv4.tcp_notsent_lowat"),
    ],
)
def test_later_versions_allow_more_sysctls(since: int, name: str) -> None:
    pod = changed(security(sysctls=[{"name": name}]))
    assert found("baseline", since, pod) == []
    if since:
        assert found("baseline", since - 1, pod) == [f"forbidden sysctls ({name})"]


def test_pods_in_user_namespaces_may_run_as_root_since_1_35() -> None:
    pod = applied(
        {"hostUsers": False, **security(runAsNonRoot=False, runAsUser=0), "c": security(procMount="Unmasked")}
    )
    assert len(found("restricted", 34, pod)) == 3
    assert found("baseline", 35, pod) == []
    # `restricted` still requires the default procMount, which hides parts of /proc.
    assert [one.partition(" ")[0] for one in found("restricted", 35, pod)] == ["procMount"]


def test_windows_pods_need_no_fields_that_only_linux_has() -> None:
    pod = {"os": {"name": "windows"}, "securityContext": {"runAsNonRoot": True}, "containers": [{"name": "c"}]}
    assert found("restricted", 25, pod) == []
    assert len(found("restricted", 24, pod)) == 3


def test_annotations_of_older_versions_are_checked() -> None:
    seccomp = {"seccomp.security.alpha.kubernetes.io/pod": "unconfined"}
    text = 'seccompProfile (forbidden annotation seccomp.security.alpha.kubernetes.io/pod="unconfined")'
    assert found("baseline", 18, SECURE, seccomp) == [text]
    assert found("baseline", 19, SECURE, seccomp) == []
    key = "container.apparmor.security.beta.kubernetes.io/c"
    assert found("baseline", LATEST, SECURE, {key: "localhost/mine"}) == []
    assert found("baseline", LATEST, SECURE, {key: "unconfined"}) == [
        f'forbidden AppArmor profile (annotation must not set AppArmor profile type to "{key}="unconfined"")'
    ]


def test_ephemeral_containers_are_checked_like_other_containers() -> None:
    pod = changed({"ephemeralContainers": [{"name": "debug", **security(privileged=True)}]})
    assert found("baseline", LATEST, pod) == [
        'privileged (container "debug" must not set securityContext.privileged=true)'
    ]


def test_checks_are_made_in_the_order_of_kubernetes() -> None:
    names = [one.name for one in CHECKS]
    basic = [one.name for one in CHECKS if not one.is_restricted]
    assert names == sorted(basic) + sorted(set(names) - set(basic))
    assert {one.overrides for one in CHECKS} - {""} < set(basic)


# -- the labels of namespaces

_LABEL = "pod-security.kubernetes.io/"


def chosen(**labels: str) -> tuple[list[str], list[str]]:
    policy, causes = policy_of({_LABEL + key.replace("_", "-"): value for key, value in labels.items()})
    return [str(one) for one in (policy.enforce, policy.audit, policy.warn)], [cause.message for cause in causes]


def test_labels_choose_levels_and_versions() -> None:
    assert chosen() == (["privileged:latest"] * 3, [])
    assert chosen(enforce="baseline", enforce_version="v1.24")[0] == [
        "baseline:v1.24",
        "privileged:latest",
        "baseline:v1.24",
    ]
    assert chosen(enforce="baseline", warn_version="v1.30")[0][2] == "baseline:v1.30"
    assert chosen(enforce="baseline", warn="privileged", audit="restricted")[0] == [
        "baseline:latest",
        "restricted:latest",
        "privileged:latest",
    ]


@pytest.mark.parametrize(("mode", "counts_as"), [("enforce", 0), ("audit", 1), ("warn", 2)])
def test_an_invalid_level_is_reported_and_enforced_as_restricted(mode: str, counts_as: int) -> None:
    levels, causes = chosen(**{mode: "Baseline"})
    assert levels[counts_as] == ("restricted:latest" if mode == "enforce" else "privileged:latest")
    assert causes == ['Invalid value: "Baseline": must be one of privileged, baseline, restricted']


@pytest.mark.parametrize("version", ["1.2", "v1.02", "v2.1", "v1.", "", "v1.1\n", "v1." + "9" * 9])
def test_an_invalid_version_is_reported_and_means_latest(version: str) -> None:
    levels, causes = chosen(enforce="baseline", enforce_version=version)
    assert levels[0] == "baseline:latest"
    assert causes[0].endswith('must be "latest" or "v1.x"')
