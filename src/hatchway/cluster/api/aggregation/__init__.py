"""API groups that other servers serve (kube-aggregator). This package imports `describe`, `registry` and `connect`."""
