"""Authentication, authorization (RBAC), reviews and audit; knows the cluster's plan and files."""
