"""Finds the ways in that Services open: node ports, load balancers, external IPs. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace
from itertools import islice

from hatchway.exposure import mending
from hatchway.exposure.backends import (
    ClusterFacts,
    PortVerdict,
    ServicePort,
    annotations_of,
    audience_of_all,
    is_challenge,
    policies_of,
    reach_of,
    service_ports,
    shield_of,
    workloads_of,
)
from hatchway.exposure.findings import MOST_LOCATIONS, ON_PURPOSE, Exposure, Issue, Location
from hatchway.exposure.providers import host_audience, is_funnel, is_marked_internal, source_ranges, tag_audience
from hatchway.exposure.ranges import EVERYWHERE, NOWHERE, REACHES, AddressSet
from hatchway.exposure.snapshot import ObservedPod, key
from hatchway.exposure.tolerant import mapping, mappings, text, texts
from hatchway.kube.api import Object


def service_ways(service: Object, facts: ClusterFacts, controller_hosts: Collection[str]) -> list[Exposure]:
    """Return the ways into the cluster that a Service opens.

    controller_hosts: the addresses and names at which Ingresses and Gateways are published. A load balancer with such
        an address belongs to the controller of the Ingresses or Gateways.
    """
    spec = mapping(service.get("spec"))
    kind = text(spec.get("type"))
    found = []
    balancer = None
    if kind == "LoadBalancer":
        balancer = _balancer_way(service, facts, controller_hosts)
        found.append(balancer)
    if kind in ("NodePort", "LoadBalancer") and (way := _node_port_way(service, facts, balancer)):
        found.append(way)
    if kind != "ExternalName" and texts(spec.get("externalIPs")):
        found.append(_external_ip_way(service, facts))
    return found


def balancer_hosts(obj: Object) -> list[str]:
    """Return the addresses and host names in `status.loadBalancer` of a Service or an Ingress."""
    entries = mappings(mapping(mapping(obj.get("status")).get("loadBalancer")).get("ingress"))
    return [host for entry in entries if (host := text(entry.get("ip")) or text(entry.get("hostname")))]


def _is_local(service: Object) -> bool:
    return mapping(service.get("spec")).get("externalTrafficPolicy") == "Local"


def balancer_audience(service: Object) -> AddressSet:
    """Return the clients whose connections a Service's load balancer accepts."""
    found = host_audience(balancer_hosts(service), internal=is_marked_internal(service), funnel=is_funnel(service))
    ranges, (tags, tagged) = source_ranges(service), tag_audience(service)
    return found & (AddressSet.parse(ranges) | tagged) if ranges or tags else found


def balancer_admits(service: Object, facts: ClusterFacts) -> AddressSet:
    """Return the clients that can reach the pods behind a Service's load balancer."""
    verdicts, _ = _judge(service, facts, balancer_audience(service), service_ports(service))
    found: AddressSet = NOWHERE
    for verdict in verdicts:
        found |= verdict.admitted
    return found


def node_ports_admit(service: Object, facts: ClusterFacts) -> AddressSet:
    """Return the clients that can reach the pods behind a Service by its node ports."""
    ports = [port for port in service_ports(service) if port.node_port]
    if not ports:
        return NOWHERE
    running = [pod.node for pod in facts.snapshot.pods_of(service)] if _is_local(service) else []
    verdicts, _ = _judge(service, facts, facts.node_audience(running or None), ports)
    found: AddressSet = NOWHERE
    for verdict in verdicts:
        found |= verdict.admitted
    return found


