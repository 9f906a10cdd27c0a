"""Programs that run in pods of every cluster. They may import `kube` and the floors below it, never the cluster."""
