"""The verbs on stored objects, for HTTP and for controllers. It imports patch, registry and storage."""
