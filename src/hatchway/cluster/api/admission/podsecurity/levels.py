"""Levels and versions of the Pod Security Standards, and the labels with which a namespace chooses them. Pure.

Source: pod-security-admission `api/helpers.go` and `api/constants.go`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

from hatchway.errors import Cause

__all__ = ["LATEST", "PRIVILEGED", "Level", "LevelVersion", "Policy", "is_stricter", "policy_of"]

Level = Literal["privileged", "baseline", "restricted"]
_LEVELS: tuple[Level, ...] = ("privileged", "baseline", "restricted")
_PREFIX = "pod-security.kubernetes.io/"
_VERSION = re.compile(r"v1\.(0|[1-9][0-9]{0,5})").fullmatch
# The minor version for `latest`. It is higher than any real version.
LATEST = 10**6
_LEVEL_ERROR = "must be one of privileged, baseline, restricted"
_VERSION_ERROR = 'must be "latest" or "v1.x"'


@dataclass(frozen=True, slots=True)
class LevelVersion:
    """A level in one of its versions. minor: the minor version of Kubernetes; LATEST for the newest version."""

    level: Level
    minor: int = LATEST

    def __str__(self) -> str:
        """Return the level for messages: `baseline:latest`, `restricted:v1.24`."""
        return f"{self.level}:{'latest' if self.minor == LATEST else f'v1.{self.minor}'}"


PRIVILEGED = LevelVersion("privileged")


@dataclass(frozen=True, slots=True)
class Policy:
    """The levels of a namespace.

    enforce: the level for pods. A pod that violates this level is refused.
    audit, warn: the levels for pods and templates of workloads. Violations of these levels are only reported.
    """

    enforce: LevelVersion = PRIVILEGED
    audit: LevelVersion = PRIVILEGED
    warn: LevelVersion = PRIVILEGED


def is_stricter(one: Level, other: Level) -> bool:
    """Return True when level `one` forbids more than level `other` (`CompareLevels`)."""
    return _LEVELS.index(one) > _LEVELS.index(other)


def policy_of(labels: Mapping[str, str] | None) -> tuple[Policy, list[Cause]]:
    """Return the policy that a namespace's labels choose, and the errors in these labels (`PolicyToEvaluate`).

    Invalid labels choose a policy, too. An invalid level counts as `restricted` for enforce, and as `privileged` for
    audit and warn. An invalid version counts as the latest version. Without labels, the level is `privileged`.
    """
    causes: list[Cause] = []
    labels = labels or {}

    def choose(mode: str, on_error: Level) -> LevelVersion:
        chosen = PRIVILEGED
        label, version = f"{_PREFIX}{mode}", f"{_PREFIX}{mode}-version"
        if label in labels:
            known = [level for level in _LEVELS if level == labels[label]]
            if not known:
                causes.append(_invalid(label, labels[label], _LEVEL_ERROR))
            chosen = replace(chosen, level=known[0] if known else on_error)
        if version in labels and labels[version] != "latest":
            found = _VERSION(labels[version])
            if found is None:
                causes.append(_invalid(version, labels[version], _VERSION_ERROR))
            chosen = replace(chosen, minor=int(found[1]) if found else LATEST)
        return chosen

    enforce = choose("enforce", "restricted")
    audit, warn = choose("audit", "privileged"), choose("warn", "privileged")
    level = labels.get(f"{_PREFIX}enforce")
    # Without a label for warnings, the enforced level also warns, so that writers of workloads learn of violations.
    if level in _LEVELS and f"{_PREFIX}warn" not in labels and is_stricter(enforce.level, warn.level):
        warn = enforce if f"{_PREFIX}warn-version" not in labels else replace(warn, level=enforce.level)
    return Policy(enforce, audit, warn), causes


def _invalid(label: str, value: str, why: str) -> Cause:
    return Cause("FieldValueInvalid", f"Invalid value: {_quoted(value)}: {why}", f"metadata.labels[{label}]")


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
