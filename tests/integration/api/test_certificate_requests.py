"""CertificateSigningRequests: valid requests, the rights to approve and to sign, and the certificates that the signers issue."""

from __future__ import annotations

import base64
import ipaddress
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from hatchway.errors import ApiError
from tests.conformance.apiserver import Recorded, recorded_server

RESOURCE = "certificatesigningrequests.certificates.k8s.io"
CLIENT = "kubernetes.io/kube-apiserver-client"
KUBELET = "kubernetes.io/kube-apiserver-client-kubelet"
SERVING = "kubernetes.io/kubelet-serving"
NODE_USAGES = ["digital signature", "key encipherment", "client auth"]
KEY = ec.generate_private_key(ec.SECP256R1())


def pkcs10(common_name: str, *organizations: str, dns: str = "", ip: str = "") -> str:
    names = [x509.NameAttribute(NameOID.ORGANIZATION_NAME, one) for one in organizations]
    names.append(x509.NameAttribute(NameOID.COMMON_NAME, common_name))
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name(names))
    alternatives: list[x509.GeneralName] = [x509.DNSName(dns)] if dns else []
    alternatives += [x509.IPAddress(ipaddress.ip_address(ip))] if ip else []
    if alternatives:
        builder = builder.add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
    # The client asks for the certificate of a certificate authority.
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    return base64.b64encode(builder.sign(KEY, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)).decode()


def csr(name: str, request: str, signer: str = CLIENT, usages: Any = ("client auth",), **spec: Any) -> dict[str, Any]:
    return {
        "metadata": {"name": name},
        "spec": {"request": request, "signerName": signer, "usages": list(usages), **spec},
    }


APPROVED = {"type": "Approved", "status": "True", "reason": "Test", "message": "yes"}


@pytest.fixture
async def made(tmp_path: Path) -> AsyncIterator[Recorded]:
    async with recorded_server(tmp_path) as found:
        yield found


async def decided(made: Recorded, obj: dict[str, Any]) -> dict[str, Any]:
    """Create and approve a request; return its status after the signer has signed or refused it."""
    client = made.server.client
    created = await client.create(RESOURCE, obj)
    await client.update(RESOURCE, {**created, "status": {"conditions": [APPROVED]}}, subresource="approval")
    async for event in client.watch(RESOURCE):
        status = event.object.get("status") or {}
        kinds = [one["type"] for one in status.get("conditions") or ()]
        if event.object.get("metadata", {}).get("name") == obj["metadata"]["name"] and (
            "Failed" in kinds or "certificate" in status
        ):
            return status
    raise AssertionError


async def test_a_client_certificate(made: Recorded) -> None:
    status = await decided(made, csr("carol", pkcs10("carol", "team"), expirationSeconds=3600))
    certificate = x509.load_pem_x509_certificate(base64.b64decode(status["certificate"]))
    ca = x509.load_pem_x509_certificate(made.server._client_ca.encode())
    certificate.verify_directly_issued_by(ca)
    assert certificate.public_key() == KEY.public_key()
    assert certificate.subject.rfc4514_string() == "CN=carol,O=team"
    assert not certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    uses = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(uses) == [ExtendedKeyUsageOID.CLIENT_AUTH]
    assert (certificate.not_valid_after_utc - certificate.not_valid_before_utc).total_seconds() == 3600 + 300
    assert all(one["lastUpdateTime"] and one["lastTransitionTime"] for one in status["conditions"])


REFUSED = [
    (CLIENT, pkcs10("x"), ["server auth", "client auth"], "invalid usage for client certificate: server auth"),
    (CLIENT, pkcs10("x"), ["digital signature"], "missing required usage for client certificate: client auth"),
    (KUBELET, pkcs10("system:node:n"), NODE_USAGES, "subject organization is not system:nodes"),
    (KUBELET, pkcs10("n", "system:nodes"), NODE_USAGES, "subject common name does not begin with system:node:"),
    (KUBELET, pkcs10("system:node:n", "system:nodes", dns="a"), NODE_USAGES, "DNS subjectAltNames are not allowed"),
    (SERVING, pkcs10("system:node:n", "system:nodes"), NODE_USAGES, "DNS or IP subjectAltName is required"),
    (
        SERVING,
        pkcs10("system:node:n", "system:nodes", ip="10.0.0.1"),
        NODE_USAGES,
        "usages did not match [digital signature key encipherment server auth]",
    ),
]


