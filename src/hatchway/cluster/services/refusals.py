"""Makes the messages of Events about addresses of a Service that cannot be opened. Pure."""

from __future__ import annotations

import errno
import os
from typing import Literal

from hatchway.cluster import plan
from hatchway.cluster.services.servicerules import Frontend, ServiceRule

EventType = Literal["Normal", "Warning"]
# The reasons of the events.
REFUSED, OPENED = "PortNotAvailable", "PortAvailable"

_PRIVILEGED = 1024


def explain(frontend: Frontend, rule: ServiceRule, error: OSError) -> str:
    """Return a message that says why a frontend is not served, and what to do; "" when nothing needs to be done.

    error: the error from opening the socket.
    """
    number = error.errno or 0
    if rule.place == "cluster" and number in (errno.EADDRINUSE, errno.EADDRNOTAVAIL):
        # The API server itself listens on 10.96.0.1:443.
        return ""
    where = "on this machine" if rule.place in ("host", "balancer") else "on the node"
    if number == errno.EADDRINUSE:
        why = f"another program {where} has this port"
    elif rule.place == "external" and number == errno.EPERM:
        why = "the address belongs to the cluster's own network"
    elif number in (errno.EACCES, errno.EPERM) and frontend.port < _PRIVILEGED:
        why = f"this user may not listen on ports below {_PRIVILEGED} of this machine"
    elif number == errno.EADDRNOTAVAIL:
        why = f"there is no such address {where}"
    else:
        why = error.strerror or os.strerror(number)
    return f"{frontend} is not served: {why}. {_instead(rule)}"


def opened(frontend: Frontend, rule: ServiceRule) -> str:
    """Return the message for a frontend that was opened at a later attempt."""
    return f"{frontend} is served now"


def _instead(rule: ServiceRule) -> str:
    again = "Hatchway will try again."
    if rule.place == "balancer" and rule.node_port:
        return f"Node port {plan.HOST_IP}:{rule.node_port} leads to the same pods. {again}"
    if rule.place == "balancer":
        return f"Allow node ports (allocateLoadBalancerNodePorts), or use a port above {_PRIVILEGED}. {again}"
    return again if rule.place == "pod" else f"The Service's other addresses work. {again}"
