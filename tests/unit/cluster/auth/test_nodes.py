"""Nodes may read and write only what their own pods need."""

from __future__ import annotations

from typing import Any

import pytest

from hatchway.cluster.api.admission.contract import AdmissionAttributes
from hatchway.cluster.api.admission.noderestriction import NodeRestriction
from hatchway.cluster.api.registry.types import ROWS
from hatchway.cluster.auth.bootstrap import bootstrap_objects
from hatchway.cluster.auth.rbac import Authorizer
from hatchway.cluster.auth.user import Attributes, UserInfo
from hatchway.errors import ApiError

from .fakes import FakeSource

N1 = UserInfo("system:node:n1", ("system:nodes", "system:authenticated"))
N2 = UserInfo("system:node:n2", ("system:nodes", "system:authenticated"))
MIRROR = {"kubernetes.io/config.mirror": "x"}


def pod(name: str = "p", node: str = "n1", **spec: Any) -> dict[str, Any]:
    metadata = {"name": name, "namespace": "ns", "uid": f"uid-{name}"}
    return {"metadata": metadata, "spec": {"nodeName": node, "containers": [], **spec}}


@pytest.fixture
def source() -> FakeSource:
    found = FakeSource()
    for resource, obj in bootstrap_objects():
        found.put(resource, obj)
    return found


def may(
    authorizer: Authorizer, user: UserInfo, verb: str, what: str, name: str = "", namespace: str = "ns", **more: Any
) -> bool:
    resource, _, subresource = what.partition("/")
    asked = Attributes(user, verb, resource, subresource, namespace=namespace, name=name, **more)
    return authorizer.decide(asked).allowed


def test_a_node_reads_what_its_pods_name(source: FakeSource) -> None:
    spec = {
        "serviceAccountName": "robot",
        "imagePullSecrets": [{"name": "pull"}],
        "volumes": [
            {"name": "a", "secret": {"secretName": "volume"}},
            {"name": "b", "projected": {"sources": [{"secret": {"name": "part"}}, {"configMap": {"name": "part"}}]}},
        ],
        "initContainers": [{"env": [{"name": "A", "valueFrom": {"secretKeyRef": {"name": "variable"}}}]}],
        "containers": [{"envFrom": [{"configMapRef": {"name": "whole"}}, {"secretRef": {"name": "whole"}}]}],
    }
    authorizer = Authorizer(source)
    named = [("secrets", one) for one in ("pull", "volume", "part", "variable", "whole")]
    named += [("configmaps", "part"), ("configmaps", "whole")]
    assert not any(may(authorizer, N1, "get", *one) for one in named)
    source.put("pods", pod(**spec))
    for resource, name in named:
        for verb in ("get", "list", "watch"):
            assert may(authorizer, N1, verb, resource, name)
            assert not may(authorizer, N2, verb, resource, name)
        assert not may(authorizer, N1, "get", resource, name, "other")
        assert not may(authorizer, N1, "update", resource, name)
        assert not may(authorizer, N1, "delete", resource, name)
    for resource in ("secrets", "configmaps"):
        assert not may(authorizer, N1, "list", resource)
        assert not may(authorizer, N1, "list", resource, namespace="")
        assert not may(authorizer, N1, "watch", resource, namespace="")
        assert not may(authorizer, N1, "get", resource, "robot")
    assert may(authorizer, N1, "create", "serviceaccounts/token", "robot")
    assert not may(authorizer, N2, "create", "serviceaccounts/token", "robot")
    assert not may(authorizer, N1, "create", "serviceaccounts/token", "default")
    assert not may(authorizer, N1, "get", "serviceaccounts", "robot")
    # Another pod of the node uses one of the secrets, too. After the deletion of the first pod, only this secret may be
    # read.
    source.put("pods", pod("q", imagePullSecrets=[{"name": "pull"}]))
    source.remove("pods", "ns", "p")
    assert may(authorizer, N1, "get", "secrets", "pull")
    assert not may(authorizer, N1, "get", "secrets", "volume")
    source.remove("pods", "ns", "q")
    assert not may(authorizer, N1, "get", "secrets", "pull")


