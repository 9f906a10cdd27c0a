"""The downward API: fields and resources of a pod for its containers (`pkg/fieldpath`, `pkg/api/v1/resource`)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from fractions import Fraction
from typing import Any

from hatchway.cluster.quantity import ceil_divide, parse_quantity
from hatchway.kube.api import Object

_SUBSCRIPT = re.compile(r"metadata\.(labels|annotations)\['(.*)'\]\Z")


class FieldError(Exception):
    """A field reference cannot be resolved."""


def field_value(pod: Object, path: str, *, host_ip: str, pod_ip: str) -> str:
    """Return the value of a `fieldRef`. Raises FieldError."""
    metadata, spec = pod["metadata"], pod["spec"]
    subscript = _SUBSCRIPT.match(path)
    if subscript:
        return str((metadata.get(subscript[1]) or {}).get(subscript[2], ""))
    if path in ("metadata.labels", "metadata.annotations"):
        return _map(metadata.get(path.removeprefix("metadata.")) or {})
    known = {
        "metadata.name": metadata["name"],
        "metadata.namespace": metadata.get("namespace", ""),
        "metadata.uid": metadata.get("uid", ""),
        "spec.nodeName": spec.get("nodeName", ""),
        "spec.serviceAccountName": spec.get("serviceAccountName", ""),
        "status.hostIP": host_ip,
        "status.hostIPs": host_ip,
        "status.podIP": pod_ip,
        "status.podIPs": pod_ip,
    }
    if path not in known:
        raise FieldError(f"unsupported fieldPath: {path}")
    return str(known[path])


def _map(values: Mapping[str, str]) -> str:
    """Format labels or annotations for a file of the downward API: sorted `key="value"` lines."""
    return "\n".join(f"{key}={_quote(value)}" for key, value in sorted(values.items()))


def _quote(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n").replace("\t", "\\t")
    return f'"{escaped.replace(chr(13), chr(92) + "r")}"'


def resource_value(container: Object, reference: Mapping[str, Any], allocatable: Mapping[str, str]) -> str:
    """Return the value of a `resourceFieldRef`. Raises FieldError.

    If the limit is not set, the value is the node's allocatable amount.
    """
    kind, _, resource = str(reference.get("resource", "")).partition(".")
    if kind not in ("limits", "requests") or not resource:
        raise FieldError(f"unsupported container resource : {reference.get('resource')}")
    resources = container.get("resources") or {}
    text = (resources.get(kind) or {}).get(resource)
    if text is None and kind == "limits":
        text = allocatable.get(resource)
    try:
        value = parse_quantity(text) if text is not None else Fraction(0)
        divisor = parse_quantity(reference.get("divisor") or 1) or Fraction(1)
    except ValueError as error:
        raise FieldError(str(error)) from error
    return str(ceil_divide(value, divisor))
