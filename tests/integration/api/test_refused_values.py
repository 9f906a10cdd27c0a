"""Addresses, finalizers and secrets that Kubernetes refuses, with Kubernetes' messages."""

from __future__ import annotations

import asyncio
import base64
from typing import Any

import pytest

from hatchway.cluster.api.http.restapp import RestApp
from hatchway.cluster.api.operations.verbs import Api
from hatchway.cluster.api.registry.types import Registry, rows_for
from tests.integration.api.world import World, world

_SLICES = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices"
_IP_ERROR = "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)"
_LOOPBACK = "may not be in the loopback range (127.0.0.0/8, ::1/128)"
_LINK_LOCAL = "may not be in the link-local range (169.254.0.0/16, fe80::/10)"
_MERGE = {"content-type": "application/merge-patch+json"}


def _slice(address: str, kind: str = "IPv4", **more: Any) -> dict[str, Any]:
    return {
        "metadata": {"name": "s"},
        "addressType": kind,
        "endpoints": [{"addresses": [address], **more}],
        "ports": [],
    }


async def _refused(found: World, method: str, path: str, body: Any, field: str, words: str, **more: Any) -> None:
    reply = await found.send(method, path, body, **more)
    assert reply.status == 422, reply.body
    causes = reply.json["details"]["causes"]
    assert (field, True) in [(cause["field"], words in cause["message"]) for cause in causes], causes


@pytest.mark.parametrize(
    ("kind", "address", "words"),
    [
        ("IPv4", "x", _IP_ERROR),
        ("IPv4", "10.0.0.٣", _IP_ERROR),
        ("IPv4", "127.0.0.1", _LOOPBACK),
        ("IPv4", "127.65.0.2", _LOOPBACK),
        ("IPv4", "169.254.169.254", _LINK_LOCAL),
        ("IPv4", "0.0.0.0", "may not be unspecified (0.0.0.0)"),
        ("IPv4", "224.0.0.1", "may not be in the link-local multicast range (224.0.0.0/24, ff02::/10)"),
        ("IPv4", "::ffff:127.0.0.1", _LOOPBACK),
        ("IPv6", "::ffff:169.254.169.254", _LINK_LOCAL),
        ("IPv6", "::1", _LOOPBACK),
        ("IPv6", "fe80::1", _LINK_LOCAL),
        ("IPv6", "fe80::1%eth0", _IP_ERROR),
        ("IPv6", "10.0.0.1", "must be an IPv6 address"),
    ],
)
def test_addresses_of_endpoints(kind: str, address: str, words: str) -> None:
    async def run() -> None:
        async with world() as found:
            await _refused(found, "POST", _SLICES, _slice(address, kind), "endpoints[0].addresses[0]", words)
            if "must be an" not in words:
                endpoints = {"metadata": {"name": "e"}, "subsets": [{"addresses": [{"ip": address}]}]}
                at = "subsets[0].addresses[0].ip"
                await _refused(found, "POST", "/api/v1/namespaces/default/endpoints", endpoints, at, words)
            assert (await found.send("POST", _SLICES, _slice("10.0.0.1"))).status == 201
            # Values that are refused in a creation are refused in an update, too.
            change = {"endpoints": [{"addresses": [address]}]}
            if kind == "IPv4":
                await _refused(
                    found, "PATCH", f"{_SLICES}/s", change, "endpoints[0].addresses[0]", words, headers=_MERGE
                )

    asyncio.run(run())


def test_places_of_endpoints() -> None:
    async def run() -> None:
        async with world() as found:
            for key, field in (("hostname", "endpoints[0].hostname"), ("nodeName", "endpoints[0].nodeName")):
                await _refused(found, "POST", _SLICES, _slice("10.0.0.1", **{key: "a\nb"}), field, "RFC 1123")
            many = _slice("10.0.0.1")
            many["endpoints"][0]["addresses"] *= 101
            await _refused(found, "POST", _SLICES, many, "endpoints[0].addresses", "must have at most 100 items")

    asyncio.run(run())


def test_a_cluster_on_loopback_has_endpoints_there() -> None:
    async def run() -> None:
        async with world() as found:
            found.api = Api(found.store, Registry(rows_for(loopback=True)))
            found.app = RestApp(found.api)
            assert (await found.send("POST", _SLICES, _slice("127.65.0.2"))).status == 201
            at = "endpoints[0].addresses[0]"
            await _refused(found, "POST", _SLICES, _slice("169.254.1.1"), at, _LINK_LOCAL)
            await _refused(found, "POST", _SLICES, _slice("::1", "IPv6"), at, _LOOPBACK)

    asyncio.run(run())


