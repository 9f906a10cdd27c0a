"""Issues service-account tokens for TokenRequests, and verifies tokens and the objects to which they are bound.

The claims are those of Kubernetes' `pkg/serviceaccount/claims.go`. The claim `kubernetes.io` names the namespace, the
service account and, for a bound token, the pod, secret or node, with their UIDs. A token is invalid as soon as the
service account or the object to which it is bound is deleted.
"""

from __future__ import annotations

import base64
import datetime
import hashlib
import math
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from jwt.algorithms import ECAlgorithm

from hatchway.cluster import plan
from hatchway.cluster.auth.source import StoredObjects
from hatchway.cluster.auth.tokens import ALGORITHM, InvalidToken, verified_claims
from hatchway.cluster.auth.user import UserInfo
from hatchway.kube.api import Object

ISSUER = f"https://kubernetes.default.svc.{plan.CLUSTER_DOMAIN}"
API_AUDIENCES = (ISSUER,)

USERNAME_PREFIX = "system:serviceaccount:"
_ALL_GROUP = "system:serviceaccounts"
_EXTRA = "authentication.kubernetes.io/"
_BOUND = {"pod": "pods", "secret": "secrets", "node": "nodes"}
# Seconds for which the tokens of an object that is being deleted stay valid (`claims.go`).
_DELETION_LEEWAY = 60.0


@dataclass(frozen=True, slots=True)
class BoundObject:
    """A name with a uid, as in the claims of a token."""

    name: str
    uid: str


@dataclass(frozen=True, slots=True)
class VerifiedToken:
    """A token whose signature and times are valid. `check` decides whether its objects still exist.

    audiences: the audiences of the token that the verifier accepts. expires: POSIX seconds.
    """

    namespace: str
    account: BoundObject
    bound: tuple[tuple[str, BoundObject], ...]
    user: UserInfo
    audiences: tuple[str, ...]
    expires: float


def username(namespace: str, name: str) -> str:
    """Return the user name of a service account: `system:serviceaccount:NAMESPACE:NAME`."""
    return f"{USERNAME_PREFIX}{namespace}:{name}"


def groups(namespace: str) -> tuple[str, ...]:
    """Return the groups of every service account of a namespace."""
    return (_ALL_GROUP, f"{_ALL_GROUP}:{namespace}")


def split_username(user: str) -> tuple[str, str] | None:
    """Return (namespace, name) of `system:serviceaccount:NS:NAME`; None for other names."""
    parts = user.split(":")
    if len(parts) != 4 or not user.startswith(USERNAME_PREFIX) or not parts[2] or not parts[3]:
        return None
    return parts[2], parts[3]


