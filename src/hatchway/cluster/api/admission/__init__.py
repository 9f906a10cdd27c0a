"""Checks writes that RBAC allows and other rules may forbid. It imports no other room of the API server."""