def test_mirror_pods_give_their_node_no_rights(source: FakeSource) -> None:
    authorizer = Authorizer(source)
    made = pod(imagePullSecrets=[{"name": "s"}])
    made["metadata"]["annotations"] = MIRROR
    source.put("pods", made)
    assert not may(authorizer, N1, "get", "secrets", "s")


def test_a_refusal_has_a_reason(source: FakeSource) -> None:
    authorizer = Authorizer(source)
    with pytest.raises(ApiError) as caught:
        authorizer.require(Attributes(N1, "list", "secrets"))
    assert caught.value.message == (
        'secrets is forbidden: User "system:node:n1" cannot list resource "secrets" in API group "" at the cluster '
        "scope: can only read namespaced object of this type"
    )


def test_a_node_reads_the_claims_of_its_pods_and_their_volumes(source: FakeSource) -> None:
    authorizer = Authorizer(source)
    for name, claim in (("v", "c"), ("w", "other")):
        metadata, reference = {"name": name}, {"namespace": "ns", "name": claim}
        source.put("persistentvolumes", {"metadata": metadata, "spec": {"claimRef": reference}})
    template = {"volumeClaimTemplate": {"spec": {}}}
    source.put(
        "pods",
        pod(volumes=[{"name": "a", "persistentVolumeClaim": {"claimName": "c"}}, {"name": "b", "ephemeral": template}]),
    )
    assert may(authorizer, N1, "get", "persistentvolumeclaims", "c")
    assert may(authorizer, N1, "get", "persistentvolumeclaims", "p-b")
    assert may(authorizer, N1, "get", "persistentvolumes", "v", "")
    assert not may(authorizer, N1, "get", "persistentvolumes", "w", "")
    assert not may(authorizer, N1, "get", "persistentvolumes", "none", "")
    assert not may(authorizer, N1, "get", "persistentvolumeclaims", "other")
    assert not may(authorizer, N1, "list", "persistentvolumeclaims")
    assert not may(authorizer, N1, "update", "persistentvolumeclaims/status", "c")
    assert not may(authorizer, N2, "get", "persistentvolumeclaims", "c")
    assert not may(authorizer, N2, "get", "persistentvolumes", "v", "")


def test_nodes_and_pods_that_a_node_reads(source: FakeSource) -> None:
    authorizer = Authorizer(source)
    source.put("pods", pod())
    assert may(authorizer, N1, "get", "nodes", "n1", "")
    assert not may(authorizer, N1, "get", "nodes", "n2", "")
    assert not may(authorizer, N1, "list", "nodes", namespace="")
    assert not may(authorizer, N1, "delete", "nodes", "n1", "")
    assert not may(authorizer, N1, "get", "nodes/proxy", "n1", "")
    assert may(authorizer, N1, "watch", "pods", namespace="", fields=(("spec.nodeName", "n1"),))
    assert not may(authorizer, N1, "watch", "pods", namespace="", fields=(("spec.nodeName", "n2"),))
    assert not may(authorizer, N1, "list", "pods", namespace="")
    assert may(authorizer, N1, "get", "pods", "p")
    assert not may(authorizer, N2, "get", "pods", "p")
    assert not may(authorizer, N1, "patch", "pods", "p")
    assert not may(authorizer, N1, "create", "pods/binding", "p")
    assert not may(authorizer, N1, "get", "pods/log", "p")


@pytest.mark.parametrize(
    ("verb", "namespace", "name", "allowed"),
    [
        ("update", "kube-node-lease", "n1", True),
        ("create", "kube-node-lease", "", True),
        ("update", "kube-node-lease", "n2", False),
        ("list", "kube-node-lease", "", False),
        ("get", "kube-system", "n1", False),
    ],
)
def test_leases(source: FakeSource, verb: str, namespace: str, name: str, allowed: bool) -> None:
    found = may(Authorizer(source), N1, verb, "leases", name, namespace, api_group="coordination.k8s.io")
    assert found == allowed


