"""The match conditions of webhooks: expressions in CEL that decide whether a webhook is called.

Source: apiserver's `pkg/admission/plugin/webhook/matchconditions/matcher.go`.
"""

from __future__ import annotations

import time
from functools import lru_cache
from typing import TYPE_CHECKING

from hatchway.cluster.api.admission.contract import AdmissionAttributes
from hatchway.cluster.api.admission.policies.request import request_variables
from hatchway.cluster.api.admission.webhooks.matching import ConditionCheck, Invocation
from hatchway.cluster.api.admission.webhooks.review import VersionedObjects, versioned_objects
from hatchway.cluster.api.work import run_apart
from hatchway.errors import forbidden

if TYPE_CHECKING:
    from hatchway.cluster.api.admission.policies.access import Decide
    from hatchway.cluster.api.registry.custom.celauthorization import AskAccess
    from hatchway.cluster.api.registry.policyexpressions import CompiledText

__all__ = ["condition_check"]

# Processor time, in seconds, that the conditions of one webhook may take for one write.
_SECONDS = 2.0


def condition_check(decide: Decide) -> ConditionCheck:
    """Return a function that checks match conditions. decide: the cluster's authorizer."""

    async def check(invocation: Invocation, attributes: AdmissionAttributes) -> bool:
        # Imported here, because only clusters with policies, rules or conditions need the code of expressions.
        from hatchway.cluster.api.admission.policies.access import LoopAccess

        objects = await versioned_objects(invocation.row, attributes)
        holds, error = await run_apart(_evaluate, invocation, attributes, objects, LoopAccess(decide))
        if error and not invocation.hook.fails_open:
            raise forbidden(attributes.row.plural, attributes.object_name, error, attributes.row.group)
        return holds

    return check


def _evaluate(
    invocation: Invocation, attributes: AdmissionAttributes, objects: VersionedObjects, ask: AskAccess
) -> tuple[bool, str]:
    """Return True if the conditions hold, and an error or "". Call this on a thread, because it may take long."""
    from hatchway.cluster.api.admission.policies.evaluation import conditions_hold
    from hatchway.cluster.api.cel.values import EvaluationError

    compiled = _compile(invocation.hook.conditions)
    # Conditions of webhooks cannot use the namespace.
    variables = request_variables(attributes, invocation.row, objects, None, ask)
    try:
        return conditions_hold(compiled, variables, time.thread_time() + _SECONDS), ""
    except EvaluationError as error:
        return False, str(error)


@lru_cache(maxsize=128)
def _compile(conditions: tuple[str, ...]) -> tuple[CompiledText, ...]:
    from hatchway.cluster.api.registry.policyexpressions import PolicyCompiler, policy_environment

    compiler = PolicyCompiler(policy_environment(has_params=False))
    return tuple(compiler.condition(one.strip()) for one in conditions)