class ServiceAccountTokens:
    """Issues and verifies the tokens of one cluster."""

    def __init__(self, key: ec.EllipticCurvePrivateKey, source: StoredObjects) -> None:
        self._key = key
        self._public = key.public_key()
        self._source = source
        der = self._public.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
        self.key_id = base64.urlsafe_b64encode(hashlib.sha256(der).digest()).rstrip(b"=").decode()

    def openid_configuration(self) -> dict[str, Any]:
        """Return the document at /.well-known/openid-configuration, with which other programs verify tokens.

        Its content is that of Kubernetes' `pkg/serviceaccount/openidmetadata.go`.
        """
        return {
            "issuer": ISSUER,
            "jwks_uri": f"{ISSUER}/openid/v1/jwks",
            "response_types_supported": ["id_token"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": [ALGORITHM],
        }

    def jwks(self) -> dict[str, Any]:
        """Return the answer of /openid/v1/jwks (application/jwk-set+json): the public key."""
        key = ECAlgorithm.to_jwk(self._public, as_dict=True)
        return {"keys": [{"use": "sig", "kid": self.key_id, "alg": ALGORITHM, **key}]}

    def issue(
        self,
        account: Object,
        *,
        audiences: Sequence[str],
        seconds: int,
        bound: tuple[str, Object] | None = None,
        node: Object | None = None,
    ) -> tuple[str, datetime.datetime]:
        """Return a token for `account`, and the time when the token expires.

        bound: ("pod", "secret" or "node", the object). node: the node of the pod.
        """
        meta = account["metadata"]
        private: dict[str, Any] = {
            "namespace": meta["namespace"],
            "serviceaccount": {"name": meta["name"], "uid": meta["uid"]},
        }
        if bound is not None:
            private[bound[0]] = _reference(bound[1])
        if node is not None:
            private["node"] = _reference(node)
        now = int(time.time())
        claims = {
            "aud": list(audiences),
            "exp": now + seconds,
            "iat": now,
            "iss": ISSUER,
            "jti": str(uuid.uuid4()),
            "kubernetes.io": private,
            "nbf": now,
            "sub": username(meta["namespace"], meta["name"]),
        }
        token = jwt.encode(claims, self._key, algorithm=ALGORITHM, headers={"kid": self.key_id})
        return token, datetime.datetime.fromtimestamp(now + seconds, datetime.UTC)

    def verify(self, token: str, audiences: Sequence[str] = API_AUDIENCES) -> VerifiedToken:
        """Check signature, issuer, audience and times. The caller must also call `check`. Raises InvalidToken."""
        claims = verified_claims(self._public, token, issuer=ISSUER, audiences=audiences)
        private = claims.get("kubernetes.io")
        if not isinstance(private, dict):
            raise InvalidToken("it names no service account")
        namespace = private.get("namespace")
        account = _parse_reference(private.get("serviceaccount"))
        if not isinstance(namespace, str) or account is None or claims["sub"] != username(namespace, account.name):
            raise InvalidToken("its subject is not its service account")
        bound = []
        for kind in _BOUND:
            if kind in private:
                reference = _parse_reference(private[kind])
                if reference is None:
                    raise InvalidToken(f"its {kind} is not a reference")
                bound.append((kind, reference))
        known = dict(bound)
        extra: dict[str, tuple[str, ...]] = {}
        if isinstance(claims.get("jti"), str):
            extra[_EXTRA + "credential-id"] = (f"JTI={claims['jti']}",)
        for kind in ("node", "pod"):
            if kind in known:
                extra[_EXTRA + f"{kind}-name"] = (known[kind].name,)
                extra[_EXTRA + f"{kind}-uid"] = (known[kind].uid,)
        given = claims["aud"] if isinstance(claims["aud"], list) else [claims["aud"]]
        # A pod's token names its node for information: it is bound to the pod, not to the node.
        binding = tuple((kind, reference) for kind, reference in bound if kind != "node" or "pod" not in known)
        return VerifiedToken(
            namespace,
            account,
            binding,
            UserInfo(username(namespace, account.name), groups(namespace), account.uid, extra),
            tuple(item for item in audiences if item in given),
            float(claims["exp"]),
        )

    def check(self, token: VerifiedToken) -> float:
        """Check that the objects for which the token was issued still exist. Raises InvalidToken.

        Return the time (POSIX seconds) until which the token is valid if no object changes.
        """
        until = min(
            token.expires, self._expiry_of("serviceaccounts", token.namespace, token.account, "service account")
        )
        for kind, reference in token.bound:
            until = min(
                until, self._expiry_of(_BOUND[kind], "" if kind == "node" else token.namespace, reference, kind)
            )
        return until

    def _expiry_of(self, resource: str, namespace: str, reference: BoundObject, what: str) -> float:
        found = self._source.get(resource, namespace, reference.name)
        if found is None:
            raise InvalidToken(f"its {what} is gone")
        meta = found["metadata"]
        if meta.get("uid") != reference.uid:
            raise InvalidToken(f"its {what} was replaced by another one with the same name")
        deleted = meta.get("deletionTimestamp")
        if not deleted:
            return math.inf
        until = datetime.datetime.fromisoformat(deleted).timestamp() + _DELETION_LEEWAY
        if until < time.time():
            raise InvalidToken(f"its {what} is being deleted")
        return until


def _reference(obj: Object) -> dict[str, str]:
    return {"name": obj["metadata"]["name"], "uid": obj["metadata"]["uid"]}


def _parse_reference(value: object) -> BoundObject | None:
    if not isinstance(value, dict):
        return None
    name, uid = value.get("name"), value.get("uid")
    if not isinstance(name, str) or not isinstance(uid, str) or not name:
        return None
    return BoundObject(name, uid)