def test_users_that_are_not_nodes_have_no_rights_of_nodes(source: FakeSource) -> None:
    authorizer = Authorizer(source)
    source.put("pods", pod(imagePullSecrets=[{"name": "s"}]))
    for user in (
        UserInfo("system:node:n1", ("system:authenticated",)),
        UserInfo("n1", ("system:nodes", "system:authenticated")),
        UserInfo("system:node:", ("system:nodes",)),
    ):
        assert not may(authorizer, user, "get", "secrets", "s")
        assert not may(authorizer, user, "list", "secrets", namespace="")
        assert not may(authorizer, user, "update", "nodes/status", "n1", "")


# -- writes by nodes


def refused(source: FakeSource, operation: Any, resource: str, *rest: Any) -> str:
    """Let node n1 write; return the error, "" if it may. rest: subresource, namespace, name, object, old object."""
    try:
        NodeRestriction(source).admit(attributes(N1, operation, resource, *rest))
    except ApiError as error:
        return error.message
    return ""


def attributes(user: UserInfo, operation: Any, resource: str, *rest: Any) -> AdmissionAttributes:
    subresource, namespace, name, obj, old = rest
    row = next(one for one in ROWS if one.group_resource == resource)
    return AdmissionAttributes(user, operation, row, subresource, namespace, name, row.gvk, obj, old)


def node(name: str = "n1", labels: dict[str, str] | None = None, **spec: Any) -> dict[str, Any]:
    return {"metadata": {"name": name, "labels": labels or {}}, "spec": spec}


@pytest.mark.parametrize(
    ("new", "old", "why"),
    [
        (node(labels={"kubernetes.io/hostname": "n1", "example.com/mine": "x"}), None, ""),
        (node(taints=[{"key": "a", "effect": "NoSchedule"}]), None, ""),
        (node("n2"), None, 'is not allowed to modify node "n2"'),
        (
            node(labels={"node-role.kubernetes.io/control-plane": ""}),
            None,
            "is not allowed to set the following labels",
        ),
        (node(labels={"node-restriction.kubernetes.io/x": ""}), node(), "is not allowed to modify labels"),
        (node(labels={"a.node-restriction.kubernetes.io/x": ""}), node(), "is not allowed to modify labels"),
        (node(), node(labels={"node-restriction.kubernetes.io/x": ""}), "is not allowed to modify labels"),
        (node(labels={"k8s.io/x": ""}), node(), "is not allowed to modify labels: k8s.io/x"),
        (node(labels={"kubelet.kubernetes.io/x": "", "node.kubernetes.io/y": ""}), node(), ""),
        (node(labels={"notkubernetes.io/x": ""}), node(), ""),
        (node(taints=[{"key": "a", "effect": "NoSchedule"}]), node(), "is not allowed to modify taints"),
        (node(), node(taints=[{"key": "a", "effect": "NoSchedule"}]), "is not allowed to modify taints"),
        ({**node(), "status": {"phase": "x"}}, node(), ""),
    ],
)
def test_a_node_writes_its_own_object(source: FakeSource, new: Any, old: Any, why: str) -> None:
    for subresource in ("", "status") if old else ("",):
        name = new["metadata"]["name"] if old else ""
        found = refused(source, "UPDATE" if old else "CREATE", "nodes", subresource, "", name, new, old)
        assert (why in found) if why else not found, found


def test_owner_references_of_a_node(source: FakeSource) -> None:
    owned = node()
    owned["metadata"]["ownerReferences"] = [{"uid": "x"}]
    assert "owner references" in refused(source, "CREATE", "nodes", "", "", "", owned, None)
    assert "ownerReferences" in refused(source, "UPDATE", "nodes", "", "", "n1", owned, node())


