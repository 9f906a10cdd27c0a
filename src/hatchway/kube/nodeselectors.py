"""Matches node selectors of pods and volumes against nodes (`component-helpers/scheduling/corev1`). Pure."""

from __future__ import annotations

from hatchway.kube.api import Object
from hatchway.kube.selectors import requirement_matches

__all__ = ["node_selector_matches", "node_term_matches", "volume_fits_node"]


def node_term_matches(term: Object, node: Object) -> bool:
    """Return True when all requirements of one term match; a term without requirements matches nothing."""
    expressions, fields = term.get("matchExpressions") or (), term.get("matchFields") or ()
    if not expressions and not fields:
        return False
    labels = node["metadata"].get("labels") or {}
    values = {"metadata.name": node["metadata"]["name"]}
    return all(requirement_matches(e, labels) for e in expressions) and all(
        requirement_matches(f, values) for f in fields
    )


def node_selector_matches(selector: Object, node: Object) -> bool:
    """Return True when one of the selector's terms matches."""
    return any(node_term_matches(term, node) for term in selector.get("nodeSelectorTerms") or ())


def volume_fits_node(volume: Object, node: Object) -> bool:
    """Return True when a PersistentVolume can be used on the node (`CheckNodeAffinity`)."""
    required = ((volume["spec"].get("nodeAffinity") or {}).get("required")) or None
    return required is None or node_selector_matches(required, node)
