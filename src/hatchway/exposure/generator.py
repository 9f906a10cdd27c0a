"""Makes the Service that exposes an object, by the rules of `kubectl expose`. Pure.

The rules are those of kubectl 1.37 (`pkg/cmd/expose/expose.go`, and for selectors, ports and protocols
`pkg/polymorphichelpers`), with three additions: StatefulSets and DaemonSets are exposed like Deployments; a selector's
expression `KEY in (VALUE)` counts as the label KEY=VALUE; a port that two containers declare with the same protocol is
one port.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from hatchway.errors import HatchwayError
from hatchway.kube.api import Object
from hatchway.numerals import is_digits
from hatchway.target import SHORT, Kind

# The kinds that can be exposed.
EXPOSABLE: Final[tuple[Kind, ...]] = (
    "pods",
    "services",
    "deployments.apps",
    "replicasets.apps",
    "replicationcontrollers",
    "statefulsets.apps",
    "daemonsets.apps",
)
# The longest name of a Service (DNS-1035 label).
LONGEST_NAME: Final = 63


@dataclass(frozen=True, slots=True)
class ServiceRequest:
    """The options of `hatchway expose`, with the same meaning as in kubectl; "" when an option is not given.

    port: several ports are separated by commas. target_port: one port for all of them.
    labels, selector: `KEY=VALUE,KEY=VALUE`.
    type: ClusterIP, NodePort or LoadBalancer.
    """

    name: str = ""
    port: str = ""
    target_port: str = ""
    type: str = ""
    protocol: str = ""
    labels: str = ""
    selector: str = ""
    cluster_ip: str = ""
    external_ip: str = ""
    load_balancer_ip: str = ""
    session_affinity: str = ""


def make_service(resource: Kind, obj: Object, request: ServiceRequest) -> Object:
    """Return the Service that exposes an object.

    Args:
        resource: the object's kind; one of EXPOSABLE.
        obj: the object, as the API has it.
        request: the user's options; everything else is taken from the object.

    Raises:
        HatchwayError: neither the object nor the options have a selector or a port, or an option is not valid.
    """
    metadata = obj["metadata"]
    selector = parse_labels("--selector", request.selector) if request.selector else selector_of_object(resource, obj)
    labels = parse_labels("--labels", request.labels) if request.labels else dict(metadata.get("labels") or {})
    ports = _ports(resource, obj, request)
    for port in ports:
        port["targetPort"] = _target_port(request.target_port) if request.target_port else port["port"]
    spec: dict[str, Any] = {"ports": ports, "selector": selector}
    if request.external_ip:
        spec["externalIPs"] = [request.external_ip]
    if request.type:
        spec["type"] = request.type
    if request.type == "LoadBalancer" and request.load_balancer_ip:
        spec["loadBalancerIP"] = request.load_balancer_ip
    if request.session_affinity:
        spec["sessionAffinity"] = request.session_affinity
    if request.cluster_ip:
        spec["clusterIP"] = request.cluster_ip
    made: Object = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": request.name or _name(metadata["name"])},
    }
    if labels:
        made["metadata"]["labels"] = labels
    made["spec"] = {key: value for key, value in spec.items() if value != []}
    return made


def _name(name: str) -> str:
    return name[:LONGEST_NAME]


def parse_labels(option: str, text: str) -> dict[str, str]:
    """Parse `KEY=VALUE,KEY=VALUE`. option: the option's name for the message. Raises HatchwayError."""
    found: dict[str, str] = {}
    for pair in text.split(","):
        key, equals, value = pair.partition("=")
        if not equals or not key or "=" in value:
            raise HatchwayError(f'{option}: "{pair}" is not KEY=VALUE', f"write it like {option} app=web,tier=front")
        found[key] = value
    return found


def selector_of_object(resource: Kind, obj: Object) -> dict[str, str]:
    """Return the labels that select an object's pods, as a Service's selector.

    Raises:
        HatchwayError: the object has no such labels, or a Service's selector cannot express them.
    """
    spec, name = obj.get("spec") or {}, f"{SHORT[resource]}/{obj['metadata']['name']}"
    hint = "choose the pods with --selector KEY=VALUE"
    if resource == "pods":
        found = obj["metadata"].get("labels") or {}
        if not found:
            raise HatchwayError(
                f"{name} has no labels, so no Service can select it", "--only adds one, or: kubectl label pod ..."
            )
        return dict(found)
    given = spec.get("selector") or {}
    if resource in ("services", "replicationcontrollers"):
        if not given:
            raise HatchwayError(f"{name} has no selector", hint)
        return dict(given)
    found = dict(given.get("matchLabels") or {})
    for expression in given.get("matchExpressions") or ():
        values = expression.get("values") or []
        if expression.get("operator") != "In" or len(values) != 1:
            raise HatchwayError(f"the selector of {name} has expressions, which a Service's selector cannot have", hint)
        found[expression["key"]] = values[0]
    if not found:
        raise HatchwayError(f"{name} has no selector", hint)
    return found


def _ports(resource: Kind, obj: Object, request: ServiceRequest) -> list[dict[str, Any]]:
    """Return the Service's ports, without their target ports."""
    declared = declared_ports(resource, obj)
    numbers = request.port.split(",") if request.port else list(declared)
    if not numbers:
        if request.cluster_ip == "None":
            return []
        raise HatchwayError(
            f"{SHORT[resource]}/{obj['metadata']['name']} declares no port, and none was given",
            "add --port NUMBER: the port on which the program listens",
        )
    found: list[dict[str, Any]] = []
    for place, number in enumerate(numbers, 1):
        if not is_digits(number):
            raise HatchwayError(f'--port: "{number}" is not a number', "--target-port takes names of ports, too")
        name = f"port-{place}" if len(numbers) > 1 else ""
        protocols = [request.protocol] if request.protocol else declared.get(number) or ["TCP"]
        for protocol in protocols:
            # Ports of a Service need different names, so a port with TCP and UDP gets a name for each protocol.
            own = f"port-{place}-{protocol.lower()}" if len(protocols) > 1 else name
            found.append({**({"name": own} if own else {}), "port": int(number), "protocol": protocol})
    return found


def declared_ports(resource: Kind, obj: Object) -> dict[str, list[str]]:
    """Return the protocols of each port that an object declares, in the order of declaration."""
    spec: Mapping[str, Any] = obj.get("spec") or {}
    if resource == "services":
        declared = [(port.get("port"), port.get("protocol")) for port in spec.get("ports") or ()]
    else:
        if resource != "pods":
            spec = (spec.get("template") or {}).get("spec") or {}
        declared = [
            (port.get("containerPort"), port.get("protocol"))
            for container in spec.get("containers") or ()
            for port in container.get("ports") or ()
        ]
    found: dict[str, list[str]] = {}
    for number, protocol in declared:
        protocols = found.setdefault(str(number), [])
        if (protocol or "TCP") not in protocols:
            protocols.append(protocol or "TCP")
    return found


def _target_port(text: str) -> int | str:
    return int(text) if is_digits(text) else text
