"""Problems of requests that the door, the cluster or the route refuses. Pure."""

from __future__ import annotations

from dataclasses import replace

from hatchway.door.problems.problem import (
    RETRY_SECONDS,
    DoorProblem,
    describe,
    forward_line,
    kind_word,
)
from hatchway.kube.access import missing_rule
from hatchway.target import Target


def forbidden(
    user: str, verb: str, resource: str, namespace: str = "", name: str = "", message: str = ""
) -> DoorProblem:
    """Describe a request that the user may not make in the cluster.

    Args:
        user: the user's name in the cluster; "" when it is not known.
        verb: the verb of the API.
        resource: the resource with its subresource (`services/proxy`).
        namespace: "" for the whole cluster.
        name: the name of the object; "" for all objects.
        message: the API server's message; "" to make a message of the same form.
    """
    where = f'in the namespace "{namespace}"' if namespace else "at the cluster scope"
    said = message or f'User "{user}" cannot {verb} resource "{resource}" in API group "" {where}'
    plain, _, subresource = resource.partition("/")
    return DoorProblem(
        kind="forbidden",
        status=403,
        title=f"You may not {verb} {resource}" + (f' of "{name}"' if name else ""),
        message=f'{plain} "{name}" is forbidden: {said}' if name else f"{plain} is forbidden: {said}",
        hint="Ask an administrator of the cluster to apply the rule below, then try again.",
        facts=(
            *((("User", user),) if user else ()),
            ("Verb", verb),
            ("Resource", resource),
            ("Namespace", namespace or "(whole cluster)"),
        ),
        rule=missing_rule(
            verb=verb, resource=plain, subresource=subresource, namespace=namespace, name=name, user=user
        ),
    )


def refused_by_guard(why: str, hint: str = "") -> DoorProblem:
    """Describe a request that the door itself refuses: it comes from a page of another origin, or has an unknown Host.

    hint: what to do instead; "" for the hint about pages of other sites.
    """
    return DoorProblem(
        kind="refused",
        status=403,
        title="The door refuses this request",
        message=f"refused: {why}",
        hint=hint
        or "Pages of other sites may not use your rights in the cluster. If you came here by a link, type or paste the "
        "address into the address bar instead.",
    )


def needs_forward(target: Target, why: str) -> DoorProblem:
    """Describe an application that needs something that the API server's proxy verb does not pass on.

    why: what it needs (Authorization ...).
    """
    return DoorProblem(
        kind="needs-forward",
        status=502,
        title=f"{target.name} needs another route",
        message=f"the API server's proxy cannot carry what {describe(target)} needs: {why}",
        target=target,
        hint="A port-forward carries everything, byte for byte.",
        facts=(("Route", "API server's proxy verb"),),
        commands=(forward_line(target),) if target.kind != "nodes" else (),
    )


def no_route(target: Target, name: str, why: str, rule: str) -> DoorProblem:
    """Describe a target that the permitted route does not reach.

    Args:
        target: the target as it was requested.
        name: the route, as `--via` spells it.
        why: why it does not reach the target.
        rule: YAML that would allow it; "" when no right is missing.
    """
    return DoorProblem(
        kind="forbidden" if rule else "no-route",
        status=403 if rule else 502,
        title=f"You may not reach {target.name} this way" if rule else f"No route leads to {target.name}",
        message=f"{describe(target)} cannot be reached by --via {name}: {why}",
        target=target,
        hint="Ask an administrator of the cluster to apply the rule below, or start the door with --via auto."
        if rule
        else "The door may reach it by another route: start it with --via auto.",
        facts=(("Route", name),),
        rule=rule,
    )


def bad_annotation(target: Target, name: str, error: str, hint: str) -> DoorProblem:
    """Describe an annotation of the target whose value is not valid.

    Args:
        target: the annotated object.
        name: the annotation's name.
        error: what is wrong with its value.
        hint: which values are valid.
    """
    line = f"kubectl annotate {kind_word(target)} {target.name}"
    line += f" -n {target.namespace}" if target.namespace else ""
    return DoorProblem(
        kind="bad-annotation",
        status=503,
        title=f"An annotation of {target.name} is malformed",
        message=f"annotation {name} of {describe(replace(target, port=''))}: {error}",
        target=target,
        hint=f"{hint} Until it is corrected, nothing is sent to the application, which would get a wrong Host.",
        facts=(("Annotation", name),),
        commands=(f"{line} --overwrite {name}=localhost", f"{line} {name}-"),
        retry=RETRY_SECONDS,
    )


def bad_request(message: str, hint: str, *, portal: str = "") -> DoorProblem:
    """Describe a request to the portal that is not valid. portal: the portal's URL."""
    return DoorProblem(
        kind="request",
        status=400,
        title="That cannot be opened",
        message=message,
        hint=hint,
        portal=portal,
    )
