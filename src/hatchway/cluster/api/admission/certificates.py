"""Who may approve and sign certificate requests, and what may not be requested.

The behaviour is that of Kubernetes' admission plugins CertificateApproval, CertificateSigning and
CertificateSubjectRestriction (`plugin/pkg/admission/certificates`).
"""

from __future__ import annotations

from cryptography.x509.oid import NameOID

from hatchway.cluster.auth.certificaterequests import API_CLIENT, MalformedRequest, parse_request
from hatchway.cluster.auth.rbac import PRIVILEGED_GROUP, Authorizer
from hatchway.cluster.auth.user import Attributes, UserInfo
from hatchway.errors import forbidden
from hatchway.kube.api import Object

__all__ = ["CertificateAdmission"]

_GROUP = "certificates.k8s.io"
_PLURAL = "certificatesigningrequests"
_RESOURCE = f"{_PLURAL}.{_GROUP}"


class CertificateAdmission:
    """Checks writes of CertificateSigningRequests. authorizer: knows who may approve and sign for which signer."""

    def __init__(self, authorizer: Authorizer) -> None:
        self._authorizer = authorizer

    def admit(
        self,
        user: UserInfo,
        operation: str,
        resource: str,
        subresource: str,
        _namespace: str,
        name: str,
        obj: Object | None,
        old: Object | None,
    ) -> None:
        """Raise ApiError 403 when the user may not write this content. Parameters: as of `NodeRestriction.admit`."""
        if resource != _RESOURCE or obj is None:
            return
        if operation == "CREATE":
            _check_subject(name, obj)
        elif old is not None and subresource == "approval":
            self._require(user, "approve", name, old)
        elif old is not None and subresource == "status":
            before, after = old.get("status") or {}, obj.get("status") or {}
            if any((before.get(key) or None) != (after.get(key) or None) for key in ("certificate", "conditions")):
                self._require(user, "sign", name, old)

    def _require(self, user: UserInfo, verb: str, name: str, request: Object) -> None:
        """Raise ApiError 403 unless the user has the verb for the signer, or for all signers of its domain."""
        signer = (request.get("spec") or {}).get("signerName") or ""
        domain = signer.partition("/")[0]
        for one in (signer, f"{domain}/*"):
            asked = Attributes(user, verb, resource="signers", api_group=_GROUP, api_version="*", name=one)
            if self._authorizer.decide(asked).allowed:
                return
        raise forbidden(_PLURAL, name, f'user not permitted to {verb} requests with signerName "{signer}"', _GROUP)


def _check_subject(name: str, obj: Object) -> None:
    """Raise ApiError 403 for a client certificate of the group that may do everything."""
    spec = obj.get("spec") or {}
    if spec.get("signerName") != API_CLIENT:
        return
    try:
        request = parse_request(spec.get("request") or "")
    except MalformedRequest:
        return  # validation says so
    groups = [one.value for one in request.subject.get_attributes_for_oid(NameOID.ORGANIZATION_NAME)]
    if PRIVILEGED_GROUP in groups:
        why = f"use of {API_CLIENT} signer with {PRIVILEGED_GROUP} group is not allowed"
        raise forbidden(_PLURAL, name, why, _GROUP)
