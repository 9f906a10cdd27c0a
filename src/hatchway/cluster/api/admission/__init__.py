"""Checks writes that RBAC allows and other rules may forbid. It imports fields, patch, registry and the rooms below."""
