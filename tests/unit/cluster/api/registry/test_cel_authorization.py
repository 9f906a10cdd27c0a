"""`authorizer` in expressions: its types, its costs and its answers (apiserver `pkg/cel/library/authz.go`, `cost.go`)."""

from __future__ import annotations

import time
from typing import Any

import pytest

from hatchway.cluster.api.cel.compiler import Outcome
from hatchway.cluster.api.cel.expression import compile_expression
from hatchway.cluster.api.cel.syntax import ExpressionIssues
from hatchway.cluster.api.registry.custom.celauthorization import AccessUnknown, AuthorizerValue, ResourceCheck
from hatchway.cluster.api.registry.policyexpressions import policy_environment
from hatchway.cluster.auth.rbac import AccessDecision
from hatchway.cluster.auth.user import Attributes, UserInfo

ENVIRONMENT = policy_environment(has_params=False)


class Recorder:
    """Allows `get`, and records the requested checks."""

    def __init__(self) -> None:
        self.asked: list[Attributes] = []

    def __call__(self, asked: Attributes) -> AccessDecision:
        if asked.verb == "fail":
            raise AccessUnknown("nobody answers")
        self.asked.append(asked)
        return AccessDecision(asked.verb == "get", "because")


def evaluate(text: str, recorder: Recorder | None = None) -> Outcome:
    authorizer = AuthorizerValue(UserInfo("bob"), recorder or Recorder())
    variables: dict[str, Any] = {
        "authorizer": authorizer,
        "authorizer.requestResource": ResourceCheck(authorizer, "apps", "deployments", "scale", "shop", "web"),
        "object": {"authorizer": 1},
    }
    return compile_expression(text, ENVIRONMENT).program.evaluate(variables, 1_000_000, time.thread_time() + 10)


def asked(text: str) -> Attributes:
    recorder = Recorder()
    outcome = evaluate(text, recorder)
    assert outcome.error is None
    (found,) = recorder.asked
    return found


def test_a_check_is_composed_by_method_calls() -> None:
    found = asked(
        "authorizer.group('g').resource('r').subresource('s').namespace('n').name('m')"
        ".fieldSelector('spec.nodeName=x,a!=b').labelSelector('l=1').check('list').allowed()"
    )
    assert found == Attributes(UserInfo("bob"), "list", "r", "s", "g", "*", "n", "m", fields=(("spec.nodeName", "x"),))
    # A selector that cannot be parsed is ignored.
    assert asked("authorizer.group('').resource('r').fieldSelector('a').check('list').allowed()").fields == ()


def test_the_resource_of_the_request() -> None:
    found = asked("authorizer.requestResource.check('get').allowed()")
    assert found == Attributes(UserInfo("bob"), "get", "deployments", "scale", "apps", "*", "shop", "web")
    assert asked("authorizer.requestResource.name('').check('get').allowed()").name == ""


def test_paths_and_service_accounts() -> None:
    assert asked("authorizer.path('/healthz').check('get').allowed()").path == "/healthz"
    user = asked("authorizer.serviceAccount('ns', 'robot').path('/x').check('get').allowed()").user
    assert user.name == "system:serviceaccount:ns:robot"
    assert set(user.groups) >= {"system:serviceaccounts", "system:serviceaccounts:ns"}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("authorizer.path('/x').check('get').allowed()", True),
        ("authorizer.path('/x').check('put').allowed()", False),
        ("authorizer.path('/x').check('put').reason()", "because"),
        ("authorizer.path('/x').check('put').errored()", False),
        ("authorizer.path('/x').check('put').error()", ""),
        ("authorizer.path('/x').check('fail').allowed()", False),
        ("authorizer.path('/x').check('fail').errored()", True),
        ("authorizer.path('/x').check('fail').error()", "nobody answers"),
        ("type(authorizer) == kubernetes.authorization.Authorizer", True),
        ("type(authorizer.requestResource) == kubernetes.authorization.ResourceCheck", True),
        ("dyn(authorizer).group('').resource('r').check('get').allowed()", True),
        ("object.authorizer == 1", True),
    ],
)
def test_answers(text: str, value: Any) -> None:
    outcome = evaluate(text)
    assert outcome.error is None, outcome.error
    assert outcome.value == value


@pytest.mark.parametrize(
    ("text", "cost"),
    [
        ("authorizer.path('/healthz').check('get').allowed()", 350_003),
        ("authorizer.group('').resource('r').namespace('n').check('get').allowed()", 350_005),
        ("authorizer.requestResource.check('get').allowed()", 350_002),
        # The cost: a list, a tenth of the text's length, and 50 for each two characters.
        ("authorizer.requestResource.fieldSelector('abc=def').check('get').allowed()", 350_002 + 10 + 1 + 200),
    ],
)
def test_costs(text: str, cost: int) -> None:
    assert evaluate(text).cost == cost


def test_values_of_authorizer_types_cannot_be_compared() -> None:
    assert str(evaluate("authorizer == authorizer").error) == "no such overload"
    assert str(evaluate("authorizer.group('') != authorizer.group('')").error) == "no such overload"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("authorizer.foo", "unexpected failed resolution of 'kubernetes.authorization.Authorizer'"),
        ("authorizer.check('get')", "found no matching overload for 'check' applied to"),
        ("authorizer.group(1)", "applied to 'kubernetes.authorization.Authorizer.(int)'"),
        ("authorizer.group('').check('get')", "applied to 'kubernetes.authorization.GroupCheck.(string)'"),
    ],
)
def test_invalid_checks_are_not_compiled(text: str, message: str) -> None:
    with pytest.raises(ExpressionIssues) as caught:
        compile_expression(text, ENVIRONMENT)
    assert message in str(caught.value)
