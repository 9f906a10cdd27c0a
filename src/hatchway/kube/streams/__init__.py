"""Byte streams through an API server of any version: port-forward, exec and attach."""
