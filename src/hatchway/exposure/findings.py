"""The types of ways into a cluster (`Exposure`) and of their faults (`Issue`, a finding). Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final, Literal, Protocol

from hatchway.exposure.ranges import Reach

Severity = Literal["high", "medium", "low", "info"]
# The worst first. "info": a way in without findings.
SEVERITIES: Final[tuple[Severity, ...]] = ("high", "medium", "low", "info")

# The annotation for an object that its owner exposes on purpose; the value is the reason.
ON_PURPOSE: Final = "hatchway.dev/exposed-on-purpose"

# The maximum number of locations of one way in.
MOST_LOCATIONS: Final = 64

# A general explanation of each rule.
RULES: Final[dict[str, str]] = {
    "open-node-port": "A node port can be reached from the Internet by way of the nodes' public addresses.",
    "open-load-balancer": "A load balancer with a public address takes connections from everywhere.",
    "open-external-ip": "An external IP of a Service is a public address that takes connections from everywhere.",
    "open-host-port": "A container's port is open on a public address of its node.",
    "open-host-network": "A pod shares the network of a node with a public address; no NetworkPolicy applies to it.",
    "sensitive-port": "A port of a database or of an administration interface can be reached from outside.",
    "external-ip-not-a-node": "Nodes take over all traffic to an external IP, even if it is another machine's address.",
    "node-port-bypasses-load-balancer": "Clients that a load balancer refuses can use the same Service's node port.",
    "wide-source-ranges": "The source ranges of a load balancer cover the Internet.",
    "internal-but-public": "A load balancer is marked as internal, but its address is public.",
    "policy-sees-node-address": "A NetworkPolicy admits the nodes, and pods may see a node's address for every client.",
    "no-endpoints": "A Service takes connections from outside, but no pod answers them.",
    "no-backend": "An Ingress or a route leads to a Service that is missing or has no pods.",
    "no-tls": "A public name is served without TLS.",
    "any-host": "An Ingress without a host name answers for every name.",
    "ineffective-allowlist": "An annotation restricts clients, but the controller of the Ingress does not know it.",
    "gateway-open-to-all-namespaces": "Every namespace may attach routes to a public Gateway.",
    "unknown-reach": "The addresses of the nodes could not be read, so the answer is not known.",
    "no-credentials": "An address that can be reached from outside answers without asking for credentials.",
    "login-without-tls": "A login uses a connection without TLS.",
    "policy-not-enforced": "An address answers although NetworkPolicies should shield it.",
    "bad-certificate": "The certificate of a TLS server has expired or is not valid yet.",
}


@dataclass(frozen=True, slots=True)
class Issue:
    """A finding: one fault of a way in.

    rule: a key of RULES. message: one sentence. mend: the command line that removes the fault.
    """

    rule: str
    severity: Severity
    message: str
    mend: str


@dataclass(frozen=True, slots=True)
class Location:
    """An address and a port at which a connection through a way in can be tried.

    address: an IP address or a host name. protocol: "TCP", "UDP" or "SCTP".
    host: the host name to send in a request; "" for the address itself.
    tls: True when it should speak TLS; None when this is not known.
    """

    address: str
    port: int
    protocol: str = "TCP"
    host: str = ""
    tls: bool | None = None

    def __str__(self) -> str:
        shown = self.host or (f"[{self.address}]" if ":" in self.address else self.address)
        return f"{shown}:{self.port}{'' if self.protocol == 'TCP' else '/' + self.protocol}"


class Answer(Protocol):
    """The result of a probe of a location (`exposure.answers.ProbeAnswer`)."""

    def as_dict(self) -> dict[str, Any]:
        """Return the form that `-o json` prints."""
        ...


@dataclass(frozen=True, slots=True)
class Exposure:
    """One way into the cluster.

    kind, namespace, name: the object that opens this way in.
    way: the kind of the way in: NodePort, LoadBalancer, external IP, Ingress ...
    locations: the addresses and ports at which connections can be tried.
    reach: who can connect, after source ranges and NetworkPolicies.
    audience: who could connect without NetworkPolicies.
    shield: how many clients NetworkPolicies keep out: none, some ("partial") or all ("full"). policies: their names.
    workloads, pods: the workloads and the number of pods behind the way in; pods is None when they could not be read.
    issues: the findings.
    accepted: the owner's reason, if the object is exposed on purpose; else "".
    answers: the results of `--probe`.
    note: a remark for people.
    """

    kind: str
    namespace: str
    name: str
    way: str
    locations: tuple[Location, ...] = ()
    reach: Reach = "nobody"
    audience: Reach = "nobody"
    shield: Literal["none", "partial", "full"] = "none"
    policies: tuple[str, ...] = ()
    workloads: tuple[str, ...] = ()
    pods: int | None = 0
    issues: tuple[Issue, ...] = ()
    accepted: str = ""
    answers: tuple[Answer, ...] = ()
    note: str = ""

    @property
    def severity(self) -> Severity:
        """Return the worst severity of the findings; "info" without findings, and for an object exposed on purpose."""
        return "info" if self.accepted else worst_severity(issue.severity for issue in self.issues)

    @property
    def spelled(self) -> str:
        """Return KIND/NAME in lower case, as kubectl prints it."""
        return f"{self.kind.lower()}/{self.name}"

    def as_dict(self) -> dict[str, Any]:
        """Return the form that `-o json` prints."""
        return {
            "kind": self.kind,
            "namespace": self.namespace,
            "name": self.name,
            "way": self.way,
            "severity": self.severity,
            "locations": [str(one) for one in self.locations],
            "reachableFrom": self.reach,
            "reachableWithoutPolicies": self.audience,
            "shield": self.shield,
            "networkPolicies": list(self.policies),
            "workloads": list(self.workloads),
            "pods": self.pods,
            "note": self.note,
            "exposedOnPurpose": self.accepted or None,
            "answers": [answer.as_dict() for answer in self.answers],
            "findings": [
                {"rule": one.rule, "severity": one.severity, "message": one.message, "mend": one.mend}
                for one in self.issues
            ],
        }


def worst_severity(severities: Iterable[Severity]) -> Severity:
    """Return the worst of several severities; "info" for none."""
    return min(severities, key=SEVERITIES.index, default="info")
