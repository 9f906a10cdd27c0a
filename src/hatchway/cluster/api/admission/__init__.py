"""Admission: further checks of writes that RBAC allows. Imports `fields/`, `patch/`, `registry/` and rooms below."""
