"""Computes `metadata.managedFields` after each write, and server-side applies. Pure. Imports only `registry/`."""
