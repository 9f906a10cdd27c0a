"""The suggested command lines for Ingresses and routes remove the fault and change nothing else."""

from __future__ import annotations

import json
import shlex
from typing import Any

from hatchway.cluster.api.patch.patches import json_patch
from hatchway.exposure.assessment import assess
from hatchway.exposure.exposurereport import findings
from hatchway.exposure.reading import SnapshotReader
from hatchway.kube.api import Object
from tests.exposures import FAULTS, NODES, SHARED
from tests.unit.exposure.recorded import RecordedServer


def _objects(case: str, kind: str) -> tuple[list[Object], Object]:
    """Return all objects of a case, moved to the namespace `x`, and the object of the given kind."""
    found = json.loads(json.dumps(next(one.objects for one in FAULTS if one.name == case)))
    for one in found:
        one["metadata"]["namespace"] = "x"
    return found, next(one for one in found if one["kind"] == kind)


async def _mended(objects: list[Object], obj: Object, rule: str) -> Object | None:
    """Run the command that is suggested for a finding; return the changed object, or None if it was deleted."""
    ways = assess(await SnapshotReader(RecordedServer([*objects, *NODES, *SHARED]), "").read())
    [mend] = [issue.mend for way, issue in findings(ways) if (way.namespace, issue.rule) == ("x", rule)]
    words = shlex.split(mend)
    kind, name = obj["kind"].lower(), obj["metadata"]["name"]
    if words[1] == "delete":
        assert words == ["kubectl", "delete", kind, name, "-n", "x"]
        return None
    assert words[:7] == ["kubectl", "patch", kind, name, "-n", "x", "--type=json"]
    return json_patch(json.loads(json.dumps(obj)), json.loads(words[8]))


def _path(service: str) -> dict[str, Any]:
    backend = {"service": {"name": service, "port": {"number": 80}}}
    return {"path": f"/{service}", "pathType": "Prefix", "backend": backend}


def _rule(*services: str) -> dict[str, Any]:
    return {"host": "shop.example", "http": {"paths": [_path(one) for one in services]}}


async def test_only_paths_without_a_backend_are_removed() -> None:
    objects, ingress = _objects("ing-plain", "Ingress")
    ingress["spec"]["rules"] = [_rule("gone", "s", "gone"), _rule("gone"), {"host": "a.example"}, _rule("s", "lost")]
    ingress["spec"]["defaultBackend"] = _path("gone")["backend"]
    mended = await _mended(objects, ingress, "no-backend")
    assert mended is not None
    assert mended["spec"]["rules"] == [_rule("s"), {"host": "a.example"}, _rule("s")]
    assert "defaultBackend" not in mended["spec"]


async def test_an_ingress_without_any_backend_is_deleted() -> None:
    objects, ingress = _objects("ing-plain", "Ingress")
    ingress["spec"]["rules"] = [_rule("gone", "lost")]
    assert await _mended(objects, ingress, "no-backend") is None


async def test_a_backend_that_is_not_a_service_is_kept() -> None:
    objects, ingress = _objects("ing-plain", "Ingress")
    bucket = {"path": "/", "pathType": "Prefix", "backend": {"resource": {"kind": "Bucket", "name": "b"}}}
    ingress["spec"]["rules"] = [{"http": {"paths": [bucket, _path("gone")]}}]
    mended = await _mended(objects, ingress, "no-backend")
    assert mended is not None
    assert mended["spec"]["rules"] == [{"http": {"paths": [bucket]}}]


async def test_only_the_sensitive_part_of_another_controllers_ingress_is_removed() -> None:
    objects, ingress = _objects("ing-prometheus", "Ingress")
    web, pod = (json.loads(json.dumps(next(o for o in objects if o["kind"] == kind))) for kind in ("Service", "Pod"))
    web["metadata"]["name"] = "web"
    web["spec"]["selector"] = pod["metadata"]["labels"] = {"app": "web"}
    pod["metadata"]["name"] = "web"
    for port in web["spec"]["ports"]:
        port["targetPort"] = 8080
    for port in pod["spec"]["containers"][0]["ports"]:
        port["containerPort"] = 8080
    ingress["spec"]["ingressClassName"] = "other"
    ingress["spec"]["rules"] = [_rule("web", "s")]
    of_class = {"kind": "IngressClass", "apiVersion": "networking.k8s.io/v1", "metadata": {"name": "other"}}
    of_class["spec"] = {"controller": "example.com/other"}
    mended = await _mended([*objects, web, pod, of_class], ingress, "sensitive-port")
    assert mended is not None
    assert mended["spec"]["rules"] == [_rule("web")]


async def test_only_references_of_a_route_without_a_backend_are_removed() -> None:
    objects, route = _objects("gw-plain", "HTTPRoute")
    good, bad = {"name": "s", "port": 80}, {"name": "gone", "port": 80}
    elsewhere = {"name": "gone", "namespace": "other", "port": 80}
    redirect = {"filters": [{"type": "RequestRedirect", "requestRedirect": {"scheme": "https"}}]}
    route["spec"]["rules"] = [
        {"backendRefs": [bad, good, bad]},
        {"backendRefs": [bad, elsewhere]},
        redirect,
        {"backendRefs": [bad, {"kind": "Bucket", "group": "example.com", "name": "b"}]},
    ]
    mended = await _mended(objects, route, "no-backend")
    assert mended is not None
    assert mended["spec"]["rules"] == [
        {"backendRefs": [good]},
        redirect,
        {"backendRefs": [{"kind": "Bucket", "group": "example.com", "name": "b"}]},
    ]