async def test_signers_refuse_invalid_requests(made: Recorded) -> None:
    for index, (signer, request, usages, problem) in enumerate(REFUSED):
        status = await decided(made, csr(f"refused-{index}", request, signer, usages))
        assert "certificate" not in status
        failed = status["conditions"][-1]
        assert (failed["type"], failed["reason"], failed["message"]) == ("Failed", "SignerValidationFailure", problem)


async def test_certificates_for_nodes(made: Recorded) -> None:
    request = pkcs10("system:node:n", "system:nodes")
    assert "certificate" in await decided(made, csr("client", request, KUBELET, NODE_USAGES))
    request = pkcs10("system:node:n", "system:nodes", dns="n", ip="10.0.0.1")
    usages = ["digital signature", "server auth"]
    status = await decided(made, csr("serving", request, SERVING, usages))
    certificate = x509.load_pem_x509_certificate(base64.b64decode(status["certificate"]))
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["n"]


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"request": "eA=="}, 'spec.request: Invalid value: "eA==": PEM block type must be CERTIFICATE REQUEST'),
    ({"usages": []}, "spec.usages: Required value"),
    ({"usages": ["client auth", "client auth"]}, 'spec.usages[1]: Duplicate value: "client auth"'),
    ({"usages": ["fly"]}, 'spec.usages[0]: Unsupported value: "fly": supported values: "any", "cert sign"'),
    (
        {"expirationSeconds": 599},
        "spec.expirationSeconds: Invalid value: 599: may not specify a duration less than",
    ),
    ({"signerName": "kubernetes.io/legacy-unknown"}, "the legacy signerName is not allowed via this API version"),
    ({"signerName": "x"}, "must be a fully qualified domain and path of the form 'example.com/signer-name'"),
    ({"signerName": "x/y"}, "should be a domain with at least two segments separated by dots"),
]


async def test_invalid_requests_are_not_created(made: Recorded) -> None:
    for changes, message in WRONG:
        wrong = csr("wrong", pkcs10("x"))
        wrong["spec"] |= changes
        with pytest.raises(ApiError) as refused:
            await made.server.client.create(RESOURCE, wrong)
        assert refused.value.code == 422
        assert message in refused.value.message


async def test_a_request_whose_signature_is_wrong_is_refused(made: Recorded) -> None:
    der = bytearray(base64.b64decode("".join(base64.b64decode(pkcs10("x")).decode().splitlines()[1:-1])))
    der[-1] ^= 1
    pem = b"-----BEGIN CERTIFICATE REQUEST-----\n" + base64.encodebytes(der) + b"-----END CERTIFICATE REQUEST-----\n"
    with pytest.raises(ApiError) as refused:
        await made.server.client.create(RESOURCE, csr("forged", base64.b64encode(pem).decode()))
    assert "spec.request: Invalid value" in refused.value.message


async def test_a_certificate_of_the_privileged_group_may_not_be_requested(made: Recorded) -> None:
    with pytest.raises(ApiError) as refused:
        await made.server.client.create(RESOURCE, csr("root", pkcs10("root", "system:masters")))
    assert refused.value.code == 403
    assert refused.value.message.endswith(f"use of {CLIENT} signer with system:masters group is not allowed")


