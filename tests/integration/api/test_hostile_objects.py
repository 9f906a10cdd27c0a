"""Objects with arbitrary values at any place are stored or refused; the server never fails."""

from __future__ import annotations

import asyncio
import copy
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.integration.api.world import World, world

_POD: dict[str, Any] = {
    "nodeName": "n",
    "serviceAccountName": "default",
    "nodeSelector": {"a": "b"},
    "activeDeadlineSeconds": 5,
    "tolerations": [{"key": "k", "operator": "Equal", "value": "v", "effect": "NoExecute", "tolerationSeconds": 1}],
    "imagePullSecrets": [{"name": "s"}],
    "volumes": [
        {"name": "v", "configMap": {"name": "c", "items": [{"key": "k", "path": "p"}]}},
        {"name": "w", "hostPath": {"path": "/x"}},
        {"name": "t", "projected": {"sources": [{"serviceAccountToken": {"path": "t", "expirationSeconds": 600}}]}},
    ],
    "initContainers": [{"name": "i", "image": "i"}],
    "containers": [
        {
            "name": "c",
            "image": "i",
            "ports": [{"name": "http", "containerPort": 80, "protocol": "TCP"}],
            "env": [
                {"name": "A", "value": "b"},
                {"name": "B", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
            ],
            "envFrom": [{"configMapRef": {"name": "c"}}],
            "volumeMounts": [{"name": "v", "mountPath": "/v", "subPath": "x"}],
            "resources": {"limits": {"cpu": "1"}, "requests": {"cpu": "500m"}},
            "livenessProbe": {"httpGet": {"port": "http"}, "periodSeconds": 1},
            "lifecycle": {"preStop": {"exec": {"command": ["x"]}}},
        }
    ],
}
_TEMPLATE = {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": _POD["containers"], "volumes": _POD["volumes"]}}
_META = {
    "labels": {"a": "b"},
    "annotations": {"x/y": "z"},
    "finalizers": ["a/b"],
    "ownerReferences": [{"apiVersion": "v1", "kind": "Pod", "name": "p", "uid": "u", "controller": True}],
}
_SELECTOR = {"matchLabels": {"a": "b"}, "matchExpressions": [{"key": "a", "operator": "In", "values": ["b"]}]}
_RBAC = "/apis/rbac.authorization.k8s.io/v1"
_SAMPLES: dict[str, dict[str, Any]] = {
    "/api/v1/namespaces": {"spec": {"finalizers": ["kubernetes"]}},
    "/api/v1/nodes": {"spec": {"podCIDR": "10.0.0.0/24", "taints": [{"key": "k", "effect": "NoSchedule"}]}},
    "/api/v1/namespaces/default/pods": {"spec": _POD},
    "/api/v1/namespaces/default/services": {
        "spec": {
            "type": "NodePort",
            "selector": {"a": "b"},
            "clusterIP": "10.96.3.3",
            "clusterIPs": ["10.96.3.3"],
            "externalIPs": ["1.2.3.4"],
            "sessionAffinity": "ClientIP",
            "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 5}},
            "ipFamilies": ["IPv4"],
            "ports": [{"name": "http", "port": 80, "targetPort": "http", "nodePort": 30100, "appProtocol": "a/b"}],
        }
    },
    "/api/v1/namespaces/default/endpoints": {
        "subsets": [{"addresses": [{"ip": "10.0.0.1"}], "ports": [{"name": "a", "port": 80, "protocol": "TCP"}]}]
    },
    "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices": {
        "addressType": "IPv4",
        "endpoints": [{"addresses": ["10.0.0.1"], "conditions": {"ready": True}}],
        "ports": [{"name": "a", "port": 80, "protocol": "TCP"}],
    },
    "/api/v1/namespaces/default/configmaps": {"data": {"a": "b"}, "binaryData": {"c": "ZA=="}, "immutable": True},
    "/api/v1/namespaces/default/secrets": {"data": {"a": "Yg=="}, "stringData": {"b": "c"}, "type": "Opaque"},
    "/api/v1/namespaces/default/serviceaccounts": {"imagePullSecrets": [{"name": "x"}]},
    "/api/v1/namespaces/default/events": {
        "involvedObject": {"namespace": "default", "name": "p"},
        "source": {"component": "c"},
        "eventTime": "2026-01-01T00:00:00.000000Z",
        "series": {"count": 1, "lastObservedTime": "2026-01-01T00:00:00.000000Z"},
    },
    "/apis/events.k8s.io/v1/namespaces/default/events": {"regarding": {"namespace": "default"}, "note": "n"},
    "/apis/coordination.k8s.io/v1/namespaces/default/leases": {
        "spec": {"holderIdentity": "x", "leaseDurationSeconds": 40, "renewTime": "2026-01-01T00:00:00.000000Z"}
    },
    "/apis/apps/v1/namespaces/default/deployments": {
        "spec": {
            "replicas": 1,
            "selector": _SELECTOR,
            "template": _TEMPLATE,
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": "25%"}},
        }
    },
    "/apis/apps/v1/namespaces/default/replicasets": {"spec": {"selector": _SELECTOR, "template": _TEMPLATE}},
    f"{_RBAC}/namespaces/default/roles": {"rules": [{"apiGroups": [""], "resources": ["pods"], "verbs": ["get"]}]},
    f"{_RBAC}/clusterroles": {"aggregationRule": {"clusterRoleSelectors": [_SELECTOR]}},
    f"{_RBAC}/namespaces/default/rolebindings": {
        "roleRef": {"kind": "Role", "name": "r"},
        "subjects": [{"kind": "ServiceAccount", "name": "s", "namespace": "n"}],
    },
}


def _places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Yield the paths of all values inside a value."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [one for key, child in inner for one in ((*path, key), *_places(child, (*path, key)))]


_CASES = [(target, path) for target, sample in _SAMPLES.items() for path in _places({"metadata": _META, **sample})]
_odd: Any = st.one_of(
    st.sampled_from([None, True, 0, -1, 2**31, 2**63, 1.5, 1e300, "", ".", "..", "-", "\x00", "ü" * 300, "None", "x" * 70, [], {}, [[]], [None],
                     [{}], {"": ""}, {"": None}, {"a": {}}, "10.96.3.3", "0", "25%", "99999999999", "1Zi", "2026-01-01T00:00:00Z", ["a", "a"]]),
    st.text(max_size=4),
    st.integers(),
)  # fmt: skip


async def _attempt(made: World, target: str, obj: dict[str, Any], changed: dict[str, Any]) -> list[int]:
    name = obj["metadata"]["name"]
    plain = await made.send("POST", target, obj)
    statuses = [plain.status]
    for method, body, headers in (
        ("PUT", changed, {}),
        ("PATCH", changed, {"Content-Type": "application/merge-patch+json"}),
        ("PATCH", changed, {"Content-Type": "application/strategic-merge-patch+json"}),
    ):
        statuses.append((await made.send(method, f"{target}/{name}", body, headers)).status)
    await made.send(
        "PATCH",
        f"{target}/{name}",
        {"metadata": {"finalizers": None}},
        {"Content-Type": "application/merge-patch+json"},
    )
    await made.send("DELETE", f"{target}/{name}?gracePeriodSeconds=0")
    statuses.append((await made.send("POST", target, changed)).status)
    return statuses


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.tuples(st.sampled_from(_CASES), _odd), min_size=4, max_size=8))
def test_arbitrary_values_at_any_place_are_stored_or_refused(
    changes: list[tuple[tuple[str, tuple[Any, ...]], Any]],
) -> None:
    async def run() -> None:
        async with world() as made:
            for (target, path), odd in changes:
                obj = {"metadata": {"name": "x", **copy.deepcopy(_META)}, **copy.deepcopy(_SAMPLES[target])}
                changed = copy.deepcopy(obj)
                place = changed
                for key in path[:-1]:
                    place = place[key]
                place[path[-1]] = odd
                statuses = await _attempt(made, target, obj, changed)
                assert max(statuses) < 500, (target, path, odd, statuses)

    asyncio.run(run())


@pytest.mark.parametrize("target", _SAMPLES)
async def test_the_samples_themselves_are_accepted(target: str) -> None:
    async with world() as made:
        sample = copy.deepcopy(_SAMPLES[target])
        if "events.k8s.io" in target:
            more = {
                "eventTime": "2026-01-01T00:00:00.000000Z",
                "reportingController": "c",
                "reportingInstance": "i",
                "action": "a",
            }
            sample |= {**more, "reason": "r", "type": "Normal"}
        if target.endswith("v1/namespaces/default/events") and "eventTime" in sample and "regarding" not in sample:
            del sample["eventTime"]
        reply = await made.send("POST", target, {"metadata": {"name": "x", **_META}, **sample})
        assert reply.status == 201, reply.body
