"""The verbs on stored objects, for HTTP and for controllers. It imports admission and the rooms below."""
