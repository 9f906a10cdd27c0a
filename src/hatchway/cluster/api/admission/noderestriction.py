"""Limits what a node may write: the admission plugin NodeRestriction (`plugin/pkg/admission/noderestriction`).

The authorizer (`nodeauthorizer.py`) decides which requests a node may make; this plugin checks their contents. A node
may write its own Node, the status of its own pods, and its own lease. On its Node, it may not write taints, nor labels
that decide which workloads run on the node.
"""

from __future__ import annotations

from typing import Any

from hatchway.cluster.api.admission.contract import AdmissionAttributes, AdmissionOperation, AdmissionPlugin
from hatchway.cluster.auth.nodeauthorizer import LEASE_NAMESPACE, NODES_GROUP, node_of, references
from hatchway.cluster.auth.rules import quote
from hatchway.cluster.auth.source import StoredObjects
from hatchway.errors import ApiError, forbidden, not_found
from hatchway.kube.api import Object
from hatchway.kube.wellknown import MIRROR_POD

_RESTRICTED = "node-restriction.kubernetes.io"
# The labels of Kubernetes that a kubelet sets (`kubelet/pkg/apis/well_known_labels.go`).
_KUBELET_LABELS = frozenset(
    (
        "kubernetes.io/hostname",
        "kubernetes.io/arch",
        "kubernetes.io/os",
        "beta.kubernetes.io/arch",
        "beta.kubernetes.io/os",
        "beta.kubernetes.io/instance-type",
        "node.kubernetes.io/instance-type",
        "topology.kubernetes.io/region",
        "topology.kubernetes.io/zone",
        "failure-domain.beta.kubernetes.io/region",
        "failure-domain.beta.kubernetes.io/zone",
    )
)
_KUBELET_DOMAINS = ("kubelet.kubernetes.io", "node.kubernetes.io")


