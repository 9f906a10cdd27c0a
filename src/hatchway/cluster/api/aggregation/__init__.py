"""API groups that other servers serve (kube-aggregator). It imports describe, registry and connect."""
