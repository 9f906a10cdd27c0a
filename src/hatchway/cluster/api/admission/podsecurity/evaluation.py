"""The checks of each level and version, and the violations that they find in a pod. Pure.

The checks of `baseline` come before the checks of `restricted`. The checks of each level are sorted by name. Source:
pod-security-admission `policy/registry.go`.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

from hatchway.cluster.api.admission.podsecurity import baseline, restricted
from hatchway.cluster.api.admission.podsecurity.findings import CheckFunction, Finding, Json
from hatchway.cluster.api.admission.podsecurity.levels import LevelVersion
from hatchway.cluster.release import KUBERNETES_MINOR

__all__ = ["CHECKS", "PodCheck", "evaluate"]


@dataclass(frozen=True, slots=True)
class PodCheck:
    """A check in all its versions.

    versions: pairs of a minor version of Kubernetes and the check from this version on, in ascending order.
    overrides: the name of the `baseline` check that this check replaces; "" for none.
    """

    name: str
    is_restricted: bool
    versions: tuple[tuple[int, CheckFunction], ...]
    overrides: str = ""

    def at(self, minor: int) -> CheckFunction | None:
        """Return the check in a version of Kubernetes; None when the version does not have the check."""
        return next((function for since, function in reversed(self.versions) if since <= minor), None)


def _baseline(name: str, *versions: tuple[int, CheckFunction]) -> PodCheck:
    return PodCheck(name, False, versions)


def _restricted(name: str, *versions: tuple[int, CheckFunction], overrides: str = "") -> PodCheck:
    return PodCheck(name, True, versions, overrides)


_on_linux, _with_host_users = restricted.not_on_windows, restricted.unless_user_namespace

# The order is Kubernetes' order of these checks.
CHECKS = (
    _baseline("appArmorProfile", (0, baseline.app_armor)),
    _baseline("capabilities_baseline", (0, baseline.capabilities)),
    _baseline("hostNamespaces", (0, baseline.host_namespaces)),
    _baseline("hostPathVolumes", (0, baseline.host_path_volumes)),
    _baseline("hostPorts", (0, baseline.host_ports)),
    _baseline("hostProbesAndHostLifecycle", (34, baseline.host_probes)),
    _baseline("privileged", (0, baseline.privileged)),
    _baseline("procMount", (0, baseline.proc_mount), (35, baseline.proc_mount_1_35)),
    _baseline("seLinuxOptions", (0, baseline.se_linux_1_0), (31, baseline.se_linux_1_31)),
    _baseline("seccompProfile_baseline", (0, baseline.seccomp_1_0), (19, baseline.seccomp_1_19)),
    _baseline(
        "sysctls",
        (0, baseline.sysctls_1_0),
        (27, baseline.sysctls_1_27),
        (29, baseline.sysctls_1_29),
        (32, baseline.sysctls_1_32),
        (37, baseline.sysctls_1_37),
    ),
    _baseline("windowsHostProcess", (0, baseline.host_process)),
    _restricted("allowPrivilegeEscalation", (8, restricted.no_escalation), (25, _on_linux(restricted.no_escalation))),
    _restricted(
        "capabilities_restricted",
        (22, restricted.capabilities_1_22),
        (25, _on_linux(restricted.capabilities_1_22)),
        overrides="capabilities_baseline",
    ),
    _restricted("procMount_restricted", (35, baseline.proc_mount), overrides="procMount"),
    _restricted("restrictedVolumes", (0, restricted.restricted_volumes), overrides="hostPathVolumes"),
    _restricted("runAsNonRoot", (0, restricted.run_as_non_root), (35, _with_host_users(restricted.run_as_non_root))),
    _restricted("runAsUser", (23, restricted.run_as_user), (35, _with_host_users(restricted.run_as_user))),
    _restricted(
        "seccompProfile_restricted",
        (19, restricted.seccomp_required),
        (25, _on_linux(restricted.seccomp_required)),
        overrides="seccompProfile_baseline",
    ),
)


@cache
def _checks(is_restricted: bool, minor: int) -> tuple[CheckFunction, ...]:
    made = [(one, function) for one in CHECKS if (function := one.at(minor)) is not None]
    if not is_restricted:
        return tuple(function for one, function in made if not one.is_restricted)
    overridden = {one.overrides for one, _ in made}
    return tuple(function for one, function in made if one.name not in overridden)


def evaluate(chosen: LevelVersion, metadata: Json, spec: Json) -> list[Finding]:
    """Return why a pod with this metadata and spec violates a level; an empty list when it does not."""
    if chosen.level == "privileged":
        return []
    checks = _checks(chosen.level == "restricted", min(chosen.minor, int(KUBERNETES_MINOR)))
    return [found for check in checks if (found := check(metadata, spec)) is not None]