class NodeRestriction(AdmissionPlugin):
    """Checks the writes of nodes. objects: the stored pods and nodes."""

    name = "NodeRestriction"

    def __init__(self, objects: StoredObjects) -> None:
        self._objects = objects

    def handles(self, operation: AdmissionOperation, resource: str, subresource: str) -> bool:
        """Return True for writes of pods, nodes, tokens and leases."""
        if operation == "CONNECT":
            return False
        return resource in ("pods", "nodes", "leases.coordination.k8s.io") or (
            resource == "serviceaccounts" and subresource == "token"
        )

    def admit(self, attributes: AdmissionAttributes) -> None:
        """Raise ApiError 403 when the user is a node and may not write this content."""
        user = attributes.user
        if NODES_GROUP not in user.groups:
            return
        node = node_of(user)
        if node is None:
            return
        resource, subresource, operation = attributes.resource, attributes.subresource, attributes.operation
        namespace, name, obj, old = (
            attributes.namespace,
            attributes.object_name,
            attributes.object,
            attributes.old_object,
        )
        if not node:
            raise _refused(resource, name, f"could not determine node from user {quote(user.name)}")
        if resource == "pods":
            self._pod(node, operation, subresource, namespace, name, obj, old)
        elif resource == "nodes":
            self._node(node, operation, subresource, name, obj, old)
        elif resource == "serviceaccounts":
            self._token(node, namespace, name, obj or {})
        else:
            self._lease(node, namespace, name, obj)

    # -- pods

    def _pod(
        self,
        node: str,
        operation: AdmissionOperation,
        subresource: str,
        namespace: str,
        name: str,
        obj: Object | None,
        old: Object | None,
    ) -> None:
        if subresource == "status":
            self._pod_status(node, name, obj or {}, old or {})
        elif subresource == "eviction":
            pod = self._objects.get("pods", namespace, name)
            if pod is None:
                raise not_found("pods", name)
            if _node_name(pod) != node:
                raise _refused("pods", name, f"node {quote(node)} can only evict pods with spec.nodeName set to itself")
        elif subresource:
            raise _refused(
                "pods",
                name,
                f"unexpected pod subresource {quote(subresource)}, only 'status' and 'eviction' are allowed",
            )
        elif operation == "CREATE":
            _check_mirror(node, name, obj or {}, self._objects)
        elif operation == "DELETE":
            if _node_name(old or {}) != node:
                raise _refused(
                    "pods", name, f"node {quote(node)} can only delete pods with spec.nodeName set to itself"
                )
        else:
            raise _refused(
                "pods",
                name,
                f"unexpected operation {quote(operation)}, node {quote(node)} can only create and delete mirror pods",
            )

    @staticmethod
    def _pod_status(node: str, name: str, obj: Object, old: Object) -> None:
        if _node_name(old) != node:
            raise _refused(
                "pods", name, f"node {quote(node)} can only update pod status for pods with spec.nodeName set to itself"
            )
        if (obj["metadata"].get("labels") or {}) != (old["metadata"].get("labels") or {}):
            raise _refused("pods", name, f"node {quote(node)} cannot update labels through pod status")

    # -- nodes

    @staticmethod
    def _node(
        node: str, operation: AdmissionOperation, subresource: str, name: str, obj: Object | None, old: Object | None
    ) -> None:
        asked = name or (obj or {}).get("metadata", {}).get("name", "")
        if asked != node:
            raise _refused("nodes", asked, f"node {quote(node)} is not allowed to modify node {quote(asked)}")
        if obj is None:
            return
        labels = obj["metadata"].get("labels") or {}
        if old is None:
            changed = set(labels)
            if obj["metadata"].get("ownerReferences"):
                raise _refused(
                    "nodes", asked, f"node {quote(node)} is not allowed to create or delete owner references"
                )
        else:
            before = old["metadata"].get("labels") or {}
            changed = {key for key in {*labels, *before} if labels.get(key) != before.get(key)}
            if (obj["metadata"].get("ownerReferences") or []) != (old["metadata"].get("ownerReferences") or []):
                raise _refused("nodes", asked, f"node {quote(node)} is not allowed to modify ownerReferences")
            # Taints decide which pods run on a node, so a node must not change its own taints.
            if ((obj.get("spec") or {}).get("taints") or []) != ((old.get("spec") or {}).get("taints") or []):
                raise _refused("nodes", asked, f"node {quote(node)} is not allowed to modify taints")
        wrong = sorted(key for key in changed if _is_forbidden(key))
        if wrong:
            what = "set the following" if old is None else "modify"
            shown = ", ".join(wrong)
            raise _refused("nodes", asked, f"is not allowed to {what} labels: {shown}")

    # -- tokens and leases

    def _token(self, node: str, namespace: str, account: str, obj: Object) -> None:
        spec = obj.get("spec") or {}
        reference = spec.get("boundObjectRef")
        if not reference or reference.get("kind") != "Pod" or reference.get("apiVersion", "v1") not in ("", "v1"):
            raise _refused("serviceaccounts", account, "node requested token not bound to a pod")
        if not reference.get("uid"):
            raise _refused("serviceaccounts", account, "node requested token with a pod binding without a uid")
        pod = self._objects.get("pods", namespace, reference.get("name") or "")
        if pod is None:
            raise not_found("pods", reference.get("name") or "")
        if reference["uid"] != pod["metadata"].get("uid"):
            why = (
                f"the UID in the bound object reference ({reference['uid']}) does not match the UID in record. "
                "The object might have been deleted and then recreated"
            )
            raise _refused("serviceaccounts", account, why)
        if _node_name(pod) != node:
            raise _refused(
                "serviceaccounts", account, "node requested token bound to a pod scheduled on a different node"
            )
        wanted = set(_audiences(pod))
        for audience in spec.get("audiences") or [""]:
            if audience not in wanted:
                raise _refused("serviceaccounts", account, f"audience {quote(audience)} not found in pod spec volume")

    @staticmethod
    def _lease(node: str, namespace: str, name: str, obj: Object | None) -> None:
        asked = name or (obj or {}).get("metadata", {}).get("name", "")
        if namespace != LEASE_NAMESPACE:
            why = f"can only access leases in the {quote(LEASE_NAMESPACE)} system namespace"
            raise _refused("leases", asked, why, "coordination.k8s.io")
        if asked != node:
            why = "can only access node lease with the same name as the requesting node"
            raise _refused("leases", asked, why, "coordination.k8s.io")


