"""Signs approved certificate requests, and deletes old requests (`certificates/signer`, `certificates/cleaner`)."""

from __future__ import annotations

import asyncio
import base64
from pathlib import Path
from typing import Any

from hatchway.cluster.auth.certificaterequests import (
    API_CLIENT,
    KUBELET_CLIENT,
    KUBELET_SERVING,
    MalformedRequest,
    issue,
    parse_request,
    signer_problem,
)
from hatchway.cluster.controllers.controller import Controller, ControllerContext
from hatchway.cluster.controllers.objectfields import clone, parse_time
from hatchway.cluster.controllers.writes import delete_unless_gone
from hatchway.errors import ApiError
from hatchway.kube.api import Object
from hatchway.kube.objects import Key

RESOURCE = "certificatesigningrequests.certificates.k8s.io"
_SIGNERS = (API_CLIENT, KUBELET_CLIENT, KUBELET_SERVING)
_HOUR = 3600.0
# The ages (seconds) at which requests are deleted: approved or denied requests, and requests that are still pending.
_KEEP_DECIDED, _KEEP_PENDING = _HOUR, 24 * _HOUR


class CertificateSigningController(Controller):
    """Issues certificates for approved requests to the cluster's own signers, and deletes old requests."""

    name = "csrsigning-controller"

    def __init__(self, context: ControllerContext) -> None:
        super().__init__(context)
        self.requests = context.cache(RESOURCE)
        self.requests.subscribe(self.enqueue_changed)

    async def reconcile(self, key: Key) -> float | None:
        """Sign the request `key` if it is approved; delete it if it is old.

        Returns the seconds until the request must be deleted; None when it is gone.
        """
        request = self.requests.get(key)
        if request is None:
            return None
        authority = self.context.config.certificate_authority
        if authority is not None and _awaits_signature(request):
            await self._sign(request, authority)
        left = self._seconds_left(request)
        if left > 0:
            return left
        await delete_unless_gone(self.client, RESOURCE, request)
        return None

    async def _sign(self, request: Object, authority: tuple[Path, Path]) -> None:
        """Write the certificate, or the condition Failed, into the request's status."""
        changed = clone(request)
        status = changed.setdefault("status", {})
        certificate, problem = await asyncio.to_thread(self._issue, changed["spec"], authority)
        if problem:
            now = self.context.now().strftime("%Y-%m-%dT%H:%M:%SZ")
            failed = {
                "type": "Failed",
                "status": "True",
                "reason": "SignerValidationFailure",
                "message": problem,
                "lastUpdateTime": now,
            }
            status["conditions"] = [*(status.get("conditions") or ()), failed]
        else:
            status["certificate"] = base64.b64encode(certificate).decode()
        try:
            written = await self.client.update(RESOURCE, changed, subresource="status")
        except ApiError as error:
            if error.code != 404:
                raise
            return
        await self.requests.wait_for_write(written)

    def _issue(self, spec: dict[str, Any], authority: tuple[Path, Path]) -> tuple[bytes, str]:
        """Return (certificate, ""), or (b"", the reason) when no certificate can be made."""
        usages = spec.get("usages") or ()
        try:
            request = parse_request(spec.get("request") or "")
        except MalformedRequest as error:
            return b"", str(error)
        if problem := signer_problem(request, spec["signerName"], usages):
            return b"", problem
        try:
            return issue(request, usages, spec.get("expirationSeconds"), *authority, self.context.now()), ""
        except (ValueError, TypeError) as error:
            # The request has names that can be parsed but not encoded.
            return b"", f"the certificate cannot be made: {error}"

    def _seconds_left(self, request: Object) -> float:
        status = request.get("status") or {}
        decided = [one for one in status.get("conditions") or () if one.get("type") in ("Approved", "Denied", "Failed")]
        times = [parse_time(one.get("lastUpdateTime")) for one in decided]
        since = max((one for one in times if one is not None), default=None)
        keep = _KEEP_DECIDED
        if not decided or since is None:
            since, keep = parse_time(request["metadata"].get("creationTimestamp")), _KEEP_PENDING
        return keep if since is None else keep - (self.context.now() - since).total_seconds()


def _awaits_signature(request: Object) -> bool:
    status = request.get("status") or {}
    kinds = {one.get("type") for one in status.get("conditions") or ()}
    signed = bool(status.get("certificate"))
    mine = (request.get("spec") or {}).get("signerName") in _SIGNERS
    return mine and "Approved" in kinds and not kinds & {"Denied", "Failed"} and not signed
