"""Checks writes of CertificateSigningRequests: the rights to approve and to sign, and the requested group.

Does the work of the admission plugins CertificateApproval, CertificateSigning and CertificateSubjectRestriction
(`plugin/pkg/admission/certificates`).
"""

from __future__ import annotations

from cryptography.x509.oid import NameOID

from hatchway.cluster.api.admission.contract import AdmissionAttributes, AdmissionOperation, AdmissionPlugin
from hatchway.cluster.auth.certificaterequests import API_CLIENT, MalformedRequest, parse_request
from hatchway.cluster.auth.rbac import PRIVILEGED_GROUP, Authorizer
from hatchway.cluster.auth.user import Attributes, UserInfo
from hatchway.errors import forbidden
from hatchway.kube.api import Object

__all__ = ["CertificateAdmission"]

_GROUP = "certificates.k8s.io"
_PLURAL = "certificatesigningrequests"
_RESOURCE = f"{_PLURAL}.{_GROUP}"


class CertificateAdmission(AdmissionPlugin):
    """Checks writes of CertificateSigningRequests. authorizer: decides who may approve and sign for a signer."""

    name = "CertificateApproval"

    def __init__(self, authorizer: Authorizer) -> None:
        self._authorizer = authorizer

    def handles(self, operation: AdmissionOperation, resource: str, subresource: str) -> bool:
        """Return True for new CertificateSigningRequests, and for changes of their approval and status."""
        if resource != _RESOURCE:
            return False
        return operation == "CREATE" or (operation == "UPDATE" and subresource in ("approval", "status"))

    def validate(self, attributes: AdmissionAttributes) -> None:
        """Raise ApiError 403 when the user may not write this content."""
        obj, old, name = attributes.object or {}, attributes.old_object or {}, attributes.object_name
        if attributes.operation == "CREATE":
            _check_subject(name, obj)
        elif attributes.subresource == "approval":
            self._require(attributes.user, "approve", name, old)
        else:
            before, after = old.get("status") or {}, obj.get("status") or {}
            if any((before.get(key) or None) != (after.get(key) or None) for key in ("certificate", "conditions")):
                self._require(attributes.user, "sign", name, old)

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
    """Raise ApiError 403 for a client certificate of the group `system:masters`, because this group has all rights."""
    spec = obj.get("spec") or {}
    if spec.get("signerName") != API_CLIENT:
        return
    try:
        request = parse_request(spec.get("request") or "")
    except MalformedRequest:
        return  # The validation of the object reports a malformed request.
    groups = [one.value for one in request.subject.get_attributes_for_oid(NameOID.ORGANIZATION_NAME)]
    if PRIVILEGED_GROUP in groups:
        why = f"use of {API_CLIENT} signer with {PRIVILEGED_GROUP} group is not allowed"
        raise forbidden(_PLURAL, name, why, _GROUP)
