"""Resource quotas: computes what objects use, checks new objects, and counts existing objects."""
