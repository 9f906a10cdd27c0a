"""The cluster that a command line chooses."""

from __future__ import annotations

import os
import re
from typing import Any

from hatchway.errors import HatchwayError
from hatchway.kube.overrides import ChosenCluster, Overrides
from hatchway.numerals import is_digits

_DURATION = re.compile(r"([0-9]+(?:\.[0-9]*)?|\.[0-9]+)(ns|us|µs|ms|s|m|h)")
# Options that choose a cluster. If one is given, the environment variable HATCHWAY_NAME is ignored.
_CHOOSING = ("kubeconfig", "context", "cluster", "server")
_UNITS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}


def choose_cluster(given: dict[str, Any]) -> ChosenCluster:
    """Return the cluster that the options choose. Raises HatchwayError for options that are not valid."""
    pairs = []
    for text in given.get("extra") or ():
        key, equals, value = text.partition("=")
        if not equals or not key:
            raise HatchwayError(
                f'--as-user-extra: "{text}" is not KEY=VALUE', "write it like --as-user-extra team=blue"
            )
        pairs.append((key, value))
    name, context = given.get("name"), given.get("context")
    if not any(given.get(option) for option in ("name", *_CHOOSING)):
        name = os.environ.get("HATCHWAY_NAME")
    if name:
        from hatchway.cluster import inventory

        context = inventory.find_context(name, given.get("kubeconfig"))
    overrides = Overrides(
        cluster=given.get("cluster") or "",
        user=given.get("user") or "",
        namespace=given.get("namespace") or "",
        server=given.get("server") or "",
        tls_server_name=given.get("tls_server_name") or "",
        certificate_authority=given.get("certificate_authority") or "",
        insecure=given.get("insecure_skip_tls_verify"),
        proxy=given.get("proxy_url") or "",
        token=given.get("token") or "",
        username=given.get("username") or "",
        password=given.get("password") or "",
        client_certificate=given.get("client_certificate") or "",
        client_key=given.get("client_key") or "",
        impersonate=given.get("impersonate") or "",
        impersonate_groups=tuple(given.get("groups") or ()),
        impersonate_uid=given.get("as_uid") or "",
        impersonate_extra=tuple(pairs),
        timeout=_timeout(given.get("request_timeout") or "0"),
    )
    return ChosenCluster(given.get("kubeconfig"), context, overrides)


def _timeout(text: str) -> float:
    """Parse a duration or, like kubectl, a number of seconds without a unit. Return seconds."""
    return float(text) if is_digits(text) else duration("--request-timeout", text)


def duration(flag: str, text: str) -> float:
    """Parse a duration in Go's format (`1m30s`). Return seconds. Raises HatchwayError."""
    if text == "0":
        return 0.0
    parts = list(_DURATION.finditer(text))
    if not parts or "".join(part[0] for part in parts) != text:
        raise HatchwayError(f'{flag}: "{text}" is not a duration', "write it like 30s or 1m30s")
    return sum(float(part[1]) * _UNITS[part[2]] for part in parts)