def _balancer_way(service: Object, facts: ClusterFacts, controller_hosts: Collection[str]) -> Exposure:
    namespace, name = key(service)
    hosts, audience = balancer_hosts(service), balancer_audience(service)
    given, (tags, _) = source_ranges(service), tag_audience(service)
    ranges = AddressSet.parse(given)
    verdicts, pods = _judge(service, facts, audience, service_ports(service))
    notes = [] if hosts else ["it has no address yet"]
    issues: list[Issue] = []
    if any(host.lower() in controller_hosts for host in hosts):
        notes = ["it is the way to Ingresses or Gateways"]
    else:
        if given and ranges.reach == "internet":
            rule, message = "wide-source-ranges", f"its source ranges ({ranges.shown()}) let the whole Internet in"
        elif is_marked_internal(service) and (public := _public_host(service, hosts)):
            rule = "internal-but-public"
            message = (
                f"it is marked as internal, but {public} is a public address: its controller ignores the annotation"
            )
        else:
            rule, message = "open-load-balancer", f"anyone on the Internet can connect to {', '.join(hosts[:3])}"
        mend, known = mending.restrict_balancer(namespace, name), facts.knows_policies(namespace)
        issues = open_issues(verdicts, rule, message, mend, policies=known)
    locations = (Location(host, port.number, port.protocol) for host in hosts for port in service_ports(service))
    if given:
        notes.append(f"source ranges {ranges.shown()}")
    if tags:
        notes.append(f"service tags {', '.join(tags[:4])}")
    return _exposure(service, facts, "LoadBalancer", locations, audience, verdicts, pods, issues, "; ".join(notes))


def _public_host(service: Object, hosts: Iterable[str]) -> str:
    """Return the first address or host name that is public although the Service is marked as internal; "" for none."""
    funnel = is_funnel(service)
    return next((one for one in hosts if host_audience((one,), internal=True, funnel=funnel) == EVERYWHERE), "")


def _node_port_way(service: Object, facts: ClusterFacts, balancer: Exposure | None) -> Exposure | None:
    """Return the way in by node ports; None if there are none, or if the load balancer is open to as many clients."""
    namespace, name = key(service)
    ports = [port for port in service_ports(service) if port.node_port]
    if not ports:
        return None
    behind = facts.snapshot.pods_of(service)
    running = [pod.node for pod in behind] if _is_local(service) and behind else None
    addresses, audience = facts.node_addresses(running), facts.node_audience(running)
    verdicts, pods = _judge(service, facts, audience, ports)
    reach = reach_of(verdicts)
    opened = f"port {', '.join(str(port.node_port) for port in ports[:4])} of the nodes"
    if not facts.knows_nodes:
        issues = [unknown_nodes(opened)] if reach == "internet" else []
    else:
        rule, message = "open-node-port", f"anyone on the Internet can connect to {opened}' public addresses"
        mend = mending.only_in_cluster(namespace, name)
        if balancer is not None and balancer.locations:
            if balancer.reach == "internet":
                return None
            if reach != "internet" and REACHES.index(reach) >= REACHES.index(balancer.reach):
                return None
            rule = "node-port-bypasses-load-balancer"
            message = f"{opened}' public addresses lets in clients that the load balancer refuses"
            mend = mending.without_node_ports(namespace, name, len(service_ports(service)))
        issues = open_issues(verdicts, rule, message, mend, policies=facts.knows_policies(namespace))
    if is_challenge(service):
        issues = []
    locations = (Location(address, port.node_port, port.protocol) for address in addresses for port in ports)
    found = _exposure(service, facts, "NodePort", locations, audience, verdicts, pods, issues)
    return found if facts.knows_nodes else replace(found, reach="unknown", audience="unknown")


def unknown_nodes(what: str) -> Issue:
    """Return the finding for a way in that depends on the nodes' addresses, which could not be read."""
    return Issue(
        "unknown-reach",
        "low",
        f"{what} may be open to the Internet: the nodes, and so their addresses, could not be read",
        "kubectl create clusterrole read-nodes --verb=get,list --resource=nodes",
    )


