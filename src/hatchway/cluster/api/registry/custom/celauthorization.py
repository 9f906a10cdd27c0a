"""The CEL functions that check the rights of users with the authorizer (apiserver `pkg/cel/library/authz.go`).

An example: `authorizer.group('apps').resource('deployments').namespace('x').check('create').allowed()`. Each function
returns a new value. Only `check` calls the authorizer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Protocol

from hatchway.cluster.api.cel.celtypes import Overload
from hatchway.cluster.api.cel.library.declaring import declare
from hatchway.cluster.api.cel.values import EvaluationError, Value, size_of
from hatchway.cluster.api.registry import validation as v
from hatchway.cluster.api.registry.selectors import parse_field_selector
from hatchway.cluster.auth import serviceaccounts
from hatchway.cluster.auth.user import Attributes, UserInfo
from hatchway.errors import ApiError

__all__ = ["AccessUnknown", "AskAccess", "AuthorizerValue", "ResourceCheck", "authorization_library"]

_PREFIX = "kubernetes.authorization"
# The cost limit of one expression allows two checks.
_CHECK_COST = 350_000


class AccessAnswer(Protocol):
    """The part of an authorizer's decision that expressions can read."""

    @property
    def allowed(self) -> bool:
        """Return True when the user may make the request."""
        ...

    @property
    def reason(self) -> str:
        """Return the reason for the decision, "" when the authorizer gives none."""
        ...


# Returns the decision of the cluster's authorizer. Raises AccessUnknown when the authorizer cannot decide.
AskAccess = Callable[[Attributes], AccessAnswer]


class AccessUnknown(Exception):
    """Raised when the authorizer cannot decide. The text says why."""


@dataclass(frozen=True, slots=True, eq=False)
class _Uncomparable:
    """A value that has functions, but no fields and no equality."""

    type_name: ClassVar[str]

    def __eq__(self, other: object) -> bool:
        """Raise EvaluationError."""
        raise EvaluationError("no such overload")

    __hash__ = object.__hash__


@dataclass(frozen=True, slots=True, eq=False)
class AuthorizerValue(_Uncomparable):
    """The variable `authorizer`. user: the user whose rights are checked. ask: the cluster's authorizer."""

    user: UserInfo
    ask: AskAccess
    type_name: ClassVar[str] = f"{_PREFIX}.Authorizer"


@dataclass(frozen=True, slots=True, eq=False)
class _PathCheck(_Uncomparable):
    authorizer: AuthorizerValue
    path: str
    type_name: ClassVar[str] = f"{_PREFIX}.PathCheck"


@dataclass(frozen=True, slots=True, eq=False)
class _GroupCheck(_Uncomparable):
    authorizer: AuthorizerValue
    group: str
    type_name: ClassVar[str] = f"{_PREFIX}.GroupCheck"


@dataclass(frozen=True, slots=True, eq=False)
class ResourceCheck(_Uncomparable):
    """The description of a request for a resource. It has no verb: `check` adds the verb.

    fields: the text of a field selector. Label selectors are ignored, because this cluster's authorizer ignores them.
    """

    authorizer: AuthorizerValue
    group: str
    resource: str
    subresource: str = ""
    namespace: str = ""
    name: str = ""
    fields: str = ""
    type_name: ClassVar[str] = f"{_PREFIX}.ResourceCheck"


@dataclass(frozen=True, slots=True, eq=False)
class _AccessResult(_Uncomparable):
    """The result of a check. error: why the authorizer could not decide; "" when it has decided."""

    allowed: bool
    reason: str = ""
    error: str = ""
    type_name: ClassVar[str] = f"{_PREFIX}.Decision"


def _path(authorizer: AuthorizerValue, path: str) -> _PathCheck:
    if not path.strip():
        raise EvaluationError("path must not be empty")
    return _PathCheck(authorizer, path)