async def test_approvals_and_what_may_not_change(made: Recorded) -> None:
    client = made.server.client
    created = await client.create(
        RESOURCE, csr("other", pkcs10("x"), "example.com/mine") | {"status": {"certificate": "eA=="}}
    )
    assert created["status"] == {}
    assert created["spec"]["username"]
    # A status update cannot approve, and an update changes neither the spec nor the status.
    with pytest.raises(ApiError) as refused:
        await client.update(RESOURCE, {**created, "status": {"conditions": [APPROVED]}}, subresource="status")
    assert 'updates may not add a condition of type "Approved"' in refused.value.message
    same = await client.update(RESOURCE, {**created, "spec": {**created["spec"], "usages": ["any"]}})
    assert same["spec"] == created["spec"]
    both = [APPROVED, {**APPROVED, "type": "Denied"}]
    with pytest.raises(ApiError) as refused:
        await client.update(RESOURCE, {**same, "status": {"conditions": both}}, subresource="approval")
    assert "Approved and Denied conditions are mutually exclusive" in refused.value.message
    noted = {**same["metadata"], "annotations": {"by": "me"}}
    given = {**same, "metadata": noted, "spec": {**same["spec"], "usages": ["any"]}}
    given["status"] = {"conditions": [APPROVED], "certificate": "eA=="}
    approved = await client.update(RESOURCE, given, subresource="approval")
    assert approved["metadata"]["annotations"] == {"by": "me"}
    assert (approved["spec"], list(approved["status"])) == (same["spec"], ["conditions"])
    bad = {**approved, "metadata": {**approved["metadata"], "annotations": {"-": "x"}}}
    with pytest.raises(ApiError) as refused:
        await client.update(RESOURCE, bad, subresource="approval")
    assert 'metadata.annotations: Invalid value: "-"' in refused.value.message
    with pytest.raises(ApiError) as refused:
        await client.update(RESOURCE, {**approved, "status": {}}, subresource="approval")
    assert 'updates may not remove a condition of type "Approved"' in refused.value.message
    with pytest.raises(ApiError) as refused:
        status = {**approved["status"], "certificate": "eA=="}
        await client.update(RESOURCE, {**approved, "status": status}, subresource="status")
    assert (
        'status.certificate: Invalid value: "<certificate data>": expected at least one PEM block'
        in refused.value.message
    )


async def test_who_may_approve_and_sign(made: Recorded) -> None:
    """A user with the rights to write a request's subresources needs those of its signer, too."""
    client, group = made.server.client, "rbac.authorization.k8s.io"
    rules: list[dict[str, Any]] = [
        {
            "apiGroups": ["certificates.k8s.io"],
            "resources": ["certificatesigningrequests", "certificatesigningrequests/approval"],
            "verbs": ["*"],
        }
    ]
    await client.create(f"clusterroles.{group}", {"metadata": {"name": "approver"}, "rules": rules})
    binding = {
        "metadata": {"name": "approver"},
        "roleRef": {"apiGroup": group, "kind": "ClusterRole", "name": "approver"},
        "subjects": [{"kind": "User", "name": "bob", "apiGroup": group}],
    }
    await client.create(f"clusterrolebindings.{group}", binding)
    await client.create(RESOURCE, csr("asked", pkcs10("x"), "example.com/mine"))
    recording = {
        "id": "", "user": "bob", "method": "PATCH",
        "path": "/apis/certificates.k8s.io/v1/certificatesigningrequests/asked/approval",
        "headers": {"Content-Type": "application/merge-patch+json"},
        "body": '{"status":{"conditions":[{"type":"Approved","status":"True","reason":"r","message":"m"}]}}',
    }  # fmt: skip
    answer = await made.send(recording)
    assert answer.status == 403
    assert 'user not permitted to approve requests with signerName \\"example.com/mine\\"' in answer.body
    role = await client.get(f"clusterroles.{group}", "approver")
    rules.append(
        {
            "apiGroups": ["certificates.k8s.io"],
            "resources": ["signers"],
            "resourceNames": ["example.com/*"],
            "verbs": ["approve"],
        }
    )
    await client.update(f"clusterroles.{group}", {**role, "rules": rules})
    answer = await made.send(recording)
    assert answer.status == 200, answer.body
