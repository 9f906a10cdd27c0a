"""Answers reviews (questions about users and rights, which are not stored), and issues service-account tokens.

Every handler takes (user, namespace, name, obj) and returns the answer. The shape of obj has been checked already.
The behaviour is that of Kubernetes' `pkg/registry/{authentication,authorization}` and, for tokens,
`pkg/registry/core/serviceaccount/storage/token.go`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any

from hatchway.cluster.auth.authenticators import Authenticator
from hatchway.cluster.auth.rbac import Authorizer
from hatchway.cluster.auth.serviceaccounts import API_AUDIENCES
from hatchway.cluster.auth.source import StoredObjects
from hatchway.cluster.auth.tokens import InvalidToken
from hatchway.cluster.auth.user import Attributes, UserInfo
from hatchway.errors import ApiError, Cause, bad_request, conflict, invalid, not_found
from hatchway.kube.api import Object

Handler = Callable[[UserInfo, str, str, Object], Awaitable[Object]]

_AUTHENTICATION = "authentication.k8s.io"
_AUTHORIZATION = "authorization.k8s.io"
_DEFAULT_SECONDS = 3600
_MIN_SECONDS = 600
_MAX_SECONDS = 1 << 32


class Reviews:
    """The handlers of one API server; `handlers` has them by resource."""

    def __init__(self, authenticator: Authenticator, authorizer: Authorizer, objects: StoredObjects) -> None:
        self._authenticator = authenticator
        self._authorizer = authorizer
        self._objects = objects
        self.handlers: dict[str, Handler] = {
            f"tokenreviews.{_AUTHENTICATION}": self.token_review,
            f"selfsubjectreviews.{_AUTHENTICATION}": self.self_subject_review,
            f"subjectaccessreviews.{_AUTHORIZATION}": self.subject_access_review,
            f"localsubjectaccessreviews.{_AUTHORIZATION}": self.local_subject_access_review,
            f"selfsubjectaccessreviews.{_AUTHORIZATION}": self.self_subject_access_review,
            f"selfsubjectrulesreviews.{_AUTHORIZATION}": self.self_subject_rules_review,
            "serviceaccounts/token": self.token_request,
        }

    # -- users

    async def token_review(self, user: UserInfo, namespace: str, name: str, obj: Object) -> Object:
        """Answer a TokenReview (authentication.k8s.io/v1). Raises ApiError 400 without a token."""
        spec = _spec(obj)
        token = spec.get("token") or ""
        if not token:
            raise bad_request("token is required for TokenReview in authentication")
        try:
            found = self._authenticator.authenticate_token(token, spec.get("audiences") or ())
        except InvalidToken:
            return _answer(obj, {"user": {}, "error": "invalid bearer token"})
        status = {"authenticated": True, "user": found.user.as_object(), "audiences": list(found.audiences)}
        return _answer(obj, status)

    async def self_subject_review(self, user: UserInfo, namespace: str, name: str, obj: Object) -> Object:
        """Answer a SelfSubjectReview (authentication.k8s.io/v1), which `kubectl auth whoami` shows."""
        answer = _answer(obj, {"userInfo": user.as_object()})
        answer["metadata"] = {**answer["metadata"], "creationTimestamp": _now()}
        return answer

    # -- rights

    async def subject_access_review(self, user: UserInfo, namespace: str, name: str, obj: Object) -> Object:
        """Answer a SubjectAccessReview (authorization.k8s.io/v1). Raises ApiError 422."""
        spec = _spec(obj)
        causes = _attributes_causes(spec)
        if not spec.get("user") and not spec.get("groups"):
            problem = 'Invalid value: "": at least one of user or group must be specified'
            causes.append(Cause("FieldValueInvalid", problem, "spec.user"))
        if causes:
            raise invalid("", "", causes, _AUTHORIZATION)
        return self._access(obj, _subject(spec))

    async def local_subject_access_review(self, user: UserInfo, namespace: str, name: str, obj: Object) -> Object:
        """Answer a LocalSubjectAccessReview (authorization.k8s.io/v1). Raises ApiError 400 and 422."""
        spec = _spec(obj)
        if spec.get("nonResourceAttributes") is not None:
            problem = "Invalid value: disallowed on this kind of request"
            raise invalid("", "", [Cause("FieldValueInvalid", problem, "spec.nonResourceAttributes")], _AUTHORIZATION)
        attributes = spec.get("resourceAttributes")
        if attributes is not None and attributes.get("namespace") != namespace:
            raise bad_request(f"spec.resourceAttributes.namespace must match namespace: {namespace}")
        return await self.subject_access_review(user, namespace, name, obj)

    async def self_subject_access_review(self, user: UserInfo, namespace: str, name: str, obj: Object) -> Object:
        """Answer a SelfSubjectAccessReview (authorization.k8s.io/v1) of `kubectl auth can-i`. Raises ApiError 422."""
        causes = _attributes_causes(_spec(obj))
        if causes:
            raise invalid("", "", causes, _AUTHORIZATION)
        return self._access(obj, user)

    def _access(self, obj: Object, subject: UserInfo) -> Object:
        decision = self._authorizer.decide(_asked(_spec(obj), subject))
        status: dict[str, Any] = {"allowed": decision.allowed}
        if decision.reason:
            status["reason"] = decision.reason
        return _answer(obj, status)

    async def self_subject_rules_review(self, user: UserInfo, namespace: str, name: str, obj: Object) -> Object:
        """Answer a SelfSubjectRulesReview (authorization.k8s.io/v1), which `kubectl auth can-i --list` shows.

        Raises ApiError 400.
        """
        wanted = _spec(obj).get("namespace") or ""
        if not wanted:
            raise bad_request("no namespace on request")
        rules, problems = self._authorizer.rules_for(user, wanted)
        status: dict[str, Any] = {"resourceRules": [], "nonResourceRules": [], "incomplete": bool(problems)}
        for rule in rules:
            status["nonResourceRules" if rule.non_resource_urls else "resourceRules"].append(rule.as_dict())
        if problems:
            status["evaluationError"] = problems
        return {**_answer(obj, status), "spec": {}}

    # -- tokens

    async def token_request(self, user: UserInfo, namespace: str, name: str, obj: Object) -> Object:
        """Answer a TokenRequest (authentication.k8s.io/v1) for the service account `name`.

        Raises ApiError 400, 404, 409 and 422 as Kubernetes does.
        """
        account = self._objects.get("serviceaccounts", namespace, name)
        if account is None:
            raise not_found("serviceaccounts", name)
        spec = _spec(obj)
        audiences = list(spec.get("audiences") or ()) or list(API_AUDIENCES)
        seconds = spec.get("expirationSeconds") or _DEFAULT_SECONDS
        field = "spec.expirationSeconds"
        if seconds < _MIN_SECONDS:
            problem = f"Invalid value: {seconds}: may not specify a duration less than 10 minutes"
            raise invalid("TokenRequest", name, [Cause("FieldValueInvalid", problem, field)], _AUTHENTICATION)
        if seconds > _MAX_SECONDS:
            problem = f"Invalid value: {seconds}: may not specify a duration larger than 2^32 seconds"
            raise invalid("TokenRequest", name, [Cause("FieldValueInvalid", problem, field)], _AUTHENTICATION)
        reference = spec.get("boundObjectRef")
        bound = self._bound(namespace, name, reference) if reference else None
        node = None
        if bound is not None and bound[0] == "pod":
            node_name = bound[1].get("spec", {}).get("nodeName")
            node = self._objects.get("nodes", "", node_name) if node_name else None
        token, expires = self._authenticator.service_accounts.issue(
            account, audiences=audiences, seconds=seconds, bound=bound, node=node
        )
        answer = _answer(obj, {"token": token, "expirationTimestamp": expires.strftime("%Y-%m-%dT%H:%M:%SZ")})
        answer["spec"] = {"audiences": audiences, "expirationSeconds": seconds, "boundObjectRef": reference or None}
        answer["metadata"] = {
            **(obj.get("metadata") or {}),
            "name": name,
            "namespace": namespace,
            "creationTimestamp": _now(),
        }
        return answer

    def _bound(self, namespace: str, account: str, reference: dict[str, Any]) -> tuple[str, Object]:
        kind, name, uid = reference.get("kind"), reference.get("name") or "", reference.get("uid")
        if kind not in ("Pod", "Secret", "Node") or reference.get("apiVersion", "v1") not in ("", "v1"):
            version = reference.get("apiVersion") or ""
            group, _, version = version.rpartition("/")
            raise bad_request(f"cannot bind token to object of type {group or ''}/{version}, Kind={kind}")
        resource = f"{kind.lower()}s"
        found = self._objects.get(resource, "" if kind == "Node" else namespace, name)
        if found is None:
            raise not_found(resource, name)
        if kind == "Pod" and found.get("spec", {}).get("serviceAccountName") != account:
            raise bad_request(
                f'cannot bind token for serviceaccount "{account}" to pod running with different serviceaccount name.'
            )
        if uid and uid != found["metadata"]["uid"]:
            raise _other_uid(resource, name, uid, found["metadata"]["uid"])
        return kind.lower(), found


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _spec(obj: Object) -> dict[str, Any]:
    spec: dict[str, Any] = obj.get("spec") or {}
    return spec


def _answer(obj: Object, status: dict[str, Any]) -> Object:
    return {**obj, "metadata": obj.get("metadata") or {}, "status": status}


def _attributes_causes(spec: dict[str, Any]) -> list[Cause]:
    resource, non_resource = spec.get("resourceAttributes"), spec.get("nonResourceAttributes")
    if resource is not None and non_resource is not None:
        problem = "Invalid value: cannot be specified in combination with resourceAttributes"
        return [Cause("FieldValueInvalid", problem, "spec.nonResourceAttributes")]
    if resource is None and non_resource is None:
        problem = "Invalid value: null: exactly one of nonResourceAttributes or resourceAttributes must be specified"
        return [Cause("FieldValueInvalid", problem, "spec.resourceAttributes")]
    return []


def _subject(spec: dict[str, Any]) -> UserInfo:
    extra = {key: tuple(values or ()) for key, values in (spec.get("extra") or {}).items()}
    return UserInfo(spec.get("user") or "", tuple(spec.get("groups") or ()), spec.get("uid") or "", extra)


def _asked(spec: dict[str, Any], user: UserInfo) -> Attributes:
    resource = spec.get("resourceAttributes")
    if resource is None:
        path = spec["nonResourceAttributes"]
        return Attributes(user, path.get("verb") or "", path=path.get("path") or "")

    def text(field: str) -> str:
        return resource.get(field) or ""

    return Attributes(
        user,
        text("verb"),
        text("resource"),
        text("subresource"),
        text("group"),
        text("version"),
        text("namespace"),
        text("name"),
    )


def _other_uid(resource: str, name: str, wanted: str, found: str) -> ApiError:
    why = (
        f"the UID in the bound object reference ({wanted}) does not match the UID in record. "
        "The object might have been deleted and then recreated"
    )
    return conflict(resource, name, why)
