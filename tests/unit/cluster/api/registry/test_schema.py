"""Validation by shape, scalars, duplicates and defaults."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hatchway.cluster.api.registry import schema
from hatchway.cluster.api.registry.schema.scalars import canonical_bytes, canonical_micro_time, canonical_time
from hatchway.errors import ApiError

POD = ("", "v1", "Pod")
SERVICE = ("", "v1", "Service")
DEPLOYMENT = ("apps", "v1", "Deployment")


def made(gvk: tuple[str, str, str], obj: dict[str, Any]) -> dict[str, Any]:
    """Return an object as the server stores it."""
    return schema.apply_defaults(gvk, schema.check(gvk, obj).object)


def pod(*containers: dict[str, Any], **spec: Any) -> dict[str, Any]:
    return {"metadata": {"name": "p"}, "spec": {"containers": list(containers), **spec}}


def test_the_table_has_types_fields_and_defaults() -> None:
    table = schema.load()
    ports = table.message(POD).fields["spec"]
    container = table.message("core.v1.PodSpec").fields["containers"]
    assert ports.ref == "core.v1.PodSpec"
    assert (container.strategy, container.merge_key, container.number) == ("merge", "name", 2)
    assert table.message("core.v1.ContainerPort").fields["protocol"].default == "TCP"
    assert table.message("core.v1.Volume").fields["emptyDir"].ref == "core.v1.EmptyDirVolumeSource"
    assert table.message("core.v1.ServiceSpec").fields["type"].enum[:2] == ["ClusterIP", "NodePort"]
    assert table.message(("policy", "v1", "DeleteOptions")) is table.message("meta.v1.DeleteOptions")
    for message in table.definitions.values():
        for field in message.fields.values():
            assert field.kind != "message" or field.ref in table.definitions


def test_unknown_kinds() -> None:
    with pytest.raises(schema.UnknownKind, match='no kind "Nope" is registered for version "apps/v1"'):
        schema.load().message(("apps", "v1", "Nope"))
    with pytest.raises(ApiError) as caught:
        schema.check(("", "v2", "Pod"), {})
    assert (caught.value.code, caught.value.message) == (400, 'no kind "Pod" is registered for version "v2"')


@pytest.mark.parametrize(
    ("obj", "why"),
    [
        (5, "json: cannot unmarshal number into Go value of type v1.Pod"),
        ([], "json: cannot unmarshal array into Go value of type v1.Pod"),
        ({"metadata": "x"}, "json: cannot unmarshal string into Go struct field Pod.metadata of type v1.ObjectMeta"),
        ({"metadata": {"name": 1}}, "json: cannot unmarshal number into Go struct field ObjectMeta.metadata.name of type string"),
        ({"metadata": {"labels": {"a": 1}}}, "json: cannot unmarshal number into Go struct field ObjectMeta.metadata.labels of type string"),
        ({"metadata": {"labels": []}}, "json: cannot unmarshal array into Go struct field ObjectMeta.metadata.labels of type map[string]string"),
        ({"metadata": {"finalizers": {}}}, "json: cannot unmarshal object into Go struct field ObjectMeta.metadata.finalizers of type []string"),
        (pod({"env": [{"value": 1}]}), "json: cannot unmarshal number into Go struct field EnvVar.spec.containers.env.value of type string"),
        (pod({"ports": [{"containerPort": "x"}]}), "json: cannot unmarshal string into Go struct field ContainerPort.spec.containers.ports.containerPort of type int32"),
        (pod({"ports": [{"containerPort": 2**31}]}), "json: cannot unmarshal number 2147483648 into Go struct field ContainerPort.spec.containers.ports.containerPort of type int32"),
        (pod({"ports": [{"containerPort": 1.5}]}), "json: cannot unmarshal number 1.5 into Go struct field ContainerPort.spec.containers.ports.containerPort of type int32"),
        (pod({"ports": [{"containerPort": True}]}), "json: cannot unmarshal bool into Go struct field ContainerPort.spec.containers.ports.containerPort of type int32"),
        ({"spec": {"containers": "x"}}, "json: cannot unmarshal string into Go struct field PodSpec.spec.containers of type []v1.Container"),
        (pod("x"), "json: cannot unmarshal string into Go struct field PodSpec.spec.containers of type v1.Container"),  # type: ignore[arg-type]
        (pod(hostNetwork="yes"), "json: cannot unmarshal string into Go struct field PodSpec.spec.hostNetwork of type bool"),
        (pod(restartPolicy=1), "json: cannot unmarshal number into Go struct field PodSpec.spec.restartPolicy of type v1.RestartPolicy"),
        (pod({"resources": {"limits": {"cpu": "1x"}}}), "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'"),
        (pod({"livenessProbe": {"httpGet": {"port": True}}}), "json: cannot unmarshal bool into Go value of type int32"),
        (pod({"livenessProbe": {"httpGet": {"port": 1.5}}}), "json: cannot unmarshal number 1.5 into Go value of type int32"),
        ({"metadata": {"creationTimestamp": 5}}, "json: cannot unmarshal number into Go value of type string"),
        ({"metadata": {"creationTimestamp": "now"}}, 'parsing time "now" as "2006-01-02T15:04:05Z07:00": cannot parse "now" as "2006"'),
    ],
)  # fmt: skip
def test_wrong_types(obj: Any, why: str) -> None:
    with pytest.raises(schema.ShapeError) as caught:
        schema.check(POD, obj)
    assert caught.value.code == 400
    assert caught.value.why == why
    assert caught.value.message == f'Pod in version "v1" cannot be handled as a Pod: {why}'


def test_bytes_must_be_base64() -> None:
    with pytest.raises(schema.ShapeError, match="illegal base64 data at input byte 1"):
        schema.check(("", "v1", "Secret"), {"data": {"k": "a*"}})


def test_unknown_fields_are_reported_and_dropped() -> None:
    checked = schema.check(POD, {"nope": 1, **pod({"name": "c", "unknownField": {"deep": 1}}, x=None)})
    assert checked.unknown == (
        'unknown field "nope"',
        'unknown field "spec.containers[0].unknownField"',
        'unknown field "spec.x"',
    )
    assert checked.object["spec"]["containers"] == [{"name": "c", "resources": {}}]
    with pytest.raises(schema.ShapeError) as caught:
        checked.require_strict(POD)
    assert caught.value.message == (
        'Pod in version "v1" cannot be handled as a Pod: strict decoding error: unknown field "nope", '
        'unknown field "spec.containers[0].unknownField", unknown field "spec.x"'
    )


def test_the_number_of_reported_fields_is_limited() -> None:
    assert len(schema.check(POD, {f"x{index}": 1 for index in range(1000)}).unknown) == 100


def test_empty_fields_that_go_omits_are_omitted() -> None:
    given_object = {
        "metadata": {"name": "p", "labels": {}, "creationTimestamp": None, "annotations": {"a": None}},
        "spec": {
            "containers": [{"name": "", "image": "", "env": [], "ports": [{"containerPort": 0, "hostPort": 0}]}],
            "hostNetwork": False,
            "terminationGracePeriodSeconds": 0,
            "securityContext": {},
            "volumes": [{"name": "v", "emptyDir": {}}],
        },
    }
    assert schema.check(POD, given_object).object == {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "p", "annotations": {"a": ""}},
        "spec": {
            "containers": [{"name": "", "ports": [{"containerPort": 0}], "resources": {}}],
            "terminationGracePeriodSeconds": 0,
            "securityContext": {},
            "volumes": [{"name": "v", "emptyDir": {}}],
        },
        "status": {},
    }


def test_the_result_shares_nothing_with_the_input() -> None:
    given_object = pod({"name": "c", "args": ["x"]}, nodeSelector={"a": "b"})
    kept = schema.check(POD, given_object).object
    kept["spec"]["containers"][0]["args"].append("y")
    kept["spec"]["nodeSelector"]["c"] = "d"
    assert given_object == pod({"name": "c", "args": ["x"]}, nodeSelector={"a": "b"})


@pytest.mark.parametrize(
    ("given_text", "canonical"),
    [
        ("1000m", "1"), ("0.5", "500m"), ("1024Mi", "1Gi"), ("1.5Gi", "1536Mi"), ("100m", "100m"), ("0", "0"), ("0Mi", "0"),
        ("1Ki", "1Ki"), ("512", "512"), ("1e3", "1e3"), ("12e2", "1200"), ("1E", "1E"), ("1000k", "1M"), ("0.1n", "1n"),
        ("-1.5", "-1500m"), ("+1", "1"), ("1.0", "1"), (" 1 ", "1"), (".5", "500m"), ("5.", "5"), ("1e-400", "1e-9"), ("0.5Ki", "512"),
        (1, "1"), (1.5, "1500m"), ("9999999999999999999999", "9223372036854775807"), ("1e999999999", "9223372036854775807"),
        ("1" * 5000, "9223372036854775807"),
    ],
)  # fmt: skip
def test_quantities(given_text: str | float, canonical: str) -> None:
    assert schema.canonical_quantity(given_text) == canonical
    assert schema.canonical_quantity(canonical) == canonical


@pytest.mark.parametrize("text", ["", "x", "1 Gi", "1gi", "--1", "1e", "1.2.3", "٣", "1Ki2", ".", "1e9999999999"])
def test_invalid_quantities(text: str) -> None:
    with pytest.raises(ValueError, match="quantities must match"):
        schema.canonical_quantity(text)


@given(st.integers(-(10**15), 10**15), st.sampled_from(["", "m", "k", "Ki", "Mi", "n", "u"]))
def test_canonical_quantities_keep_their_value(number: int, suffix: str) -> None:
    text = f"{number}{suffix}"
    canonical = schema.canonical_quantity(text)
    assert schema.quantity_value(canonical) == schema.quantity_value(text)
    assert schema.canonical_quantity(canonical) == canonical


def test_times() -> None:
    assert canonical_time("2026-11-23T03:49:58Z") == "2026-11-23T03:49:58Z"
    assert canonical_time("2026-11-23T03:49:58.999+02:00") == "2026-11-23T01:49:58Z"
    assert canonical_time("2024-02-29T00:00:00Z") == "2024-02-29T00:00:00Z"
    assert canonical_micro_time("2026-11-23T03:49:58.1234567Z") == "2026-11-23T03:49:58.123456Z"
    for text in (
        "",
        "2026-02-30T00:00:00Z",
        "2026-11-23",
        "2026-11-23t03:49:58z",
        "0001-01-01T00:00:00+10:00",
        "x" * 9,
    ):
        with pytest.raises(ValueError, match="parsing time"):
            canonical_time(text)
    assert canonical_bytes("YQ==\n") == "YQ=="


def test_strict_errors_of_a_document_without_a_type() -> None:
    body = b'{"a":{"b":[1,{"c":1,"c":2}]},"a":{"b":[{"x":1,"x":1,"x":3}]},"m":{"k":"1","k":"2"}}'
    assert schema.strict_errors(None, body) == (
        'duplicate field "a.b[1].c"',
        'duplicate field "a"',
        'duplicate field "a.b[0].x"',
        'duplicate field "m.k"',
    )
    assert schema.strict_errors(None, b'{"a":{"b":1},"c":{"b":1}}') == ()
    assert schema.strict_errors(None, b"{" * 100_000) == ()


_JSON_KEYS = st.sampled_from(['"a"', '"b:"', '"\\u0061"', '"\\u003a"', '""'])
_JSON_TEXTS = st.recursive(
    st.sampled_from(["1", "1.50", '":"', '"\\u003a:"', "null", "[]", '"\\\\"']),
    lambda inner: (
        st.lists(inner, max_size=3).map(lambda some: f"[{','.join(some)}]")
        | st.lists(st.tuples(_JSON_KEYS, inner), max_size=4).map(lambda some: f"{{{', '.join(map(': '.join, some))}}}")
    ),
)


@given(_JSON_TEXTS)
def test_repeated_fields_are_found_whatever_strings_contain(text: str) -> None:
    repeated = []

    def note(pairs: list[tuple[str, object]]) -> None:
        keys = [key for key, _ in pairs]
        repeated.extend(key for key in keys if keys.count(key) > 1)

    json.loads(text, object_pairs_hook=note)
    assert bool(schema.strict_errors(None, text.encode())) is bool(repeated)


def test_strict_errors_are_in_the_order_of_the_document() -> None:
    """As in Kubernetes, fields inside an unknown field are not reported, and each field is reported once."""
    body = b"""{"nope": {"a": 1, "a": 2}, "metadata": {"name": "p", "labels": {"l": "1", "l": "2"}, "name": "q"},
        "spec": {"containers": [{"name": "c", "x": 1, "name": "d"}], "y": 1, "y": 2}, "nope": 1}"""
    assert schema.strict_errors(POD, body) == (
        'unknown field "nope"',
        'duplicate field "metadata.labels.l"',
        'duplicate field "metadata.name"',
        'unknown field "spec.containers[0].x"',
        'duplicate field "spec.containers[0].name"',
        'unknown field "spec.y"',
    )


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4),
       lambda inner: st.lists(inner, max_size=3) | st.dictionaries(
           st.sampled_from(["metadata", "spec", "status", "containers", "name", "labels", "env", "ports", "image", "x"]), inner, max_size=4)))  # fmt: skip
def test_anything_is_kept_or_refused(obj: Any) -> None:
    try:
        checked = schema.check(POD, obj)
    except ApiError as error:
        assert error.code == 400
        return
    again = schema.check(POD, checked.object)
    assert again.object == checked.object
    assert again.unknown == ()
    defaulted = schema.apply_defaults(POD, checked.object)
    assert schema.check(POD, defaulted).object == defaulted
    assert schema.apply_defaults(POD, schema.check(POD, defaulted).object) == defaulted


def test_defaults_of_a_pod() -> None:
    probe = {"httpGet": {"port": 80}}
    container = {"name": "c", "image": "nginx", "livenessProbe": probe, "ports": [{"containerPort": 80}]}
    env = [{"name": "IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}}]
    found = made(POD, pod({**container, "env": env}, volumes=[{"name": "a"}, {"name": "b", "secret": {}}]))
    assert found["spec"] == {
        "containers": [
            {
                "name": "c",
                "image": "nginx",
                "livenessProbe": {
                    "httpGet": {"port": 80, "path": "/", "scheme": "HTTP"},
                    "timeoutSeconds": 1,
                    "periodSeconds": 10,
                    "successThreshold": 1,
                    "failureThreshold": 3,
                },
                "ports": [{"containerPort": 80, "protocol": "TCP"}],
                "env": [{"name": "IP", "valueFrom": {"fieldRef": {"apiVersion": "v1", "fieldPath": "status.podIP"}}}],
                "resources": {},
                "imagePullPolicy": "Always",
                "terminationMessagePath": "/dev/termination-log",
                "terminationMessagePolicy": "File",
            }
        ],
        "volumes": [{"name": "a", "emptyDir": {}}, {"name": "b", "secret": {"defaultMode": 420}}],
        "enableServiceLinks": True,
        "dnsPolicy": "ClusterFirst",
        "restartPolicy": "Always",
        "securityContext": {},
        "terminationGracePeriodSeconds": 30,
        "schedulerName": "default-scheduler",
    }


@pytest.mark.parametrize(
    ("image", "policy"),
    [
        ("nginx", "Always"),
        ("nginx:latest", "Always"),
        ("nginx:1.2", "IfNotPresent"),
        ("host:5000/nginx", "Always"),
        ("host:5000/nginx:1", "IfNotPresent"),
        ("nginx@sha256:" + "0" * 64, "IfNotPresent"),
    ],
)
def test_pull_policy(image: str, policy: str) -> None:
    assert made(POD, pod({"name": "c", "image": image}))["spec"]["containers"][0]["imagePullPolicy"] == policy


def test_requests_follow_limits_and_host_ports_follow_host_network() -> None:
    container = {"name": "c", "resources": {"limits": {"cpu": "2", "memory": "1Gi"}, "requests": {"cpu": "1"}}}
    found = made(POD, pod({**container, "ports": [{"containerPort": 80}]}, hostNetwork=True))["spec"]["containers"][0]
    assert found["resources"]["requests"] == {"cpu": "1", "memory": "1Gi"}
    assert found["ports"] == [{"containerPort": 80, "hostPort": 80, "protocol": "TCP"}]
    assert (
        "hostPort"
        not in made(POD, pod({**container, "ports": [{"containerPort": 80}]}))["spec"]["containers"][0]["ports"][0]
    )


def test_service_account_and_service_account_name_are_equal() -> None:
    for name in ("serviceAccount", "serviceAccountName"):
        spec = made(POD, pod(**{name: "x"}))["spec"]
        assert (spec["serviceAccount"], spec["serviceAccountName"]) == ("x", "x")


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        (
            {"ports": [{"port": 80}, {"port": 81, "targetPort": "http", "protocol": "UDP"}]},
            {
                "ports": [
                    {"port": 80, "targetPort": 80, "protocol": "TCP"},
                    {"port": 81, "targetPort": "http", "protocol": "UDP"},
                ],
                "type": "ClusterIP",
                "sessionAffinity": "None",
                "internalTrafficPolicy": "Cluster",
            },
        ),
        (
            {"type": "ExternalName", "externalName": "x"},
            {"type": "ExternalName", "externalName": "x", "sessionAffinity": "None"},
        ),
        (
            {"type": "NodePort", "sessionAffinity": "ClientIP"},
            {
                "type": "NodePort",
                "sessionAffinity": "ClientIP",
                "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 10800}},
                "externalTrafficPolicy": "Cluster",
                "internalTrafficPolicy": "Cluster",
            },
        ),
    ],
)
def test_defaults_of_a_service(spec: dict[str, Any], expected: dict[str, Any]) -> None:
    assert made(SERVICE, {"spec": spec})["spec"] == expected


def test_defaults_of_other_types() -> None:
    found = made(DEPLOYMENT, {"spec": {"template": pod({"name": "c"})}})["spec"]
    assert {key: found[key] for key in ("replicas", "strategy", "revisionHistoryLimit", "progressDeadlineSeconds")} == {
        "replicas": 1,
        "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": "25%", "maxSurge": "25%"}},
        "revisionHistoryLimit": 10,
        "progressDeadlineSeconds": 600,
    }
    assert found["template"]["spec"]["dnsPolicy"] == "ClusterFirst"
    assert "enableServiceLinks" not in found["template"]["spec"]
    assert made(DEPLOYMENT, {"spec": {"strategy": {"type": "Recreate"}}})["spec"]["strategy"] == {"type": "Recreate"}
    assert made(("apps", "v1", "ReplicaSet"), {"spec": {"replicas": 0}})["spec"]["replicas"] == 0
    assert made(("", "v1", "Secret"), {})["type"] == "Opaque"
    namespace = made(("", "v1", "Namespace"), {"metadata": {"name": "n"}})
    assert namespace["metadata"]["labels"] == {"kubernetes.io/metadata.name": "n"}
    assert namespace["status"] == {"phase": "Active"}
    group = "rbac.authorization.k8s.io"
    binding = made((group, "v1", "RoleBinding"), {"subjects": [{"kind": "User"}, {"kind": "ServiceAccount"}]})
    assert binding["roleRef"]["apiGroup"] == group
    assert [one.get("apiGroup") for one in binding["subjects"]] == [group, None]
    endpoints = made(("discovery.k8s.io", "v1", "EndpointSlice"), {"ports": [{"port": 1}]})
    assert endpoints["ports"] == [{"name": "", "port": 1, "protocol": "TCP"}]
    token = made(("authentication.k8s.io", "v1", "TokenRequest"), {"spec": {"audiences": []}})
    assert token["spec"]["expirationSeconds"] == 3600
