"""Authentication, authorization (RBAC), reviews and audit. This package imports the cluster's `plan` and `state`."""
