"""The meaning of a host name inside a cluster: the services and pods that it may name. Pure.

The forms are those of Kubernetes' DNS (https://github.com/kubernetes/dns/blob/master/docs/specification.md). As in a
pod, a name may lack the suffixes that the pod's resolver adds (`search` in /etc/resolv.conf). In addition, the name of
a pod object alone may name the pod.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from hatchway.addresses import parse_address

CLUSTER_DOMAIN = "cluster.local"

_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?\Z")
# The longest name of DNS.
_LONGEST = 253


@dataclass(frozen=True, slots=True)
class Meaning:
    """A service, a pod or an address that a host name may mean.

    kind: "services", "pods", or "address" for an address that may belong to either.
    name: the object's name, or the address.
    namespace: "" for an address that may be in any namespace.
    service: the headless service in a pod's name (`web` in `web-0.web.shop.svc`); "" when there is none.
    """

    kind: Literal["services", "pods", "address"]
    name: str
    namespace: str = ""
    service: str = ""


def meanings(host: str, namespace: str, domain: str = CLUSTER_DOMAIN) -> list[Meaning]:
    """Return what a host name or an address may mean, the likeliest first; [] for a name outside the cluster.

    Args:
        host: the name, or an IP address.
        namespace: where a name without a namespace is looked for.
        domain: the cluster's DNS domain.
    """
    address = parse_address(host.removeprefix("[").removesuffix("]"))
    if address:
        return [Meaning("address", address)]
    name = host.lower().removesuffix(".")
    if not name or len(name) > _LONGEST:
        return []
    whole = name.endswith("." + domain)
    labels = name.removesuffix("." + domain).split(".") if whole else name.split(".")
    if not all(_LABEL.match(label) for label in labels):
        return []
    if labels[-1] in ("svc", "pod") and len(labels) > 1:
        kind = labels.pop()
        return _pods_by_address(labels) if kind == "pod" else _qualified(labels)
    if whole:
        return []
    if len(labels) == 1:
        return [Meaning("services", name, namespace), Meaning("pods", name, namespace)]
    found = _qualified(labels)
    if len(labels) == 2:
        # `pod.service` in this namespace, or `pod.namespace`.
        found += [Meaning("pods", labels[0], namespace, labels[1]), Meaning("pods", labels[0], labels[1])]
    return found


def _qualified(labels: list[str]) -> list[Meaning]:
    """Return the meaning of `service.namespace` and `pod.service.namespace`."""
    if len(labels) == 2:
        return [Meaning("services", labels[0], labels[1])]
    if len(labels) == 3:
        return [Meaning("pods", labels[0], labels[2], labels[1])]
    return []


def _pods_by_address(labels: list[str]) -> list[Meaning]:
    """Return the meaning of `10-244-1-3.namespace`."""
    if len(labels) != 2:
        return []
    address = parse_address(labels[0].replace("-", ".")) or parse_address(labels[0].replace("-", ":"))
    return [Meaning("address", address, labels[1])] if address else []
