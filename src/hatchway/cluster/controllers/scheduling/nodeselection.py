"""Node selectors and node affinity (kube-scheduler's `framework/plugins/nodeaffinity`). Pure."""

from __future__ import annotations

from hatchway.cluster.controllers.objectfields import labels_of
from hatchway.kube.api import Object
from hatchway.kube.nodeselectors import node_term_matches
from hatchway.kube.selectors import subset_matches

__all__ = ["named_nodes", "node_preference", "node_selected", "selection_terms"]

_REQUIRED = "requiredDuringSchedulingIgnoredDuringExecution"
_PREFERRED = "preferredDuringSchedulingIgnoredDuringExecution"
_NAME = "metadata.name"


def node_selected(spec: Object, node: Object) -> bool:
    """Return True when nodeSelector and the required terms of node affinity allow this node."""
    if not subset_matches(spec.get("nodeSelector") or {}, labels_of(node)):
        return False
    required = _node_affinity(spec).get(_REQUIRED)
    return required is None or any(node_term_matches(term, node) for term in required.get("nodeSelectorTerms") or ())


def node_preference(spec: Object, node: Object) -> int:
    """Return the sum of the weights of the preferred terms that match the node."""
    found = 0
    for weighted in _node_affinity(spec).get(_PREFERRED) or ():
        term = weighted.get("preference") or {}
        empty = not term.get("matchExpressions") and not term.get("matchFields")
        # `NewPreferredSchedulingTerms` ignores empty terms.
        if not empty and node_term_matches(term, node):
            found += weighted.get("weight", 0)
    return found


def named_nodes(spec: Object) -> set[str] | None:
    """Return the names of the only nodes that the required terms allow; None when they do not name nodes.

    An empty set means that the terms contradict each other (`NodeAffinity.PreFilter`).
    """
    terms = (_node_affinity(spec).get(_REQUIRED) or {}).get("nodeSelectorTerms") or ()
    names: set[str] = set()
    for term in terms:
        listed: set[str] | None = None
        for one in term.get("matchFields") or ():
            if one.get("key") == _NAME and one.get("operator") == "In":
                values = set(one.get("values") or ())
                listed = values if listed is None else listed & values
        if listed is None:
            # Terms are alternatives, so this term may allow any node.
            return None
        names |= listed
    return names if terms else None


def selection_terms(spec: Object) -> int:
    """Return the number of terms and requirements of node affinity. The time to check a node is proportional to it."""
    affinity = _node_affinity(spec)
    terms = list((affinity.get(_REQUIRED) or {}).get("nodeSelectorTerms") or ())
    terms += [one.get("preference") or {} for one in affinity.get(_PREFERRED) or ()]
    return sum(1 + len(term.get("matchExpressions") or ()) + len(term.get("matchFields") or ()) for term in terms)


def _node_affinity(spec: Object) -> Object:
    return (spec.get("affinity") or {}).get("nodeAffinity") or {}
