"""The Common CompiledExpression Language (CEL), as Kubernetes' API server evaluates it."""