def _external_ip_way(service: Object, facts: ClusterFacts) -> Exposure:
    namespace, name = key(service)
    addresses = texts(mapping(service.get("spec")).get("externalIPs"))
    audience = audience_of_all(addresses)
    verdicts, pods = _judge(service, facts, audience, service_ports(service))
    foreign = [address for address in addresses if not facts.owns(address)]
    if foreign and facts.knows_nodes:
        issues = [
            Issue(
                "external-ip-not-a-node",
                "medium",
                f"{foreign[0]} is no address of a node, so pods that connect to its owner reach this Service instead"
                " (CVE-2020-8554)",
                mending.without_external_ips(namespace, name),
            )
        ]
    else:
        issues = open_issues(
            verdicts,
            "open-external-ip",
            f"anyone on the Internet can connect to {', '.join(addresses[:3])}",
            mending.without_external_ips(namespace, name),
            policies=facts.knows_policies(namespace),
        )
    locations = (
        Location(address, port.number, port.protocol) for address in addresses for port in service_ports(service)
    )
    return _exposure(service, facts, "external IP", locations, audience, verdicts, pods, issues)


def _judge(
    service: Object, facts: ClusterFacts, audience: AddressSet, ports: Iterable[ServicePort]
) -> tuple[list[PortVerdict], list[ObservedPod]]:
    pods = facts.snapshot.pods_of(service)
    verdicts = [
        facts.judge(pods, audience, port.number, port.target, port.protocol, replaces_clients=not _is_local(service))
        for port in ports
    ]
    return verdicts, pods


def open_issues(
    verdicts: Sequence[PortVerdict], rule: str, message: str, mend: str, *, policies: bool = True
) -> list[Issue]:
    """Return the worst finding about open ports; nothing when there is none.

    Ports of databases and of administrators' interfaces have a higher severity, and are also reported when only private
    networks can reach them.

    Args:
        verdicts: who can connect to each port.
        rule: the rule for a port that is open to the Internet and belongs to neither a database nor such an interface.
        message, mend: the message and the command of the finding.
        policies: False when no NetworkPolicy could shield the port, or when policies could not be read.
    """
    internet = [verdict for verdict in verdicts if verdict.admitted.reach == "internet"]
    sensitive = next((verdict for verdict in internet if verdict.program), None)
    beside = (
        "" if not policies or any(verdict.policies for verdict in verdicts) else ", and no NetworkPolicy restricts it"
    )
    if sensitive is not None:
        text = f"{message}; behind it is most likely {sensitive.program}, which nobody should reach from outside"
        return [Issue("sensitive-port", "high", text, mend)]
    if internet:
        return [Issue(rule, "medium", message + beside, mend)]
    private = next(
        (one for one in verdicts if one.program and one.admitted.reach == "private" and one.shield != "full"), None
    )
    if private is not None and not private.policies:
        text = f"anyone in the private network can connect to it, most likely {private.program}{beside}"
        return [Issue("sensitive-port", "low", text, mend)]
    return []


def _exposure(
    service: Object,
    facts: ClusterFacts,
    way: str,
    locations: Iterable[Location],
    audience: AddressSet,
    verdicts: Sequence[PortVerdict],
    pods: Sequence[ObservedPod],
    issues: list[Issue],
    note: str = "",
) -> Exposure:
    namespace, name = key(service)
    reach = reach_of(verdicts)
    if facts.has_nothing_behind(service):
        issues = [
            Issue(
                "no-endpoints",
                "low",
                f"it has no endpoints, and its {way} exposes any pod that gets its labels",
                mending.delete_command("service", namespace, name),
            )
        ]
    elif not issues and audience.reach == "internet" and any(verdict.doubtful for verdict in verdicts):
        issues = [
            Issue(
                "policy-sees-node-address",
                "medium",
                "its NetworkPolicy admits the nodes' addresses, and with externalTrafficPolicy Cluster pods may see"
                " such an address for every client",
                mending.patch_command("service", namespace, name, {"spec": {"externalTrafficPolicy": "Local"}}),
            )
        ]
    return Exposure(
        kind="Service",
        namespace=namespace,
        name=name,
        way=way,
        locations=tuple(islice(locations, MOST_LOCATIONS)),
        reach=reach,
        audience=audience.reach,
        shield=shield_of(verdicts),
        policies=policies_of(verdicts),
        workloads=workloads_of(pods),
        pods=facts.pods_behind(service),
        issues=tuple(issues),
        accepted=annotations_of(service).get(ON_PURPOSE, ""),
        note=note,
    )
