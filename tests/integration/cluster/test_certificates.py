"""Certificate requests with stock kubectl: request, approve, and use the certificate."""

from __future__ import annotations

import base64
import datetime
import json
from pathlib import Path

import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.conftest import Cluster, wait_for


def test_kubectl_certificate_approve(cluster: Cluster, tmp_path: Path) -> None:
    """An approved client certificate has its subject's user and groups, and is valid for the requested time."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = [
        x509.NameAttribute(NameOID.ORGANIZATION_NAME, "csr-team"),
        x509.NameAttribute(NameOID.COMMON_NAME, "carol"),
    ]
    request = x509.CertificateSigningRequestBuilder().subject_name(x509.Name(subject)).sign(key, hashes.SHA256())
    pem = request.public_bytes(serialization.Encoding.PEM)
    spec = {
        "request": base64.b64encode(pem).decode(),
        "signerName": "kubernetes.io/kube-apiserver-client",
        "expirationSeconds": 86400,
        "usages": ["client auth"],
    }
    manifest = {
        "apiVersion": "certificates.k8s.io/v1",
        "kind": "CertificateSigningRequest",
        "metadata": {"name": "carol"},
        "spec": spec,
    }
    cluster.kubectl("create", "-f", "-", stdin=json.dumps(manifest))
    try:
        row = cluster.kubectl("get", "csr", "carol", "--no-headers").split()
        assert row[2] == "kubernetes.io/kube-apiserver-client"
        assert row[4:] == ["24h", "Pending"]
        cluster.kubectl("certificate", "approve", "carol")
        found = wait_for(lambda: cluster.kubectl("get", "csr", "carol", "-o", "jsonpath={.status.certificate}"))
        assert cluster.kubectl("get", "csr", "carol", "--no-headers").split()[-1] == "Approved,Issued"
        certificate = x509.load_pem_x509_certificate(base64.b64decode(found))
        life = certificate.not_valid_after_utc - certificate.not_valid_before_utc
        assert life == datetime.timedelta(days=1)
        (tmp_path / "carol.crt").write_bytes(base64.b64decode(found))
        (tmp_path / "carol.key").write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
        config = yaml.safe_load(cluster.kubectl("config", "view", "--raw", "--minify", "--flatten"))
        config["users"][0]["user"] = {
            "client-certificate": str(tmp_path / "carol.crt"),
            "client-key": str(tmp_path / "carol.key"),
        }
        (tmp_path / "config").write_text(yaml.safe_dump(config))
        who = json.loads(cluster.kubectl("auth", "whoami", "-o", "json", f"--kubeconfig={tmp_path / 'config'}"))
        assert who["status"]["userInfo"]["username"] == "carol"
        assert who["status"]["userInfo"]["groups"] == ["csr-team", "system:authenticated"]
        # A decision cannot be changed.
        denied = cluster.kubectl("certificate", "deny", "carol", check=False)
        assert "Denied" not in cluster.kubectl("get", "csr", "carol", "--no-headers"), denied
    finally:
        cluster.kubectl("delete", "csr", "carol")