def _service_account(authorizer: AuthorizerValue, namespace: str, name: str) -> AuthorizerValue:
    if v.dns1123_subdomain(name):
        raise EvaluationError("Invalid service account name")
    if v.dns1123_label(namespace):
        raise EvaluationError("Invalid service account namespace")
    user = UserInfo(serviceaccounts.username(namespace, name), serviceaccounts.groups(namespace))
    return AuthorizerValue(user, authorizer.ask)


def _resource(check: _GroupCheck, resource: str) -> ResourceCheck:
    if not resource.strip():
        raise EvaluationError("resource must not be empty")
    return ResourceCheck(check.authorizer, check.group, resource)


def _with(field: str) -> Callable[[ResourceCheck, str], ResourceCheck]:
    def change(check: ResourceCheck, value: str) -> ResourceCheck:
        given: dict[str, Any] = {field: value}
        return replace(check, **given)

    return change


def _required_fields(text: str) -> tuple[tuple[str, str], ...]:
    """Return (field, value) for each value that a selector requires; () for a selector that cannot be parsed."""
    try:
        return tuple((one.field, one.value) for one in parse_field_selector(text).terms if not one.negated)
    except ApiError:
        return ()


def _ask(authorizer: AuthorizerValue, attributes: Attributes) -> _AccessResult:
    try:
        answer = authorizer.ask(attributes)
    except AccessUnknown as error:
        return _AccessResult(False, error=str(error))
    return _AccessResult(answer.allowed, answer.reason)


def _check_path(check: _PathCheck, verb: str) -> _AccessResult:
    return _ask(check.authorizer, Attributes(check.authorizer.user, verb, path=check.path))


def _check_resource(check: ResourceCheck, verb: str) -> _AccessResult:
    attributes = Attributes(
        check.authorizer.user,
        verb,
        check.resource,
        check.subresource,
        check.group,
        "*",
        check.namespace,
        check.name,
        fields=_required_fields(check.fields),
    )
    return _ask(check.authorizer, attributes)


def _check_cost(args: tuple[Value, ...], result: Value) -> int:
    return _CHECK_COST


def _selector_cost(args: tuple[Value, ...], result: Value) -> int:
    """Return the cost of parsing a selector into a list of objects, each of which contains a list."""
    size = size_of(args[1])
    return 10 + -(-size // 10) + -(-size // 2) * 50


def authorization_library() -> Iterator[Overload]:
    """Yield the functions of `authorizer`."""
    yield declare("authorizer_path", "Authorizer.path(string) PathCheck", _path)
    yield declare("authorizer_group", "Authorizer.group(string) GroupCheck", _GroupCheck)
    yield declare("authorizer_serviceaccount", "Authorizer.serviceAccount(string, string) Authorizer", _service_account)
    yield declare("groupcheck_resource", "GroupCheck.resource(string) ResourceCheck", _resource)
    for name in ("subresource", "namespace", "name"):
        yield declare(f"resourcecheck_{name}", f"ResourceCheck.{name}(string) ResourceCheck", _with(name))
    yield declare("pathcheck_check", "PathCheck.check(string) Decision", _check_path, _check_cost)
    yield declare("resourcecheck_check", "ResourceCheck.check(string) Decision", _check_resource, _check_cost)
    yield declare("decision_errored", "Decision.errored() bool", lambda found: bool(found.error))
    yield declare("decision_error", "Decision.error() string", lambda found: found.error)
    yield declare("decision_allowed", "Decision.allowed() bool", lambda found: found.allowed)
    yield declare("decision_reason", "Decision.reason() string", lambda found: found.reason)
    yield declare("authorizer_fieldselector", "ResourceCheck.fieldSelector(string) ResourceCheck", _with("fields"),
                  _selector_cost)  # fmt: skip
    yield declare("authorizer_labelselector", "ResourceCheck.labelSelector(string) ResourceCheck",
                  lambda check, _: check, _selector_cost)  # fmt: skip
