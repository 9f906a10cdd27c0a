"""Handlers of subresources that connect a client to a pod, a service or a node. It imports no other room."""
