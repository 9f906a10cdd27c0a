"""The verbs on stored objects, for HTTP and for controllers. This package imports `admission` and the rooms below."""
