"""Resource quotas: what objects use, the check of new objects, and the count of existing ones."""
