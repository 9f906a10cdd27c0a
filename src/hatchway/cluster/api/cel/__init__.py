"""The Common Expression Language (CEL), as Kubernetes' API server evaluates it. Imports no other room."""
