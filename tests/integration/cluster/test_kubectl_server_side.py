"""kubectl's server-side apply: conflicts, differences, and the upgrade from client-side apply."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.conftest import Cluster

NS = "serverside"
DEPLOYMENT = """
apiVersion: apps/v1
kind: Deployment
metadata: {name: NAME}
spec:
  replicas: 0
  selector: {matchLabels: {app: NAME}}
  template:
    metadata: {labels: {app: NAME}}
    spec:
      containers: [{name: c, image: "hatchway/host"}]
"""
MANAGERS = "jsonpath={range .metadata.managedFields[*]}{.manager}/{.operation}{.subresource} {end}"


def manifest(name: str, image: str = "hatchway/host") -> str:
    return DEPLOYMENT.replace("NAME", name).replace("hatchway/host", image)


class NamespacedKubectl:
    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster

    def __call__(self, *arguments: str, stdin: str | None = None) -> str:
        return self.cluster.kubectl("-n", NS, *arguments, stdin=stdin)

    def fails(self, *arguments: str, stdin: str | None = None) -> str:
        """Return the error text of a command that must fail."""
        with pytest.raises(AssertionError) as raised:
            self(*arguments, stdin=stdin)
        return str(raised.value)


@pytest.fixture(scope="module")
def kubectl(cluster: Cluster) -> Iterator[NamespacedKubectl]:
    found = NamespacedKubectl(cluster)
    found("create", "namespace", NS)
    yield found
    found("delete", "namespace", NS, "--wait=false")


def managers(kubectl: NamespacedKubectl, name: str) -> set[str]:
    """Return the field managers of an object, except controllers, because these may write at any time."""
    found = kubectl("get", name, "--show-managed-fields", "-o", MANAGERS).split()
    return {one for one in found if not one.startswith("kube-controller-manager")}


def test_apply_conflict_and_force(kubectl: NamespacedKubectl) -> None:
    apply = ("apply", "--server-side", "-f", "-")
    assert "serverside-applied" in kubectl(*apply, stdin=manifest("web"))
    kubectl("scale", "deploy/web", "--replicas=1")
    said = kubectl.fails(*apply, stdin=manifest("web"))
    assert 'conflict with "kubectl" with subresource "scale" using apps/v1: .spec.replicas' in said
    kubectl(*apply, "--force-conflicts", stdin=manifest("web"))
    assert kubectl("get", "deploy", "web", "-o", "jsonpath={.spec.replicas}") == "0"
    assert managers(kubectl, "deploy/web") == {"kubectl/Apply"}
    said = kubectl.fails(*apply, "--field-manager=ci", stdin=manifest("web", image="docker.io/hatchway/host"))
    assert 'conflict with "kubectl": .spec.template.spec.containers[name="c"].image' in said


def test_managed_fields_are_shown_on_request(kubectl: NamespacedKubectl) -> None:
    kubectl("apply", "--server-side", "-f", "-", stdin=manifest("shown"))
    assert "managedFields" not in kubectl("get", "deploy", "shown", "-o", "yaml")
    assert "managedFields" in kubectl("get", "deploy", "shown", "-o", "yaml", "--show-managed-fields")


def test_upgrade_from_client_side_apply(kubectl: NamespacedKubectl) -> None:
    def body(value: str) -> str:
        return f"apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: old}}\ndata: {{a: {value}}}\n"

    # The object has a type that no controller writes, because kubectl gives up after a concurrent write.
    kubectl("apply", "-f", "-", stdin=body("one"))
    assert managers(kubectl, "configmap/old") == {"kubectl-client-side-apply/Update"}
    kubectl("apply", "--server-side", "-f", "-", stdin=body("two"))
    assert managers(kubectl, "configmap/old") == {"kubectl/Apply", "kubectl-last-applied/Apply"}
    assert "a: two" in kubectl("apply", "view-last-applied", "configmap/old")
    kubectl("apply", "-f", "-", stdin=body("three"))
    assert "a: three" in kubectl("get", "configmap", "old", "-o", "yaml")


def test_a_dry_run_and_a_difference_change_nothing(kubectl: NamespacedKubectl) -> None:
    kubectl("apply", "--server-side", "-f", "-", stdin=manifest("dry"))
    changed = manifest("dry", image="docker.io/hatchway/host")
    assert "server dry run" in kubectl("apply", "--server-side", "--dry-run=server", "-f", "-", stdin=changed)
    # `diff` exits with 1 if there is a difference.
    assert "image: docker.io/hatchway/host" in kubectl.fails("diff", "--server-side", "-f", "-", stdin=changed)
    assert "image: hatchway/host" in kubectl("get", "deploy", "dry", "-o", "yaml")


def test_an_unknown_field_is_refused(kubectl: NamespacedKubectl) -> None:
    body = manifest("bad").replace("replicas:", "replica:")
    said = kubectl.fails("apply", "--server-side", "-f", "-", stdin=body)
    assert ".spec.replica: field not declared in schema" in said
