"""The metrics server: serves the usage of nodes and pods (metrics.k8s.io), and the state of objects as metrics."""
