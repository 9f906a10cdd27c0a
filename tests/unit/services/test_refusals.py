from __future__ import annotations

import errno
from dataclasses import replace
from typing import Any

import pytest

from hatchway.cluster.services import refusals
from hatchway.cluster.services.endpointpools import PortEndpoints
from hatchway.cluster.services.servicerules import Frontend, ServiceRule

RULE = ServiceRule("ns/web:80", PortEndpoints([]))


@pytest.mark.parametrize(
    ("place", "address", "number", "more", "message"),
    [
        (
            "host",
            ("127.0.0.1", 30080),
            errno.EADDRINUSE,
            {},
            "127.0.0.1:30080 (TCP) is not served: another program on this machine has this port. "
            "The Service's other addresses work. Hatchway will try again.",
        ),
        (
            "node",
            ("172.18.0.3", 30080),
            errno.EADDRINUSE,
            {},
            "172.18.0.3:30080 (TCP) is not served: another program on the node has this port. "
            "The Service's other addresses work. Hatchway will try again.",
        ),
        (
            "balancer",
            ("127.16.0.1", 80),
            errno.EACCES,
            {"node_port": 30080},
            "127.16.0.1:80 (TCP) is not served: this user may not listen on ports below 1024 of this machine. "
            "Node port 127.0.0.1:30080 leads to the same pods. Hatchway will try again.",
        ),
        (
            "balancer",
            ("127.16.0.1", 80),
            errno.EACCES,
            {},
            "127.16.0.1:80 (TCP) is not served: this user may not listen on ports below 1024 of this machine. "
            "Allow node ports (allocateLoadBalancerNodePorts), or use a port above 1024. Hatchway will try again.",
        ),
        (
            "balancer",
            ("127.16.0.1", 8080),
            errno.EADDRNOTAVAIL,
            {"node_port": 30080},
            "127.16.0.1:8080 (TCP) is not served: there is no such address on this machine. "
            "Node port 127.0.0.1:30080 leads to the same pods. Hatchway will try again.",
        ),
        (
            "external",
            ("10.96.0.10", 53),
            errno.EPERM,
            {},
            "10.96.0.10:53 (TCP) is not served: the address belongs to the cluster's own network. "
            "The Service's other addresses work. Hatchway will try again.",
        ),
        # The API server itself listens at 10.96.0.1:443, so this is not an error.
        ("cluster", ("10.96.0.1", 443), errno.EADDRINUSE, {}, ""),
    ],
)
def test_refused_addresses_are_explained(
    place: Any, address: tuple[str, int], number: int, more: dict[str, int], message: str
) -> None:
    rule = replace(RULE, place=place, **more)  # type: ignore[arg-type]
    assert refusals.explain(Frontend("TCP", *address), rule, OSError(number, "x")) == message
