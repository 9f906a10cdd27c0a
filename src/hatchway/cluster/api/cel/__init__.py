"""The Common Expression Language (CEL), as Kubernetes' API server evaluates it. It imports no other room."""
