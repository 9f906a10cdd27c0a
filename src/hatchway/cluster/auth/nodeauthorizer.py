"""The rights of a node: the Node authorizer (Kubernetes' `plugin/pkg/auth/authorizer/node`).

A node may read single Secrets and ConfigMaps that its pods name, and get tokens of these pods' service accounts. It may
read its own Node and its own pods. All other requests need a rule in the role system:node. The objects that a node
writes are checked in `api/admission/noderestriction.py`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from hatchway.cluster.auth import source
from hatchway.cluster.auth.bootstrap import node_rules
from hatchway.cluster.auth.rules import Rule, quote
from hatchway.cluster.auth.user import Attributes, UserInfo
from hatchway.kube.api import Object
from hatchway.kube.volumeclaims import claims_of
from hatchway.kube.wellknown import MIRROR_POD

NODES_GROUP = "system:nodes"
LEASE_NAMESPACE = "kube-node-lease"
_PREFIX = "system:node:"
# (resource, namespace, name).
ReferencedObject = tuple[str, str, str]


def node_of(user: UserInfo) -> str | None:
    """Return the name of the node to which a user belongs; "" for a node without a name, None for other users."""
    if NODES_GROUP not in user.groups or not user.name.startswith(_PREFIX):
        return None
    return user.name.removeprefix(_PREFIX)


@dataclass(frozen=True, slots=True)
class _Bound:
    node: str
    references: frozenset[ReferencedObject]


class NodeAuthorizer:
    """Follows the pods of a store, and decides what nodes may do (`problem`). `close` ends the subscription."""

    def __init__(self, objects: source.StoredObjects) -> None:
        self._objects = objects
        self._rules = [Rule.parse(rule) for rule in node_rules()]
        self._pods: dict[tuple[str, str], _Bound] = {}
        # For each node: the objects that its pods name, each with the number of these pods.
        self._references: dict[str, Counter[ReferencedObject]] = {}
        self._end = objects.subscribe("pods", self._changed)
        for pod in objects.list("pods"):
            self._changed("ADDED", None, pod)

    def close(self) -> None:
        """Stop following the store."""
        self._end()

    def problem(self, node: str, asked: Attributes) -> str:
        """Return why the node may not make the request; "" when it may."""
        if not node:
            return "unknown node for user " + quote(asked.user.name)
        if asked.resource and not asked.api_group:
            match asked.resource:
                case "secrets" | "configmaps":
                    return self._read(node, asked)
                case "persistentvolumeclaims" | "persistentvolumes":
                    return self._volume(node, asked)
                case "serviceaccounts":
                    return self._token(node, asked)
                case "nodes":
                    return self._node(node, asked)
                case "pods":
                    return self._pod(node, asked)
        elif asked.resource == "leases" and asked.api_group == "coordination.k8s.io":
            return self._lease(node, asked)
        if any(rule.allows(asked) for rule in self._rules):
            return ""
        return "nodes do not have this right"

    def _read(self, node: str, asked: Attributes) -> str:
        if asked.verb not in ("get", "list", "watch"):
            return "can only read resources of this type"
        if asked.subresource:
            return "cannot read subresource"
        if not asked.namespace:
            return "can only read namespaced object of this type"
        return self._related(node, asked)

    def _related(self, node: str, asked: Attributes) -> str:
        if not asked.name:
            return "No Object name found"
        found = self._references.get(node)
        if found is None or (asked.resource, asked.namespace, asked.name) not in found:
            return f"no relationship found between node '{node}' and this object"
        return ""

    def _volume(self, node: str, asked: Attributes) -> str:
        """Return why a node may not read a claim or a volume; "" for claims of its pods and volumes of such claims."""
        if asked.verb != "get":
            return "can only get individual resources of this type"
        if asked.subresource:
            return "cannot get subresource"
        if asked.resource == "persistentvolumeclaims":
            return self._related(node, asked)
        volume = self._objects.get("persistentvolumes", "", asked.name)
        claim = ((volume or {}).get("spec") or {}).get("claimRef") or {}
        found = self._references.get(node)
        key = ("persistentvolumeclaims", claim.get("namespace"), claim.get("name"))
        if found is None or key not in found:
            return f"no relationship found between node '{node}' and this object"
        return ""

    def _token(self, node: str, asked: Attributes) -> str:
        if asked.verb != "create" or not asked.name:
            return "can only create tokens for individual service accounts"
        if asked.subresource != "token":
            return "can only create token subresource of serviceaccount"
        return self._related(node, asked)

    def _lease(self, node: str, asked: Attributes) -> str:
        if asked.verb not in ("get", "create", "update", "patch", "delete"):
            return "can only get, create, update, patch, or delete a node lease"
        if asked.namespace != LEASE_NAMESPACE:
            return f"can only access leases in the {quote(LEASE_NAMESPACE)} system namespace"
        # On create, the name is in the body, which NodeRestriction checks.
        if asked.verb != "create" and asked.name != node:
            return "can only access node lease with the same name as the requesting node"
        return ""

    def _node(self, node: str, asked: Attributes) -> str:
        if asked.subresource == "status":
            return "" if asked.verb in ("update", "patch") else f"node '{node}' cannot {asked.verb} nodes/status"
        if asked.subresource:
            return f"node '{node}' cannot {asked.verb} nodes/{asked.subresource}"
        if asked.verb in ("create", "update", "patch"):
            return ""
        if asked.verb not in ("get", "list", "watch"):
            return f"node '{node}' cannot {asked.verb} nodes"
        return "" if asked.name == node else f"node '{node}' cannot read all nodes, only its own Node object"

    def _pod(self, node: str, asked: Attributes) -> str:
        refused = f"node '{node}' cannot {asked.verb} pods"
        if asked.subresource:
            allowed = {"status": ("update", "patch"), "eviction": ("create",)}.get(asked.subresource, ())
            return "" if asked.verb in allowed else f"{refused}/{asked.subresource}"
        if asked.verb in ("create", "delete"):
            return ""
        if asked.verb not in ("get", "list", "watch"):
            return refused
        if asked.verb != "get" and ("spec.nodeName", node) in asked.fields:
            return ""
        if not asked.name:
            return f"can only list/watch pods with spec.nodeName field selector, as node '{node}'"
        bound = self._pods.get((asked.namespace, asked.name))
        if bound is None or bound.node != node:
            return f"no relationship found between node '{node}' and this object"
        return ""

    def _changed(self, _type: str, old: Object | None, new: Object | None) -> None:
        key = None
        for obj in (old, new):
            if obj is not None:
                key = (obj["metadata"].get("namespace") or "", obj["metadata"]["name"])
        assert key is not None, "a change has the old or the new object"
        if old is not None and new is not None and _names_the_same(old, new):
            # This shortcut is for changes of the status, which are frequent. A pod may name thousands of objects.
            return
        bound = self._bound(new) if new is not None else None
        before = self._pods.get(key)
        if before == bound:
            return
        if before is not None:
            del self._pods[key]
            counts = self._references[before.node]
            for reference in before.references:
                counts[reference] -= 1
                if not counts[reference]:
                    del counts[reference]
            if not counts:
                del self._references[before.node]
        if bound is not None:
            self._pods[key] = bound
            self._references.setdefault(bound.node, Counter()).update(bound.references)

    @staticmethod
    def _bound(pod: Object) -> _Bound | None:
        node = pod.get("spec", {}).get("nodeName")
        # A mirror pod gives the node no rights, because the node makes this pod itself.
        if not node or MIRROR_POD in (pod["metadata"].get("annotations") or {}):
            return None
        return _Bound(node, frozenset(references(pod)))


def _names_the_same(one: Object, other: Object) -> bool:
    return bool(one["spec"] == other["spec"]) and one["metadata"].get("annotations") == other["metadata"].get(
        "annotations"
    )


def references(pod: Object) -> Iterator[ReferencedObject]:
    """Yield the Secrets, ConfigMaps, claims and the service account that a pod names anywhere."""
    namespace, spec = pod["metadata"].get("namespace") or "", pod["spec"]
    for resource, name in _names(spec):
        if name:
            yield resource, namespace, name
    for claim in claims_of(pod):
        yield "persistentvolumeclaims", namespace, claim.name


def _names(spec: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    yield "serviceaccounts", spec.get("serviceAccountName")
    for secret in spec.get("imagePullSecrets") or ():
        yield "secrets", secret.get("name")
    for volume in spec.get("volumes") or ():
        for item in (volume, *((volume.get("projected") or {}).get("sources") or ())):
            yield "configmaps", (item.get("configMap") or {}).get("name")
            secret = item.get("secret") or {}
            yield "secrets", secret.get("secretName") or secret.get("name")
    for kind in ("initContainers", "containers", "ephemeralContainers"):
        for container in spec.get(kind) or ():
            for item in container.get("envFrom") or ():
                yield "configmaps", (item.get("configMapRef") or {}).get("name")
                yield "secrets", (item.get("secretRef") or {}).get("name")
            for variable in container.get("env") or ():
                value = variable.get("valueFrom") or {}
                yield "configmaps", (value.get("configMapKeyRef") or {}).get("name")
                yield "secrets", (value.get("secretKeyRef") or {}).get("name")
