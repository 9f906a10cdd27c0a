"""Computes field ownership: `metadata.managedFields` of every write, and server-side apply. Pure."""
