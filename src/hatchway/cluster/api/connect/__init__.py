"""Handlers of subresources that connect a client to a pod, a service or a node. Imports no other room of `api/`."""