def test_pods_that_a_node_writes(source: FakeSource) -> None:
    source.put("nodes", {"metadata": {"name": "n1", "uid": "node-uid"}})
    own, other = pod(), pod("q", "n2")
    source.put("pods", own)
    source.put("pods", other)
    labelled = {**own, "metadata": {**own["metadata"], "labels": {"a": "b"}}}
    assert not refused(source, "UPDATE", "pods", "status", "ns", "p", own, own)
    assert "can only update pod status" in refused(source, "UPDATE", "pods", "status", "ns", "q", other, other)
    assert "cannot update labels" in refused(source, "UPDATE", "pods", "status", "ns", "p", labelled, own)
    assert not refused(source, "DELETE", "pods", "", "ns", "p", None, own)
    assert "can only delete pods" in refused(source, "DELETE", "pods", "", "ns", "q", None, other)
    assert not refused(source, "CREATE", "pods", "eviction", "ns", "p", {}, None)
    assert "can only evict pods" in refused(source, "CREATE", "pods", "eviction", "ns", "q", {}, None)
    assert "unexpected pod subresource" in refused(source, "CREATE", "pods", "binding", "ns", "p", {}, own)
    assert "unexpected operation" in refused(source, "UPDATE", "pods", "", "ns", "p", own, own)


def test_pods_that_a_node_makes(source: FakeSource) -> None:
    source.put("nodes", {"metadata": {"name": "n1", "uid": "node-uid"}})
    owner = {"apiVersion": "v1", "kind": "Node", "name": "n1", "uid": "node-uid", "controller": True}

    def made(owners: Any = None, annotations: Any = None, **spec: Any) -> str:
        one = pod(**spec)
        one["metadata"] |= {"annotations": MIRROR if annotations is None else annotations}
        one["metadata"] |= {"ownerReferences": [owner] if owners is None else owners}
        return refused(source, "CREATE", "pods", "", "ns", "", one, None)

    assert not made()
    assert "can only create mirror pods" in made(annotations={})
    assert "spec.nodeName set to itself" in made(node="n2")
    assert "service account" in made(serviceAccountName="x")
    assert "secrets" in made(volumes=[{"secret": {"secretName": "x"}}])
    assert "configmaps" in made(volumes=[{"configMap": {"name": "x"}}])
    assert "owner reference" in made([])
    assert "owner reference" in made([{**owner, "uid": "other"}])
    assert "controller" in made([{**owner, "controller": False}])
    assert "blockOwnerDeletion" in made([{**owner, "blockOwnerDeletion": True}])


def test_tokens_that_a_node_asks_for(source: FakeSource) -> None:
    volumes = [
        {"projected": {"sources": [{"serviceAccountToken": {"audience": "vault"}}, {"serviceAccountToken": {}}]}}
    ]
    source.put("pods", pod(serviceAccountName="robot", volumes=volumes))
    source.put("pods", pod("q", "n2", serviceAccountName="robot"))

    def asked(reference: Any, audiences: list[str] | None = None) -> str:
        request = {"spec": {"boundObjectRef": reference, "audiences": audiences or []}}
        return refused(source, "CREATE", "serviceaccounts", "token", "ns", "robot", request, None)

    own = {"kind": "Pod", "apiVersion": "v1", "name": "p", "uid": "uid-p"}
    assert not asked(own)
    assert not asked(own, ["vault"])
    assert "audience" in asked(own, ["other"])
    assert "not bound to a pod" in asked(None)
    assert "not bound to a pod" in asked({**own, "kind": "Secret"})
    assert "without a uid" in asked({**own, "uid": ""})
    assert "does not match the UID" in asked({**own, "uid": "x"})
    assert "different node" in asked({**own, "name": "q", "uid": "uid-q"})
    assert "not found" in asked({**own, "name": "none"})


def test_leases_that_a_node_writes(source: FakeSource) -> None:
    lease = {"metadata": {"name": "n2"}}
    what = "leases.coordination.k8s.io"
    assert "same name" in refused(source, "CREATE", what, "", "kube-node-lease", "", lease, None)
    assert not refused(source, "CREATE", what, "", "kube-node-lease", "", {"metadata": {"name": "n1"}}, None)
    assert "namespace" in refused(source, "UPDATE", what, "", "kube-system", "n1", lease, lease)


def test_other_users_are_not_restricted(source: FakeSource) -> None:
    user = UserInfo("admin", ("system:masters",))
    NodeRestriction(source).admit(attributes(user, "CREATE", "nodes", "", "", "", node("n2"), None))
