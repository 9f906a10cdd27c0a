"""Reads load balancers' annotations (internal, client ranges) and host names, as providers document them. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any, Final

from hatchway.exposure.ranges import EVERYWHERE, MACHINE, NOWHERE, PRIVATE, AddressSet, audience_of
from hatchway.exposure.tolerant import mapping, pairs, text, texts
from hatchway.kube.api import Object

__all__ = ["host_audience", "is_funnel", "is_marked_internal", "source_ranges", "tag_audience"]

# Annotations for internal load balancers in clouds, with the values that mean "internal"; () for any value.
_INTERNAL: Final[dict[str, tuple[str, ...]]] = {
    "service.beta.kubernetes.io/aws-load-balancer-scheme": ("internal",),
    "service.beta.kubernetes.io/azure-load-balancer-internal": ("true",),
    "networking.gke.io/load-balancer-type": ("internal",),
    "cloud.google.com/load-balancer-type": ("internal",),
    "service.beta.kubernetes.io/openstack-internal-load-balancer": ("true",),
    "service.kubernetes.io/qcloud-loadbalancer-internal-subnetid": (),
    "service.beta.kubernetes.io/alibaba-cloud-loadbalancer-address-type": ("intranet",),
    "service.beta.kubernetes.io/oci-load-balancer-internal": ("true",),
    "oci-network-load-balancer.oraclecloud.com/internal": ("true",),
    "service.kubernetes.io/ibm-load-balancer-cloud-provider-ip-type": ("private",),
    "load-balancer.hetzner.cloud/disable-public-network": ("true",),
    "service.beta.kubernetes.io/do-loadbalancer-network": ("internal",),
    "service.beta.kubernetes.io/scw-loadbalancer-private": ("true",),
    "yandex.cloud/load-balancer-type": ("internal",),
}
# The load balancer classes of controllers that make internal load balancers unless an annotation says otherwise: AWS
# Load Balancer Controller (service.k8s.aws/nlb), EKS Auto Mode.
_AWS_CLASSES: Final = ("service.k8s.aws/", "eks.amazonaws.com/")
_AWS_TYPE: Final = "service.beta.kubernetes.io/aws-load-balancer-type"
_AWS_SCHEME: Final = "service.beta.kubernetes.io/aws-load-balancer-scheme"
_AWS_INTERNAL: Final = "service.beta.kubernetes.io/aws-load-balancer-internal"
_GKE_INTERNAL_CLASS: Final = "networking.gke.io/l4-regional-internal"
_TAILSCALE: Final = "tailscale"
_FUNNEL: Final = "tailscale.com/funnel"
# Annotations with ranges of clients, separated by commas.
_RANGES: Final = (
    "service.beta.kubernetes.io/load-balancer-source-ranges",
    "service.beta.kubernetes.io/azure-allowed-ip-ranges",
)
_DO_RULES: Final = "service.beta.kubernetes.io/do-loadbalancer-allow-rules"
_LINODE_RULES: Final = "service.beta.kubernetes.io/linode-loadbalancer-firewall-acl"
# Azure's service tags are names for the addresses of its services.
_AZURE_TAGS: Final = "service.beta.kubernetes.io/azure-allowed-service-tags"
_TAGS: Final = {"internet": EVERYWHERE, "virtualnetwork": PRIVATE, "azureloadbalancer": NOWHERE}
# A stand-in for the public addresses of any other service tag, which are not known.
_A_FEW: Final = AddressSet.parse(("198.51.100.0",))
# Host names of AWS' application and classic load balancers. The names of internal load balancers begin with
# "internal-". Names of network load balancers do not show whether they are internal; they have "elb" before the region.
_AWS_NAME: Final = re.compile(r"\.elb\.amazonaws\.(?:com(?:\.cn)?|eu)$")
_INTERNAL_NAME: Final = "internal-"
# A name inside the cluster, such as `gateway-istio.shop.svc.cluster.local`.
_CLUSTER_NAME: Final = re.compile(r"\.svc(?:\.|$)")


def is_marked_internal(service: Object) -> bool:
    """Return True when a Service asks its provider for an internal load balancer."""
    annotations = pairs(mapping(service.get("metadata")).get("annotations"))
    balancer_class = text(mapping(service.get("spec")).get("loadBalancerClass"))
    internal = annotations.get(_AWS_INTERNAL, "").lower()
    if balancer_class.startswith(_AWS_CLASSES) or annotations.get(_AWS_TYPE) in ("external", "nlb-ip"):
        # AWS' newer controllers make internal load balancers unless the annotations say otherwise.
        scheme = annotations.get(_AWS_SCHEME) or ("internet-facing" if internal == "false" else "internal")
        return scheme == "internal"
    if internal not in ("", "false"):
        # AWS' older controller reads any other value as "true".
        return True
    for name, values in _INTERNAL.items():
        given = annotations.get(name, "").lower()
        if given and (not values or given in values):
            return True
    return balancer_class in (_GKE_INTERNAL_CLASS, _TAILSCALE)


def source_ranges(service: Object) -> list[str]:
    """Return the ranges of clients to which a Service restricts its load balancer; [] for all clients."""
    annotations = pairs(mapping(service.get("metadata")).get("annotations"))
    given = texts(mapping(service.get("spec")).get("loadBalancerSourceRanges"))
    for name in _RANGES if not given else ():
        given = given or [one.strip() for one in annotations.get(name, "").split(",") if one.strip()]
    return given or _digital_ocean_ranges(annotations) or _linode_ranges(annotations)


def tag_audience(service: Object) -> tuple[list[str], AddressSet]:
    """Return the service tags (Azure) to which a Service restricts its load balancer, and the clients of these tags."""
    given = pairs(mapping(service.get("metadata")).get("annotations")).get(_AZURE_TAGS, "").split(",")
    tags = [one.strip() for one in given if one.strip()]
    found: AddressSet = NOWHERE
    for tag in tags:
        found |= _TAGS.get(tag.lower(), _A_FEW)
    return tags, found


def _digital_ocean_ranges(annotations: Mapping[str, str]) -> list[str]:
    rules = (one.strip().partition(":") for one in annotations.get(_DO_RULES, "").split(","))
    return [value for kind, _, value in rules if kind in ("ip", "cidr") and value]


def _linode_ranges(annotations: Mapping[str, str]) -> list[str]:
    try:
        given: Any = json.loads(annotations.get(_LINODE_RULES, "null"))
    except (ValueError, RecursionError):
        return []
    allowed = mapping(mapping(given).get("allowList"))
    return [*texts(allowed.get("ipv4")), *texts(allowed.get("ipv6"))]


def is_funnel(obj: Object) -> bool:
    """Return True when Tailscale publishes an object to the Internet, and not only to its private network."""
    return pairs(mapping(obj.get("metadata")).get("annotations")).get(_FUNNEL) == "true"


def host_audience(hosts: Iterable[str], *, internal: bool, funnel: bool = False) -> AddressSet:
    """Return the clients that can reach load balancers' addresses and host names.

    internal: True when they are marked as internal. It is used only for host names that do not show this themselves.
    funnel: True when Tailscale publishes the names to the Internet.
    """
    found: AddressSet = NOWHERE
    for host in hosts:
        by_address = audience_of(host)
        found |= _name_audience(host.lower().rstrip("."), internal, funnel) if by_address is None else by_address
    return found


def _name_audience(name: str, internal: bool, funnel: bool) -> AddressSet:
    if name == "localhost" or name.endswith(".localhost"):
        return MACHINE
    if _CLUSTER_NAME.search(name):
        return NOWHERE
    if _AWS_NAME.search(name):
        return PRIVATE if name.startswith(_INTERNAL_NAME) else EVERYWHERE
    if name.endswith(".ts.net"):
        return EVERYWHERE if funnel else PRIVATE
    return PRIVATE if internal else EVERYWHERE
