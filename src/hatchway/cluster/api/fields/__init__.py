"""Computes `metadata.managedFields` of every write, and server-side apply. Pure. It imports only the registry."""
