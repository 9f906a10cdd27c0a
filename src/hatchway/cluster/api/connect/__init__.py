"""Handlers of subresources that connect a client to a pod, a service or a node; imports no other room of the API."""
