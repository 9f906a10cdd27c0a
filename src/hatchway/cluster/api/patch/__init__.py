"""Applies patches of all three formats to objects. It imports only the registry's schema."""
