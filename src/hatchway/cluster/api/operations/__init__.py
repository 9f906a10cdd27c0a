"""The verbs on stored objects, for HTTP and for controllers; imports patch, registry and storage."""