@pytest.mark.parametrize(
    ("status", "field", "words"),
    [
        ({"podIP": "x"}, "status.podIPs[0]", _IP_ERROR),
        ({"podIP": "10.0.0.1", "podIPs": [{"ip": "10.0.0.1"}, {"ip": "y"}]}, "status.podIPs[1]", _IP_ERROR),
        (
            {"podIPs": [{"ip": "10.0.0.1"}, {"ip": "10.0.0.2"}]},
            "status.podIPs",
            "no more than one IP for each IP family",
        ),
        ({"podIPs": [{"ip": "10.0.0.1"}, {"ip": "10.0.0.1"}]}, "status.podIPs[1]", "Duplicate value"),
        ({"podIP": "10.244.0.٣"}, "status.podIPs[0]", _IP_ERROR),
        ({"hostIP": "x"}, "status.hostIP", _IP_ERROR),
        ({"hostIP": "1.2.3.4", "hostIPs": [{"ip": "1.2.3.5"}]}, "status.hostIPs[0]", "must be equal to `hostIP`"),
        ({"hostIP": "x", "hostIPs": [{"ip": "x"}]}, "status.hostIPs[0]", _IP_ERROR),
        ({"nominatedNodeName": "A B"}, "status.nominatedNodeName", "RFC 1123 subdomain"),
        ({"conditions": [{"type": "a b", "status": "True"}]}, "status.conditions[0].Type", "name part must consist of"),
    ],
)
def test_invalid_values_in_the_status_of_a_pod(status: dict[str, Any], field: str, words: str) -> None:
    async def run() -> None:
        async with world() as found:
            pod = {"metadata": {"name": "p"}, "spec": {"containers": [{"name": "c", "image": "i"}]}}
            pods = "/api/v1/namespaces/default/pods"
            assert (await found.send("POST", pods, pod)).status == 201
            await _refused(found, "PATCH", f"{pods}/p/status", {"status": status}, field, words, headers=_MERGE)
            whole = (await found.send("GET", f"{pods}/p")).json
            await _refused(found, "PUT", f"{pods}/p/status", {**whole, "status": status}, field, words)
            for patch in ({"podIP": "10.1.1.1"}, {"podIP": "10.1.1.2"}):
                reply = await found.send("PATCH", f"{pods}/p/status", {"status": patch}, _MERGE)
                assert reply.json["status"]["podIPs"] == [{"ip": patch["podIP"]}]

    asyncio.run(run())


@pytest.mark.parametrize(
    ("spec", "field", "words"),
    [
        ({"hostAliases": [{"ip": "x", "hostnames": ["a"]}]}, "spec.hostAliases[0].ip", _IP_ERROR),
        (
            {"hostAliases": [{"ip": "1.2.3.4", "hostnames": ["a\n6.6.6.6 b"]}]},
            "spec.hostAliases[0].hostnames[0]",
            "RFC",
        ),
        ({"dnsConfig": {"nameservers": ["1.1.1.1\nx"]}}, "spec.dnsConfig.nameservers[0]", _IP_ERROR),
        ({"dnsConfig": {"nameservers": ["1.1.1.1"] * 4}}, "spec.dnsConfig.nameservers", "must not have more than 3"),
        ({"dnsConfig": {"searches": ["a\nb"]}}, "spec.dnsConfig.searches[0]", "RFC 1123"),
        ({"dnsConfig": {"options": [{"name": "a\nb"}]}}, "spec.dnsConfig.options[0]", "whitespace"),
        ({"dnsConfig": {"options": [{"value": "a"}]}}, "spec.dnsConfig.options[0]", "must not be empty"),
        ({"dnsPolicy": "None"}, "spec.dnsConfig", "must provide `dnsConfig`"),
    ],
)
def test_addresses_that_are_written_to_files_of_a_pod(spec: dict[str, Any], field: str, words: str) -> None:
    async def run() -> None:
        async with world() as found:
            pod = {"metadata": {"name": "p"}, "spec": {"containers": [{"name": "c", "image": "i"}], **spec}}
            await _refused(found, "POST", "/api/v1/namespaces/default/pods", pod, field, words)

    asyncio.run(run())


