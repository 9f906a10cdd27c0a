"""Checks on writes that RBAC allows but other rules forbid; imports no other room of the API server."""