def _refused(resource: str, name: str, why: str, group: str = "") -> ApiError:
    return forbidden(resource.partition(".")[0], name, why, group)


def _node_name(pod: Object) -> str:
    return str((pod.get("spec") or {}).get("nodeName") or "")


def _check_mirror(node: str, name: str, pod: Object, objects: StoredObjects) -> None:
    """Raise ApiError 403 unless a new pod is a mirror pod of the node and refers to no objects."""
    metadata = pod.get("metadata") or {}
    annotations = metadata.get("annotations") or {}
    problem = ""
    if MIRROR_POD not in annotations:
        problem = f"pod does not have {quote(MIRROR_POD)} annotation, node {quote(node)} can only create mirror pods"
    elif _node_name(pod) != node:
        problem = f"node {quote(node)} can only create pods with spec.nodeName set to itself"
    elif any(resource == "serviceaccounts" for resource, _, _ in references(pod)):
        problem = f"node {quote(node)} can not create pods that reference a service account"
    elif any(resource == "secrets" for resource, _, _ in references(pod)):
        problem = f"node {quote(node)} can not create pods that reference secrets"
    elif any(resource == "configmaps" for resource, _, _ in references(pod)):
        problem = f"node {quote(node)} can not create pods that reference configmaps"
    else:
        problem = _owner_problem(node, metadata.get("ownerReferences") or [], objects)
    if problem:
        raise _refused("pods", name or metadata.get("name", ""), problem)


def _owner_problem(node: str, owners: list[dict[str, Any]], objects: StoredObjects) -> str:
    if not owners:
        return f"node {quote(node)} can only create pods with an owner reference set to itself"
    if len(owners) > 1:
        return f"node {quote(node)} can only create pods with a single owner reference set to itself"
    owner = owners[0]
    known = objects.get("nodes", "", node) or {}
    own = owner.get("apiVersion"), owner.get("kind"), owner.get("name")
    if own != ("v1", "Node", node) or owner.get("uid") != (known.get("metadata") or {}).get("uid"):
        return f"node {quote(node)} can only create pods with an owner reference set to itself"
    if not owner.get("controller"):
        return f"node {quote(node)} can only create pods with a controller owner reference set to itself"
    if owner.get("blockOwnerDeletion"):
        return f"node {quote(node)} must not set blockOwnerDeletion on an owner reference"
    return ""


def _audiences(pod: Object) -> list[str]:
    """Return the audiences of the tokens in the pod's volumes; "" stands for the API server."""
    return [
        source["serviceAccountToken"].get("audience") or ""
        for volume in pod["spec"].get("volumes") or ()
        for source in (volume.get("projected") or {}).get("sources") or ()
        if source.get("serviceAccountToken") is not None
    ]


def _is_forbidden(label: str) -> bool:
    """Return True for a label that a node must not change.

    These are the labels of `node-restriction.kubernetes.io`, and all labels of Kubernetes that kubelets do not set.
    """
    domain = label.partition("/")[0] if "/" in label else ""
    if _within(domain, _RESTRICTED):
        return True
    if not (_within(domain, "kubernetes.io") or _within(domain, "k8s.io")):
        return False
    return label not in _KUBELET_LABELS and not any(_within(domain, known) for known in _KUBELET_DOMAINS)


def _within(domain: str, parent: str) -> bool:
    return domain == parent or domain.endswith("." + parent)