@pytest.mark.parametrize(
    ("name", "field", "words"),
    [
        ("keep", "metadata.finalizers[0]", "name is neither a standard finalizer name nor is it fully qualified"),
        ("a b/c", "metadata.finalizers", "prefix part a lowercase RFC 1123 subdomain"),
        ("example.com/", "metadata.finalizers", "name part must be non-empty"),
        ("", "metadata.finalizers", "name part must be non-empty"),
        ("example.com/ü", "metadata.finalizers", "name part must consist of"),
    ],
)
def test_finalizers(name: str, field: str, words: str) -> None:
    async def run() -> None:
        async with world() as found:
            maps = "/api/v1/namespaces/default/configmaps"
            bad = {"metadata": {"name": "c", "finalizers": [name]}}
            await _refused(found, "POST", maps, bad, field, words)
            good = {"metadata": {"name": "c", "finalizers": ["example.com/x", "orphan"]}}
            assert (await found.send("POST", maps, good)).status == 201
            await _refused(found, "PATCH", f"{maps}/c", bad, field, words, headers=_MERGE)

    asyncio.run(run())


_DOCKER = "kubernetes.io/dockerconfigjson"


@pytest.mark.parametrize(
    ("kind", "data", "field", "words"),
    [
        (_DOCKER, {}, "data[.dockerconfigjson]", "Required value"),
        (_DOCKER, {".dockerconfigjson": ""}, "data[.dockerconfigjson]", "unexpected end of JSON input"),
        (_DOCKER, {".dockerconfigjson": '{"a": '}, "data[.dockerconfigjson]", "unexpected end of JSON input"),
        (
            _DOCKER,
            {".dockerconfigjson": "no"},
            "data[.dockerconfigjson]",
            "Invalid value: \"<secret contents redacted>\": invalid character 'n' looking for beginning of value",
        ),
        (
            _DOCKER,
            {".dockerconfigjson": "[1]"},
            "data[.dockerconfigjson]",
            "json: cannot unmarshal array into Go value of type map[string]interface {}",
        ),
        (_DOCKER, {".dockerconfigjson": "7"}, "data[.dockerconfigjson]", "cannot unmarshal number"),
        (_DOCKER, {".dockerconfigjson": '{"a": NaN}'}, "data[.dockerconfigjson]", "invalid character 'N'"),
        (_DOCKER, {".dockerconfigjson": "{} x"}, "data[.dockerconfigjson]", "'x' after top-level value"),
        ("kubernetes.io/dockercfg", {".dockercfg": "x"}, "data[.dockercfg]", "invalid character 'x'"),
        ("kubernetes.io/ssh-auth", {"ssh-privatekey": ""}, "data[ssh-privatekey]", "Required value"),
        ("kubernetes.io/tls", {"tls.crt": "x"}, "data[tls.key]", "Required value"),
        ("kubernetes.io/basic-auth", {}, "data[username]", "Required value"),
        (
            "kubernetes.io/service-account-token",
            {},
            "metadata.annotations[kubernetes.io/service-account.name]",
            "Required value",
        ),
    ],
)
def test_secrets(kind: str, data: dict[str, str], field: str, words: str) -> None:
    async def run() -> None:
        async with world() as found:
            coded = {key: base64.b64encode(value.encode()).decode() for key, value in data.items()}
            path = "/api/v1/namespaces/default/secrets"
            secret = {"metadata": {"name": "s"}, "type": kind, "data": coded}
            await _refused(found, "POST", path, secret, field, words)
            await _refused(found, "POST", path, {**secret, "data": {}, "stringData": data}, field, words)

    asyncio.run(run())


@pytest.mark.parametrize("content", ["{}", '{"auths": {"r": {"auth": "eA=="}}}', "null", '{"n": ' + "1" * 5000 + "}"])
def test_docker_configurations_that_are_fine(content: str) -> None:
    async def run() -> None:
        async with world() as found:
            secret = {"metadata": {"name": "s"}, "type": _DOCKER, "stringData": {".dockerconfigjson": content}}
            assert (await found.send("POST", "/api/v1/namespaces/default/secrets", secret)).status == 201

    asyncio.run(run())


def test_a_mirror_pod_reads_nothing_from_the_api() -> None:
    async def run() -> None:
        async with world() as found:
            for spec in (
                {"serviceAccountName": "default"},
                {"volumes": [{"name": "v", "secret": {"secretName": "s"}}]},
                {"volumes": [{"name": "v", "projected": {"sources": [{"serviceAccountToken": {"path": "t"}}]}}]},
            ):
                pod = {
                    "metadata": {"name": "p", "annotations": {"kubernetes.io/config.mirror": "x"}},
                    "spec": {"containers": [{"name": "c", "image": "i"}], **spec},
                }
                reply = await found.send("POST", "/api/v1/namespaces/default/pods", pod)
                assert (reply.status, "a mirror pod may not" in reply.json["message"]) == (403, True)

    asyncio.run(run())
