"""API groups that other servers serve (kube-aggregator): routing of requests, availability and discovery."""
