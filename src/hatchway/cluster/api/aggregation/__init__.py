"""API groups that other servers serve (kube-aggregator): routing to them, their availability, their discovery."""
